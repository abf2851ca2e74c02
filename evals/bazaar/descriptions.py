"""Description pools without class names: true sentences, and on purpose bad ones, with the truth about each.

Methods that pick descriptions are handed such a pool. Its truth table says what they should have picked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from evals.bazaar.captions import PATTERN_PHRASES, line_attribute_texts
from evals.bazaar.lines import HELDOUT_LINES, SEEN_LINES, Line
from evals.bazaar.streams import Stream
from evals.bazaar.world import CATEGORIES, COLOURS, PATTERNS, Category
from toolkit.errors import unknown_name

KINDS = ("true", "wrong", "nonvisual", "duplicate", "leak")

_NONVISUAL = (
    "it smells a little of dust",
    "it weighs about as much as a book",
    "it was a birthday gift",
    "it makes a soft sound",
    "it comes from a smoke-free home",
    "it is native to the northern provinces",
    "it feels cool to the touch",
    "it was bought two years ago",
    "it tastes of nothing",
    "it is popular with students",
    "it was made by a family business",
    "it has an odour of new glue",
)


@dataclass(frozen=True)
class Pool:
    """The descriptions of one class; ``kinds[k]``, one of KINDS, is the truth about ``texts[k]``."""

    texts: tuple[str, ...]
    kinds: tuple[str, ...]


@lru_cache(maxsize=4)
def description_pool(task: str) -> dict[str, Pool]:
    """Class name -> pool, for the tasks ``category``, ``lines`` and ``lines-heldout``.

    In each pool: at least 8 true texts, two wrong ones (true of another class and not of this one), two that no photo can show,
    one that repeats a true one up to case and punctuation, one that leaks the class name. The order is shuffled.
    Raises: UsageError: if there is no such task.
    """
    if task == "category":
        true = {name: category_texts(spec) for name, spec in CATEGORIES.items()}
        wrong = {name: _wrong_of_category(name, true) for name in CATEGORIES}
    elif task in ("lines", "lines-heldout"):
        lines = SEEN_LINES if task == "lines" else HELDOUT_LINES
        true = {line.name: tuple(line_attribute_texts(line)) for line in lines}
        wrong = {line.name: _wrong_of_line(line) for line in lines}
    else:
        raise unknown_name("bazaar task", task, ("category", "lines", "lines-heldout"))
    return {name: _pool(name, number, true[name], wrong[name]) for number, name in enumerate(true)}


@lru_cache(maxsize=4)
def true_descriptions(task: str) -> dict[str, tuple[str, ...]]:
    """Class name -> all texts of the task's pool that are true of that class, whoever's list they stand in.

    Repetitions of a true text count as true; texts that no photo can show and texts with a class name do not.
    """
    texts = [text for pool in description_pool(task).values() for text in pool.texts]
    own: dict[str, tuple[str, ...]]
    if task == "category":
        own = {name: category_texts(spec) for name, spec in CATEGORIES.items()}
    else:
        own = {line.name: line_attribute_texts(line) for line in (SEEN_LINES if task == "lines" else HELDOUT_LINES)}
    known = {name: {_plain(text) for text in true} for name, true in own.items()}
    return {name: tuple(dict.fromkeys(text for text in texts if _plain(text) in true)) for name, true in known.items()}


def _plain(text: str) -> str:
    return text.casefold().rstrip(".")


def _pool(name: str, number: int, true: tuple[str, ...], wrong: tuple[str, ...]) -> Pool:
    stream = Stream(number, len(true), 7)
    rows = [(text, "true") for text in true]
    rows += [(text, "wrong") for text in stream.shuffled(wrong)[:2]]
    rows += [(text, "nonvisual") for text in stream.shuffled(_NONVISUAL)[:2]]
    rows.append((stream.choice(true).capitalize() + ".", "duplicate"))
    rows.append((f"it looks like a {name}", "leak"))
    rows = stream.shuffled(rows)
    return Pool(tuple(text for text, _ in rows), tuple(kind for _, kind in rows))


def names_in(text: str, names: tuple[str, ...] | list[str]) -> list[str]:
    """The names that occur in ``text`` as whole words, also as plurals.

    >>> names_in("two mugs", ["mug", "chair"])
    ['mug']
    """
    padded = " " + "".join(c if c.isalnum() else " " for c in text.lower()) + " "
    return [name for name in names if f" {name.lower()} " in padded or f" {name.lower()}s " in padded]


def category_texts(spec: Category) -> tuple[str, ...]:
    """True descriptions of a category without any category's name: its parts, and what they can look like."""
    always = [part.name for part in spec.parts if part.when is None]
    sometimes = [part.name for part in spec.parts if part.when is not None]
    texts = [f"something with {_listed(always)}", f"with {_listed(always[:2])}", f"a photo of something with {_listed(always[-2:])}"]
    texts += [f"with {_with_article(part)}" for part in always]
    texts += [f"sometimes with {_with_article(part)}" for part in sometimes]
    for attribute in spec.attributes:
        for value, phrases in attribute.phrases.items():
            if value != "none":
                texts.append(f"with {phrases[0]}")
    banned = tuple(CATEGORIES) + spec.synonyms
    return tuple(text for text in dict.fromkeys(texts) if not names_in(text, banned))


def _with_article(words: str) -> str:
    plural = (words.endswith("s") and not words.endswith(("ss", "lens"))) or words == "feet"
    return words if plural else ("an " if words[0] in "aeiou" else "a ") + words


def _listed(parts: list[str]) -> str:
    phrases = [_with_article(part) for part in parts]
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def _wrong_of_category(name: str, true: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Texts of other categories that name nothing of this one."""
    spec = CATEGORIES[name]
    own = {word for text in true[name] for word in text.split()} | set(name.split()) | {w for s in spec.synonyms for w in s.split()}
    common = {"with", "a", "an", "and", "something", "sometimes", "of", "photo", "the", "no", "or", "on", "in", "at"}
    found = [t for other, texts in true.items() if other != name for t in texts if not (set(t.split()) - common) & own]
    return tuple(t for t in dict.fromkeys(found) if not names_in(t, (name, *spec.synonyms)))


def _wrong_of_line(line: Line) -> tuple[str, ...]:
    """Looks that the line does not have: other colours and another pattern, or another value of one of its parts."""
    stream = Stream(len(line.name), ord(line.model[0]), ord(line.model[-1]), 8)
    colours = [c for c in COLOURS if c not in (line.colour, line.colour2)]
    texts = []
    for pattern in PATTERNS:
        if pattern not in (line.pattern, "plain"):
            a, b = stream.shuffled(colours)[:2]
            texts.append(PATTERN_PHRASES[pattern][0].format(c=a, d=b))
    spec = CATEGORIES[line.category]
    for attribute, value in zip(spec.attributes, line.parts, strict=True):
        texts += [phrases[0] for other, phrases in attribute.phrases.items() if other != value]
    return tuple(text for text in texts if not names_in(text, (line.category, *spec.synonyms)))
