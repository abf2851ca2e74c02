"""What a run leaves behind: manifest.json, samples.jsonl and results.json; reading, re-scoring and comparing them.

Nothing here loads a model. Files are checked where they are read, so that the rest of the house works on typed records.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from toolkit.errors import DataError, DataNotFound, UsageError
from toolkit.files import read_json, read_jsonl
from toolkit.types import JSON, Metric

SCHEMA = 1
MANIFEST, SAMPLES, RESULTS, REPORT = "manifest.json", "samples.jsonl", "results.json", "report.html"
EXPLAIN = "explain.json"  # of methods that explain themselves


@dataclass(frozen=True)
class SampleRecord:
    """One line of samples.jsonl: what was asked, what was answered, and what the answer is worth.

    Exactly one of ``prediction`` and ``error`` is set; ``scores`` goes with ``prediction``. ``meta`` is the sample's own, for tasks that
    keep it (``keeps_meta``): question, reference answers, kind of question, so that a run can be scored anew without its data.
    """

    id: str
    label: int | None = None
    image: str | None = None
    prediction: Mapping[str, JSON] | None = None
    scores: Mapping[str, float] | None = None
    error: str | None = None
    seconds: float = 0.0
    meta: Mapping[str, JSON] | None = None

    def to_json(self) -> dict[str, JSON]:
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}  # asdict would copy every nested list
        if self.meta is None:
            del fields["meta"]
        return fields


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore")
    id: str
    label: int | None = None
    image: str | None = None
    prediction: dict[str, Any] | None = None
    scores: dict[str, float] | None = None
    error: str | None = None
    seconds: float = 0.0
    meta: dict[str, Any] | None = None


@dataclass(frozen=True)
class Run:
    """A run folder in memory. ``results`` is None while the run is not finished."""

    path: Path
    manifest: Mapping[str, Any]
    samples: tuple[SampleRecord, ...]
    results: Mapping[str, Any] | None

    @property
    def classnames(self) -> tuple[str, ...]:
        return tuple(self.manifest.get("classnames") or ())

    @property
    def answered(self) -> tuple[SampleRecord, ...]:
        """The records with an answer: the only ones that metrics see."""
        return tuple(record for record in self.samples if record.prediction is not None)


def read_run(path: str | Path) -> Run:
    """Read a run folder.

    Raises: DataNotFound: if it is not there or not a run. DataError: if a file of it is damaged.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DataNotFound(f"there is no run folder {folder}", hint="give the folder that `permafrost eval --output` wrote")
    manifest = read_manifest(folder)
    if manifest is None:
        inside = sorted(entry.parent.name for entry in folder.glob(f"*/{MANIFEST}"))[:5]
        hint = f"runs inside it: {', '.join(inside)}" if inside else "give the folder that `permafrost eval --output` wrote"
        raise DataNotFound(f"{folder} is not a run folder: it holds no {MANIFEST}", hint=hint)
    samples = tuple(read_samples(folder).values())
    results = read_json(folder / RESULTS) if (folder / RESULTS).exists() else None
    if results is not None and not (isinstance(results, dict) and isinstance(results.get("metrics"), dict)):
        raise DataError(f"{folder / RESULTS} is damaged: it holds no metrics", hint="`permafrost score RUN` computes it again")
    return Run(folder, manifest, samples, results)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a run folder, or None if there is none. Raises: DataError: if it is damaged or of another schema."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    value = read_json(path)
    if not isinstance(value, dict) or "task" not in value or "status" not in value:
        raise DataError(f"{path} is not a manifest of a run: it names no task and status", hint="choose another folder")
    if value.get("schema") != SCHEMA:
        raise DataError(f"{path} has schema {value.get('schema')!r} and this version reads {SCHEMA}", hint="use the version that wrote it")
    return value


def samples_files(folder: Path) -> list[Path]:
    """All files of sample lines in a run folder: the merged one first, then those of the shards."""
    merged = [folder / SAMPLES] if (folder / SAMPLES).exists() else []
    return merged + sorted(folder.glob("samples.r*of*.jsonl"))


def read_samples(folder: Path) -> dict[str, SampleRecord]:
    """All sample records of a run folder by id, in the order of the files.

    A sample that was tried again counts once: an answer replaces a failure, a later line an earlier one.
    Raises: DataError: if a line is damaged (a torn last line is left out: its sample was never finished).
    """
    records: dict[str, SampleRecord] = {}
    for path in samples_files(folder):
        for number, value in enumerate(read_jsonl(path), start=1):
            record = _parse_line(value, path, number)
            known = records.get(record.id)
            if known is None or known.prediction is None or record.prediction is not None:
                records[record.id] = record
    return records


