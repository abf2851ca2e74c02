"""`permafrost discover` end to end on a tiny LLaVA folder: the files, the method that reads them, one sentence for what cannot be done."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import cli
from tests import tiny_mllm
from toolkit.files import append_jsonl, atomic_write_json
from toolkit.models.registry import load_answerer


def call(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_mllm.write_llava(tmp_path_factory.mktemp("models") / "llava")


@pytest.fixture(scope="module")
def questions(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve questions whose reference answers are what the model says."""
    from evals.tasks import get_task
    from toolkit.methods.interventions.base import question_of

    folder = tmp_path_factory.mktemp("questions")
    rows = []
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append({"id": f"q{number}", "question": "what colour is the thing", "image": f"{number}.png", "answers": ["a", "b"]})
    append_jsonl(folder / "asked.jsonl", rows)
    asked = [question_of(sample) for sample in get_task(f"jsonl:{folder / 'asked.jsonl'}").samples()]
    answers = load_answerer(f"local:{model}", device="cpu").answer(asked, max_new_tokens=2)
    said = {question.id: answer.text for question, answer in zip(asked, answers, strict=True)}
    append_jsonl(folder / "questions.jsonl", [row | {"answers": [said[row["id"]], "something else"]} for row in rows])
    return folder / "questions.jsonl"


def test_discover_writes_a_calibration_that_the_method_takes(model: Path, questions: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    given = ("discover", "-m", f"local:{model}", "-t", f"jsonl:{questions}", "--max-new-tokens", 2, "--output", out)
    result = call(*given, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found == json.loads((out / "calibration.json").read_text())
    assert (found["status"], found["n"], found["n_layers"], found["k"]) == ("ok", 12, 6, 4)
    assert found["masking"]["base"]["score"] == 1.0
    assert found["scorer"] == {"name": "anls", "version": 1}
    with Image.open(out / "layers.png") as figure:
        assert figure.size[0] == 1200
    page = (out / "report.html").read_text()
    assert "block_at" in page
    assert "Fusion layers C: " + ", ".join(map(str, found["C"])) in page
    assert "Traceback" not in page

    before = (out / "calibration.json").read_bytes()
    again = call(*given)
    assert again.exit_code == 0, again.stderr
    assert "fusion layers C = " in again.stdout
    assert f"candidates={out / 'calibration.json'}" in again.stdout
    assert (out / "calibration.json").read_bytes() == before

    usable = atomic_write_json(tmp_path / "usable.json", found | {"r": 5})  # a random model may have no review layer
    few = ("--method", "contrastive-attention", "--limit", 2, "--max-new-tokens", 2)
    use = ("eval", "-m", f"local:{model}", "-t", f"jsonl:{questions}", *few)
    done = call(*use, "-o", f"candidates={usable}", "--no-report", "--json", "--output", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    line = json.loads((tmp_path / "run" / "samples.jsonl").read_text().splitlines()[0])
    assert line["prediction"]["decision"]["layers"]["candidates"] == found["C"]

    other = atomic_write_json(tmp_path / "other.json", found | {"fingerprint": "0" * 64})
    refused = call(*use, "-o", f"candidates={other}", "--no-report", "--output", tmp_path / "refused")
    assert refused.exit_code == 2
    assert "other weights" in refused.stderr
    assert "Traceback" not in refused.stderr

    differing = call(*given, "--scorer", "anls_strict")
    assert differing.exit_code == 2
    assert "another study; it differs in scorer" in differing.stderr


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("-t", "bazaar/lines"), 2, "asks for classes"),
        (("-t", "bazaar/vqa", "--variant", "block_form"), 2, "block_form"),
        (("-t", "bazaar/vqa", "--scorer", "anlss"), 2, "anls"),
        (("-t", "bazaar/vqa", "-m", "local:nowhere"), 3, "nowhere"),
        (("-t", "bazaar/vqa", "--load-in-4bit", "--load-in-8bit"), 2, "contradict"),
        (("-t", "bazaar/vqa", "--limit", "1"), 2, "--limit"),
    ],
)
def test_what_cannot_be_studied(more: tuple[str, ...], code: int, message: str, tmp_path: Path) -> None:
    result = call("discover", "--output", tmp_path / "study", *more)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_help_shows_an_example() -> None:
    assert "permafrost discover -m pocket-llava -t bazaar/vqa" in call("discover", "--help").stdout
