"""Description pools written by a language model: what tells each class from those that it is confused with.

Contrastive prompting in the manner of arXiv 2412.11917 (the prompts are ours): for every class and each of its rivals the model is asked
what of the first can be seen in a photo and not of the second. Answers are parsed, linted and collected into {class: [texts]}.

Every raw answer is kept beside the pool, in FILE.answers.jsonl, as it comes: an interrupted run goes on where it stopped, and the record
says which model wrote what.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from toolkit.config import fingerprint, to_json
from toolkit.errors import DataError, UsageError
from toolkit.files import append_jsonl, atomic_write_json, read_jsonl

if TYPE_CHECKING:
    from toolkit.models.base import DualEncoder

PROMPT_VERSION = 1
DROPPED = ("L1", "L2", "L3", "L4", "L6", "L7", "L8", "L9")
MOST_WORDS = 20
LEAST_LETTERS = 3

_BULLET = re.compile(r"^\s*(?:[-*\u2022\u2013]+|\(?\d{1,2}[.):])\s*")
_LEAD = re.compile(r"^(?:it|they|this|the first(?: one)?)\s+(?:has|have|shows?|is|are)\s+", re.IGNORECASE)


class Writer(Protocol):
    """A language model, see toolkit.models.language."""

    name: str
    fingerprint: str

    @property
    def chat(self) -> bool: ...

    def write(self, prompt: str, *, max_new_tokens: int = 200, temperature: float = 0.0, seed: int = 0) -> str: ...


@dataclass(frozen=True)
class DescribeOptions:
    """How descriptions are asked for.

    Attributes:
        texts: asked for in each answer. rivals: classes that each class is contrasted with. most: texts that each class keeps.
        about: what the images are, in the plural: "photos", "satellite images".
        temperature: 0 takes the likeliest words. max_new_tokens: length of an answer. seed: of sampling.
    """

    texts: int = 6
    rivals: int = 3
    most: int = 12
    about: str = "photos"
    temperature: float = 0.0
    max_new_tokens: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("texts", "rivals", "most", "max_new_tokens"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{name}={value!r} is not a whole number from 1")
        if not 0 <= self.temperature < 10:
            raise UsageError(f"temperature={self.temperature!r} is not a number from 0 to 10")
        if not self.about.strip():
            raise UsageError("about is empty", hint='say what the images are, as in "satellite photos"')


class Described(NamedTuple):
    """A finished pool.

    Attributes:
        pool: class name -> texts. removed: rule -> texts that the linter took out. empty: classes without texts.
        path: the pool's file. answers: the file with all raw answers.
    """

    pool: dict[str, list[str]]
    removed: dict[str, int]
    empty: list[str]
    path: Path
    answers: Path


def question(name: str, rival: str, options: DescribeOptions) -> str:
    """What a model that knows conversations is asked."""
    return (
        f"Two kinds of {options.about} look alike: {name!r} and {rival!r}. "
        f"List {options.texts} things that can be seen in {options.about} of {name!r} and hardly in those of {rival!r}.\n"
        "Rules: one short phrase of two to eight words on each line, starting with a dash. Colour, shape, texture, parts, arrangement. "
        "Only what the eye sees: no smell, sound, weight, use or place of origin. "
        f"Never write {name!r}, {rival!r} or a word of these names. No introduction, no sentence about the task."
    )


def opening(name: str, rival: str, options: DescribeOptions) -> str:
    """The beginning of a list, which a model that only continues text goes on with."""
    return (
        "What can be seen in photos of 'zebra' and hardly in those of 'donkey'?\n"
        "- black and white stripes\n- an upright striped mane\n- a dark muzzle below a striped face\n\n"
        "What can be seen in photos of 'violin' and hardly in those of 'guitar'?\n"
        "- a chin rest at the rounded end\n- sound holes like the letter f\n- a bow across the strings\n\n"
        f"What can be seen in {options.about} of {name!r} and hardly in those of {rival!r}?\n-"
    )


def parse(answer: str, *, chat: bool) -> list[str]:
    """The texts of an answer: its list items, without bullets, quotes and full stops.

    >>> parse("Sure!\\n- a long tail.\\n2) It has \\"round ears\\"", chat=True)
    ['a long tail', 'round ears']
    """
    lines = answer.replace("\r", "\n").split("\n")
    if not chat:  # the answer goes on behind an opening dash, and a blank line ends the list
        lines = ("-" + answer).split("\n\n")[0].split("\n")
    found = []
    for line in lines:
        bullet = _BULLET.match(line)
        if bullet is None:
            continue
        text = " ".join(line[bullet.end() :].replace("*", "").split())
        text = _LEAD.sub("", text).strip(" .;,:").replace('"', "")
        if len(text) >= LEAST_LETTERS and len(text.split()) <= MOST_WORDS:
            found.append(text)
    return found


def describe(
    model: Writer,
    classnames: Sequence[str],
    rivals: Mapping[str, Sequence[str]],
    out: str | Path,
    options: DescribeOptions | None = None,
    *,
    resume: bool = True,
    progress: Callable[[int, int, int], None] | None = None,
) -> Described:
    """Ask for every class, against each of its rivals, and write the pool.

    Args:
        rivals: class name -> names that it is confused with, the likeliest first; see ``nearest_names``.
        out: the pool's file, written whole at the end. OUT.answers.jsonl gets each answer at once.
        progress: called with (done, total, failed).
    Raises: UsageError: for fewer than two classes, or if ``out`` has answers of another run. DataError: if no class got any text.
    """
    options = options or DescribeOptions()
    names = list(dict.fromkeys(classnames))
    if len(names) < 2:
        raise UsageError("a class is described against others, and there is only one", hint="give two class names or more")
    out = Path(out)
    answers = out.with_name(out.name + ".answers.jsonl")
    pairs = [(name, rival) for name in names for rival in list(rivals[name])[: options.rivals]]
    settings = {
        "prompt_version": PROMPT_VERSION, "model": model.name, "model_fingerprint": model.fingerprint, "chat": model.chat,
        "options": to_json(options), "classes": fingerprint(pairs),
    }  # fmt: skip
    done = _begin(answers, settings, resume)
    for number, (name, rival) in enumerate(pairs):
        if (name, rival) not in done:
            prompt = (question if model.chat else opening)(name, rival, options)
            seed = int(fingerprint(options.seed, name, rival)[:8], 16)
            text = model.write(prompt, max_new_tokens=options.max_new_tokens, temperature=options.temperature, seed=seed)
            append_jsonl(answers, [{"class": name, "rival": rival, "answer": text}], sync=True)
            done[name, rival] = text
        if progress is not None:
            progress(number + 1, len(pairs), 0)
    return _finish(names, pairs, done, options, model.chat, out, answers)


def nearest_names(encoder: DualEncoder, classnames: Sequence[str], count: int, template: str = "a photo of a {}.") -> dict[str, list[str]]:
    """Class name -> the ``count`` other names whose captions are nearest to its own, nearest first."""
    names = list(dict.fromkeys(classnames))
    rows = encoder.encode_texts([template.replace("{}", name) for name in names]).double()
    order = (rows @ rows.T).argsort(dim=1, descending=True, stable=True).tolist()
    return {name: [names[j] for j in order[i] if j != i][:count] for i, name in enumerate(names)}


def following_names(classnames: Sequence[str], count: int) -> dict[str, list[str]]:
    """Class name -> the ``count`` names that follow it in the list: rivals where nothing is known of confusions.

    >>> following_names(["a", "b", "c"], 5)
    {'a': ['b', 'c'], 'b': ['c', 'a'], 'c': ['a', 'b']}
    """
    names = list(dict.fromkeys(classnames))
    return {name: [*names[i + 1 :], *names[:i]][:count] for i, name in enumerate(names)}


def _begin(answers: Path, settings: Mapping[str, Any], resume: bool) -> dict[tuple[str, str], str]:
    """The answers that are there, or a new file with the settings in its first line."""
    if resume and answers.exists():
        records = list(read_jsonl(answers))
        if records:
            if records[0] != settings:
                raise UsageError(
                    f"{answers} holds answers to other questions or of another model",
                    hint="choose another file, or start afresh with --no-resume",
                )
            return {(record["class"], record["rival"]): record["answer"] for record in records[1:]}
    answers.unlink(missing_ok=True)
    append_jsonl(answers, [settings], sync=True)
    return {}


def _finish(
    names: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    done: Mapping[tuple[str, str], str],
    options: DescribeOptions,
    chat: bool,
    out: Path,
    answers: Path,
) -> Described:
    from toolkit.methods.descriptions.linter import clean
    from toolkit.methods.descriptions.texts import names_class

    raw: dict[str, list[str]] = {name: [] for name in names}
    for name, rival in pairs:
        raw[name] += parse(done[name, rival], chat=chat)
    removed: dict[str, int] = {}
    for name in names:  # the linter lets the short names of other classes pass, as they say little in texts that people wrote
        kept = [text for text in raw[name] if not any(names_class(text, other) for other in names)]
        if len(kept) < len(raw[name]):
            removed["L3"] = removed.get("L3", 0) + len(raw[name]) - len(kept)
        raw[name] = kept
    cleaned = clean(raw, names, drop=DROPPED)
    for hit in cleaned.removed:
        if hit.rule in DROPPED:
            removed[hit.rule] = removed.get(hit.rule, 0) + 1
    pool = {name: list(dict.fromkeys(texts))[: options.most] for name, texts in cleaned.pool.items()}
    if not any(pool.values()):
        raise DataError(
            f"no answer holds a usable description; the answers are in {answers}",
            hint="try a larger model, or one that follows instructions",
        )
    atomic_write_json(out, pool)
    return Described(pool, removed, [name for name, texts in pool.items() if not texts], out, answers)
