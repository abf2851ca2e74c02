"""Share of attention and pointing game, against counting pixels one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.metrics.pointing import coverage, hit_cells, point

EXACT = {"abs": 1e-12}  # sums of a few hundred fractions in float64


def random_case(seed: int, grid: tuple[int, int], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = rng.random(size) < rng.uniform(0.05, 0.9)
    mask[rng.integers(size[0]), rng.integers(size[1])] = True
    return rng.random(grid) ** 3 + 1e-6, mask


def share_by_counting(weights: np.ndarray, mask: np.ndarray) -> float:
    """Cells and pixels are both cut into their common small squares, and those are counted."""
    (rows, columns), (height, width) = weights.shape, mask.shape
    tall, wide = math.lcm(rows, height), math.lcm(columns, width)
    fine_map = np.repeat(np.repeat(weights, tall // rows, 0), wide // columns, 1)
    fine_mask = np.repeat(np.repeat(mask, tall // height, 0), wide // width, 1)
    return float(fine_map[fine_mask].sum() / fine_map.sum())


SIDES = st.integers(1, 9)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=SIDES, columns=SIDES, height=st.integers(1, 14), width=st.integers(1, 14))
def test_the_share_is_what_counting_small_squares_gives(seed: int, rows: int, columns: int, height: int, width: int) -> None:
    weights, mask = random_case(seed, (rows, columns), (height, width))
    found = point(weights, mask)
    assert found.share == pytest.approx(share_by_counting(weights, mask), **EXACT)
    assert found.area == pytest.approx(mask.mean(), **EXACT)
    assert point(7.5 * weights, mask).share == pytest.approx(found.share, **EXACT)
    assert found.share + (point(weights, ~mask).share if not mask.all() else 0.0) == pytest.approx(1.0, **EXACT)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), rows=SIDES, columns=SIDES, height=st.integers(1, 14), width=st.integers(1, 14), radius=st.integers(0, 5)
)
def test_a_hit_is_a_mask_pixel_within_the_radius_of_the_centre(
    seed: int, rows: int, columns: int, height: int, width: int, radius: int
) -> None:
    weights, mask = random_case(seed, (rows, columns), (height, width))
    i, j = np.unravel_index(int(weights.argmax()), weights.shape)
    y, x = (i + 0.5) * height / rows, (j + 0.5) * width / columns
    nearest = min(
        math.hypot(x - min(max(x, column), column + 1), y - min(max(y, row), row + 1))
        for row in range(height)
        for column in range(width)
        if mask[row, column]
    )
    found = point(weights, mask, radius=radius)
    assert found.hit == float(nearest <= radius + 1e-9)
    assert point(weights, mask, radius=radius + 1).hit >= found.hit


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=SIDES, columns=SIDES, side=st.integers(1, 14))
def test_a_map_that_knows_nothing_gets_exactly_chance(seed: int, rows: int, columns: int, side: int) -> None:
    _, mask = random_case(seed, (rows, columns), (side, side))
    flat = point(np.full((rows, columns), 0.3), mask, radius=1.5)
    assert flat.share == pytest.approx(flat.area, **EXACT)
    assert flat.hit == pytest.approx(flat.chance, **EXACT)
    assert flat.lift == pytest.approx(1.0, **EXACT)


def test_a_case_by_hand() -> None:
    """Four cells on 3 x 3 pixels; the mask is the middle pixel, one ninth of the picture, of which each cell holds a quarter."""
    mask = np.zeros((3, 3), bool)
    mask[1, 1] = True
    found = point([[4, 0], [0, 0]], mask)
    assert found.share == pytest.approx((0.5 * 0.5) / (1.5 * 1.5), **EXACT)
    assert found.area == pytest.approx(1 / 9, **EXACT)
    assert found.hit == 0.0  # the centre of the cell is (0.75, 0.75), the pixel begins at (1, 1)
    assert point([[4, 0], [0, 0]], mask, radius=0.35).hit == 0.0
    assert point([[4, 0], [0, 0]], mask, radius=0.36).hit == 1.0  # sqrt(2) / 4 = 0.3536


def test_equal_peaks_share_the_hit() -> None:
    mask = np.zeros((4, 4), bool)
    mask[:2, :2] = True
    assert point([[1, 1], [0, 0]], mask).hit == 0.5
    assert point([[1, 1], [0, 0]], mask).chance == 0.25


def test_a_centre_on_a_border_touches_the_pixels_of_both_sides() -> None:
    left, right = np.zeros((1, 2), bool), np.zeros((1, 2), bool)
    left[0, 0] = right[0, 1] = True
    assert hit_cells(left, (1, 1)).all()
    assert hit_cells(right, (1, 1)).all()


def test_a_box_covers_a_part_or_more_than_the_picture() -> None:
    mask = np.zeros((4, 8), bool)
    mask[:, 6:] = True
    assert coverage(mask, (2, 2), (2.0, 0.0, 6.0, 4.0)).tolist() == [[0, 0], [0, 0]]  # the middle square, as a centre crop sees it
    assert coverage(mask, (2, 2), (4.0, 0.0, 8.0, 4.0)).tolist() == [[0, 1], [0, 1]]
    padded = point(np.ones((4, 4)), mask, box=(0.0, -2.0, 8.0, 6.0))  # padded to a square: the bars are no part of the mask
    assert padded.share == pytest.approx(8 / 64, **EXACT)
    with pytest.raises(ValueError, match="outside"):
        point(np.ones((2, 2)), mask, box=(2.0, 0.0, 6.0, 4.0))


@pytest.mark.parametrize(
    ("weights", "mask", "options"),
    [
        (np.ones(3), np.ones((2, 2)), {}),
        (np.zeros((2, 2)), np.ones((2, 2)), {}),
        (-np.ones((2, 2)), np.ones((2, 2)), {}),
        (np.full((2, 2), np.nan), np.ones((2, 2)), {}),
        (np.ones((2, 2)), np.zeros((2, 2)), {}),
        (np.ones((2, 2)), np.ones(4), {}),
        (np.ones((2, 2)), np.ones((2, 2)), {"radius": -1}),
        (np.ones((2, 2)), np.ones((2, 2)), {"radius": math.nan}),
        (np.ones((2, 2)), np.ones((2, 2)), {"box": (1, 0, 1, 2)}),
    ],
)
def test_impossible_input_is_refused(weights: np.ndarray, mask: np.ndarray, options: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        point(weights, mask, **options)
