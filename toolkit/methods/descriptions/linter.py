"""A pool of descriptions, checked: names that leak into it, texts that no photo can show, repeats, blanks, damage.

A class-name-free pool must not name classes. Because all classes share the pool, a *leak* is a text with the full name of its own class
(L1) or of another one (L3); strict also counts single words of the own name (L2). No model is needed; with one, token counts (L8) and near
duplicates (L4) are exact.

L1-L3 count (class, text) slots, L4 repeats, L5-L9 unique texts, L10 classes, L11 texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from toolkit.errors import DataError, near_matches
from toolkit.types import JSON

if TYPE_CHECKING:
    from torch import Tensor

RULES: dict[str, str] = {
    "L1": "the own class name",
    "L2": "a word of the own class name",
    "L3": "the name of another class",
    "L4": "repeats",
    "L5": "blanks",
    "L6": "not visible in a photo",
    "L7": "hedged",
    "L8": "over-long",
    "L9": "characters and garbled words",
    "L10": "classes",
    "L11": "given to many classes",
}
LEVELS = {
    "L1": "error", "L2": "warn", "L3": "warn", "L4": "info", "L5": "fix",
    "L6": "warn", "L7": "info", "L9": "warn", "L10": "error", "L11": "info",
}  # fmt: skip
DROPPED = ("L1", "L3", "L4", "L6", "L8", "L9")
MOST_TOKENS, MOST_WORDS = 77, 20
LEAST_LETTERS = 4  # shorter words of a name ("of", "red") say little alone
NEAR = 0.98
COMMON_SHARE = 0.1

_WORD = re.compile(r"[a-z0-9]+")
_NON_VISUAL = re.compile(r"\b(smell|scent|odou?r|taste|flavou?r|sound|noise|song|weighs?|weight|native to|found in)\b", re.IGNORECASE)
_HEDGED = re.compile(r"\b(may|might|can be|could be|often|typically|usually|sometimes|used for|used to)\b", re.IGNORECASE)
_EXAMPLE = 'for example {"mug": ["a handle", "a round opening"]}'
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_GARBLED = re.compile(r"\ufffd|Ã[\x80-\xff]|â€|([A-Za-z])\1{3,}|\b[b-df-hj-np-tv-xzB-DF-HJ-NP-TV-XZ]{7,}\b")


@dataclass(frozen=True)
class Hit:
    """One finding. ``cls`` and ``text`` are None where a rule is not about one; ``detail`` says what was found."""

    rule: str
    level: str
    cls: str | None
    text: str | None
    detail: str


@dataclass(frozen=True)
class Lint:
    """What the linter says of a pool.

    Attributes:
        classes, slots, unique, empty: classes, (class, text) pairs, different texts, classes without texts.
        counts: rule -> hits; "L8_words", "L8_tokens", "L9_non_ascii" and "L4_exact" are parts of their rules.
        hits: every finding, by rule and in pool order.
        leaks: the different texts with a full class name in them; ``leaks_strict`` also with a word of the own one.
    """

    classes: int
    slots: int
    unique: int
    empty: int
    counts: Mapping[str, int]
    hits: tuple[Hit, ...]
    leaks: tuple[str, ...]
    leaks_strict: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """No error, no warning and nothing to fix."""
        return all(hit.level == "info" for hit in self.hits)

    def to_json(self) -> dict[str, JSON]:
        """All numbers and findings, for ``--json`` and for audit.json."""
        from toolkit.config import to_json

        numbers = {"leaks": len(self.leaks), "leaks_strict": len(self.leaks_strict), "clean": self.clean, "rules": RULES}
        return {**to_json(self), **numbers}


@dataclass(frozen=True)
class Cleaned:
    """A pool after ``clean``: its texts, and what was dropped or changed as hits."""

    pool: dict[str, list[str]]
    removed: tuple[Hit, ...]


@dataclass
class _Finder:
    """Finds full class names in a text in time linear in its words, also among a thousand names."""

    names: Sequence[str]
    by_first: dict[str, list[tuple[str, list[str]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.names:
            tokens = words(name)
            if tokens:
                self.by_first.setdefault(tokens[0], []).append((name, tokens))

    def found(self, tokens: Sequence[str]) -> list[tuple[str, bool]]:
        """(name, whether its longest word has at least four characters) of each name in the text."""
        hits = dict.fromkeys(
            (name, max(map(len, wanted)) >= LEAST_LETTERS)
            for start, token in enumerate(tokens)
            for name, wanted in self.by_first.get(token, ())
            if list(tokens[start : start + len(wanted)]) == wanted
        )
        return list(hits)


def words(text: str) -> list[str]:
    """Case-folded runs of ``[a-z0-9]``.

    >>> words("A hot-dog, 2 buns")
    ['a', 'hot', 'dog', '2', 'buns']
    """
    return _WORD.findall(text.casefold())


def normalised(text: str) -> str:
    """What stays of a text without case, punctuation and blanks: equal for texts that differ in nothing else."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())


