"""Pools of descriptions: which texts there are, and which class each was written for."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.config import fingerprint
from toolkit.errors import DataError, UsageError, near_matches
from toolkit.files import read_json

DEDUPE = ("normalised", "exact", "none")
Source = str | os.PathLike[str] | Mapping[str, Sequence[str]] | Sequence[str]


@dataclass(frozen=True)
class Pool:
    """The descriptions of a problem.

    Attributes:
        texts: (P,) in the order of the pool: first appearance over the classes.
        owners: (C,) for each class the indices of its own descriptions, in the order of its list; empty for a flat pool.
        classnames: (C,).
        warnings: one sentence for each thing that a user should know.
    """

    texts: tuple[str, ...]
    owners: tuple[tuple[int, ...], ...]
    classnames: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def flat(self) -> bool:
        """Whether no text was written for any class."""
        return not any(self.owners)

    @property
    def own_lists(self) -> tuple[tuple[int, ...], ...] | None:
        """``owners``, or None for a flat pool."""
        return None if self.flat else self.owners

    def tie_order(self) -> list[int]:
        """Pool indices in the order that breaks ties: by text (code points), then by index."""
        return sorted(range(len(self.texts)), key=lambda index: (self.texts[index], index))

    def without(self, texts: Collection[str]) -> Pool:
        """The pool without some texts. Raises: DataError: if none would be left."""
        kept = [index for index, text in enumerate(self.texts) if text not in texts]
        place = {index: number for number, index in enumerate(kept)}
        owners = tuple(tuple(place[index] for index in own if index in place) for own in self.owners)
        return _checked(
            Pool(tuple(self.texts[index] for index in kept), owners, self.classnames, self.warnings), "what is left of the pool"
        )

    def fingerprint(self) -> str:
        """sha256 of texts, owners and class names."""
        return fingerprint(self.texts, self.owners, self.classnames)

    def by_class(self) -> dict[str, tuple[str, ...]]:
        """Class name -> its own texts."""
        return {name: tuple(self.texts[index] for index in own) for name, own in zip(self.classnames, self.owners, strict=True)}


def load_pool(
    source: Source,
    classnames: Sequence[str],
    dedupe: str = "normalised",
    *,
    published_order: bool = False,
    other: Source | None = None,
) -> Pool:
    """A pool from a JSON file, from {class: [texts]} or from a flat list of texts.

    Classes are matched by name and never by position; a class may have an empty list, which gets a warning.

    Args:
        source: path of a JSON file, mapping or list.
        classnames: (C,) in label order; the keys of ``source`` must be these, in any order.
        dedupe: which texts count as one: "normalised" (blanks stripped and collapsed), "exact" or "none".
        published_order: sort each class's list before texts are numbered, as the authors' code does.
        other: a second pool: classes whose own list is empty take its list.
    Raises: DataError: no JSON, not of these classes, not lists of texts, or no text at all. DataNotFound: no such file.
    """
    if dedupe not in DEDUPE:
        raise UsageError(f"dedupe={dedupe!r} is not possible", hint="dedupe is one of: " + ", ".join(DEDUPE))
    names = tuple(classnames)
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise DataError(
            f"two classes are called {twice!r}, so that descriptions cannot be matched to them", hint="give them different names"
        )
    value, where = _read(source)
    if isinstance(value, list):
        texts = _numbered([_texts(value, where)], dedupe)[0]
        return _checked(Pool(tuple(texts), ((),) * len(names), names), where)
    lists = _by_class(value, names, where)
    warnings = []
    spare = None
    if other is not None:
        more, elsewhere = _mapping(other)
        spare = _by_class(more, names, elsewhere)
    for number, name in enumerate(names):
        if not lists[number]:
            if spare is not None and spare[number]:
                lists[number] = spare[number]
                warnings.append(f"class {name!r} has no descriptions of its own and takes those of the other pool")
            else:
                warnings.append(f"class {name!r} has no descriptions of its own: its fallback is the mean of the pool")
    texts, owners = _numbered([sorted(own) if published_order else own for own in lists], dedupe)
    return _checked(Pool(tuple(texts), tuple(map(tuple, owners)), names, tuple(warnings)), where)


def _numbered(lists: Iterable[Sequence[str]], dedupe: str) -> tuple[list[str], list[list[int]]]:
    """Texts in the order of their first appearance, and each list as indices without repetitions."""
    texts: list[str] = []
    index: dict[str, int] = {}
    owners: list[list[int]] = []
    for own in lists:
        numbers: list[int] = []
        for text in own:
            key = " ".join(text.split()) if dedupe == "normalised" else text
            if dedupe == "none" or key not in index:
                index[key] = len(texts)
                texts.append(key)
            numbers.append(index[key])
        owners.append(list(dict.fromkeys(numbers)))
    return texts, owners


def _read(source: Source) -> tuple[Any, str]:
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        value = read_json(path)
        if not isinstance(value, (dict, list)):
            raise DataError(f"{path} holds a {type(value).__name__}; expected {{class: [texts]}} or a list of texts")
        return value, str(path)
    if isinstance(source, Mapping):
        return dict(source), "the pool"
    if isinstance(source, Sequence):
        return list(source), "the pool"
    raise UsageError(
        f"a {type(source).__name__} is not a pool of descriptions", hint="give a JSON file, {class: [texts]} or a list of texts"
    )


def _mapping(source: Source) -> tuple[Mapping[str, Any], str]:
    value, where = _read(source)
    if not isinstance(value, dict):
        raise DataError(f"{where} is a flat list; the other pool needs a list for each class")
    return value, where


def _by_class(value: Mapping[str, Any], names: Sequence[str], where: str) -> list[list[str]]:
    """The lists in the order of ``names``."""
    missing = [name for name in names if name not in value]
    extra = [key for key in value if key not in set(names)]
    if missing:
        near = near_matches(missing[0], extra, most=1)
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{where} has no descriptions for the class {missing[0]!r}{more}",
            hint=f"it has {near[0]!r}: is that the same class?" if near else "class names must be spelled as in the data set",
        )
    if extra:
        near = near_matches(str(extra[0]), names, most=1)
        more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        raise DataError(
            f"{where} describes the class {extra[0]!r}{more}, which the data set does not have",
            hint=f"the data set has {near[0]!r}, which has its own list" if near else "take it out of the pool",
        )
    return [_texts(value[name], f"class {name!r} of {where}") for name in names]


def _texts(value: object, where: str) -> list[str]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise DataError(f"{where} is a {type(value).__name__}; expected a list of texts")
    for number, text in enumerate(value):
        if not isinstance(text, str):
            raise DataError(f"text {number} of {where} is a {type(text).__name__}; expected a string")
        if not text.strip():
            raise DataError(f"text {number} of {where} is empty", hint="take it out of the list")
    return list(value)


def _checked(pool: Pool, where: str) -> Pool:
    if not pool.texts:
        raise DataError(f"{where} has no descriptions at all")
    return pool
