"""Reading, re-scoring and comparing run folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from evals.records import compare_runs, read_run, rescore
from evals.runner import run
from tests.unit.evals.helpers import MANIFEST, answer, make_task, predictor
from toolkit.errors import DataError, DataNotFound, UsageError
from toolkit.types import Prediction


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    run(make_task(n=60), predictor(), out=tmp_path / "run", manifest=MANIFEST)
    return tmp_path / "run"


def test_rescore_needs_the_samples_only(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    (finished / "results.json").unlink()
    assert rescore(finished) == results


def test_rescore_sees_a_changed_answer(finished: Path) -> None:
    before = rescore(finished)
    lines = (finished / "samples.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    first["prediction"] = None
    first["scores"] = None
    first["error"] = "gone"
    (finished / "samples.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    after = rescore(finished)
    assert (after["n"], after["n_failed"], after["metrics"]["top1"]["n"]) == (60, 1, 59)
    assert after["metrics"]["top1"]["value"] != before["metrics"]["top1"]["value"]


def test_rescore_of_an_unfinished_run_counts_what_is_there(finished: Path) -> None:
    lines = (finished / "samples.jsonl").read_text().splitlines(keepends=True)
    (finished / "samples.jsonl").write_text("".join(lines[:25]) + lines[25][:10])
    assert rescore(finished)["n"] == 25


def test_no_folder_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="no run folder"):
        read_run(tmp_path / "none")
    with pytest.raises(DataNotFound, match="not a run folder"):
        read_run(tmp_path)


def test_a_folder_of_runs_says_which(finished: Path) -> None:
    with pytest.raises(DataNotFound) as error:
        read_run(finished.parent)
    assert error.value.hint == "runs inside it: run"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.json", "{", "is not JSON"),
        ("manifest.json", "[]", "not a manifest"),
        ("manifest.json", '{"schema": 1, "model": "x"}', "not a manifest"),
        ("manifest.json", '{"schema": 9, "task": "x", "status": "finished"}', "schema 9"),
        ("samples.jsonl", "no json\n", "line 1"),
        ("samples.jsonl", '{"label": 3}\n', "line 1 is not a sample record: id"),
        ("samples.jsonl", '{"id": "a", "label": "three", "error": "x"}\n', "line 1 is not a sample record: label"),
        ("samples.jsonl", '{"id": "a"}\n', "either a prediction or an error"),
        ("samples.jsonl", '{"id": "a", "prediction": {}, "error": "x"}\n', "either a prediction or an error"),
        ("results.json", "{}", "holds no metrics"),
    ],
)
def test_damaged_files_are_named(finished: Path, name: str, content: str, message: str) -> None:
    (finished / name).write_text(content)
    with pytest.raises(DataError, match=message) as error:
        read_run(finished)
    assert name in str(error.value)


def test_answers_of_another_kind_of_task_are_not_scored(finished: Path) -> None:
    (finished / "samples.jsonl").write_text('{"id": "a", "label": 1, "prediction": {"text": "two"}}\n')
    with pytest.raises(DataError, match="not records of a classification run"):
        rescore(finished)
    manifest = json.loads((finished / "manifest.json").read_text())
    (finished / "manifest.json").write_text(json.dumps(manifest | {"family": "ranking"}))
    with pytest.raises(DataError, match="kind 'ranking'"):
        rescore(finished)


def forced(right: set[str], failed: set[str] = frozenset()) -> Any:  # type: ignore[assignment]
    """Right on the given ids, wrong by one class elsewhere."""

    def predict(samples: Any) -> Any:
        for sample in samples:
            label = sample.label if sample.id in right else (sample.label + 1) % 7
            good = Prediction(sample.id, {"label": label, "confidence": 0.5, "top": [[label, 0.5]]})
            yield Prediction(sample.id, error="broken") if sample.id in failed else good

    return predict


def ids(*numbers: int) -> set[str]:
    return {f"s{i:04d}" for i in numbers}


def make_pair(tmp_path: Path, failed: set[str] = frozenset(), **second: Any) -> tuple[Path, Path]:  # type: ignore[assignment]
    run(make_task(n=50), forced(ids(*range(20)), failed), out=tmp_path / "a", manifest=MANIFEST)
    options = {"task": make_task(n=50)} | second
    run(options.pop("task"), forced(ids(*range(15, 40))), out=tmp_path / "b", manifest=MANIFEST | {"model": "other"}, **options)
    return tmp_path / "a", tmp_path / "b"


def test_comparison_counts_pairs(tmp_path: Path) -> None:
    found = compare_runs(*make_pair(tmp_path))
    assert (found["both_right"], found["only_a"], found["only_b"], found["both_wrong"], found["n"]) == (5, 15, 20, 10, 50)
    assert found["difference"]["value"] == pytest.approx(0.1)
    low, high = found["difference"]["ci95"]
    assert low < 0 < high
    assert found["mcnemar_p"] == pytest.approx(binomtest(15, 35).pvalue)
    assert (found["top1"]["a"]["value"], found["top1"]["b"]["value"]) == (0.4, 0.5)
    assert (found["a"]["model"], found["b"]["model"], found["notes"]) == ("coin", "other", [])
    json.dumps(found, allow_nan=False)


def test_per_class_rows_add_up(tmp_path: Path) -> None:
    found = compare_runs(*make_pair(tmp_path))
    rows = found["per_class"]
    assert [row["class"] for row in rows] == [f"class {c}" for c in range(7)]
    assert sum(row["n"] for row in rows) == 50
    assert sum(row["n"] * row["recall_b"] for row in rows) == pytest.approx(25)
    assert sum(row["n"] * row["difference"] for row in rows) == pytest.approx(5)
    assert sum(row["only_a"] for row in rows) == 15


def test_swapped_runs_swap_the_result(tmp_path: Path) -> None:
    a, b = make_pair(tmp_path)
    forth, back = compare_runs(a, b), compare_runs(b, a)
    assert (forth["only_a"], forth["only_b"]) == (back["only_b"], back["only_a"])
    assert forth["difference"]["value"] == -back["difference"]["value"]
    assert forth["mcnemar_p"] == back["mcnemar_p"]


def test_a_run_compared_with_itself(tmp_path: Path) -> None:
    a, _ = make_pair(tmp_path)
    found = compare_runs(a, a)
    assert (found["only_a"], found["only_b"], found["mcnemar_p"]) == (0, 0, 1.0)
    assert found["difference"] == {"value": 0.0, "ci95": [0.0, 0.0]}


def test_unequal_numbers_of_answers_are_stated(tmp_path: Path) -> None:
    found = compare_runs(*make_pair(tmp_path, failed=ids(0, 45)))
    assert found["n"] == 48
    assert found["notes"] == ["A answered 48 samples and B 50; the comparison uses the 48 that both answered."]
    assert found["only_a"] == 14


def test_an_unfinished_run_is_stated(tmp_path: Path) -> None:
    a, b = make_pair(tmp_path)
    manifest = json.loads((b / "manifest.json").read_text())
    (b / "manifest.json").write_text(json.dumps(manifest | {"status": "interrupted"}))
    assert compare_runs(a, b)["notes"] == ["Run B is not finished (status interrupted)."]


def test_other_tasks_and_other_data_are_refused(tmp_path: Path) -> None:
    a, b = make_pair(tmp_path / "1", task=make_task(n=50, name="toys"))
    with pytest.raises(UsageError, match="their tasks differ: toy and toys"):
        compare_runs(a, b)
    a, b = make_pair(tmp_path / "2", task=make_task(n=51))
    with pytest.raises(UsageError, match="their data differ"):
        compare_runs(a, b)


def test_other_class_names_are_compared_and_stated(tmp_path: Path) -> None:
    task = make_task(n=50)
    renamed = type(task)(**{**{f: getattr(task, f) for f in task.__dataclass_fields__}, "classnames": tuple("abcdefg")})
    found = compare_runs(*make_pair(tmp_path, task=renamed))
    assert found["notes"] == ["The runs name the classes differently; labels are compared by index."]


def test_runs_without_a_common_sample_are_refused(tmp_path: Path) -> None:
    task = make_task(n=50)
    run(task, forced(set()), out=tmp_path / "a", manifest=MANIFEST, limit=3, seed=0)
    run(task, forced(set()), out=tmp_path / "b", manifest=MANIFEST, limit=3, seed=1)
    with pytest.raises(UsageError, match="share no sample"):
        compare_runs(tmp_path / "a", tmp_path / "b")


def test_labels_that_contradict_each_other_are_an_error(tmp_path: Path) -> None:
    a, b = make_pair(tmp_path)
    text = (b / "samples.jsonl").read_text().splitlines()
    first = json.loads(text[0])
    (b / "samples.jsonl").write_text("\n".join([json.dumps(first | {"label": 3}), *text[1:]]) + "\n")
    with pytest.raises(DataError, match=r"has label 0 in .* and 3 in"):
        compare_runs(a, b)


def test_the_helper_predictor_depends_on_the_id_alone() -> None:
    sample = next(make_task().samples())
    assert answer(sample) == answer(sample)
