"""Where a heat map is highest: the best window of several sizes. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from toolkit.errors import ShapeError

__all__ = ["Window", "best_window", "sharpness", "window_sums"]

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


class Window(NamedTuple):
    """The window that was chosen.

    Attributes:
        box: left, top, right and bottom in pixels of the image.
        size: which of the sizes it was; None where the smallest one covers the image already.
        cells: width and height in cells of the map.
        sharpness: how far its sum per cell lies above that of the windows one cell beside it.
    """

    box: Box
    size: float | None
    cells: tuple[int, int]
    sharpness: float


def window_sums(heat: Tensor, width: int, height: int) -> Tensor:
    """The sum of every ``height`` x ``width`` window of a map, by one integral image.

    Args:
        heat: (H, W) float.
    Returns: (H - height + 1, W - width + 1) float64; entry (y, x) is the window whose upper left cell is (y, x).

    >>> window_sums(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 1, 2)
    tensor([[4., 6.]], dtype=torch.float64)
    """
    integral = torch.nn.functional.pad(heat.double().cumsum(0).cumsum(1), (1, 0, 1, 0))
    return (
        integral[height:, width:]
        - integral[:-height, width:]
        - integral[height:, :-width]
        + integral[:-height, :-width]
    )  # fmt: skip


def sharpness(sums: Tensor, x: int, y: int) -> float:
    """The sum at (x, y) minus the mean of those of its neighbours to the left, right, above and below. 0 without neighbours.

    >>> sharpness(torch.tensor([[1.0, 5.0, 2.0]]), 1, 0)
    3.5
    """
    rows, columns = sums.shape
    beside = [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)]
    values = [float(sums[row, column]) for column, row in beside if 0 <= column < columns and 0 <= row < rows]
    return float(sums[y, x]) - sum(values) / len(values) if values else 0.0


def best_window(heat: Tensor, image_size: tuple[int, int], side: float, sizes: Sequence[float] = (1, 1.2, 1.4, 1.6, 1.8, 2)) -> Window:
    """The square window that stands out most from its surroundings, of several sizes, as a box of pixels.

    For each size the position with the largest sum is found; of these the one with the largest ``sharpness`` per cell is taken.
    The box is a square of ``side * size`` pixels around its middle, pushed into the image, and cut where the image is narrower.
    A size that covers the image is left out; if the first one does, the box is the image.

    Args:
        heat: (H, W) float, a map over the whole image.
        image_size: width and height in pixels.
        side: of the smallest window, in pixels: the input side of the model.
        sizes: factors on ``side``, rising.
    Raises: ShapeError: unless the map has two dimensions and a cell.
    Source: Zhang et al., 2025, arXiv 2502.17422, section 5 (bounding box selection). Differs from the authors' code: a window
        has at least one cell, also in an image that is many times larger than the model's input.
    """
    if heat.ndim != 2 or not heat.numel():
        raise ShapeError(f"a heat map has the shape {tuple(heat.shape)}; expected (height, width)")
    rows, columns = heat.shape
    width, height = image_size
    found: list[tuple[float, float, int, int, tuple[int, int]]] = []
    for size in sizes:
        cells = tuple(min(max(int(side * size * n / pixels), 1), n) for n, pixels in ((columns, width), (rows, height)))
        if cells == (columns, rows):
            if not found:
                return Window((0, 0, width, height), None, (columns, rows), 0.0)
            break
        sums = window_sums(heat, cells[0], cells[1])
        # Columns first: of equal windows the leftmost one wins, and of these the uppermost.
        place = int(sums.T.reshape(-1).argmax())
        x, y = divmod(place, sums.shape[0])
        found.append((sharpness(sums, x, y) / (cells[0] * cells[1]), size, x, y, (cells[0], cells[1])))
    score, size, x, y, cells = max(found, key=lambda entry: (entry[0], -entry[1]))
    middle = ((x + cells[0] / 2) * width / columns, (y + cells[1] / 2) * height / rows)
    left, right = _span(middle[0], side * size, width)
    top, bottom = _span(middle[1], side * size, height)
    return Window((left, top, right, bottom), size, cells, score)


def _span(middle: float, length: float, whole: int) -> tuple[int, int]:
    """``length`` pixels around ``middle`` (or all of ``whole``), moved so that they lie inside."""
    size = min(max(round(length), 1), whole)
    start = min(max(round(middle - size / 2), 0), whole - size)
    return start, start + size
