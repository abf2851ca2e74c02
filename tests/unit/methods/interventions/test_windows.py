"""The best window against a search that looks at every window of every size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import ShapeError
from toolkit.methods.interventions.windows import best_window, sharpness, window_sums


def heat_map(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 9), st.integers(1, 9), st.data())
@settings(max_examples=60, deadline=None)
def test_window_sums_are_sums_of_windows(rows: int, columns: int, data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, columns)), data.draw(st.integers(1, rows))
    heat = heat_map(rows, columns, data.draw(st.integers(0, 99)))
    sums = window_sums(heat, width, height)
    assert sums.shape == (rows - height + 1, columns - width + 1)
    for y in range(sums.shape[0]):
        for x in range(sums.shape[1]):
            assert float(sums[y, x]) == pytest.approx(float(heat[y : y + height, x : x + width].double().sum()), abs=1e-12)


def by_search(heat: np.ndarray, image: tuple[int, int], side: float, sizes: tuple[float, ...]) -> tuple[float, int, int, int, int] | None:
    """(size, x, y, width, height) in cells of the published rule, written down as nested loops; None is the whole image."""
    rows, columns = heat.shape
    best: tuple[float, float, int, int, int, int] | None = None
    for number, size in enumerate(sizes):
        w = min(max(int(side * size / (image[0] / columns)), 1), columns)
        h = min(max(int(side * size / (image[1] / rows)), 1), rows)
        if w == columns and h == rows:
            if number == 0:
                return None
            continue
        sums = {(x, y): heat[y : y + h, x : x + w].sum() for x in range(columns - w + 1) for y in range(rows - h + 1)}
        x, y = max(sums, key=lambda place: sums[place])
        beside = [sums[place] for place in ((x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)) if place in sums]
        score = (sums[x, y] - np.mean(beside)) / (w * h)
        if best is None or score > best[0]:
            best = (score, size, x, y, w, h)
    assert best is not None
    return best[1:]


@given(st.integers(2, 12), st.integers(2, 12), st.integers(40, 900), st.integers(40, 900), st.integers(0, 10**6))
@settings(max_examples=80, deadline=None)
def test_best_window_is_that_of_the_search(rows: int, columns: int, width: int, height: int, seed: int) -> None:
    heat, sizes = heat_map(rows, columns, seed), (1, 1.2, 1.4, 1.6, 1.8, 2)
    found = best_window(heat, (width, height), 96, sizes)
    expected = by_search(heat.double().numpy(), (width, height), 96, sizes)
    left, top, right, bottom = found.box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    if expected is None:
        assert found.size is None
        assert found.box == (0, 0, width, height)
        return
    size, x, _, w, h = expected
    assert (found.size, found.cells) == (size, (w, h))
    assert right - left == min(round(96 * size), width)
    assert bottom - top == min(round(96 * size), height)
    # Within the image the box is centred on the window, to the pixel.
    middle = (x + w / 2) * width / columns
    if left > 0 and right < width:
        assert abs((left + right) / 2 - middle) <= 1


def test_a_peak_is_in_the_box() -> None:
    heat = torch.full((24, 24), 0.1)
    heat[5:8, 15:18] = 5.0
    window = best_window(heat, (1344, 1344), 336)
    left, top, right, bottom = window.box
    assert left <= 15 * 56
    assert right >= 18 * 56
    assert top <= 5 * 56
    assert bottom >= 8 * 56
    assert (right - left, bottom - top) == (336, 336)
    assert window.sharpness > 0


def test_an_image_no_larger_than_the_input_is_not_cropped() -> None:
    assert best_window(torch.rand(24, 24), (336, 300), 336).box == (0, 0, 336, 300)


def test_a_huge_image_has_a_window_of_one_cell() -> None:
    window = best_window(heat_map(6, 6, 0), (60000, 60000), 336, (1,))
    assert window.cells == (1, 1)
    assert window.box[2] - window.box[0] == 336


def test_edges() -> None:
    assert sharpness(torch.tensor([[3.0]]), 0, 0) == 0.0
    with pytest.raises(ShapeError, match="heat map"):
        best_window(torch.rand(4), (10, 10), 5)
