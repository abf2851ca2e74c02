"""`permafrost explain` end to end on a tiny model: words, JSON, pictures, and everything that can be asked wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import cli


@pytest.fixture
def pool(photos: Path, tmp_path: Path) -> Path:
    names = sorted(entry.name for entry in photos.iterdir() if entry.is_dir())
    path = tmp_path / "pool.json"
    path.write_text(json.dumps({name: [f"a {word} thing {name[0]}" for word in ("round", "flat", "red")] for name in names}))
    return path


@pytest.fixture
def base(photos: Path, tiny_model: Path, pool: Path, tmp_path: Path) -> list[str | Path]:
    rng = np.random.default_rng(1)
    for folder in photos.iterdir():
        (tmp_path / "learnt" / folder.name).mkdir(parents=True)
        for number in range(3):
            image = Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8))
            image.save(tmp_path / "learnt" / folder.name / f"{number}.png")
    return ["-t", f"folder:{photos}", "-m", f"local:{tiny_model}", "-o", f"pool={pool}", "--support", f"folder:{tmp_path / 'learnt'}"]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


def test_a_sample_is_explained_in_words_in_json_and_as_a_picture(base: list[str | Path], tmp_path: Path) -> None:
    spoken = call("explain", "3", *base, "--out", tmp_path / "why.png")
    assert spoken.exit_code == 0, spoken.stderr
    value = json.loads(call("explain", "--sample", "3", *base, "--json").stdout)
    assert len(value) == 1
    assert value[0]["sentence"] in spoken.stdout
    assert value[0]["truth"]
    assert f"picture: {tmp_path / 'why.png'}" in spoken.stdout
    for row in value[0]["candidates"]:
        total = row["name_part"] + row["description_part"]
        assert total == pytest.approx(value[0]["candidates"][0]["score"] - row["score"], abs=1e-6)
    with Image.open(tmp_path / "why.png") as image:
        assert image.width == 1200


def test_the_explained_answer_is_that_of_the_evaluation(base: list[str | Path], tmp_path: Path) -> None:
    done = call("eval", *base, "--method", "classname-free", "--output", tmp_path / "run", "--json")
    assert done.exit_code == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    asked = [argument for line in lines for argument in ("--sample", line["id"])]
    told = json.loads(call("explain", *base, *asked, "--json").stdout)
    assert [one["label"] for one in told] == [line["prediction"]["label"] for line in lines]
    assert [one["w"] for one in told] == [line["prediction"]["w"] for line in lines]


def test_a_run_explains_its_most_instructive_samples(base: list[str | Path], tmp_path: Path) -> None:
    call("eval", *base, "--method", "classname-free", "--output", tmp_path / "run")
    value = json.loads((tmp_path / "run" / "explain.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    answers = {line["id"]: line["prediction"]["label"] for line in lines}
    assert value["n"] == len(lines)
    assert 0 < len(value["samples"]) <= 20
    for one in value["samples"]:
        assert one["told"]["label"] == answers[one["id"]]
    assert "Why these answers" in (tmp_path / "run" / "report.html").read_text()
    plain = [*base[:4], *base[6:]]
    again = call("eval", *plain, "--output", tmp_path / "run", "--no-resume")
    assert again.exit_code == 0, again.stderr
    assert not (tmp_path / "run" / "explain.json").exists()  # of the method that was there before
    assert "Why these answers" not in (tmp_path / "run" / "report.html").read_text()


def test_files_are_explained_without_a_truth_and_several_get_numbers(base: list[str | Path], photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.rglob("*.png"))[:2] or sorted(photos.rglob("*.jpg"))[:2]
    value = json.loads(call("explain", *files, *base, "--json", "--out", tmp_path / "why.png").stdout)
    assert [one["picture"] for one in value] == [str(tmp_path / f"why-{number}.png") for number in (1, 2)]
    assert [one["truth"] for one in value] == [None, None]
    assert [one["image"] for one in value] == [path.name for path in files]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "nothing to explain"),
        (["nowhere.jpg"], "there is no image nowhere.jpg"),
        (["99"], "is not a number from 0 to 11"),
        (["--sample", "nobody"], "there is no sample called 'nobody'"),
        (["3", "--method", "zero-shot"], "does not explain itself"),
        (["3", "--out", "why.jpg"], "is not a .png file"),
        (["3", "-o", "m=0"], "m=0 is not possible"),
    ],
)
def test_a_wrong_call_gets_a_sentence(arguments: list[str], sentence: str, base: list[str | Path]) -> None:
    extra = [] if "--method" in arguments else ["--method", "classname-free"]
    given = [argument for argument in base if "zero-shot" not in arguments or not str(argument).startswith("pool=")]
    given = [argument for argument in given if "zero-shot" not in arguments or argument != "-o"]
    result = call("explain", *arguments, *given, *extra)
    assert result.exit_code in (2, 3), result.output
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_a_broken_image_is_a_sentence(base: list[str | Path], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    result = call("explain", tmp_path / "broken.jpg", *base)
    assert result.exit_code in (2, 3)
    assert "broken.jpg" in result.stderr
