"""The page of several runs, and the page of a run that the real runner made from real files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from evals.report import write_overview, write_report
from evals.runner import run as evaluate
from evals.tasks import get_task
from toolkit.images import open_image
from toolkit.types import Prediction, Sample

MAKE = Callable[..., Path]


def test_runs_pairs_and_numbers(make_run: MAKE, parse: Any, picture: Any, tmp_path: Path) -> None:
    a, b = make_run("a"), make_run("b", accuracy=0.9, seed=1, method={"name": "better", "config": {}})
    c = make_run("c", task="bazaar/category", n=80, accuracy=0.95)
    out = write_overview(
        [a, c, b], tmp_path / "demo" / "report.html", title="Demo", lede="Three runs.", images=picture, comparisons=[(a, b)]
    )
    assert out == tmp_path / "demo" / "report.html"
    page = parse(out)
    values = {attrs["value"] for attrs in page.all("data")}
    for folder in (a, b, c):
        for metric in json.loads((folder / "results.json").read_text())["metrics"].values():
            assert str(metric["value"]) in values
    assert "they say nothing about real photos" in page.said
    assert len(page.all("article")) == 3
    anchors = {str(attrs["href"])[1:] for attrs in page.all("a")}
    assert anchors == {attrs["id"] for attrs in page.all("article")}
    assert page.said.index("EuroSAT") < page.said.index("Bazaar categories")
    assert page.text.count('<tr class="task">') == 2  # both EuroSAT runs under one heading
    assert "better gets" in page.said
    assert page.all("img")


def test_links_go_to_the_full_reports_that_exist(make_run: MAKE, parse: Any, tmp_path: Path) -> None:
    a, b = make_run("a"), make_run("b", seed=1)
    write_report(a)
    page = parse(write_overview([a, b], tmp_path / "demo" / "report.html", title="Demo"))
    assert [attrs["href"] for attrs in page.all("a") if not str(attrs["href"]).startswith("#")] == ["../a/report.html"]
    inside = parse(write_overview([a], a / "report.html", title="Demo"))
    assert all(str(attrs["href"]).startswith("#") for attrs in inside.all("a"))


def test_images_may_differ_by_run_and_the_budget_is_shared(make_run: MAKE, parse: Any, picture: Any, tmp_path: Path) -> None:
    runs = [make_run(str(i), seed=i) for i in range(12)]
    images = {runs[0]: lambda _: Image.new("RGB", (40, 40), "navy")} | {str(run): picture for run in runs[2:]}
    out = write_overview(runs, tmp_path / "all.html", title="Many", images=images, comparisons=[(runs[2], other) for other in runs[3:]])
    assert out.stat().st_size < 3_000_000
    page = parse(out)
    assert page.said.count("It isThe model said") or page.all("img")
    assert "s000" in page.said  # the run without images lists its mistakes by name


def test_runs_that_differ_in_one_option_are_told_apart(make_run: MAKE, parse: Any, tmp_path: Path) -> None:
    def method(templates: Any) -> dict[str, Any]:
        return {"name": "zero-shot", "config": {"templates": templates, "temperature": None}}

    single, many = make_run("x1", method=method("single"), seed=4), make_run("x2", method=method("task"), accuracy=0.9)
    own = make_run("x3", method=method(["a {}", "b {}"]), accuracy=0.8)
    page = parse(write_overview([single, many, own], tmp_path / "all.html", title="Templates", comparisons=[(single, many)]))
    for text in ("zero-shot · templates = single · 200 images", "zero-shot · templates = task", "zero-shot · templates = 2 different"):
        assert text in page.said
    assert "templates = task gets" in page.said
    twins = parse(write_overview([single, make_run("twin", method=method("single"), seed=4)], tmp_path / "twins.html", title="Twins"))
    assert "zero-shot · x1" in twins.said
    assert "zero-shot · twin" in twins.said


def test_one_unfinished_run_does_not_spoil_the_page(make_run: MAKE, parse: Any, tmp_path: Path) -> None:
    runs = [make_run("a"), make_run("b", results=False, status="running"), make_run("c", lines=[], results=False, status="running")]
    page = parse(write_overview(runs, tmp_path / "all.html", title="Some"))
    assert page.said.count("no score") >= 2


def test_from_image_files_to_the_page(parse: Any, tmp_path: Path) -> None:
    colours = {"blue": (20, 40, 200), "green": (20, 160, 40), "red": (200, 30, 30)}
    for name, colour in colours.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(6):
            shade = tuple(min(255, channel + 9 * i) for channel in colour)
            Image.new("RGB", (48, 32), shade).save(tmp_path / "data" / name / f"{i}.png")
    (tmp_path / "data" / "red" / "broken.png").write_text("this is text")
    task = get_task(f"folder:{tmp_path / 'data'}")

    def predict(samples: Sequence[Sample]) -> Iterator[Prediction]:
        for sample in samples:
            assert sample.image is not None
            try:
                red, green, blue = sample.image.load().getpixel((0, 0))
            except Exception as error:
                yield Prediction(sample.id, error=str(error))
                continue
            said = 0 if blue > max(red, green) else 1 if green > 160 else 2  # the darkest green is taken for red
            yield Prediction(sample.id, {"label": said, "confidence": 0.8, "top": [[said, 0.8]]})

    out = tmp_path / "run"
    evaluate(task, predict, out=out, manifest={"model": "colour reader", "method": {"name": "eye", "config": {}}})
    page = parse(write_report(out, images=lambda sample_id: open_image(tmp_path / "data" / sample_id)))
    top1 = json.loads((out / "results.json").read_text())["metrics"]["top1"]["value"]
    assert f"colour reader names {100 * top1:.1f} % of 18 images correctly" in page.said
    assert "1 image could not be scored and is left out." in page.said
    assert "broken.png" in page.said
    assert len(page.all("img")) == 1 + 12
    assert "green taken for red" in page.text


def test_importing_the_report_does_not_import_torch() -> None:
    code = "import sys, evals.report; print(sorted(m for m in ('torch', 'matplotlib', 'transformers') if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=Path(__file__).parents[4]
    )
    assert done.stdout.strip() == "[]"