def tidy(text: str) -> str:
    """The text without leading, trailing and double blanks."""
    return " ".join(text.split())


def check_pool(pool: object) -> Mapping[str, Sequence[str]]:
    """Raises: DataError: unless ``pool`` maps class names to lists of texts."""
    if isinstance(pool, (list, tuple)) and pool and all(isinstance(text, str) for text in pool):
        return {"": list(pool)}
    if not isinstance(pool, Mapping) or not pool:
        raise DataError("a pool maps class names to lists of texts", hint=_EXAMPLE)
    for name, texts in pool.items():
        if not isinstance(name, str) or not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
            raise DataError(f"the texts of class {name!r} are not a list of strings", hint=_EXAMPLE)
    return pool


def lint(
    pool: Mapping[str, Sequence[str]] | Sequence[str],
    classnames: Sequence[str] | None = None,
    *,
    stop: Iterable[str] = (),
    count_tokens: Callable[[Sequence[str]], Sequence[int]] | None = None,
    encode: Callable[[Sequence[str]], Tensor] | None = None,
) -> Lint:
    """Check a pool: class name -> texts, or a flat list (then nothing is known of names unless ``classnames`` says them).

    Args:
        classnames: the classes of the data set in label order, for L10; None takes the keys of the pool.
        stop: words that may occur although they are part of a name, for L2 (colours and parts over-count).
        count_tokens: texts -> token counts with start and end, for L8; None counts words only.
        encode: texts -> (n, D) unit embeddings, for near duplicates in L4.
    Raises: DataError: if the pool is not of that form.
    """
    lists = check_pool(pool)
    slots = [(name, text) for name, texts in lists.items() for text in texts]
    unique = list(dict.fromkeys(text for _, text in slots))
    names = [name for name in dict.fromkeys([*(classnames or ()), *lists]) if name]
    hits = [
        *_names(slots, _Finder(names), frozenset(word.casefold() for word in stop)),
        *_repeats(slots, unique, encode),
        *_texts(unique),
        *_lengths(unique, count_tokens),
        *_structure(lists, classnames),
        *_common(lists),
    ]
    order = {rule: place for place, rule in enumerate(RULES)}
    hits.sort(key=lambda hit: order[hit.rule])
    full = {hit.text for hit in hits if hit.rule in ("L1", "L3")}
    words_too = full | {hit.text for hit in hits if hit.rule == "L2"}
    return Lint(
        classes=len(lists),
        slots=len(slots),
        unique=len(unique),
        empty=sum(not texts for texts in lists.values()),
        counts=_counts(hits, slots, unique),
        hits=tuple(hits),
        leaks=tuple(text for text in unique if text in full),
        leaks_strict=tuple(text for text in unique if text in words_too),
    )


