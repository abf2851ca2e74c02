"""`permafrost demo` and `permafrost bazaar`, on a tiny model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

import cli
from evals.demo import PHOTOS, shows


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


def test_demo_compares_on_photos_goods_and_questions_and_writes_one_page(tiny_model: Path, tiny_llava: Path, tmp_path: Path) -> None:
    models = ("-m", f"local:{tiny_model}", "--answerer", f"local:{tiny_llava}")
    result = call("demo", *models, "--output", tmp_path / "demo", "--limit", "16", "--json")
    assert result.exit_code == 0, result.stderr
    compared = json.loads(result.stdout)
    classified = ["eurosat", "bazaar/category", "bazaar/lines", "bazaar/lines-heldout"]
    rivals = ["contrastive attention", "contrastive attention, crop", "vicrop", "vcd", "dola", "pai"]
    assert [row["task"] for row in compared] == classified + ["bazaar/vqa"] * len(rivals)
    assert [row["settings"] for row in compared[4:]] == [["plain", rival] for rival in rivals]
    assert {row["n"] for row in compared} == {16}
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("data:image") > 10
    assert "nothing about real photos" in page
    assert page.count("on the pixels that show the answer") >= 2
    assert len(list((tmp_path / "demo").glob("*/*/report.html"))) == 8 + 7
    maps = tmp_path / "demo" / "bazaar-vqa" / "contrastive-attention" / "samples.jsonl"
    assert all(json.loads(line)["prediction"]["decision"]["maps"] for line in maps.read_text().splitlines())


def test_demo_without_a_model_that_answers_shows_the_rest_and_is_no_success(tiny_model: Path, tmp_path: Path) -> None:
    how = ("-m", f"local:{tiny_model}", "--answerer", f"local:{tmp_path / 'none'}", "--limit", "8")
    result = call("demo", *how, "--output", tmp_path / "demo")
    assert result.exit_code == 3
    assert "is not there" in result.stderr
    assert "The questions of bazaar/vqa were not asked" in result.stdout
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "The questions of bazaar/vqa were not asked" in page
    assert "EuroSAT" in page


def test_demo_says_which_method_refuses(tiny_model: Path, tiny_llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evals import demo

    asks = next(show for show in shows() if show.asks)
    settings = {"plain": {"method": "plain"}, "vicrop": {"method": "vicrop"}}  # the published layer is of a model of 32
    monkeypatch.setattr(demo, "shows", lambda: [dataclasses.replace(asks, settings=settings)])
    result = call("demo", "-m", f"local:{tiny_model}", "--answerer", f"local:{tiny_llava}", "--limit", "8", "--output", tmp_path / "demo")
    assert result.exit_code == 0, result.stderr
    assert "vicrop was not run: " in result.stdout
    assert "vicrop was not run: " in (tmp_path / "demo" / "report.html").read_text()


def test_demo_takes_shipped_photos() -> None:
    assert PHOTOS.is_dir()
    assert shows()[0].task == "eurosat"


def test_demo_without_weights_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import toolkit.models.pocket as pocket

    monkeypatch.setattr(pocket, "__file__", str(tmp_path / "pocket" / "__init__.py"))
    result = call("demo", "--output", tmp_path / "demo")
    assert result.exit_code == 3
    assert "the weights of pocket-clip are not installed" in result.stderr
    assert "Traceback" not in result.stderr


def test_bazaar_sheet(tmp_path: Path) -> None:
    result = call("bazaar", "sheet", tmp_path / "new" / "sheet.png", "--rows", "2", "--cols", "3", "--size", "64")
    assert result.exit_code == 0, result.stderr
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        assert sheet.width > 3 * 64
        assert sheet.height > 2 * 64


def test_an_exported_task_is_evaluated_like_any_folder(tiny_model: Path, tmp_path: Path) -> None:
    goods = tmp_path / "goods"
    exported = call("bazaar", "export", "classify", goods, "--task", "category", "--limit", "48", "--size", "64")
    assert exported.exit_code == 0, exported.stderr
    assert exported.stdout.strip() == str(goods)
    result = call("eval", "-t", f"folder:{goods}", "-m", f"local:{tiny_model}", "--output", tmp_path / "run", "--no-report", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["n"] == 48


def test_an_export_does_not_write_over_other_files(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = call("bazaar", "export", "classify", tmp_path)
    assert result.exit_code == 2
    assert (tmp_path / "mine.txt").read_text() == "mine"
