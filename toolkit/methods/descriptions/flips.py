"""Two classes change places at one weight of the class name: where, and who wins in between. Pure functions on a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Segment:
    """The class that wins for weights from ``low`` to ``high`` (None: without end)."""

    low: float
    high: float | None
    label: int
    name: str


def winner_at(a: Sequence[float], b: Sequence[float], labels: Sequence[int], w: float) -> int:
    """The label with the largest ``w * a + b``; of equal ones that with the larger a, then the smaller label.

    >>> winner_at([0.3, 0.2], [0.1, 0.2], [4, 7], 0.5), winner_at([0.3, 0.2], [0.1, 0.2], [4, 7], 2.0)
    (7, 4)
    """
    best = max(range(len(labels)), key=lambda i: (w * a[i] + b[i], a[i], -labels[i]))
    return labels[best]


def flip_value(a: tuple[float, float], b: tuple[float, float]) -> tuple[float | None, str]:
    """Where the first of two classes stops or starts to win, as w goes from 0 up.

    Args:
        a, b: cosines with the caption and mean cosines with the texts, of the first and of the second class.
    Returns: (w*, "above") if it wins for w >= w*, (w*, "below") for w <= w*, (None, "always" or "never") if no w >= 0 changes that.
    >>> flip_value((0.5, 0.25), (0.0, 0.5)), flip_value((0.25, 0.5), (0.5, 0.0)), flip_value((0.5, 0.25), (0.2, 0.1))
    ((2.0, 'above'), (2.0, 'below'), (None, 'always'))
    """
    name, rest = a[0] - a[1], b[0] - b[1]
    if name == 0:
        return None, "always" if rest > 0 else "never"
    at = -rest / name
    if at < 0 or (at == 0 and name > 0):
        return None, "always" if name > 0 else "never"
    return at, "above" if name > 0 else "below"


def segments(a: Sequence[float], b: Sequence[float], labels: Sequence[int], names: Sequence[str]) -> tuple[Segment, ...]:
    """The upper envelope of the lines ``w * a + b`` over w >= 0: who wins where, from left to right, without gaps."""
    pairs = [(i, j) for i in range(len(labels)) for j in range(i)]
    cuts = sorted({(b[j] - b[i]) / (a[i] - a[j]) for i, j in pairs if a[i] != a[j]})
    edges = [0.0, *(cut for cut in cuts if cut > 0)]
    named = dict(zip(labels, names, strict=True))
    found: list[Segment] = []
    for number, low in enumerate(edges):
        high = edges[number + 1] if number + 1 < len(edges) else None
        label = winner_at(a, b, labels, low + 1.0 if high is None else (low + high) / 2)
        if found and found[-1].label == label:
            found[-1] = replace(found[-1], high=high)
        else:
            found.append(Segment(low, high, label, named[label]))
    return tuple(found)
