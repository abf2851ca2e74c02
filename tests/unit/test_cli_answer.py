"""`permafrost eval` on questions, `answer`, `compare`, `score` and `report` of their runs, end to end on a tiny LLaVA folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

import cli
from toolkit.methods import list_methods

SCALED = {
    "contrastive-attention": ["-o", "candidates=scaled"],
    "vicrop": ["-o", "layer=scaled"],
}
"""Published layers are those of models of 28 and 32 layers."""


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


@pytest.fixture
def asked(photos: Path) -> Path:
    """Six questions about six photos, ten people each."""
    lines = []
    for number, path in enumerate(sorted(photos.rglob("*.png"))[:6]):
        truth = ("yes", "red", "2")[number % 3]
        record = {"id": f"q{number}", "question": f"What is it, {number}?", "image": str(path.relative_to(photos))}
        lines.append(record | {"answers": [truth] * 8 + ["no", "blue"], "question_type": ("presence", "colour", "count")[number % 3]})
    file = photos / "questions.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def evaluate(asked: Path, model: Path, out: Path, *more: str | Path) -> Result:
    short = () if "--max-new-tokens" in more else ("--max-new-tokens", "4")
    return call("eval", "-t", f"jsonl:{asked}", "-m", f"local:{model}", "--output", out, "--json", *short, *more)


def samples(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]


def refused(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")
    for word in words:
        assert word in result.stderr


# eval


def test_questions_are_answered_scored_and_reported(asked: Path, tiny_llava: Path, tmp_path: Path) -> None:
    result = evaluate(asked, tiny_llava, tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed == json.loads((tmp_path / "run" / "results.json").read_text())
    assert (printed["n"], printed["n_failed"]) == (6, 0)
    assert printed["scorers"] == {"vqa_normalised": 1, "vqa_official": 1}
    assert set(printed["breakdown"]["question_type"]) == {"presence", "colour", "count"}
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["method"]["name"] == "plain", "the usual method for questions"
    assert manifest["generation"] == {"max_new_tokens": 4, "quantise": None}
    assert manifest["device"] == "cpu"
    for line in samples(tmp_path / "run"):
        assert line["meta"]["question"] in line["meta"]["prompt"]
        assert len(line["prediction"]["tokens"]) <= 4
        assert set(line["scores"]) == {"vqa_normalised", "vqa_official"}
    assert "vqa_normalised@1" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("method", list_methods("answer"))
def test_every_method_that_answers_is_evaluated_and_compared(method: str, asked: Path, tiny_llava: Path, tmp_path: Path) -> None:
    how = SCALED.get(method, [])
    done = evaluate(asked, tiny_llava, tmp_path / "run", "--method", method, *how, "--no-report", "--limit", "3")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["method"]["name"] == method
    decided = [line["prediction"].get("decision") is not None for line in samples(tmp_path / "run")]
    assert all(decided) or not any(decided)
    if method in SCALED:
        assert all(decided)


def test_batch_size_changes_no_answer(asked: Path, tiny_llava: Path, tmp_path: Path) -> None:
    answers = []
    for size in ("1", "4"):
        how = ("--method", "contrastive-attention", "-o", "candidates=scaled", "--batch-size", size, "--no-report")
        done = evaluate(asked, tiny_llava, tmp_path / size, *how)
        assert done.exit_code == 0, done.stderr
        answers.append([(line["prediction"]["tokens"], line["prediction"]["decision"]["i_star"]) for line in samples(tmp_path / size)])
    assert answers[0] == answers[1]


def test_an_interrupted_run_is_continued(asked: Path, tiny_llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.models.mllm import Mllm

    generate, calls = Mllm._generate, iter(range(100))

    def impatient(self: Mllm, *arguments: Any) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return generate(self, *arguments)

    monkeypatch.setattr(Mllm, "_generate", impatient)
    how = ("--method", "contrastive-attention", "-o", "candidates=scaled", "--batch-size", "2")
    stopped = evaluate(asked, tiny_llava, tmp_path / "run", *how)
    assert stopped.exit_code == 130
    assert "continues where it stopped" in stopped.stderr
    kept = samples(tmp_path / "run")
    assert len(kept) == 4
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "interrupted"
    done = evaluate(asked, tiny_llava, tmp_path / "run", *how)
    assert done.exit_code == 0, done.stderr
    assert [line["prediction"] for line in samples(tmp_path / "run")][:4] == [line["prediction"] for line in kept]
    monkeypatch.undo()
    whole = evaluate(asked, tiny_llava, tmp_path / "whole", *how)
    assert [line["prediction"]["tokens"] for line in samples(tmp_path / "run")] == [
        line["prediction"]["tokens"] for line in samples(tmp_path / "whole")
    ]
    assert json.loads(whole.stdout)["metrics"] == json.loads(done.stdout)["metrics"]


def test_a_broken_image_fails_alone(asked: Path, tiny_llava: Path, tmp_path: Path) -> None:
    broken = asked.parent / json.loads(asked.read_text().splitlines()[1])["image"]
    broken.write_bytes(b"no image")
    result = evaluate(asked, tiny_llava, tmp_path / "run")
    assert result.exit_code == 4
    assert (json.loads(result.stdout)["n"], json.loads(result.stdout)["n_failed"]) == (6, 1)
    failed = [line for line in samples(tmp_path / "run") if line["error"]]
    assert [line["id"] for line in failed] == ["q1"]
    assert broken.name in failed[0]["error"]
    assert failed[0]["prediction"] is None
    assert failed[0]["scores"] is None


@pytest.mark.parametrize(("flag", "bits"), [("--load-in-4bit", 4), ("--load-in-8bit", 8)])
def test_quantised_answers_say_so(flag: str, bits: int, asked: Path, tiny_llava: Path, tmp_path: Path) -> None:
    done = evaluate(asked, tiny_llava, tmp_path / "run", flag, "--limit", "2", "--no-report")
    assert done.exit_code == 0, done.stderr
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["generation"]["quantise"] == bits
    other = evaluate(asked, tiny_llava, tmp_path / "run", "--limit", "2")
    refused(other, 2, "another run", "generation")


# what does not go together


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--method", "zero-shot"], 2, ["classifies images", "asks questions", "plain"]),
        (["--method", "contrastive-atention"], 2, ["contrastive-attention"]),
        (["--method", "contrastive-attention", "-o", "rho=20"], 2, ["percent"]),
        (["--method", "contrastive-attention"], 2, ["no published layers", "scaled"]),
        (["--method", "contrastive-attention", "-o", "roh=0.2"], 2, ["rho"]),
        (["--template", "a {}"], 2, ["questions"]),
        (["--shots", "2"], 2, ["--shots", "questions"]),
        (["--load-in-4bit", "--load-in-8bit"], 2, ["contradict"]),
        (["-m", "pocket-clip"], 2, ["image-text encoder"]),
        (["-m", "local:nowhere"], 3, ["nowhere"]),
        (["--task-option", "scorers=vqa_oficial"], 2, ["vqa_official"]),
        (["--device", "cuda"], 3, ["cuda"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_word_in_the_call(arguments: list[str], code: int, words: list[str], asked: Path, tiny_llava: Path, tmp_path: Path) -> None:
    refused(evaluate(asked, tiny_llava, tmp_path / "run", *arguments), code, *words)
    assert not (tmp_path / "run").exists(), "a call that is refused leaves no run behind"


def test_questions_with_a_method_of_answers_need_no_classes(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    how = ("-m", f"local:{tiny_model}", "--output", tmp_path / "run")
    refused(call("eval", "-t", f"folder:{photos}", "--method", "vicrop", *how), 2, "answers questions", "asks for classes", "zero-shot")
    refused(call("eval", "-t", f"folder:{photos}", "--load-in-8bit", *how), 2, "not quantised")
    refused(call("eval", "-t", f"folder:{photos}", "--device-map", "auto", *how), 2, "--device-map")


def test_a_model_of_the_other_kind_is_named(asked: Path, photos: Path, tiny_model: Path, tiny_llava: Path, tmp_path: Path) -> None:
    refused(evaluate(asked, tiny_model, tmp_path / "run"), 3)
    classified = call("eval", "-t", f"folder:{photos}", "-m", f"local:{tiny_llava}", "--output", tmp_path / "run")
    refused(classified, 3, "llava")


# compare, score, report


@pytest.fixture
def runs(asked: Path, tiny_llava: Path, tmp_path: Path) -> tuple[Path, Path]:
    a, b = tmp_path / "a", tmp_path / "b"
    keep = ("--method", "contrastive-attention", "-o", "candidates=scaled", "-o", "keep_maps=true", "-o", "lam=0", "-o", "rho=0.6")
    for run, how in ((a, ()), (b, keep)):
        done = evaluate(asked, tiny_llava, run, *how)
        assert done.exit_code == 0, done.stderr
    return a, b


def test_finished_runs_are_compared_scored_and_reported_without_a_model(
    runs: tuple[Path, Path], tiny_llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(cli, "_load_answerer", forbidden)
    a, b = runs
    compared = json.loads(call("compare", a, b, "--json").stdout)
    assert compared["n"] == 6
    text = call("compare", a, b).stdout
    assert "vqa_official@1" in text
    assert "question type: colour" in text
    assert "McNemar" in text
    stored = json.loads((a / "results.json").read_text())
    again = json.loads(call("score", a, "--json").stdout)
    assert again["metrics"] == stored["metrics"]
    other = json.loads(call("score", a, "--scorer", "vqa_evalai", "--scorer", "vqa_normalised@1", "--json").stdout)
    assert list(other["metrics"]) == ["vqa_evalai", "vqa_normalised"]
    assert other["metrics"]["vqa_normalised"] == stored["metrics"]["vqa_normalised"]
    assert "vqa_evalai@1" in call("score", a, "--scorer", "vqa_evalai").stdout
    assert call("report", b, "--compare", a).exit_code == 0
    page = (b / "report.html").read_text()
    assert "Compared with plain" in page
    assert page.count("data:image/webp") >= 6
    assert "masked" in page


@pytest.mark.parametrize(
    ("scorer", "words"), [("vqa_oficial", ["vqa_official"]), ("vqa_official@9", ["vqa_official@1"]), ("gqa_exact", [])]
)
def test_a_scorer_that_does_not_fit(scorer: str, words: list[str], asked: Path, tiny_llava: Path, tmp_path: Path) -> None:
    evaluate(asked, tiny_llava, tmp_path / "run", "--no-report", "--limit", "2")
    refused(call("score", tmp_path / "run", "--scorer", scorer), 2, *words)


def test_scorers_of_answers_do_not_score_classes(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    call("eval", "-t", f"folder:{photos}", "-m", f"local:{tiny_model}", "--output", tmp_path / "run", "--no-report")
    refused(call("score", tmp_path / "run", "--scorer", "anls"), 2, "questions")


# answer


def test_one_question_in_words_with_maps(photos: Path, tiny_llava: Path, tmp_path: Path) -> None:
    image, maps = photos / "red bag" / "0.png", tmp_path / "new" / "maps.png"
    how = ("-m", f"local:{tiny_llava}", "--max-new-tokens", "4", "--method", "contrastive-attention", "-o", "candidates=scaled")
    result = call("answer", image, "What colour is it?", *how, "--plain", "--show", maps)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("plain: ")
    assert any(line.startswith("contrastive-attention: ") for line in lines)
    assert "image tokens" in result.stdout
    assert f"maps: {maps}" in result.stdout
    assert "".join(letter for letter in result.stdout if not letter.isprintable() and letter != "\n") == "", "nothing steers the terminal"
    with Image.open(maps) as drawn:
        assert drawn.width > 4 * 200


def test_one_question_as_json_about_several_images(photos: Path, tiny_llava: Path, tmp_path: Path) -> None:
    images = [photos / "red bag" / "0.png", photos / "black cat" / "1.png"]
    how = ("-m", f"local:{tiny_llava}", "--max-new-tokens", "4", "--json")
    result = call("answer", *images, "What has changed?", *how)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["images"] == [str(image) for image in images]
    assert told["method"]["name"] == "plain"
    assert isinstance(told["answer"], str)
    assert told["error"] is None
    assert len(told["tokens"]) <= 4
    drawn = tmp_path / "maps.png"
    shown = call(
        "answer", *images, "Same?", *how, "--method", "contrastive-attention", "-o", "candidates=scaled", "--show", drawn, "--plain"
    )
    assert shown.exit_code == 0, shown.stderr
    plain, method = json.loads(shown.stdout)
    assert plain["method"]["name"] == "plain"
    assert method["maps"] == [str(tmp_path / "maps-1.png"), str(tmp_path / "maps-2.png")]
    assert all(Path(path).is_file() for path in method["maps"])


def test_the_answer_is_that_of_the_evaluation(asked: Path, tiny_llava: Path, tmp_path: Path) -> None:
    evaluate(asked, tiny_llava, tmp_path / "run", "--no-report", "--limit", "1")
    line = samples(tmp_path / "run")[0]
    image = asked.parent / json.loads(asked.read_text().splitlines()[int(line["id"][1:])])["image"]
    result = call("answer", image, line["meta"]["prompt"], "-m", f"local:{tiny_llava}", "--max-new-tokens", "4", "--json")
    assert json.loads(result.stdout)["tokens"] == line["prediction"]["tokens"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere.png", "What?"], 3, ["nowhere.png"]),
        (["IMAGE", " "], 2, ["empty"]),
        (["BROKEN", "What?"], 2, ["broken.png"]),
        (["IMAGE", "What?", "--method", "zero-shot"], 2, ["classifies"]),
        (["IMAGE", "What?", "--show", "maps.png"], 2, ["no maps"]),
        (["IMAGE", "What?", "--method", "contrastive-attention", "--show", "maps.jpg"], 2, [".png"]),
        (["IMAGE", "What?", "-m", "pocket-lava"], 3, ["pocket-llava"]),
        (["IMAGE", "What?", "--method", "contrastive-attention", "-o", "rho=1.5"], 2, ["rho"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_question_that_cannot_be_asked(arguments: list[str], code: int, words: list[str], photos: Path, tmp_path: Path) -> None:
    """All of these are found before a model is loaded: none is there."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    places = {"IMAGE": str(photos / "red bag" / "0.png"), "BROKEN": str(broken)}
    refused(call("answer", *(places.get(word, word) for word in arguments)), code, *words)


