"""Running a predictor over a task, so that nothing is lost: by Ctrl-C, by a kill, by a broken sample, by another world size.

A run folder holds ``manifest.json`` (what was asked of whom), ``samples.jsonl`` (one line a sample, appended as the answers
come) and ``results.json`` (written when all samples are there). With several processes each appends to its own
``samples.r<rank>of<world>.jsonl``, and the first one merges them. Which samples are done is read from all of these files, so a
run may go on with any number of processes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from evals.answering import ask
from evals.records import (
    MANIFEST,
    REPORT,
    RESULTS,
    SAMPLES,
    SCHEMA,
    SampleRecord,
    build_results,
    differing,
    read_manifest,
    read_samples,
    samples_files,
)
from toolkit.config import to_json
from toolkit.errors import DataError, UsageError
from toolkit.files import append_jsonl, atomic_write_json, atomic_write_text, read_json
from toolkit.types import Metric, Prediction, Predictor, Sample, Task

SYNC_EVERY_S = 2.0
IDENTITY = (
    "task",
    "task_version",
    "data_fingerprint",
    "classnames",
    "templates",
    "prompts",
    "prompt",
    "model",
    "model_fingerprint",
    "method",
    "support",
    "pool",
    "generation",
    "scorers",
    "seed",
    "limit",
)
"""The manifest fields that make two runs the same run: a resumed run must agree in all of them."""

Progress = Callable[[int, int, int], None]
Shard = tuple[int, int, Callable[[], None]]


class RunnableTask(Task, Protocol):
    """A task that can also describe itself and sum up its records. With ``keeps_meta = True`` the meta of its samples is written down.

    It may have ``details(records)``, what results.json says beside the metrics, and ``files(records)``, name -> JSON of what else belongs
    into the run folder, or None for what does not.
    """

    def describe(self) -> Mapping[str, Any]: ...

    def summarise(self, records: Sequence[SampleRecord]) -> Mapping[str, Metric]: ...


@dataclass(frozen=True)
class RunResult:
    """What a run came to. ``n`` counts all samples, ``n_failed`` those without an answer; metrics are over the others."""

    n: int
    n_failed: int
    metrics: Mapping[str, Metric]
    path: Path
    seconds: float

    @property
    def exit_code(self) -> int:
        """0, or 4 if samples failed."""
        return 4 if self.n_failed else 0


def run(
    task: RunnableTask,
    predict: Predictor,
    *,
    out: str | Path,
    manifest: Mapping[str, Any],
    resume: bool = True,
    on_error: str = "record",
    limit: int | None = None,
    seed: int = 0,
    shard: Shard | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Answer and score the samples of ``task`` and write the run folder ``out``.

    Args:
        predict: gets the samples that are still to do; answers them in any order. It is not called if none are.
        manifest: who answers: ``model``, ``model_fingerprint``, ``method`` ({"name", "config"}), and anything worth knowing
            (device, versions, git). The runner adds what it knows of the task.
        resume: go on with what is in ``out`` (samples that failed are tried again); otherwise what is there is removed.
        on_error: "record" a sample whose answer raises as failed, or "raise".
        limit, seed: passed to ``task.samples``.
        shard: (rank, world, barrier) of this process; ``barrier()`` returns when all processes have called it.
        progress: called with (done, total, failed) of this process's share.
    Returns: the same on every rank and for every world size.
    Raises: UsageError: if ``out`` holds another run, is in use or cannot be written. DataError: if the task has no samples.
        KeyboardInterrupt: passed on, after what was answered is safe.
    """
    if on_error not in ("record", "raise"):
        raise UsageError(f"on_error is 'record' or 'raise', not {on_error!r}")
    rank, world, barrier = shard or (0, 1, lambda: None)
    samples = list(task.samples(limit, seed))
    _check_samples(samples, task.name)
    folder = _make_folder(Path(out))
    facts = {"schema": SCHEMA, **manifest, **task.describe(), "seed": seed, "limit": limit, "world": world}
    with _lock(folder, rank):
        sitting = _Sitting(folder, to_json(facts), rank, world)
        sitting.begin(resume, barrier)
        try:
            todo, known = sitting.share(samples)
            _answer(task, predict, todo, sitting, on_error, _counting(progress, len(todo) + len(known), known))
            barrier()
            if rank == 0:
                sitting.finish(task, samples)
        except BaseException as error:
            sitting.stop("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        barrier()
    return load_result(folder)


def load_result(folder: str | Path) -> RunResult:
    """The result of a finished run folder. Raises: DataNotFound: if it is not finished."""
    results = read_json(Path(folder) / RESULTS)
    metrics = {name: Metric(m["value"], tuple(m["ci95"]) if m["ci95"] else None, m["n"]) for name, m in results["metrics"].items()}
    return RunResult(results["n"], results["n_failed"], metrics, Path(folder), results["seconds"])


def owner(sample_id: str, world: int) -> int:
    """The rank that answers a sample: from its id alone, so that it does not depend on order or limit."""
    return int.from_bytes(hashlib.sha256(sample_id.encode("utf-8", "surrogatepass")).digest()) % world


class _Sitting:
    """One process's work on a run folder."""

    def __init__(self, folder: Path, manifest: dict[str, Any], rank: int, world: int) -> None:
        self.folder, self.manifest, self.rank, self.world = folder, manifest, rank, world
        self.file = folder / (SAMPLES if world == 1 else f"samples.r{rank}of{world}.jsonl")
        self.started = self.synced = time.monotonic()
        self.before_s = 0.0
        self.finished = False

    def begin(self, resume: bool, barrier: Callable[[], None]) -> None:
        """Agree with what is there, or remove it; then write the manifest."""
        old = read_manifest(self.folder) if resume else None
        if old is not None:
            self._must_agree(old)
            self.before_s = float(old.get("seconds") or 0.0)
            self.manifest["created"] = old.get("created") or _now()
            self.finished = old["status"] == "finished" and (self.folder / RESULTS).exists()
        elif resume and samples_files(self.folder):
            raise UsageError(
                f"{self.folder} holds samples of a run and no {MANIFEST} that says of which",
                hint="choose another --output, or start afresh with --no-resume",
            )
        barrier()  # nobody writes before all have read
        self.manifest.setdefault("created", _now())
        if self.rank == 0:
            if not resume:
                for path in [self.folder / name for name in (RESULTS, REPORT, MANIFEST)] + samples_files(self.folder):
                    path.unlink(missing_ok=True)
            if not self.finished:
                self._write_manifest("running")
        barrier()

    def _must_agree(self, old: Mapping[str, Any]) -> None:
        lines = differing(old, self.manifest, IDENTITY)
        if lines:
            raise UsageError(
                f"{self.folder} holds another run; it differs in " + "; ".join(lines),
                hint="choose another --output, or start afresh with --no-resume",
            )

    def share(self, samples: Sequence[Sample]) -> tuple[list[Sample], list[SampleRecord]]:
        """This process's samples that are still to do, and the records of those that are done."""
        done = read_samples(self.folder)
        mine = [sample for sample in samples if owner(sample.id, self.world) == self.rank]
        known = [done[s.id] for s in mine if s.id in done and done[s.id].prediction is not None]
        ready = {record.id for record in known}
        todo = [sample for sample in mine if sample.id not in ready]
        if todo and self.finished:
            self.finished = False
            if self.rank == 0:
                self._write_manifest("running")
        return todo, known

    def add(self, record: SampleRecord) -> None:
        """Append one line: out of this process at once, on the disk within two seconds of the next line."""
        sync = time.monotonic() - self.synced >= SYNC_EVERY_S
        append_jsonl(self.file, [record.to_json()], sync=sync)
        if sync:
            self.synced = time.monotonic()

    def flush(self) -> None:
        if self.file.exists():
            append_jsonl(self.file, [], sync=True)

    def finish(self, task: RunnableTask, samples: Sequence[Sample]) -> None:
        """Merge all sample files in task order, then results, then the manifest's last word."""
        found = read_samples(self.folder)
        missing = [sample.id for sample in samples if sample.id not in found]
        if missing:
            raise DataError(f"{self.folder} lacks {len(missing)} samples, the first is {missing[0]!r}", hint="run the same command again")
        records = [found[sample.id] for sample in samples]
        if self._merge(records) or not self.finished:
            metrics = task.summarise(records)
            details = getattr(task, "details", None)
            for name, content in getattr(task, "files", _no_files)(records).items():
                if content is None:
                    (self.folder / name).unlink(missing_ok=True)
                else:
                    atomic_write_json(self.folder / name, content)
            seconds = self._seconds()
            more = details(records) if details else None
            atomic_write_json(self.folder / RESULTS, build_results(self.manifest, records, metrics, seconds, more))
            self._write_manifest("finished", seconds)

    def _merge(self, records: Sequence[SampleRecord]) -> bool:
        text = "".join(
            json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n" for record in records
        )
        merged = self.folder / SAMPLES
        changed = not merged.exists() or merged.read_bytes() != text.encode()
        if changed:
            atomic_write_text(merged, text)
        for path in self.folder.glob("samples.r*of*.jsonl"):
            path.unlink()
        return changed

    def stop(self, status: str) -> None:
        """After an exception: keep what is there and say how it ended, without hiding the exception."""
        try:
            self.flush()
            if self.rank == 0:
                self._write_manifest(status)
        except (UsageError, OSError):
            return  # a full disk stopped the run; the exception on its way says so

    def _write_manifest(self, status: str, seconds: float | None = None) -> None:
        self.manifest |= {"status": status, "updated": _now(), "seconds": round(self._seconds() if seconds is None else seconds, 3)}
        atomic_write_json(self.folder / MANIFEST, self.manifest)

    def _seconds(self) -> float:
        return self.before_s + time.monotonic() - self.started


def _no_files(records: Sequence[SampleRecord]) -> Mapping[str, Any]:
    return {}


def _answer(
    task: RunnableTask, predict: Predictor, todo: Sequence[Sample], sitting: _Sitting, on_error: str, count: Callable[[SampleRecord], None]
) -> None:
    by_id = {sample.id: sample for sample in todo}
    for prediction in ask(predict, todo, on_error):
        record = _record(task, by_id[prediction.id], prediction)
        sitting.add(record)
        count(record)
    sitting.flush()


def _record(task: RunnableTask, sample: Sample, prediction: Prediction) -> SampleRecord:
    name = None if sample.image is None else _printable(sample.image.name)
    error = None if prediction.error is None else _printable(prediction.error)
    output = scores = None
    if error is None:
        output = to_json(prediction.output or {})
        try:
            json.dumps(output, allow_nan=False)
            scores = dict(task.score(sample, prediction))
        except ValueError:
            output, error = None, "the answer holds numbers that are not finite"
    meta = to_json(sample.meta) if getattr(task, "keeps_meta", False) else None
    return SampleRecord(sample.id, sample.label, name, output, scores, error, round(prediction.seconds, 6), meta)


def _counting(progress: Progress | None, total: int, known: Sequence[SampleRecord]) -> Callable[[SampleRecord], None]:
    done, failed = len(known), 0
    if progress is not None:
        progress(done, total, failed)

    def count(record: SampleRecord) -> None:
        nonlocal done, failed
        done, failed = done + 1, failed + (record.prediction is None)
        if progress is not None:
            progress(done, total, failed)

    return count


def _check_samples(samples: Sequence[Sample], task: str) -> None:
    if not samples:
        raise DataError(f"task {task} has no samples", hint="check the data and --limit")
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise DataError(f"task {task} has two samples with the id {sample.id!r}")
        seen.add(sample.id)


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror or error}", hint="choose another --output") from error
    return folder


@contextmanager
def _lock(folder: Path, rank: int) -> Iterator[None]:
    lock = FileLock(folder / (".lock" if rank == 0 else f".lock.r{rank}"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(f"another process is writing to {folder}", hint="wait for it, or choose another --output") from error
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror or error}", hint="choose another --output") from error
    try:
        yield
    finally:
        lock.release()


def _printable(text: str) -> str:
    """File names that are not UTF-8 keep their odd bytes as escapes, so that the line can be written."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
