"""Boxes of known heat maps on square, wide and tiled grids, and both rules against brute force."""

from __future__ import annotations

import doctest
import itertools

import numpy as np
import pytest

from toolkit import regions as r
from toolkit.errors import ShapeError, UsageError


def heat_map(rows: int, columns: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    heat = np.linspace(0, 1e-3, rows * columns).reshape(rows, columns)
    for left, top, right, bottom in boxes:
        heat[top:bottom, left:right] = 1.0
    return heat


def test_doctests() -> None:
    assert doctest.testmod(r).failed == 0


def test_bbox_on_a_square_grid() -> None:
    heat = heat_map(24, 24, (4, 6, 14, 14))  # 80 of 576 cells: 14 %
    assert r.bbox_region(heat) == (3 / 24, 5 / 24, 15 / 24, 15 / 24)


def test_bbox_on_a_wide_grid_and_at_the_border() -> None:
    heat = heat_map(8, 32, (24, 0, 32, 4))
    assert r.bbox_region(heat) == (23 / 32, 0.0, 1.0, 5 / 8)


def test_bbox_takes_the_largest_group_and_diagonal_neighbours_do_not_join() -> None:
    heat = heat_map(10, 10, (0, 0, 2, 2), (2, 2, 5, 4))
    # 0.2 high is too small: a quarter around its middle
    assert r.bbox_region(heat, margin=0) == pytest.approx((0.2, 0.175, 0.5, 0.425))


def test_a_single_hot_cell_grows_to_a_quarter_inside_of_the_image() -> None:
    heat = heat_map(40, 40)
    heat[39, 0] = 5.0
    heat[heat < 1] = 0.0
    left, top, right, bottom = r.bbox_region(heat)
    assert (left, bottom) == (0.0, 1.0)
    assert (right - left, bottom - top) == pytest.approx((0.25, 0.25))


def test_a_constant_map_is_the_whole_image() -> None:
    for value in (0.0, 1 / 3, -0.1):
        assert r.bbox_region(np.full((7, 5), value)) == (0, 0, 1, 1)


@pytest.mark.parametrize("seed", range(20))
def test_bbox_against_flood_fill(seed: int) -> None:
    random = np.random.default_rng(seed)
    heat = random.normal(size=(int(random.integers(3, 14)), int(random.integers(3, 14))))
    hot = heat >= np.quantile(heat, 0.7)
    groups, seen = [], set()
    for cell in itertools.product(*map(range, heat.shape)):
        if hot[cell] and cell not in seen:
            stack, group = [cell], []
            seen.add(cell)
            while stack:
                y, x = stack.pop()
                group.append((y, x))
                for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                    if near not in seen and 0 <= near[0] < heat.shape[0] and 0 <= near[1] < heat.shape[1] and hot[near]:
                        seen.add(near)
                        stack.append(near)
            groups.append(group)
    best = max(groups, key=lambda group: (len(group), sum(heat[cell] for cell in group)))
    ys, xs = zip(*best, strict=True)
    rows, columns = heat.shape
    expected = (
        max(min(xs) - 1, 0) / columns,
        max(min(ys) - 1, 0) / rows,
        min(max(xs) + 2, columns) / columns,
        min(max(ys) + 2, rows) / rows,
    )
    assert r.bbox_region(heat, quantile=0.7, least=0.0) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(10))
def test_window_against_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    heat = random.normal(size=(9, 12))
    sums = {(y, x): heat[y : y + 5, x : x + 6].sum() for y in range(5) for x in range(7)}
    y, x = max(sums, key=lambda cell: sums[cell])
    assert r.window_region(heat) == (x / 12, y / 9, (x + 6) / 12, (y + 5) / 9)


def test_a_window_larger_than_the_image_or_tiny_is_refused() -> None:
    for window in (0.1, 1.5):
        with pytest.raises(UsageError, match="window"):
            r.window_region(np.ones((4, 4)), window=window)
    assert r.window_region(np.ones((4, 4)), window=1.0) == (0, 0, 1, 1)


def test_views_of_an_any_resolution_model_add_up_where_they_are() -> None:
    base = np.zeros((4, 4))
    tiles = [r.HeatGrid(np.zeros((4, 4)), (x / 2, y / 2, (x + 1) / 2, (y + 1) / 2)) for y in range(2) for x in range(2)]
    tiles[1].values[1:3, 1:3] = 1.0  # the tile at the top right
    heat = r.merge_grids([r.HeatGrid(base), *tiles])
    assert heat.shape == (8, 8)
    assert np.argwhere(heat > 0).tolist() == [[1, 5], [1, 6], [2, 5], [2, 6]]
    assert r.bbox_region(heat) == (4 / 8, 0.0, 1.0, 4 / 8)


@pytest.mark.parametrize("seed", range(10))
def test_merging_keeps_the_sum(seed: int) -> None:
    random = np.random.default_rng(seed)
    views = [r.HeatGrid(random.random((5, 7))), r.HeatGrid(random.random((6, 4)), (0.1, 0.0, 0.65, 0.9))]
    assert r.merge_grids(views).sum() == pytest.approx(sum(view.values.sum() for view in views))


def test_what_is_no_grid_is_an_error() -> None:
    with pytest.raises(UsageError, match="no grid"):
        r.merge_grids([])
    for wrong in (np.zeros(4), np.zeros((0, 3))):
        with pytest.raises(ShapeError):
            r.merge_grids([r.HeatGrid(wrong)])
        with pytest.raises(ShapeError):
            r.bbox_region(wrong)


def test_pixel_boxes_lie_in_the_image() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        (left, right), (top, bottom) = np.sort(random.random((2, 2)), axis=1)
        width, height = (int(side) for side in random.integers(1, 50, size=2))
        box = r.pixel_box((left, top, right, bottom), (width, height))
        assert 0 <= box[0] < box[2] <= width
        assert 0 <= box[1] < box[3] <= height
    assert r.pixel_box(r.WHOLE, (7, 3)) == (0, 0, 7, 3)
    assert r.pixel_box((1 / 3, 0, 2 / 3, 1), (3, 3)) == (1, 0, 2, 3)