def clean(
    pool: Mapping[str, Sequence[str]],
    classnames: Sequence[str] | None = None,
    *,
    drop: Sequence[str] = DROPPED,
    stop: Iterable[str] = (),
    count_tokens: Callable[[Sequence[str]], Sequence[int]] | None = None,
) -> Cleaned:
    """A pool without what the rules ``drop`` find; blanks are tidied, classes follow ``classnames``.

    A text found by L1-L3 goes only from the class that it was found in for L2, and from every class for the leaks L1 and L3, since the
    pool is shared. Classes that end up without texts stay, empty: inventing texts is not the linter's work.
    """
    tidied = {name: [tidy(text) for text in texts if text.strip()] for name, texts in check_pool(pool).items()}
    removed = [
        Hit("L5", "fix", name, text, "blanks tidied" if text.strip() else "empty text removed")
        for name, texts in pool.items()
        for text in texts
        if _blanks(text)
    ]
    found = lint(tidied, classnames, stop=stop, count_tokens=count_tokens)
    bad = {hit.text: hit for hit in reversed(found.hits) if hit.rule in drop and hit.rule not in ("L2", "L4") and hit.text is not None}
    own = {(hit.cls, hit.text): hit for hit in found.hits if hit.rule == "L2" and "L2" in drop}
    kept: dict[str, list[str]] = {}
    for name, texts in tidied.items():
        seen: set[str] = set()
        kept[name] = []
        for text in texts:
            repeat = Hit("L4", "info", name, text, "repeats") if "L4" in drop and normalised(text) in seen else None
            hit = bad.get(text) or own.get((name, text)) or repeat
            if hit is None:
                kept[name].append(text)
                seen.add(normalised(text))
            else:
                removed.append(Hit(hit.rule, hit.level, name, text, hit.detail))
    return Cleaned(_in_order(kept, classnames, removed), tuple(removed))


def _in_order(pool: dict[str, list[str]], classnames: Sequence[str] | None, removed: list[Hit]) -> dict[str, list[str]]:
    """Classes in label order, found by exact name and then by normalised name; unknown ones go."""
    if classnames is None:
        return pool
    by_name = {normalised(name): name for name in pool}
    chosen = {name: name if name in pool else by_name.get(normalised(name)) for name in classnames}
    removed += [Hit("L10", "error", name, None, "not a class") for name in pool if name not in chosen.values()]
    return {name: pool[key] if key is not None else [] for name, key in chosen.items()}


def _names(slots: Sequence[tuple[str, str]], finder: _Finder, stop: frozenset[str]) -> Iterator[Hit]:
    for name, text in slots:
        tokens = words(text)
        found = finder.found(tokens)
        if name and any(other == name for other, _ in found):
            yield Hit("L1", LEVELS["L1"], name, text, f"names its class {name!r}")
        own = [word for word in dict.fromkeys(words(name)) if len(word) >= LEAST_LETTERS and word in tokens and word not in stop]
        if own:
            yield Hit("L2", LEVELS["L2"], name, text, "has " + ", ".join(own))
        others = [other for other, long in found if long and other != name]
        if others:
            yield Hit("L3", LEVELS["L3"], name, text, "names " + ", ".join(repr(other) for other in others))


def _repeats(slots: Sequence[tuple[str, str]], unique: Sequence[str], encode: Callable[[Sequence[str]], Tensor] | None) -> Iterator[Hit]:
    times = Counter(text for _, text in slots)
    for text in unique:
        if times[text] > 1:
            yield Hit("L4", LEVELS["L4"], None, text, f"{times[text]} times, letter for letter")
    first: dict[str, str] = {}
    for text in unique:
        before = first.setdefault(normalised(text), text)
        if before != text and normalised(text):
            yield Hit("L4", LEVELS["L4"], None, text, f"repeats {before!r} up to case, punctuation and blanks")
    if encode is not None:
        yield from _near(list(first.values()), encode)


