"""Confusion matrices that stay readable from 2 to 1,000 classes.

Up to ``MOST_CLASSES`` classes every class has its row, with its name. Beyond that, neighbouring classes share a block, and the
table of the most confused pairs carries the names. The shade of a cell is the share of its true class, never the raw count, so that
a large class does not drown a small one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from evals.report.figures import compact
from evals.report.svg import elide, tag, text_width

MOST_CLASSES = 40
MOST_NUMBERED = 20  # up to here a cell is wide enough for its count
GUTTER = 168.0  # room for a class name, px
FONT = 12.0

Counts = NDArray[np.int64]


class Confusion(NamedTuple):
    """One kind of mistake.

    Attributes:
        true: index of the true class; ``predicted`` the one that was answered.
        n: how often; ``share`` the same as a fraction of the true class's samples.
    """

    true: int
    predicted: int
    n: int
    share: float


def shares(counts: Counts) -> NDArray[np.float64]:
    """Each row divided by its sum; rows without samples stay 0."""
    totals = counts.sum(axis=1, keepdims=True)
    part: NDArray[np.float64] = np.divide(counts, np.maximum(totals, 1), dtype=np.float64)
    return part


def most_confused(counts: Counts, most: int = 12) -> list[Confusion]:
    """The most frequent mistakes, by count, then by share, then in class order.

    >>> most_confused(np.array([[5, 2], [1, 9]]))[0]
    Confusion(true=0, predicted=1, n=2, share=0.2857142857142857)
    """
    part = shares(counts)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    rows, columns = np.nonzero(wrong)
    order = np.lexsort((columns, rows, -part[rows, columns], -wrong[rows, columns]))[:most]
    return [Confusion(int(r), int(c), int(counts[r, c]), float(part[r, c])) for r, c in zip(rows[order], columns[order], strict=True)]


def blocks(counts: Counts, most: int = MOST_CLASSES) -> tuple[NDArray[np.float64], int]:
    """Row shares averaged over blocks of neighbouring classes, and the block's edge in classes.

    Returns: (B, B) float64 whose rows sum to at most 1, B <= ``most``; the edge.
    """
    classes = len(counts)
    edge = -(-classes // most)
    size = -(-classes // edge)
    padded = np.zeros((size * edge, size * edge))
    padded[:classes, :classes] = shares(counts)
    summed = padded.reshape(size, edge, size, edge).sum(axis=(1, 3))
    present = np.zeros(size * edge)
    present[:classes] = counts.sum(axis=1) > 0
    return summed / np.maximum(present.reshape(size, edge).sum(axis=1), 1)[:, None], edge


def matrix(counts: Counts, names: Sequence[str], *, label: str) -> Markup:
    """The heat map: one row a class when there are few of them, one row a block of classes otherwise."""
    if len(counts) > MOST_CLASSES:
        return _block_map(counts, label=label)
    classes = len(counts)
    edge = min(72.0, max(16.0, 440.0 / classes))
    room = max((text_width(elide(name, GUTTER, FONT), FONT) for name in names), default=0.0)
    left, slant = min(GUTTER, room) + 12, min(GUTTER, room) * 0.71 + 14
    top = slant + 4
    width, height = left + classes * edge + max(8.0, slant - edge / 2), top + classes * edge + 8
    parts: list[Markup] = []
    part = shares(counts)
    for index, name in enumerate(names):
        middle = (index + 0.5) * edge
        short = elide(name, GUTTER, FONT)
        parts.append(tag("text", short, x=left - 8, y=top + middle + 4, text_anchor="end", class_="name"))
        at_x, at_y = left + middle + 3, top - 7
        turned = f"rotate(-45 {at_x:.1f} {at_y:.1f})"
        parts.append(tag("text", short, x=at_x, y=at_y, transform=turned, class_="name"))
    parts.append(tag("rect", x=left, y=top, width=classes * edge, height=classes * edge, class_="ground"))
    parts.extend(_cell(counts, part, row, column, names, (left, top, edge)) for row, column in np.argwhere(counts))
    return tag(
        "svg",
        *parts,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=round(width),
        height=round(height),
        class_="figure matrix broad" if width > 620 else "figure matrix",
        role="img",
        aria_label=label,
    )


def _cell(
    counts: Counts, part: NDArray[np.float64], row: int, column: int, names: Sequence[str], frame: tuple[float, float, float]
) -> Markup:
    left, top, edge = frame
    right = row == column
    strength = _strength(float(part[row, column]), right)
    tip = f"{names[row]} → {names[column]}: {counts[row, column]} of {counts[row].sum()}"
    x, y = left + column * edge, top + row * edge
    box = tag(
        "rect",
        tag("title", elide(tip, 900, FONT)),
        x=x + 0.5,
        y=y + 0.5,
        width=edge - 1,
        height=edge - 1,
        class_="right" if right else "wrong",
        fill_opacity=f"{strength:.2f}",
    )
    if len(counts) > MOST_NUMBERED:
        return box
    low, high = (0.63, 0.85) if right else (0.43, 0.62)  # where dark text on the cell starts to win, in dark and in light mode
    tone = "faint" if strength < low else "middle" if strength < high else "strong"
    return box + tag(
        "text", compact(int(counts[row, column])), x=x + edge / 2, y=y + edge / 2 + 4, text_anchor="middle", class_=f"cell {tone}"
    )


def _strength(share: float, right: bool) -> float:
    """Opacity of a cell. Mistakes are drawn on a square-root scale that is full at one half, or nobody would see them."""
    return share if right else min(1.0, (share / 0.5) ** 0.5) * 0.9


def _block_map(counts: Counts, *, label: str) -> Markup:
    part, span = blocks(counts)
    size, pixel, margin = len(part), 480.0 / len(part), 44.0
    parts = [tag("rect", x=margin, y=20.0, width=480.0, height=480.0, class_="ground")]
    for row, column in np.argwhere(part > 0):
        right = row == column
        parts.append(
            tag(
                "rect",
                x=margin + column * pixel,
                y=20.0 + row * pixel,
                width=pixel,
                height=pixel,
                class_="right" if right else "wrong",
                fill_opacity=f"{_strength(float(part[row, column]), bool(right)):.2f}",
            )
        )
    every = max(1, size // 5)
    for block in range(0, size, every):
        shown = str(block * span + 1)
        parts.append(tag("text", shown, x=margin + block * pixel, y=14.0, class_="tick"))
        parts.append(tag("text", shown, x=margin - 6, y=20.0 + block * pixel + 10, text_anchor="end", class_="tick"))
    return tag("svg", *parts, viewBox="0 0 528 504", width=528, height=504, class_="figure matrix", role="img", aria_label=label)
