"""Runs: nothing is lost, nothing is asked twice, and the results do not depend on how a run came about."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evals import runner
from evals.records import read_run, read_samples
from evals.runner import owner, run
from tests.unit.evals.helpers import MANIFEST, answer, make_task, predictor, without_seconds
from toolkit.errors import DataError, UsageError
from toolkit.types import Metric, Prediction, Sample

ROOT = Path(__file__).resolve().parents[3]


def start(out: Path, predict: Any = None, task: Any = None, **options: Any) -> runner.RunResult:
    return run(task or make_task(), predict or predictor(), out=out, manifest=options.pop("manifest", MANIFEST), **options)


def results_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text())


def test_a_run_writes_its_three_files(tmp_path: Path) -> None:
    result = start(tmp_path / "run")
    found = read_run(tmp_path / "run")
    assert found.manifest["status"] == "finished"
    assert found.manifest["model"] == "coin"
    assert found.manifest["limit"] is None
    assert found.classnames == tuple(f"class {c}" for c in range(7))
    assert [record.id for record in found.samples] == [f"s{i:04d}" for i in range(40)]
    assert found.samples[3].image == "image 3"
    assert found.samples[3].prediction == answer(next(s for s in make_task().samples() if s.id == "s0003")).output
    assert found.results is not None
    assert list(found.results) == ["schema", "task", "data", "model", "method", "n", "n_failed", "metrics", "seconds"]
    assert list(found.results["metrics"]) == ["top1", "top5", "mean_per_class_recall", "ece"]
    assert (result.n, result.n_failed, result.exit_code, result.path) == (40, 0, 0, tmp_path / "run")
    right = sum(record.scores["top1"] for record in found.samples if record.scores)
    assert result.metrics["top1"].value == right / 40


def test_results_are_the_same_every_time(tmp_path: Path) -> None:
    start(tmp_path / "a")
    start(tmp_path / "b")
    assert without_seconds(results_of(tmp_path / "a")) == without_seconds(results_of(tmp_path / "b"))
    assert (tmp_path / "a/samples.jsonl").read_bytes() == (tmp_path / "b/samples.jsonl").read_bytes()


def test_a_finished_run_predicts_nothing(tmp_path: Path) -> None:
    first = start(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.json*")}

    def never(samples: Sequence[Sample]) -> Iterator[Prediction]:
        raise AssertionError("nothing is left to predict")

    assert start(tmp_path, never) == first
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.json*")} == before


def test_samples_come_in_any_order_and_are_stored_in_the_tasks(tmp_path: Path) -> None:
    start(tmp_path / "a")
    start(tmp_path / "b", lambda samples: (answer(sample) for sample in reversed(samples)))
    assert (tmp_path / "a/samples.jsonl").read_bytes() == (tmp_path / "b/samples.jsonl").read_bytes()


def interrupted_after(count: int, error: type[BaseException] = KeyboardInterrupt) -> Callable[[Sequence[Sample]], Iterator[Prediction]]:
    def predict(samples: Sequence[Sample]) -> Iterator[Prediction]:
        for place, sample in enumerate(samples):
            if place == count:
                raise error
            yield answer(sample)

    return predict


def test_ctrl_c_keeps_what_was_answered(tmp_path: Path) -> None:
    start(tmp_path / "whole")
    out = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        start(out, interrupted_after(13))
    assert read_run(out).manifest["status"] == "interrupted"
    assert len(read_samples(out)) == 13
    assert not (out / "results.json").exists()
    asked: list[str] = []
    result = start(out, predictor(asked=asked))
    assert asked == [f"s{i:04d}" for i in range(13, 40)]
    assert result.metrics == runner.load_result(tmp_path / "whole").metrics
    assert without_seconds(results_of(out)) == without_seconds(results_of(tmp_path / "whole"))
    assert (out / "samples.jsonl").read_bytes() == (tmp_path / "whole/samples.jsonl").read_bytes()


def test_ctrl_c_ends_the_predictors_generator(tmp_path: Path) -> None:
    closed = threading.Event()

    def predict(samples: Sequence[Sample]) -> Iterator[Prediction]:
        try:
            for sample in samples:
                yield answer(sample)
        finally:
            closed.set()

    def stop(done: int, total: int, failed: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, predict, progress=stop)
    assert closed.is_set()
    assert len(read_samples(tmp_path)) == 5


@pytest.mark.parametrize("tail", ['{"id": "s0013", "lab', '{"id"', "\x00\x00"])
def test_a_torn_last_line_is_dropped_and_asked_again(tmp_path: Path, tail: str) -> None:
    start(tmp_path / "whole")
    out = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        start(out, interrupted_after(13))
    with open(out / "samples.jsonl", "a") as file:
        file.write(tail)
    asked: list[str] = []
    start(out, predictor(asked=asked))
    assert asked[0] == "s0013"
    assert len(asked) == 27
    assert (out / "samples.jsonl").read_bytes() == (tmp_path / "whole/samples.jsonl").read_bytes()


def test_a_damaged_line_in_the_middle_is_an_error_and_not_a_guess(tmp_path: Path) -> None:
    start(tmp_path)
    lines = (tmp_path / "samples.jsonl").read_text().splitlines(keepends=True)
    lines[4] = lines[4][:20] + "\n"
    (tmp_path / "samples.jsonl").write_text("".join(lines))
    with pytest.raises(DataError, match="line 5"):
        start(tmp_path)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"manifest": MANIFEST | {"model_fingerprint": "e" * 64}}, "model_fingerprint"),
        ({"manifest": MANIFEST | {"method": {"name": "coin", "config": {"bias": 0.7}}}}, "method"),
        ({"limit": 10}, "limit"),
        ({"seed": 1}, "seed"),
        ({"task": make_task(templates=("{}.",))}, "templates"),
        ({"task": make_task(n=41)}, "data_fingerprint"),
        ({"task": make_task(prompts={"classify/toy.json": "0"})}, "prompts"),
        ({"task": make_task(version="2")}, "task_version"),
    ],
)
def test_another_configuration_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    start(tmp_path)
    with pytest.raises(UsageError, match=f"{field}: ") as error:
        start(tmp_path, **changes)
    assert "--no-resume" in str(error.value.hint)
    assert "--output" in str(error.value.hint)
    start(tmp_path, resume=False, **changes)
    assert read_run(tmp_path).manifest["status"] == "finished"


def test_what_changes_no_number_does_not_make_another_run(tmp_path: Path) -> None:
    first = start(tmp_path, manifest=MANIFEST | {"device": "cpu", "environment": {"torch": "2.11"}})
    assert start(tmp_path, manifest=MANIFEST | {"device": "cuda:0", "environment": {"torch": "2.14"}}) == first


def test_no_resume_starts_afresh(tmp_path: Path) -> None:
    start(tmp_path)
    (tmp_path / "report.html").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    asked: list[str] = []
    start(tmp_path, predictor(asked=asked), resume=False)
    assert len(asked) == 40
    assert not (tmp_path / "report.html").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_samples_without_a_manifest_are_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text("")
    with pytest.raises(UsageError, match=r"no manifest\.json"):
        start(tmp_path)


# failures


def failing(ids: set[str]) -> Callable[[Sequence[Sample]], Iterator[Prediction]]:
    def predict(samples: Sequence[Sample]) -> Iterator[Prediction]:
        for sample in samples:
            yield Prediction(sample.id, error="image 3 is not an image") if sample.id in ids else answer(sample)

    return predict


def test_failed_samples_are_counted_and_never_scored(tmp_path: Path) -> None:
    result = start(tmp_path, failing({"s0003", "s0010"}))
    assert (result.n, result.n_failed, result.exit_code) == (40, 2, 4)
    assert result.metrics["top1"].n == 38
    record = read_samples(tmp_path)["s0003"]
    assert (record.prediction, record.scores, record.error) == (None, None, "image 3 is not an image")
    whole = start(tmp_path / "whole", task=make_task())
    wrong_as_zero = (whole.metrics["top1"].value or 0) * 40 - 2
    assert result.metrics["top1"].value != wrong_as_zero / 40


def test_failed_samples_are_tried_again(tmp_path: Path) -> None:
    start(tmp_path, failing({"s0003", "s0010"}))
    asked: list[str] = []
    result = start(tmp_path, predictor(asked=asked))
    assert asked == ["s0003", "s0010"]
    assert result.n_failed == 0
    start(tmp_path / "whole")
    assert (tmp_path / "samples.jsonl").read_bytes() == (tmp_path / "whole/samples.jsonl").read_bytes()
    assert without_seconds(results_of(tmp_path)) == without_seconds(results_of(tmp_path / "whole"))


def test_a_run_whose_failures_fail_again_stays_the_same(tmp_path: Path) -> None:
    start(tmp_path, failing({"s0003"}))
    before = without_seconds(results_of(tmp_path))
    assert start(tmp_path, failing({"s0003"})).n_failed == 1
    assert without_seconds(results_of(tmp_path)) == before
    assert read_run(tmp_path).manifest["status"] == "finished"


def test_all_failed_gives_no_number(tmp_path: Path) -> None:
    result = start(tmp_path, failing({f"s{i:04d}" for i in range(40)}))
    assert (result.n, result.n_failed, result.exit_code) == (40, 40, 4)
    assert set(result.metrics.values()) == {Metric(None, None, 0)}
    assert results_of(tmp_path)["metrics"]["top1"] == {"value": None, "ci95": None, "n": 0}


def test_an_answer_that_is_not_finite_is_a_failure(tmp_path: Path) -> None:
    def predict(samples: Sequence[Sample]) -> Iterator[Prediction]:
        for sample in samples:
            yield Prediction(sample.id, {"label": 0, "confidence": float("nan"), "top": []}) if sample.id == "s0001" else answer(sample)

    assert start(tmp_path, predict).n_failed == 1
    assert "not finite" in str(read_samples(tmp_path)["s0001"].error)


@pytest.mark.parametrize(
    "output", [{"label": 7, "confidence": 0.5, "top": []}, {"label": 0, "confidence": 1.5, "top": []}, {"label": None}, {}]
)
def test_an_answer_of_another_problem_is_a_bug(tmp_path: Path, output: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="not of 7 classes"):
        start(tmp_path, lambda samples: [Prediction(sample.id, output) for sample in samples])
    assert read_run(tmp_path).manifest["status"] == "failed"


def test_file_names_that_are_not_utf8_can_be_written(tmp_path: Path) -> None:
    start(tmp_path, lambda samples: [Prediction(s.id, error="bad\udcff.png is broken") for s in samples])
    assert read_samples(tmp_path)["s0000"].error == "bad\\udcff.png is broken"


# places that cannot be written to


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UsageError, match="cannot write into"):
        start(tmp_path / "run")
    with pytest.raises(UsageError, match="cannot write into"):
        start(tmp_path / "run" / "below")


def test_a_full_disk_is_a_sentence_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, lines = runner.append_jsonl, []

    def full(path: Path, records: Sequence[Any], *, sync: bool = False) -> int:
        lines.append(path)
        if len(lines) > 7:
            raise UsageError(f"cannot write {path}: No space left on device")
        return real(path, records, sync=sync)

    monkeypatch.setattr(runner, "append_jsonl", full)
    with pytest.raises(UsageError, match="No space left"):
        start(tmp_path)
    monkeypatch.undo()
    asked: list[str] = []
    start(tmp_path, predictor(asked=asked))
    assert len(asked) == 33


def test_two_processes_do_not_write_one_run(tmp_path: Path) -> None:
    def nested(samples: Sequence[Sample]) -> Iterator[Prediction]:
        with pytest.raises(UsageError, match="another process"):
            start(tmp_path)
        yield from (answer(sample) for sample in samples)

    assert start(tmp_path, nested).n_failed == 0


def test_limit_and_empty_tasks(tmp_path: Path) -> None:
    assert start(tmp_path / "a", limit=10).n == 10
    assert start(tmp_path / "b", limit=1000).n == 40
    with pytest.raises(UsageError, match="at least 1"):
        start(tmp_path / "c", limit=0)


def test_progress_counts_what_was_done_before(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, interrupted_after(13))
    seen: list[tuple[int, int, int]] = []
    start(tmp_path, failing({"s0020"}), progress=lambda *counts: seen.append(counts))
    assert seen[0] == (13, 40, 0)
    assert seen[-1] == (40, 40, 1)
    assert len(seen) == 28


# several processes


def sharded(out: Path, world: int, predict: Any = None) -> list[runner.RunResult | BaseException]:
    """One thread a rank: the barriers are real."""
    barrier = threading.Barrier(world, timeout=30)
    outcomes: list[Any] = [None] * world

    def one(rank: int) -> None:
        try:
            outcomes[rank] = start(out, predict, shard=(rank, world, barrier.wait))
        except BaseException as error:
            outcomes[rank] = error
            barrier.abort()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_results_do_not_depend_on_the_world_size(tmp_path: Path) -> None:
    whole = start(tmp_path / "1")
    for world in (2, 3, 5):
        out = tmp_path / str(world)
        results = sharded(out, world)
        assert [result.metrics for result in results] == [whole.metrics] * world  # type: ignore[union-attr]
        assert without_seconds(results_of(out)) == without_seconds(results_of(tmp_path / "1"))
        assert (out / "samples.jsonl").read_bytes() == (tmp_path / "1/samples.jsonl").read_bytes()
        assert not list(out.glob("samples.r*"))


def test_shards_are_disjoint_and_complete(tmp_path: Path) -> None:
    asked: list[str] = []
    sharded(tmp_path, 3, predictor(asked=asked))
    assert sorted(asked) == [f"s{i:04d}" for i in range(40)]
    assert {owner(f"s{i:04d}", 3) for i in range(40)} == {0, 1, 2}
    assert owner("s0000", 3) == owner("s0000", 3)


def stop_at(count: int) -> Callable[[Sequence[Sample]], Iterator[Prediction]]:
    return interrupted_after(count)


@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2), (3, 2)])
def test_a_run_goes_on_with_another_world_size(tmp_path: Path, first: int, second: int) -> None:
    whole = start(tmp_path / "whole")
    out = tmp_path / "run"
    if first == 1:
        with pytest.raises(KeyboardInterrupt):
            start(out, stop_at(4))
    else:
        assert all(isinstance(outcome, BaseException) for outcome in sharded(out, first, stop_at(4)))
        assert list(out.glob("samples.r*of*.jsonl"))
    done = set(read_samples(out))
    assert len(done) == 4 * first
    asked: list[str] = []
    if second == 1:
        result: Any = start(out, predictor(asked=asked))
    else:
        result = sharded(out, second, predictor(asked=asked))[0]
    assert result.metrics == whole.metrics
    assert sorted([*done, *asked]) == [f"s{i:04d}" for i in range(40)]
    assert (out / "samples.jsonl").read_bytes() == (tmp_path / "whole/samples.jsonl").read_bytes()
    assert not list(out.glob("samples.r*"))


# SIGKILL

SCRIPT = """
import sys, time
from pathlib import Path
from evals.runner import run
from tests.unit.evals.helpers import MANIFEST, answer, make_task

def predict(samples):
    for sample in samples:
        time.sleep(0.004)
        print(sample.id, flush=True)
        yield answer(sample)

run(make_task(n=300), predict, out=Path(sys.argv[1]), manifest=MANIFEST)
"""


def test_killed_at_any_moment_it_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    """Four SIGKILLs in one run; the folder is readable after each, no answer that was written is lost."""
    out = tmp_path / "run"
    done = 0
    for attempt in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(out)], cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ}
        )
        assert process.stdout is not None
        process.stdout.readline()  # it is at work
        if attempt < 4:
            time.sleep(0.03 + 0.06 * attempt)
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        found = read_run(out)
        assert len(found.samples) >= done
        done = len(found.samples)
        if process.returncode == 0:
            break
    assert found.manifest["status"] == "finished"
    start(tmp_path / "whole", task=make_task(n=300))
    assert (out / "samples.jsonl").read_bytes() == (tmp_path / "whole/samples.jsonl").read_bytes()
    assert without_seconds(results_of(out)) == without_seconds(results_of(tmp_path / "whole"))