def _near(texts: Sequence[str], encode: Callable[[Sequence[str]], Tensor]) -> Iterator[Hit]:
    unit = encode(texts)
    for start in range(0, len(texts), 512):
        block = unit[start : start + 512] @ unit.T
        for row, column in (block > NEAR).nonzero().tolist():
            if column < start + row:
                yield Hit("L4", LEVELS["L4"], None, texts[start + row], f"cosine {float(block[row, column]):.3f} with {texts[column]!r}")


def _blanks(text: str) -> bool:
    return text != text.strip() or "  " in text or not text


def _texts(unique: Sequence[str]) -> Iterator[Hit]:
    """L5, L6, L7, L9."""
    for text in unique:
        if _blanks(text):
            yield Hit("L5", LEVELS["L5"], None, text, "empty" if not text.strip() else "leading, trailing or double blanks")
        if match := _NON_VISUAL.search(text):
            yield Hit("L6", LEVELS["L6"], None, text, f"has {match.group()!r}")
        if match := _HEDGED.search(text):
            yield Hit("L7", LEVELS["L7"], None, text, f"has {match.group()!r}")
        faults = [
            what
            for what, there in (
                ("non-ASCII characters", not text.isascii()),
                ("control characters", _CONTROL.search(text)),
                ("a garbled word", _GARBLED.search(text)),
            )
            if there
        ]
        if faults:
            yield Hit("L9", LEVELS["L9"], None, text, ", ".join(faults))


def _lengths(unique: Sequence[str], count_tokens: Callable[[Sequence[str]], Sequence[int]] | None) -> Iterator[Hit]:
    tokens = [0] * len(unique) if count_tokens is None else list(count_tokens(unique))
    for text, count in zip(unique, tokens, strict=True):
        n_words = len(text.split())
        if count > MOST_TOKENS:
            yield Hit("L8", "error", None, text, f"{count} tokens, and CLIP reads {MOST_TOKENS}")
        elif n_words > MOST_WORDS:
            yield Hit("L8", "warn", None, text, f"{n_words} words")


def _structure(lists: Mapping[str, Sequence[str]], classnames: Sequence[str] | None) -> Iterator[Hit]:
    for name, texts in lists.items():
        if not any(text.strip() for text in texts):
            yield Hit("L10", LEVELS["L10"], name, None, "no texts")
    if classnames is None:
        return
    by_normal = {normalised(name): name for name in classnames}
    matched = []
    for name in lists:
        known = name if name in classnames else by_normal.get(normalised(name))
        if known is None:
            near = near_matches(name, classnames)
            yield Hit("L10", LEVELS["L10"], name, None, "not a class" + (f"; did you mean {near[0]!r}?" if near else ""))
        else:
            matched.append(known)
    for name in classnames:
        if name not in matched:
            yield Hit("L10", LEVELS["L10"], name, None, "missing from the pool")
    if matched != [name for name in classnames if name in matched]:
        order = "the classes come in another order than those of the data set: match them by name, never by position"
        yield Hit("L10", LEVELS["L10"], None, None, order)


def _common(lists: Mapping[str, Sequence[str]]) -> Iterator[Hit]:
    owners = Counter(text for texts in lists.values() for text in dict.fromkeys(texts))
    for text, count in owners.items():
        if count > 1 and count > COMMON_SHARE * len(lists):
            yield Hit("L11", LEVELS["L11"], None, text, f"given to {count} of {len(lists)} classes")


def _counts(hits: Sequence[Hit], slots: Sequence[tuple[str, str]], unique: Sequence[str]) -> dict[str, int]:
    counts = dict.fromkeys(RULES, 0) | Counter(hit.rule for hit in hits)
    return counts | {
        "L4_exact": len(slots) - len(unique),
        "L8_words": sum(len(text.split()) > MOST_WORDS for text in unique),
        "L8_tokens": sum(hit.rule == "L8" and hit.level == "error" for hit in hits),
        "L9_non_ascii": sum(not text.isascii() for text in unique),
    }
