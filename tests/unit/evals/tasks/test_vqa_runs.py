"""Runs over questions: scores side by side, failures apart, types, re-scoring, submissions, comparison."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.metrics.vqa import SCORERS
from evals.records import SampleRecord, compare_runs, read_run, rescore
from evals.runner import run
from evals.tasks import get_task
from evals.tasks.submissions import FORMATS, submission_rows, write_submission
from evals.tasks.vqa import VqaTask, summarise
from tests.unit.evals.helpers import without_seconds
from tests.unit.evals.tasks import vqa_folders as make
from toolkit.errors import DataError, UsageError
from toolkit.stats import mean_ci
from toolkit.types import Prediction, Sample

MANIFEST: dict[str, Any] = {"model": "parrot", "model_fingerprint": "f" * 64, "method": {"name": "plain", "config": {}}}
Say = Callable[[Sample], str | None]


def parrot(say: Say) -> Callable[[Sequence[Sample]], Iterator[Prediction]]:
    """Says what ``say`` makes of a sample; fails where that is None."""

    def predict(samples: Sequence[Sample]) -> Iterator[Prediction]:
        for sample in samples:
            text = say(sample)
            yield Prediction(sample.id, error="out of ideas") if text is None else Prediction(sample.id, {"answer": text, "tokens": [1, 2]})

    return predict


def number_of(sample: Sample) -> int:
    return make.QUESTIONS.index(sample.meta["question"])


def records_of(task: VqaTask) -> list[SampleRecord]:
    return [SampleRecord(s.id, None, None, {"answer": f"a{number_of(s)}."}, {}, meta=dict(s.meta)) for s in task.samples()]


def right(sample: Sample) -> str:
    return f"A{number_of(sample)}"


@pytest.fixture
def task(tmp_path: Path) -> VqaTask:
    return get_task(f"vqav2:{make.vqav2(tmp_path / 'data')}")


def test_scores_side_by_side_failures_apart(task: VqaTask, tmp_path: Path) -> None:
    def say(sample: Sample) -> str | None:
        return {0: "A0", 1: None, 2: "Other.", 3: "", 4: "a4"}[number_of(sample)]

    result = run(task, parrot(say), out=tmp_path / "run", manifest=MANIFEST)
    assert (result.n, result.n_failed, result.exit_code) == (5, 1, 4)
    assert {name: (metric.value, metric.n) for name, metric in result.metrics.items()} == {
        "vqa_normalised": (pytest.approx((1 + 0.9 + 0 + 1) / 4), 4),
        "vqa_official": (pytest.approx((1 + 0.9 + 0 + 1) / 4), 4),
    }
    found = read_run(tmp_path / "run")
    failed = next(record for record in found.samples if record.id == "1001")
    assert (failed.prediction, failed.scores, failed.error) == (None, None, "out of ideas")
    assert failed.meta is not None
    assert failed.meta["prompt"].startswith("How many?")
    assert found.manifest["scorers"] == {"vqa_normalised": 1, "vqa_official": 1}
    assert found.manifest["prompt"]["variant"] == "short"


def test_results_name_scorers_and_split_scores_by_type(task: VqaTask, tmp_path: Path) -> None:
    run(task, parrot(lambda sample: "a1" if number_of(sample) == 1 else "Other"), out=tmp_path / "run", manifest=MANIFEST)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["scorers"] == {"vqa_normalised": 1, "vqa_official": 1}
    assert results["primary"] == "vqa_normalised"
    kinds = results["breakdown"]["question_type"]
    assert list(kinds) == ["is", "what"]  # the most frequent first
    assert (kinds["is"]["vqa_normalised"]["value"], kinds["is"]["vqa_normalised"]["n"]) == (pytest.approx(0.9), 3)
    assert kinds["what"]["vqa_normalised"]["value"] == pytest.approx(0.95)
    assert results["breakdown"]["answer_type"]["other"]["vqa_normalised"] == results["metrics"]["vqa_normalised"]


def test_a_question_of_two_types_counts_in_both(tmp_path: Path) -> None:
    task = get_task(f"docvqa:{make.docvqa(tmp_path / 'data')}")
    run(task, parrot(lambda sample: f"answer {number_of(sample)}"), out=tmp_path / "run", manifest=MANIFEST)
    kinds = json.loads((tmp_path / "run" / "results.json").read_text())["breakdown"]["question_type"]
    assert {kind: metrics["anls"]["n"] for kind, metrics in kinds.items()} == {"layout": 3, "form": 2, "handwritten": 2}


def test_scoring_again_gives_the_stored_results_without_model_or_data(task: VqaTask, tmp_path: Path) -> None:
    run(task, parrot(lambda sample: None if number_of(sample) == 3 else right(sample)), out=tmp_path / "run", manifest=MANIFEST)
    stored = json.loads((tmp_path / "run" / "results.json").read_text())
    (tmp_path / "data").rename(tmp_path / "gone")
    assert without_seconds(rescore(tmp_path / "run")) == without_seconds(stored)


def test_scoring_with_other_scorers_and_back(task: VqaTask, tmp_path: Path) -> None:
    run(task, parrot(lambda sample: "10." if number_of(sample) else "a0,a0"), out=tmp_path / "run", manifest=MANIFEST)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    other = rescore(tmp_path / "run", ["anls", "vqa_evalai@1", "vqa_official"])
    assert list(other["metrics"]) == ["anls", "vqa_evalai", "vqa_official"]
    assert other["primary"] == "anls"
    assert other["metrics"]["vqa_official"] == rescore(tmp_path / "run")["metrics"]["vqa_official"]
    for name in ("anls", "vqa_evalai"):
        by_hand = [SCORERS[name]("10." if i else "a0,a0", make.ten(f"a{i}")) for i in range(5)]
        assert other["metrics"][name]["value"] == pytest.approx(sum(by_hand) / 5)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


@pytest.mark.parametrize(
    ("scorers", "error", "words"),
    [
        (["anl"], UsageError, "there is no scorer called 'anl'; there is anls"),
        (["anls@2"], UsageError, "there is no scorer anls@2"),
        (["gqa_exact"], DataError, "question 1000: gqa_exact@1 needs one reference answer, not 10"),
        (["docvqa_contains"], UsageError, "not reported alone"),
    ],
)
def test_scorers_that_do_not_fit(task: VqaTask, tmp_path: Path, scorers: list[str], error: type[Exception], words: str) -> None:
    run(task, parrot(right), out=tmp_path / "run", manifest=MANIFEST)
    with pytest.raises(error, match=words):
        rescore(tmp_path / "run", scorers)


def test_a_stored_score_that_its_scorer_does_not_give_is_found(task: VqaTask, tmp_path: Path) -> None:
    run(task, parrot(right), out=tmp_path / "run", manifest=MANIFEST)
    samples = tmp_path / "run" / "samples.jsonl"
    samples.write_text(samples.read_text().replace('"vqa_official":1.0', '"vqa_official":0.6', 1))
    with pytest.raises(DataError, match=r"question 1000: vqa_official@1 gives 1 and 0\.6 is stored"):
        rescore(tmp_path / "run")
    assert rescore(tmp_path / "run", ["vqa_normalised"])["metrics"]["vqa_normalised"]["value"] == 1


def test_a_version_that_this_project_does_not_know_is_not_replaced(task: VqaTask, tmp_path: Path) -> None:
    run(task, parrot(right), out=tmp_path / "run", manifest=MANIFEST)
    manifest = tmp_path / "run" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"vqa_official": 1', '"vqa_official": 3'))
    with pytest.raises(DataError, match="there is no scorer vqa_official@3"):
        rescore(tmp_path / "run")


def test_a_run_goes_on_only_with_the_same_scorers_and_prompt(task: VqaTask, tmp_path: Path) -> None:
    run(task, parrot(right), out=tmp_path / "run", manifest=MANIFEST)
    for options in ({"scorers": "vqa_official,vqa_evalai"}, {"prompt": "bare"}):
        with pytest.raises(UsageError, match="holds another run"):
            run(get_task(f"vqav2:{tmp_path / 'data'}", **options), parrot(right), out=tmp_path / "run", manifest=MANIFEST)


def test_an_answer_that_is_no_text_is_a_fault_of_the_predictor(task: VqaTask) -> None:
    with pytest.raises(RuntimeError, match="is not a text"):
        task.score(task.items[0], Prediction("1000", {"answer": None}))


def test_several_answers_to_questions_about_one_image_count_as_one_draw(task: VqaTask, tmp_path: Path) -> None:
    run(task, parrot(lambda sample: right(sample) if number_of(sample) < 2 else "no"), out=tmp_path / "run", manifest=MANIFEST)
    found = read_run(tmp_path / "run")
    metric = summarise(found.samples, [SCORERS["vqa_official"]])["vqa_official"]
    scores = [record.scores["vqa_official"] for record in found.samples if record.scores]
    assert scores == [1, 1, 0, 0, 0]
    assert metric.ci95 == mean_ci(scores, [record.image for record in found.samples])
    assert metric.ci95 != mean_ci(scores)


def test_mean_ci_of_clusters_is_the_bootstrap_over_clusters() -> None:
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(60), rng.integers(1, 6, size=60))
    scores = (rng.random(60)[clusters] > rng.random(clusters.size)).astype(float)
    low, high = mean_ci(scores, clusters.tolist(), resamples=20_000) or (0.0, 0.0)
    groups = [scores[clusters == cluster] for cluster in range(60)]
    ratio = [np.concatenate([groups[i] for i in rng.integers(60, size=60)]).mean() for _ in range(4000)]
    assert (low, high) == pytest.approx(np.quantile(ratio, [0.025, 0.975]), abs=0.02)  # BCa against percentile, of 4,000 draws
    assert mean_ci(scores, list(range(scores.size)), seed=1) == mean_ci(scores, seed=1)


def test_a_finished_split_without_answers_leaves_the_file_to_hand_in(tmp_path: Path) -> None:
    task = get_task(f"vizwiz:{make.vizwiz(tmp_path / 'data', 'test', truth=False)}:test")
    out = tmp_path / "run"
    result = run(task, parrot(lambda sample: None if number_of(sample) == 2 else right(sample)), out=out, manifest=MANIFEST)
    assert result.n_failed == 1
    assert not (out / "submission.json").exists()
    with pytest.raises(DataError, match=r"1 of 5 questions have no answer, the first is 'VizWiz_test_00000002.jpg'"):
        write_submission(out)
    result = run(task, parrot(right), out=out, manifest=MANIFEST)
    assert (result.n_failed, dict(result.metrics)) == (0, {})
    rows = [{"image": f"VizWiz_test_0000000{i}.jpg", "answer": f"A{i}"} for i in range(5)]
    assert json.loads((out / "submission.json").read_text()) == rows
    write_submission(out, tmp_path / "low.json", normalise=True)
    assert json.loads((tmp_path / "low.json").read_text())[1] == {"image": "VizWiz_test_00000001.jpg", "answer": "a1"}
    with pytest.raises(UsageError, match="no reference answers to score against"):
        rescore(out)


def test_a_part_of_a_split_is_not_handed_in(tmp_path: Path) -> None:
    task = get_task(f"vizwiz:{make.vizwiz(tmp_path / 'data', 'test', truth=False)}:test")
    run(task, parrot(right), out=tmp_path / "run", manifest=MANIFEST, limit=3)
    assert not (tmp_path / "run" / "submission.json").exists()
    with pytest.raises(DataError, match="has 3 of 5 questions, and servers want all of them"):
        write_submission(tmp_path / "run")


@pytest.mark.parametrize(
    ("form", "rows"),
    [
        ("vqav2", {"question_id": 7, "answer": "2 cats"}), ("okvqa", {"question_id": 7, "answer": "2 cats"}),
        ("gqa", {"questionId": "7", "prediction": "the two cats"}), ("vizwiz", {"image": "7", "answer": "2 cats"}),
        ("textvqa", {"question_id": 7, "answer": "2 cats"}), ("docvqa", {"questionId": 7, "answer": "The two cats."}),
    ],
)  # fmt: skip
def test_submissions_normalised_as_the_field_does(form: str, rows: dict[str, Any]) -> None:
    record = SampleRecord("7", prediction={"answer": "The two cats."}, scores={})
    assert submission_rows(form, [record], normalise=True) == [rows]
    assert "The two cats." in submission_rows(form, [record])[0].values()
    assert set(FORMATS) == {"vqav2", "okvqa", "gqa", "vizwiz", "textvqa", "docvqa"}


def test_a_submission_needs_numbers_where_the_server_does_and_a_format() -> None:
    record = SampleRecord("x7", prediction={"answer": "a"}, scores={})
    with pytest.raises(DataError, match="its id is not a number"):
        submission_rows("vqav2", [record])
    with pytest.raises(UsageError, match="no submission format called 'coco'"):
        submission_rows("coco", [record])


def test_two_runs_are_compared_in_pairs_by_every_scorer(task: VqaTask, tmp_path: Path) -> None:
    run(task, parrot(lambda sample: right(sample) if number_of(sample) < 2 else "no"), out=tmp_path / "a", manifest=MANIFEST)
    run(task, parrot(lambda sample: right(sample) if number_of(sample) > 0 else "no"), out=tmp_path / "b", manifest=MANIFEST)
    found = compare_runs(tmp_path / "a", tmp_path / "b")
    assert (found["n"], found["repaired"], found["broken"]) == (5, 3, 1)
    assert found["difference"]["value"] == pytest.approx(0.4)
    assert set(found["scorers"]) == {"vqa_normalised", "vqa_official"}
    assert found["breakdown"]["question_type"]["what"]["difference"]["value"] == pytest.approx(0.5)
