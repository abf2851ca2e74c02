"""The confusion matrix from 2 to 1,000 classes: right counts, inside its frame, names that do not touch."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import numpy as np
import pytest

from evals.report import confusion
from evals.report.svg import text_width


def counts(classes: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(0.4, (classes, classes)) + np.diag(rng.integers(0, 30, classes))


def attribute(markup: str, name: str) -> list[float]:
    return [float(value) for value in re.findall(rf' {name}="(-?[\d.]+)"', markup)]


def test_most_confused_pairs_against_sorting_by_hand() -> None:
    table = counts(7)
    expected = sorted(
        ((-int(table[r, c]), -table[r, c] / table[r].sum(), r, c) for r in range(7) for c in range(7) if r != c and table[r, c]),
    )[:5]
    assert [(one.true, one.predicted, one.n) for one in confusion.most_confused(table, 5)] == [(r, c, -n) for n, _, r, c in expected]


@pytest.mark.parametrize("classes", [2, 3, 10, 20, 21, 40])
def test_every_count_has_its_cell(classes: int) -> None:
    table = counts(classes)
    names = [f"class number {i} <&>" for i in range(classes)]
    markup = str(confusion.matrix(table, names, label="x"))
    cells = re.findall(r"<title>class number (\d+) &lt;&amp;&gt; → class number (\d+) &lt;&amp;&gt;: (\d+) of (\d+)</title>", markup)
    assert [tuple(map(int, cell)) for cell in cells] == [(r, c, table[r, c], table[r].sum()) for r, c in np.argwhere(table)]
    assert markup.count('class="cell') == (len(cells) if classes <= 20 else 0)
    width, height = (float(value) for value in re.search(r'viewBox="0 0 (\d+) (\d+)"', markup).groups())  # type: ignore[union-attr]
    rects = zip(*(attribute(" ".join(re.findall(r"<rect[^>]*>", markup)), name) for name in ("x", "y", "width", "height")), strict=True)
    for x, y, w, h in rects:
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height


@pytest.mark.parametrize("classes", [2, 10, 40])
def test_names_stay_inside_and_apart(classes: int) -> None:
    names = ["W" * 60 if i % 2 else "漢字" * 30 for i in range(classes)]
    markup = str(confusion.matrix(counts(classes), names, label="x"))
    width = float(re.search(r'viewBox="0 0 (\d+) ', markup).group(1))  # type: ignore[union-attr]
    texts = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" (text-anchor="end"|transform="[^"]+") class="name">([^<]*)</text>', markup)
    assert len(texts) == 2 * classes
    rows = [(float(x), float(y), text) for x, y, kind, text in texts if "anchor" in kind]
    columns = [(float(x), float(y), text) for x, y, kind, text in texts if "rotate" in kind]
    assert all(x - text_width(text, confusion.FONT) >= -0.5 for x, _, text in rows)
    assert min(b[1] - a[1] for a, b in pairwise(rows)) >= confusion.FONT
    for x, y, text in columns:
        reach = text_width(text, confusion.FONT) * math.sqrt(0.5)
        assert x + reach <= width + 1
        assert y - reach >= -1
    apart = min(b[0] - a[0] for a, b in pairwise(columns)) * math.sqrt(0.5)
    assert apart >= 0.9 * confusion.FONT


def test_blocks_against_loops() -> None:
    table = counts(103)
    table[7] = 0  # a class without samples
    got, edge = confusion.blocks(table, 40)
    assert (edge, got.shape) == (3, (35, 35))
    for row in range(35):
        members = [r for r in range(3 * row, min(3 * row + 3, 103)) if table[r].sum()]
        for column in range(35):
            expected = sum(table[r, 3 * column : 3 * column + 3].sum() / table[r].sum() for r in members) / len(members)
            assert got[row, column] == pytest.approx(expected)
    assert np.allclose(got.sum(axis=1), 1)


@pytest.mark.parametrize("classes", [41, 200, 1000])
def test_many_classes_are_drawn_in_blocks(classes: int) -> None:
    markup = str(confusion.matrix(counts(classes), [str(i) for i in range(classes)], label="many"))
    assert len(markup) < 200_000
    assert "<title>" not in markup
    assert markup.count("<rect") <= 40 * 40 + 1
    x = attribute(" ".join(re.findall(r"<rect[^>]*>", markup)), "x")
    w = attribute(" ".join(re.findall(r"<rect[^>]*>", markup)), "width")
    assert max(a + b for a, b in zip(x, w, strict=True)) <= 528


def test_a_class_that_never_occurs_leaves_its_row_empty() -> None:
    table = np.array([[3, 1], [0, 0]])
    assert confusion.shares(table).tolist() == [[0.75, 0.25], [0.0, 0.0]]
    assert "nan" not in str(confusion.matrix(table, ["a", "b"], label="x"))
