"""Geometry: what is drawn stands where the numbers say, inside its frame, and no text lies on another."""

from __future__ import annotations

import doctest
import importlib
import math
from html.parser import HTMLParser

import numpy as np
import pytest

from evals.report import figures, svg
from evals.report.figures import Bin
from toolkit.stats import wilson


class Shapes(HTMLParser):
    """The shapes of a figure as (tag, attributes, text)."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str], str]] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {key: value or "" for key, value in attrs}, ""))

    def handle_data(self, data: str) -> None:
        tag, attrs, text = self.found[-1]
        self.found[-1] = (tag, attrs, text + data)

    def of(self, tag: str, class_: str) -> list[dict[str, str]]:
        return [attrs | {"said": text} for name, attrs, text in self.found if name == tag and attrs.get("class") == class_]


def percent(text: str) -> float:
    assert text.endswith("%")
    return float(text[:-1])


@pytest.mark.parametrize("module", ["svg", "figures", "wording", "confusion"])
def test_doctests(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"evals.report.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("value", "ci", "domain"),
    [(0.5, (0.4, 0.6), (0.0, 1.0)), (0.87, (0.86, 0.88), (0.8, 0.9)), (-0.02, (-0.05, 0.01), (-0.06, 0.02)), (1.0, (0.0, 1.0), (0.0, 1.0))],
)
def test_an_interval_stands_where_its_numbers_say(value: float, ci: tuple[float, float], domain: tuple[float, float]) -> None:
    shapes = Shapes(figures.interval_bar(value, ci, label="x", domain=domain))
    (stroke,), (band,) = shapes.of("line", "value"), shapes.of("rect", "interval")
    span = domain[1] - domain[0]
    assert stroke["x1"] == stroke["x2"]
    assert percent(stroke["x1"]) == pytest.approx(100 * (value - domain[0]) / span, abs=0.01)
    assert percent(band["x"]) == pytest.approx(100 * (ci[0] - domain[0]) / span, abs=0.01)
    assert percent(band["x"]) + percent(band["width"]) == pytest.approx(100 * (ci[1] - domain[0]) / span, abs=0.01)
    assert percent(band["x"]) <= percent(stroke["x1"]) <= percent(band["x"]) + percent(band["width"]) + 0.01


def test_an_interval_that_leaves_the_axis_is_cut_at_its_end() -> None:
    (band,) = Shapes(figures.interval_bar(0.95, (0.7, 1.4), label="x", domain=(0.9, 1.0))).of("rect", "interval")
    assert (band["x"], band["width"]) == ("0%", "100%")


def test_nothing_measured_draws_the_empty_line_and_chance() -> None:
    shapes = Shapes(figures.interval_bar(None, None, label="x", reference=0.1))
    assert shapes.of("line", "value") == shapes.of("rect", "interval") == []
    assert shapes.of("line", "reference")[0]["x1"] == "10%"
    assert Shapes(figures.interval_bar(0.5, None, label="x", reference=0.1, domain=(0.4, 0.6))).of("line", "reference") == []


@pytest.mark.parametrize("counts", [(60, 10, 25, 5), (0, 0, 7, 0), (0, 0, 0, 0), (1, 999, 0, 0)])
def test_the_paired_bar_is_the_whole_of_its_parts(counts: tuple[int, int, int, int]) -> None:
    shapes = Shapes(figures.paired_bar(*counts, label="x"))
    order = {"both": counts[0], "only-b": counts[2], "only-a": counts[1], "neither": counts[3]}
    at = 0.0
    for name, count in order.items():
        drawn = shapes.of("rect", name)
        assert len(drawn) == (count > 0)
        if drawn:
            assert percent(drawn[0]["x"]) == pytest.approx(at, abs=0.01)
            assert percent(drawn[0]["width"]) == pytest.approx(100 * count / sum(counts), abs=0.01)
            at += percent(drawn[0]["width"])
    assert at == pytest.approx(100 if sum(counts) else 0, abs=0.02)


def reliability_bins(n: int = 15, each: int = 48_000) -> list[Bin]:
    bins = []
    for b in range(n):
        confidence, count = (b + 0.5) / n, each + b
        right = round(count * confidence**1.3)
        bins.append(Bin(b / n, (b + 1) / n, count, confidence, right / count, wilson(right, count)))
    return bins


def test_reliability_dots_and_bars() -> None:
    bins = reliability_bins()
    shapes = Shapes(figures.reliability(bins, label="x"))
    dots, bars = shapes.of("circle", "point"), shapes.of("rect", "count")
    assert len(dots) == len(bars) == len(bins)
    for one, dot in zip(bins, dots, strict=True):
        assert float(dot["cx"]) == pytest.approx(44 + 300 * one.confidence, abs=0.01)
        assert float(dot["cy"]) == pytest.approx(310 - 300 * one.accuracy, abs=0.01)
    floors = {round(float(bar["y"]) + float(bar["height"]), 1) for bar in bars}
    assert len(floors) == 1
    heights = [float(bar["height"]) for bar in bars]
    assert heights[0] / heights[-1] == pytest.approx(bins[0].n / bins[-1].n, rel=1e-3)


def test_reliability_of_one_sample_and_of_empty_bins() -> None:
    empty = Bin(0.0, 0.5, 0, math.nan, math.nan, (0.0, 1.0))
    shapes = Shapes(figures.reliability([empty, Bin(0.5, 1.0, 1, 0.9, 1.0, (0.2, 1.0))], label="x"))
    assert len(shapes.of("circle", "point")) == 1
    assert "nan" not in str(shapes.found)


def boxes(markup: str) -> list[tuple[str, float, float, float, float]]:
    """(text, left, top, right, bottom) of the unturned texts of a figure, by the estimate of text width."""
    size = {"tick": 12, "tick small": 8.5, "axis-title": 12, "name": 12}
    found = []
    for tag, attrs, text in Shapes(markup).found:
        if tag == "text" and "transform" not in attrs and attrs["class"] in size:
            font = size[attrs["class"]]
            width = svg.text_width(text, font)
            x, y = float(attrs["x"]), float(attrs["y"])
            left = x - {"middle": width / 2, "end": width}.get(attrs.get("text-anchor", "start"), 0)
            found.append((text, left, y - 0.72 * font, left + width, y + 0.2 * font))
    return found


@pytest.mark.parametrize("each", [1, 87, 999, 1234, 48_000, 700_000])
def test_texts_of_the_reliability_diagram_do_not_overlap(each: int) -> None:
    markup = figures.reliability(reliability_bins(each=each), label="x")
    found = boxes(markup)
    assert len(found) > 20
    for i, (one, l1, t1, r1, b1) in enumerate(found):
        assert l1 >= -1, one
        assert r1 <= 361, one
        for other, l2, t2, r2, b2 in found[i + 1 :]:
            assert r1 <= l2 + 0.5 or r2 <= l1 + 0.5 or b1 <= t2 or b2 <= t1, (one, other)


@pytest.mark.parametrize("domain", [(0.0, 1.0), (0.748, 0.794), (0.02, 0.1), (0.871, 0.878), (0.5, 0.75)])
def test_axis_labels_fit_a_phone(domain: tuple[float, float]) -> None:
    ticks = svg.nice_ticks(*domain, most=5)
    labels = [svg.number(100 * tick, 1) + ("\u00a0%" if tick == ticks[-1] else "") for tick in ticks]
    shapes, right = Shapes(figures.axis(domain, ticks=ticks, labels=labels)), -math.inf
    assert len(shapes.of("text", "tick")) + len(shapes.of("text", "tick minor")) == len(ticks)
    for label in shapes.of("text", "tick"):
        width, x = 0.9 * svg.text_width(label["said"], 12), 0.92 * percent(label["x"])  # a column of 92 px, digits as wide as they are
        left = x - {"middle": width / 2, "end": width}.get(label["text-anchor"], 0)
        assert left >= right, labels
        right = left + width


@pytest.mark.parametrize("seed", range(20))
def test_ticks_are_few_round_and_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low = float(rng.normal() * 10 ** rng.uniform(-4, 3))
    high = low + float(10 ** rng.uniform(-4, 3))
    ticks = svg.nice_ticks(low, high, 5)
    assert 1 <= len(ticks) <= 5
    assert all(low - 1e-6 <= tick <= high + 1e-6 for tick in ticks)
    if len(ticks) > 1:
        step = ticks[1] - ticks[0]
        assert np.diff(ticks) == pytest.approx(step, rel=1e-6)
        leading = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(leading - nice) for nice in (1, 2, 2.5, 5)) < 1e-3


def test_elided_text_fits() -> None:
    for text in ("a" * 300, "漢" * 40, "W" * 30, "short", "", "i" * 50):
        short = svg.elide(text, 80, 12)
        assert svg.text_width(short, 12) <= 80 + svg.text_width("…", 12)
        assert short == text or short.endswith("…")
