"""Random numbers that are the same on every machine: raw Philox words, turned into draws by this file alone.

numpy keeps ``SeedSequence`` and ``Philox`` stable between versions, but not the methods of ``Generator``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from numpy.random import Philox, SeedSequence

T = TypeVar("T")

_BLOCK = 96
_UNIT = 2.0**-53


class Stream:
    """Draws keyed by a tuple of integers >= 0; streams with different keys are independent."""

    def __init__(self, *key: int) -> None:
        self._bits = Philox(SeedSequence(key))
        self._words: list[int] = self._bits.random_raw(_BLOCK).tolist()
        self._next = 0

    def random(self) -> float:
        """A float in [0, 1)."""
        if self._next >= len(self._words):
            self._words = self._bits.random_raw(_BLOCK).tolist()
            self._next = 0
        word = self._words[self._next]
        self._next += 1
        return (word >> 11) * _UNIT

    def uniform(self, low: float, high: float) -> float:
        """A float in [low, high), rounded to 1e-6 so that records of it are short."""
        return round(low + (high - low) * self.random(), 6)

    def integer(self, n: int) -> int:
        """An integer in 0 .. n - 1."""
        return min(n - 1, int(self.random() * n))

    def chance(self, p: float) -> bool:
        return self.random() < p

    def choice(self, options: Sequence[T]) -> T:
        return options[self.integer(len(options))]

    def weighted(self, options: Sequence[T], weights: Sequence[float]) -> T:
        """One of ``options`` with probability proportional to its weight."""
        mark = self.random() * sum(weights)
        for option, weight in zip(options, weights, strict=True):
            mark -= weight
            if mark < 0:
                return option
        return options[-1]

    def normal(self, sd: float = 1.0) -> float:
        """A normal draw with mean 0, rounded to 1e-6 (hides the last bits of the platform's libm)."""
        radius = math.sqrt(-2.0 * math.log(1.0 - self.random()))
        return round(sd * radius * math.cos(2.0 * math.pi * self.random()), 6)

    def shuffled(self, options: Sequence[T]) -> list[T]:
        items = list(options)
        for last in range(len(items) - 1, 0, -1):
            other = self.integer(last + 1)
            items[last], items[other] = items[other], items[last]
        return items
