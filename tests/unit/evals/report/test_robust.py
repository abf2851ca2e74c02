"""Runs with holes in them: the page says what is missing and shows the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evals.report import write_report


def test_all_failed(make_run: Callable[..., Path], record: Any, parse: Any) -> None:
    lines = [record(f"s{i}", 0, None, "the file is empty") for i in range(120)]
    page = parse(write_report(make_run(lines=lines)))
    assert "no image could be scored" in page.said
    assert "not defined" in page.said
    assert page.said.count("the file is empty") == 100
    assert "20 more are in samples.jsonl." in page.said


def test_one_sample(make_run: Callable[..., Path], parse: Any, picture: Any) -> None:
    page = parse(write_report(make_run(n=1), images=picture))
    assert "of 1 image correctly" in page.said


def test_one_class(make_run: Callable[..., Path], parse: Any) -> None:
    page = parse(write_report(make_run(names=["mug"])))
    assert "Guessing" not in page.said
    assert "Confusion" not in page.said


def test_nothing_wrong_and_nothing_right(make_run: Callable[..., Path], parse: Any, picture: Any) -> None:
    perfect = parse(write_report(make_run("a", accuracy=1.1), images=picture))
    assert "mistakes" not in perfect.said
    assert "names 100.0 %" in perfect.said
    hopeless = parse(write_report(make_run("b", accuracy=-1.0), images=picture))
    assert "names 0.0 %" in hopeless.said
    assert "barely" not in hopeless.said


def test_no_confidence(make_run: Callable[..., Path], record: Any, answered: Any, parse: Any, picture: Any) -> None:
    lines = [record(f"s{i}", i % 4, {"label": 0}) for i in range(20)]
    metrics = {"top1": {"value": 0.25, "ci95": None, "n": 20}, "ece": {"value": None, "ci95": None, "n": 0}}
    page = parse(write_report(make_run(lines=lines, results={"metrics": metrics, "n": 20, "n_failed": 0}), images=picture))
    assert "Most confident" not in page.said
    assert "All wrong answers." in page.said
    assert "Can its confidence be trusted?" not in page.said


def test_an_unfinished_run(make_run: Callable[..., Path], parse: Any) -> None:
    page = parse(write_report(make_run(results=False, status="interrupted")))
    assert "200 samples are in; the run is not finished." in page.said
    assert "interrupted" in page.said
    empty = parse(write_report(make_run("empty", lines=[], results=False, status="running")))
    assert "nothing has been evaluated yet" in empty.said


def test_labels_without_names_and_out_of_range(make_run: Callable[..., Path], record: Any, answered: Any, parse: Any) -> None:
    lines = [record("a", 7, answered(0, 0.9, 4)), record("b", 1, answered(9, 0.8, 10)), record("c", 1, answered(1, 0.8, 4))]
    results = {"metrics": {"top1": {"value": 1 / 3, "ci95": [0.06, 0.79], "n": 3}}}
    page = parse(write_report(make_run(lines=lines, results=results)))
    assert "class 7" in page.said
    assert "class 9" in page.said
    nameless = parse(write_report(make_run("b", lines=lines, results=results, classnames=None)))
    assert "class 1" in nameless.said


def test_no_labels_at_all(make_run: Callable[..., Path], record: Any, answered: Any, parse: Any) -> None:
    lines = [record(f"s{i}", None, answered(0, 0.9, 4)) for i in range(5)]
    page = parse(write_report(make_run(lines=lines, results={"metrics": {}})))
    assert "no score yet" in page.said


def test_a_task_of_another_kind(make_run: Callable[..., Path], record: Any, parse: Any) -> None:
    lines = [record(f"q{i}", None, {"answer": "a dog"}) for i in range(5)]
    metrics = {
        "vqa_official": {"value": 0.61, "ci95": [0.5, 0.7], "n": 5},
        "srcc": {"value": -0.25, "ci95": [-0.4, 0.1], "n": 5},
        "odd": {"value": 412.5},
    }
    page = parse(write_report(make_run(lines=lines, task="vqav2", results={"metrics": metrics, "n": 5, "n_failed": 0})))
    assert "VQA accuracy, official 61.0 %" in page.said
    assert "−0.25" in page.said
    assert "412.5" in page.said


@pytest.mark.parametrize("kind", ["raises", "none", "huge", "palette", "tiny"])
def test_images_of_every_kind(make_run: Callable[..., Path], parse: Any, kind: str) -> None:
    def image(sample_id: str) -> Any:
        if kind == "raises" and sample_id.endswith("1"):
            raise OSError("gone")
        return {
            "none": None,
            "huge": Image.new("RGB", (9000, 30)),
            "palette": Image.new("RGBA", (60, 60)).quantize(),
            "tiny": Image.new("L", (1, 1)),
        }.get(kind, Image.new("RGB", (64, 64)))

    page = parse(write_report(make_run(), images=image))
    shown, frames = len(page.all("img")), len(page.all("figure", class_="shot"))
    assert frames == 36
    if kind == "none":
        assert shown == 0
        assert "36 thumbnails could not be made." in page.said
    elif kind == "raises":
        assert 0 < shown < frames
        assert page.said.count("no image: s") == frames - shown
    else:
        assert shown == frames


def test_nan_and_infinity_are_not_numbers(make_run: Callable[..., Path], record: Any, answered: Any, parse: Any) -> None:
    lines = [
        record("a", 0, answered(1, float("nan"), 4)),
        record("b", 0, answered(0, float("inf"), 4)),
        record("c", 0, answered(0, 3.5, 4)),
    ]
    results = {
        "metrics": {"top1": {"value": float("nan"), "ci95": [float("nan"), 1.0], "n": 3}, "ece": {"value": 0.1, "ci95": [0.0, 0.2], "n": 3}}
    }
    page = parse(write_report(make_run(lines=lines, results=results)))
    assert "nan" not in page.said.lower().replace("defined", "")
    geometry = {"x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height", "points"}
    placed = [str(value) for _, attrs in page.tags for key, value in attrs.items() if key in geometry]
    assert placed
    assert not [value for value in placed if "nan" in value or "inf" in value]
