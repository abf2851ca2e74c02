"""The order of names, and a random choice that keeps the order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from toolkit.errors import UsageError

T = TypeVar("T")


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key in which numbers count as numbers.

    >>> sorted(["class10", "class2", "a"], key=natural_key)
    ['a', 'class2', 'class10']
    """
    parts = re.split(r"([0-9]+)", name)
    return tuple((0, int(part), part) if part[0].isdigit() and part.isascii() else (1, 0, part) for part in parts if part)


def choose(items: Sequence[T], limit: int | None, seed: int) -> Iterator[T]:
    """All of ``items``, or a random ``limit`` of them in their order: a larger limit of the same seed contains a smaller one.

    Raises: UsageError: for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"a limit must be at least 1, not {limit}")
    if limit is None or limit >= len(items):
        yield from items
        return
    chosen = np.sort(np.random.default_rng(seed).permutation(len(items))[:limit])
    yield from (items[int(position)] for position in chosen)