def test_lists_say_what_each_is_for() -> None:
    methods = {row["name"]: row["for"] for row in json.loads(call("ls", "methods", "--json").stdout)}
    assert (methods["zero-shot"], methods["contrastive-attention"]) == ("classes", "questions")
    tasks = {row["name"]: row["for"] for row in json.loads(call("ls", "tasks", "--json").stdout)}
    assert (tasks["bazaar/lines"], tasks["bazaar/vqa"], tasks["vqav2:"]) == ("classes", "questions", "questions")
    models = {row["name"]: row["for"] for row in json.loads(call("ls", "models", "pocket", "--json").stdout)}
    assert models == {"pocket-clip": "classes", "pocket-llava": "questions"}


def test_a_device_map_changes_no_answer(asked: Path, tiny_llava: Path, tmp_path: Path) -> None:
    whole = evaluate(asked, tiny_llava, tmp_path / "whole", "--no-report", "--limit", "2")
    spread = evaluate(asked, tiny_llava, tmp_path / "spread", "--no-report", "--limit", "2", "--device-map", "auto")
    assert (whole.exit_code, spread.exit_code) == (0, 0), spread.stderr
    first, second = (samples(tmp_path / name) for name in ("whole", "spread"))
    assert [line["prediction"]["tokens"] for line in first] == [line["prediction"]["tokens"] for line in second]
