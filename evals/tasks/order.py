"""The order of names."""

from __future__ import annotations

import re


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key in which numbers count as numbers.

    >>> sorted(["class10", "class2", "a"], key=natural_key)
    ['a', 'class2', 'class10']
    """
    parts = re.split(r"([0-9]+)", name)
    return tuple((0, int(part), part) if part[0].isdigit() and part.isascii() else (1, 0, part) for part in parts if part)
