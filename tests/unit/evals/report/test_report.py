"""The page of one run: its numbers, its sections, its size and its speed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evals.records import compare_runs
from evals.report import write_report
from toolkit.errors import DataNotFound, UsageError

MAKE = Callable[..., Path]
Picture = Callable[[str], Image.Image]
Parse = Callable[[Path], Any]


def test_the_numbers_are_those_of_results_json(make_run: MAKE, parse: Parse) -> None:
    run = make_run(n=400, names=[f"class {i}" for i in range(8)])
    page = parse(write_report(run))
    metrics = json.loads((run / "results.json").read_text())["metrics"]
    assert set(metrics) == {"top1", "top5", "mean_per_class_recall", "ece"}
    shown = {attrs["data-metric"] for attrs in page.all("tr") if "data-metric" in attrs}
    assert shown == set(metrics)
    values = {attrs["value"] for attrs in page.all("data", class_="number")}
    for name, metric in metrics.items():
        assert str(metric["value"]) in values, name
        assert f"{100 * metric['value']:.1f}\u00a0%" in page.text
        low, high = metric["ci95"]
        assert f"{100 * low:.1f} to {100 * high:.1f}\u00a0%" in page.text
    assert f"pocket-clip names {100 * metrics['top1']['value']:.1f} % of 400 images correctly" in page.said
    assert "Guessing among 8 classes would get 12.5 %." in page.said


def test_every_section_is_there_and_each_link_has_its_target(make_run: MAKE, picture: Picture, parse: Parse) -> None:
    page = parse(write_report(make_run(), images=picture))
    anchors = {attrs["href"] for attrs in page.all("a")}
    assert anchors == {"#numbers", "#mistakes", "#confusion", "#classes", "#calibration", "#provenance"}
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {anchor[1:] for anchor in anchors} <= set(ids)
    assert len(page.all("img")) == 24 + 12
    assert all(attrs["alt"] for attrs in page.all("img"))
    assert all(attrs.get("aria-label") or attrs.get("aria-hidden") for attrs in page.all("svg"))
    assert all(attrs.get("scope") for attrs in page.all("th"))


def test_mistakes_come_most_confident_first(make_run: MAKE, record: Any, answered: Any, parse: Parse, picture: Picture) -> None:
    sure = [0.31, 0.99, 0.62]
    lines = [record(f"s{i}", 0, answered(1, p, 4)) for i, p in enumerate(sure)] + [record("ok", 2, answered(2, 0.4, 4))]
    page = parse(write_report(make_run(lines=lines), images=picture))
    assert [attrs["title"] for attrs in page.all("figure", class_="shot")] == ["s1", "s2", "s0", "ok"]
    assert [attrs["value"] for attrs in page.all("data") if "class" not in attrs] == ["0.99", "0.62", "0.31", "0.4"]


def test_without_images_mistakes_are_listed_by_name(make_run: MAKE, parse: Parse) -> None:
    page = parse(write_report(make_run()))
    assert page.all("img") == []
    assert "Most confident mistakes" in page.said
    assert "s00" in page.said


def test_a_comparison_says_what_compare_says(make_run: MAKE, parse: Parse, picture: Picture) -> None:
    before, after = make_run("before", accuracy=0.6), make_run("after", accuracy=0.8, seed=1, method={"name": "better", "config": {}})
    stats = compare_runs(before, after)
    page = parse(write_report(after, compare=[before], images=picture))
    values = {attrs["value"] for attrs in page.all("data")}
    assert {str(stats["difference"]["value"]), str(stats["mcnemar_p"])} <= values
    assert f"better gets {100 * stats['difference']['value']:.1f} points more right than zero-shot, more than chance explains." in page.said
    for key in ("both_right", "only_a", "only_b", "both_wrong"):
        assert f">{stats[key]}</dd>" in page.text
    repaired = page.all("figure", class_="shot")[:12]
    wrong_before = {one["id"]: one["scores"]["top1"] for one in map(json.loads, (before / "samples.jsonl").read_text().splitlines())}
    assert {wrong_before[attrs["title"]] for attrs in repaired} == {0.0}


def test_a_difference_by_chance_is_not_sold_as_one(make_run: MAKE, parse: Parse) -> None:
    before, after = make_run("before", n=60), make_run("after", n=60, seed=3, model="other")
    page = parse(write_report(after, compare=[before]))
    assert compare_runs(before, after)["mcnemar_p"] > 0.05
    assert "can be chance" in page.said or "the same number right" in page.said


def test_bazaar_runs_say_what_their_numbers_are_not(make_run: MAKE, parse: Parse) -> None:
    note = "they say nothing about real photos"
    assert note in parse(write_report(make_run("a", task="bazaar/lines"))).said
    assert note not in parse(write_report(make_run("b"))).said


def test_what_was_run_is_said_with_short_fingerprints(make_run: MAKE, parse: Parse) -> None:
    environment = {"permafrost": "9.9.9", "python": "3.12.1", "platform": "Linux x86_64", "source": {"commit": "f" * 40, "dirty": True}}
    page = parse(write_report(make_run(environment=environment, device="cpu", templates=[f"{i} {{}}" for i in range(80)])))
    assert "<dt>Model fingerprint</dt><dd>a1b2c3d4e5f6</dd>" in page.text
    assert "<dt>Source</dt><dd>ffffffffff, with uncommitted changes</dd>" in page.text
    assert "0 {} and 79 more" in page.said


def test_the_same_run_gives_the_same_page(make_run: MAKE, picture: Picture) -> None:
    run = make_run()
    assert write_report(run, images=picture).read_bytes() == write_report(run, images=picture).read_bytes()


def test_what_is_no_run_and_what_cannot_be_compared_is_an_error(make_run: MAKE, tmp_path: Path) -> None:
    with pytest.raises(DataNotFound):
        write_report(tmp_path / "nothing")
    run, other = make_run("a"), make_run("b", task="cub200")
    with pytest.raises(UsageError):
        write_report(run, compare=[other])
    assert not (run / "report.html").exists()


def test_three_thousand_samples_take_less_than_two_seconds(make_run: MAKE, picture: Picture) -> None:
    run, other = make_run(n=3000, names=[f"c{i}" for i in range(100)]), make_run("b", n=3000, names=[f"c{i}" for i in range(100)], seed=1)
    started = time.process_time()
    write_report(run, images=picture, compare=[other])
    assert time.process_time() - started < 2.0


def test_a_thousand_classes_of_long_names_stay_below_three_megabytes(make_run: MAKE, picture: Picture, parse: Parse) -> None:
    names = [f"{i} " + "a very long class name " * 12 for i in range(1000)]
    report = write_report(make_run(n=3000, names=names, accuracy=0.3), images=picture)
    assert report.stat().st_size < 3_000_000
    page = parse(report)
    assert "Each cell stands for 25 × 25 neighbouring classes" in page.said
    assert "The 20 weakest classes" in page.said
