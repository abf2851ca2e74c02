"""Does a patch map look at the right pixels? Share of attention inside a mask, and the pointing game.

A map has one weight per patch, on a grid of H x W cells that covers the picture (or ``box`` of it); a mask has one boolean per pixel.
Cells and pixels meet exactly, by area: no resizing, no interpolation, any grid on any picture. All numbers are fractions in [0, 1], and
each comes with what a map that knows nothing would get.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Pointing:
    """How well one map points at one mask.

    Attributes:
        share: of the map's weight that lies inside the mask.
        area: of the covered picture that lies inside the mask: the share of a uniform map.
        hit: 1.0 if the heaviest cell points at the mask (the mean over the heaviest cells, where several are equal).
        chance: of a hit by a cell at random.
    """

    share: float
    area: float
    hit: float
    chance: float

    @property
    def lift(self) -> float:
        """How many times the share of a uniform map; 1 says that the map knows nothing."""
        return self.share / self.area


def point(weights: ArrayLike, mask: ArrayLike, *, radius: float = 0.0, box: Box | None = None) -> Pointing:
    """Share of attention and pointing game of one map.

    Args:
        weights: (H, W), finite, not negative, not all zero.
        mask: (height, width) booleans, of the pixels that the answer stands on.
        radius: tolerance of the pointing game in pixels: how far from the mask the heaviest cell's centre may lie.
        box: (left, top, right, bottom) in pixels: the part of the picture that the grid covers, which may reach beyond it (padding);
            None is the whole picture.
    Raises: ValueError: for an impossible map, an empty mask, or a mask that lies outside ``box``.
    Source of the game: Zhang et al., 2016, arXiv 1608.00507, section 4.1 (there with a radius of 15 pixels).
    """
    grid, pixels = _map(weights), _mask(mask)
    covered = coverage(pixels, _shape(grid), box)
    if not covered.any():
        raise ValueError("the mask lies outside the part of the picture that the map covers")
    hits = hit_cells(pixels, _shape(grid), radius=radius, box=box)
    return Pointing(
        share=min(1.0, float((grid * covered).sum() / grid.sum())),
        area=float(covered.mean()),
        hit=float(hits[grid == grid.max()].mean()),
        chance=float(hits.mean()),
    )


def coverage(mask: ArrayLike, grid: tuple[int, int], box: Box | None = None) -> Floats:
    """(H, W): the fraction of each cell's area that lies inside the mask. A pixel may count for several cells, by area.

    >>> coverage([[1, 0, 0]], (1, 2)).tolist()
    [[0.6666666666666666, 0.0]]
    """
    pixels = _mask(mask)
    left, top, right, bottom = _box(box, pixels)
    rows = _overlap(top, bottom, grid[0], pixels.shape[0])
    columns = _overlap(left, right, grid[1], pixels.shape[1])
    cell = (bottom - top) / grid[0] * ((right - left) / grid[1])
    return np.asarray(np.clip(rows @ pixels.astype(np.float64) @ columns.T / cell, 0.0, 1.0))


def hit_cells(mask: ArrayLike, grid: tuple[int, int], *, radius: float = 0.0, box: Box | None = None) -> NDArray[np.bool_]:
    """(H, W): the cells whose centre lies on the mask or at most ``radius`` pixels away from it.

    A pixel is a closed square: a centre on the border between pixels touches all of them, so that no side is favoured.
    """
    pixels = _mask(mask)
    if not radius >= 0:
        raise ValueError(f"a radius is a number of pixels from 0, not {radius!r}")
    left, top, right, bottom = _box(box, pixels)
    y = top + (np.arange(grid[0]) + 0.5) * (bottom - top) / grid[0]
    x = left + (np.arange(grid[1]) + 0.5) * (right - left) / grid[1]
    rows, columns = np.arange(pixels.shape[0]), np.arange(pixels.shape[1])
    dy = np.maximum(np.maximum(rows - y[:, None], y[:, None] - rows - 1), 0.0)
    dx = np.maximum(np.maximum(columns - x[:, None], x[:, None] - columns - 1), 0.0)
    hits = np.zeros(grid, dtype=np.bool_)
    for j in range(grid[1]):  # the nearest mask pixel within each row of pixels first, then over the rows
        within = np.where(pixels, dx[j], np.inf).min(axis=1)
        hits[:, j] = (dy**2 + within**2).min(axis=1) <= radius * radius + 1e-9  # centres are sums of fractions: forgive their rounding
    return hits


def _overlap(start: float, end: float, cells: int, pixels: int) -> Floats:
    """(cells, pixels): the length that each cell of [start, end] shares with each pixel."""
    edges = start + (end - start) * np.arange(cells + 1) / cells
    near = np.maximum(edges[:-1, None], np.arange(pixels)[None, :])
    far = np.minimum(edges[1:, None], np.arange(1, pixels + 1)[None, :])
    return np.asarray(np.maximum(far - near, 0.0), dtype=np.float64)


def _shape(grid: Floats) -> tuple[int, int]:
    return grid.shape[0], grid.shape[1]


def _map(weights: ArrayLike) -> Floats:
    grid = np.asarray(weights, dtype=np.float64)
    if grid.ndim != 2 or not grid.size:
        raise ValueError(f"a map has the shape (H, W), not {grid.shape}")
    if not np.isfinite(grid).all() or (grid < 0).any() or not grid.any():
        raise ValueError("the weights of a map are finite, not negative, and not all zero")
    return grid


def _mask(mask: ArrayLike) -> NDArray[np.bool_]:
    pixels = np.asarray(mask).astype(np.bool_)
    if pixels.ndim != 2 or not pixels.any():
        raise ValueError(f"a mask has the shape (height, width) and at least one pixel inside, not {pixels.shape} and none")
    return pixels


def _box(box: Box | None, pixels: NDArray[Any]) -> Box:
    if box is None:
        return 0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0])
    left, top, right, bottom = (float(edge) for edge in box)
    if not (left < right and top < bottom):
        raise ValueError(f"a box is (left, top, right, bottom), not {box!r}")
    return left, top, right, bottom
