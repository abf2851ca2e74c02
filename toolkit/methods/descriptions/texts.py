"""What is said about classes: lists of descriptions for a problem, sentences that join a name and a description, shipped word lists.

No method of its own: the methods that compare texts import from here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import UsageError, near_matches
from toolkit.files import read_json
from toolkit.methods.descriptions.pool import Source, load_pool
from toolkit.types import ClassifyProblem

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.models.base import DualEncoder

PROMPTS = Path(__file__).resolve().parents[3] / "prompts"
SENTENCES = 8192  # encoded at once

TEMPLATES_7 = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""The subset that was selected for ImageNet. Source: openai/CLIP, notebook "Prompt Engineering for ImageNet" (MIT)."""


def templates_80() -> tuple[str, ...]:
    """The 80 templates that were written for ImageNet. Source: openai/CLIP (MIT), arXiv 2103.00020."""
    return tuple(read_json(PROMPTS / "classify" / "imagenet.json")["templates"]["ensemble"])


def pool_source(problem: ClassifyProblem, pool: str = "task") -> Source:
    """The pool that the option ``pool`` means, for ``load_pool``.

    Args:
        pool: "task" (the problem's own), the name of another pool of the problem, or a JSON file.
    Raises: UsageError: if the problem has no such pool, and there is no such file.
    """
    named: dict[str, Source] = dict(problem.pools)
    if problem.descriptions is not None:
        named["task"] = problem.descriptions
    if pool in named:
        return named[pool]
    if pool == "task":
        known = f"it has the pools {', '.join(named)}; or " if named else ""
        raise UsageError("the task has no descriptions of its classes", hint=f"{known}give a file {{class: [texts]}} with -o pool=FILE")
    if Path(pool).suffix == ".json" or Path(pool).exists():
        return Path(pool)
    near = near_matches(pool, named, most=1)
    known = f"did you mean {near[0]!r}?" if near else "pools of this task: " + (", ".join(sorted(named)) or "none")
    raise UsageError(f"there is no pool called {pool!r}, and no such file", hint=known)


def problem_lists(problem: ClassifyProblem, pool: str = "task") -> list[tuple[str, ...]]:
    """(C,) lists of descriptions in the order of the classes; some may be empty.

    Raises: UsageError: if the problem has no such pool. DataError: if it is of other classes, or holds no text.
    """
    loaded = load_pool(pool_source(problem, pool), tuple(dict.fromkeys(problem.classnames)))
    if loaded.flat:
        raise UsageError("this method needs to know which class each description is of", hint="give {class: [texts]}, not a flat list")
    by_class = loaded.by_class()
    return [by_class[name] for name in problem.classnames]  # classes of the same name share their texts


def ours(text: str) -> str:
    """The relative clause of a description, by its first word.

    >>> [ours(text) for text in ("a long tail", "antlers", "has fur", "used to cut")]
    ['which is a long tail', 'which has antlers', 'which has fur', 'which is used to cut']
    """
    first = text.split(" ", 1)[0].lower()
    if first in ("a", "an", "used"):
        return f"which is {text}"
    return f"which {text}" if first in ("has", "often", "typically", "may", "can") else f"which has {text}"


def published(text: str) -> str:
    """As in the public code of DCLIP, where every text that starts with the letter "a" counts as one with an article.

    >>> published("antlers")
    'which is antlers'
    """
    if text.startswith(("a", "used")):
        return f"which is {text}"
    return f"which {text}" if text.startswith(("has", "often", "typically", "may", "can")) else f"which has {text}"


WORDINGS: dict[str, Callable[[str], str]] = {"ours": ours, "published": published, "plain": lambda text: text}


def joined(template: str, name: str, text: str, wording: str = "ours") -> str:
    """A caption and a description as one sentence.

    >>> joined("a photo of a {}.", "cat", "whiskers")
    'a photo of a cat, which has whiskers.'
    """
    caption = template.replace("{}", name).rstrip(". ")
    clause = WORDINGS[wording](text.strip().rstrip("."))
    return f"{caption}, {clause}."


def one_of(option: str, value: object, known: Iterable[str]) -> None:
    """Raises: UsageError: unless ``value`` is among ``known``."""
    names = tuple(known)
    if value not in names:
        raise UsageError(f"{option}={value!r} is not possible", hint=f"{option} is one of: " + ", ".join(names))


def at_least(option: str, value: object, least: int) -> None:
    """Raises: UsageError: unless ``value`` is a whole number from ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{option}={value!r} is not a whole number from {least}")


def check_weight(option: str, value: object, words: Sequence[str] = ("loo",)) -> None:
    """Raises: UsageError: unless ``value`` is a finite number from 0, or one of ``words``."""
    if isinstance(value, str) and value in words:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        known = "".join(f"{word!r} or " for word in words)
        raise UsageError(f"{option}={value!r} is not possible", hint=f"{option} is {known}a number from 0")


def names_class(text: str, name: str) -> bool:
    """Whether all words of the class name stand in a row in the text, whatever their case.

    >>> names_class("an ice-cream van", "Ice cream"), names_class("a scar", "car")
    (True, False)
    """
    words = re.findall(r"[a-z0-9]+", text.lower())
    wanted = re.findall(r"[a-z0-9]+", name.lower())
    return bool(wanted) and any(words[i : i + len(wanted)] == wanted for i in range(len(words)))


def mean_of_sentences(encoder: DualEncoder, lists: Sequence[Sequence[str]], *, unit: bool = False) -> Tensor:
    """(C, D) float32: row c is the mean of the unit embeddings of the sentences of list c.

    Without ``unit`` the inner product with a row is the mean cosine of its sentences; with it rows are scaled to norm 1.
    Sentences are encoded in groups, so that memory is bounded by the classes and not by the sentences.
    Raises: UsageError: for a class without sentences.
    """
    import torch

    for number, texts in enumerate(lists):
        if not texts:
            raise UsageError(f"class {number} has no sentences")
    owners = torch.tensor([number for number, texts in enumerate(lists) for _ in texts])
    flat = [text for texts in lists for text in texts]
    sums: Any = None
    for start in range(0, len(flat), SENTENCES):
        rows = encoder.encode_texts(flat[start : start + SENTENCES]).double()
        sums = torch.zeros(len(lists), rows.shape[1], dtype=torch.float64) if sums is None else sums
        sums.index_add_(0, owners[start : start + SENTENCES], rows)
    means: Tensor = sums / torch.tensor([len(texts) for texts in lists], dtype=torch.float64)[:, None]
    return (torch.nn.functional.normalize(means, dim=-1) if unit else means).float()