def _parse_line(value: JSON, path: Path, number: int) -> SampleRecord:
    try:
        line = _Line.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the line"
        raise DataError(
            f"{path}, line {number} is not a sample record: {where}: {first['msg']}", hint="evaluate again with --no-resume"
        ) from error
    if (line.prediction is None) == (line.error is None):
        raise DataError(f"{path}, line {number} must hold either a prediction or an error", hint="evaluate again with --no-resume")
    return SampleRecord(**line.model_dump())


def metric_to_json(metric: Metric) -> dict[str, JSON]:
    """``{"value", "ci95", "n"}`` with null for what is not defined."""
    value = None if metric.value is None or not math.isfinite(metric.value) else metric.value
    return {"value": value, "ci95": None if metric.ci95 is None else list(metric.ci95), "n": metric.n}


def build_results(
    manifest: Mapping[str, Any],
    records: Sequence[SampleRecord],
    metrics: Mapping[str, Metric],
    seconds: float,
    more: Mapping[str, JSON] | None = None,
) -> dict[str, JSON]:
    """The content of results.json: the same for the same samples, apart from ``seconds``. ``more`` is what a family of tasks adds."""
    return {
        "schema": SCHEMA,
        "task": manifest["task"],
        "data": manifest.get("data"),
        "model": manifest.get("model"),
        "method": manifest.get("method"),
        "n": len(records),
        "n_failed": sum(record.prediction is None for record in records),
        "metrics": {name: metric_to_json(metric) for name, metric in metrics.items()},
        **(more or {}),
        "seconds": round(seconds, 3),
    }


def rescore(path: str | Path, scorers: Sequence[str] | None = None) -> dict[str, JSON]:
    """The results of a run, computed again from its samples.jsonl. No model, no data, nothing is written.

    Args:
        scorers: of answers in words, ``name`` or ``name@version``; None takes those of the run.
    Raises: DataNotFound, DataError: as ``read_run``; also if the kind of task is not known to this version, or a stored score is not what
        its scorer gives. UsageError: for an unknown scorer, or scorers for a run that has none.
    """
    from evals.tasks import summarise_family  # the tasks build on records

    run = read_run(path)
    if run.manifest.get("family") == "vqa":
        from evals.rescoring import rescore_answers

        return rescore_answers(run, scorers)
    if scorers:
        raise UsageError(f"{path} is not a run of questions and answers, and has no scorers to choose", hint="leave the scorers out")
    metrics = summarise_family(str(run.manifest.get("family")), run.samples, run.manifest)
    return build_results(run.manifest, run.samples, metrics, float(run.manifest.get("seconds") or 0.0))


def pair(a: Run, b: Run) -> list[tuple[SampleRecord, SampleRecord]]:
    """The samples that both runs answered, joined by id, in the order of ``a``.

    Raises: UsageError: if the runs are of different tasks or data, or share no answered sample.
    """
    facts = [
        ("tasks", a.manifest.get("task"), b.manifest.get("task")),
        ("data", a.manifest.get("data_fingerprint"), b.manifest.get("data_fingerprint")),
        ("numbers of classes", len(a.classnames), len(b.classnames)),
    ]
    for what, mine, other in facts:
        if mine != other:
            shown = f": {_short(mine, 24)} and {_short(other, 24)}" if what == "data" else f": {_short(mine)} and {_short(other)}"
            raise UsageError(
                f"{a.path} and {b.path} cannot be compared, their {what} differ{shown}", hint="compare runs of one task on the same data"
            )
    answers = {record.id: record for record in b.answered}
    pairs = [(record, answers[record.id]) for record in a.answered if record.id in answers]
    for mine, other in pairs:
        if mine.label != other.label:
            raise DataError(f"sample {mine.id!r} has label {mine.label} in {a.path} and {other.label} in {b.path}")
    if not pairs:
        raise UsageError(
            f"{a.path} and {b.path} share no sample that both have answered", hint="finish both runs, with the same --limit and --seed"
        )
    return pairs


def compare_runs(a: str | Path, b: str | Path, *, seed: int = 0) -> dict[str, JSON]:
    """Paired comparison of two runs on the samples that both answered; ``b`` minus ``a``. No model is loaded.

    Returns: JSON with ``a``, ``b`` (who they are), ``n``, ``both_right``, ``only_a``, ``only_b``, ``both_wrong``,
        ``top1`` (of each, with intervals), ``difference`` (value, ci95 by paired bootstrap), ``mcnemar_p`` (exact),
        ``per_class`` and ``notes`` (sentences on what limits the comparison).
    Raises: UsageError, DataError, DataNotFound: see ``pair`` and ``read_run``.
    """
    from evals.comparison import compare

    return compare(read_run(a), read_run(b), seed=seed)


def differing(old: Mapping[str, Any], new: Mapping[str, Any], fields: Iterable[str]) -> list[str]:
    """One line for each field that differs between two manifests, values shortened."""
    return [
        f"{field}: {_short(old.get(field))} there, {_short(new.get(field))} now" for field in fields if old.get(field) != new.get(field)
    ]


def _short(value: object, most: int = 60) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."
