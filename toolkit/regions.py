"""From a heat map to the region that is cropped: grids of tokens, the picture that they make together, and boxes in it.

All boxes are (left, top, right, bottom) in fractions of the image, 0 to 1, with y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from toolkit.errors import ShapeError, UsageError

Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
LEAST_SIDE = 0.25
BBOX_QUANTILE = 0.9

__all__ = ["WHOLE", "Box", "HeatGrid", "bbox_region", "crop_region", "merge_grids", "pixel_box", "window_region"]


class HeatGrid(NamedTuple):
    """The values of one view of an image.

    Attributes:
        values: (h, w) float, one for each token of the view, row by row from the top left.
        box: the part of the image that the view shows.
    """

    values: np.ndarray
    box: Box = WHOLE


def overlap(cells: int, low: float, high: float, bins: int) -> np.ndarray:
    """(bins, cells): the part of each of ``cells`` equal cells on [low, high] that falls into each of ``bins`` on [0, 1].

    >>> overlap(2, 0.0, 1.0, 4).tolist()
    [[0.5, 0.0], [0.5, 0.0], [0.0, 0.5], [0.0, 0.5]]
    """
    edges = np.linspace(low, high, cells + 1)
    marks = np.linspace(0.0, 1.0, bins + 1)
    shared = np.minimum(edges[None, 1:], marks[1:, None]) - np.maximum(edges[None, :-1], marks[:-1, None])
    result: np.ndarray = shared.clip(min=0) / max((high - low) / cells, 1e-12)
    return result


def merge_grids(grids: Sequence[HeatGrid]) -> np.ndarray:
    """One map of the whole image from several views of it: what each token holds is spread over its area, and views add up.

    The map has as many rows and columns as the finest view has for the whole image; the sum is kept.
    Raises: UsageError: without views. ShapeError: if a view is no grid.

    >>> merge_grids([HeatGrid(np.array([[4.0]])), HeatGrid(np.array([[1.0, 0.0], [0.0, 0.0]]))]).tolist()
    [[2.0, 1.0], [1.0, 1.0]]
    """
    if not grids:
        raise UsageError("there is no grid of image tokens to make a map of")
    for grid in grids:
        if grid.values.ndim != 2 or not grid.values.size:
            raise ShapeError(f"a heat map has shape {grid.values.shape}; expected (rows, columns)")
    rows = max(_cells(grid.values.shape[0], grid.box[3] - grid.box[1]) for grid in grids)
    columns = max(_cells(grid.values.shape[1], grid.box[2] - grid.box[0]) for grid in grids)
    total = np.zeros((rows, columns))
    for values, (left, top, right, bottom) in grids:
        down = overlap(values.shape[0], top, bottom, rows)
        across = overlap(values.shape[1], left, right, columns)
        total += down @ values.astype(np.float64) @ across.T
    return total


def _cells(count: int, side: float) -> int:
    return max(1, round(count / max(side, 1e-6)))


def bbox_region(heat: np.ndarray, *, quantile: float = BBOX_QUANTILE, margin: int = 1, least: float = LEAST_SIDE) -> Box:
    """The box of the largest 4-connected group of cells at or above a quantile, ``margin`` cells wider on each side.

    Of groups with as many cells the one with the larger sum counts, then the first one row by row. Each side is at least
    ``least`` of the image.

    Args:
        heat: (h, w) float, the signed contrast.
    Source: ours; the rule of the paper is not published.

    >>> heat = np.zeros((8, 8)); heat[2:4, 4:6] = 1
    >>> bbox_region(heat)
    (0.375, 0.125, 0.875, 0.625)
    """
    from scipy.ndimage import label

    rows, columns = _shape(heat)
    # The quantile interpolates, and may come out a rounding error above the largest value; and where most cells are equal it is the
    # smallest one, which is not high: cells at the minimum count only if all are equal.
    hot = (heat >= min(np.quantile(heat, quantile), heat.max())) & ((heat > heat.min()) | (heat.min() == heat.max()))
    groups, count = label(hot)  # the default structure joins the four neighbours
    ids = np.arange(1, count + 1)
    sizes = np.bincount(groups.ravel(), minlength=count + 1)[1:]
    sums = np.bincount(groups.ravel(), weights=heat.ravel(), minlength=count + 1)[1:]
    best = max(ids, key=lambda group: (sizes[group - 1], sums[group - 1], -group))
    down, across = np.nonzero(groups == best)
    top, bottom = _span(int(down.min()) - margin, int(down.max()) + 1 + margin, rows, least)
    left, right = _span(int(across.min()) - margin, int(across.max()) + 1 + margin, columns, least)
    return left, top, right, bottom


def window_region(heat: np.ndarray, *, window: float = 0.5) -> Box:
    """The window of ``window`` times the sides of the image, on whole cells, with the largest sum; the first of equal ones.

    >>> heat = np.zeros((4, 8)); heat[3, 6] = 1
    >>> window_region(heat)
    (0.375, 0.5, 0.875, 1.0)
    """
    rows, columns = _shape(heat)
    if not LEAST_SIDE <= window <= 1:
        raise UsageError(f"the window of {window} is not a fraction from {LEAST_SIDE} to 1 of the image's sides")
    height, width = max(1, math.ceil(rows * window)), max(1, math.ceil(columns * window))
    sums = np.lib.stride_tricks.sliding_window_view(heat.astype(np.float64), (height, width)).sum(axis=(2, 3))
    top, left = divmod(int(sums.round(12).argmax()), sums.shape[1])
    return left / columns, top / rows, (left + width) / columns, (top + height) / rows


def crop_region(heat: np.ndarray, rule: str = "bbox", *, window: float = 0.5) -> Box:
    """The region of one of the rules "bbox" and "window"."""
    return bbox_region(heat) if rule == "bbox" else window_region(heat, window=window)


def pixel_box(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box in whole pixels of an image of ``size`` (width, height): outwards, at least one pixel, inside of the image.

    >>> pixel_box((0.25, 0.0, 0.5, 1.0), (10, 4))
    (2, 0, 5, 4)
    """
    width, height = size
    left, top = min(math.floor(box[0] * width + 1e-6), width - 1), min(math.floor(box[1] * height + 1e-6), height - 1)
    right, bottom = math.ceil(box[2] * width - 1e-6), math.ceil(box[3] * height - 1e-6)
    return max(left, 0), max(top, 0), min(max(right, left + 1), width), min(max(bottom, top + 1), height)


def _shape(heat: np.ndarray) -> tuple[int, int]:
    if heat.ndim != 2 or not heat.size:
        raise ShapeError(f"a heat map has shape {heat.shape}; expected (rows, columns)")
    return heat.shape[0], heat.shape[1]


def _span(low: int, high: int, cells: int, least: float) -> tuple[float, float]:
    """[low, high) cells as fractions, inside of the image and at least ``least`` long; it grows to both sides as far as it can."""
    start, end = max(low, 0) / cells, min(high, cells) / cells
    if end - start < least:
        start = min(max((start + end - least) / 2, 0.0), 1.0 - least)
        end = start + least
    return start, end
