"""What a run folder says, in the form that the page needs: rows, counts and names, tolerant of everything that may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evals.metrics.classification import confusion_matrix, reliability
from evals.records import Run, SampleRecord, read_run
from evals.report.figures import Bin
from evals.report.svg import clean
from evals.report.wording import finite, task_title
from toolkit.stats import wilson

MOST_MATRIX = 2000  # classes; beyond this a confusion matrix is neither drawn nor counted


class Row(NamedTuple):
    """One sample of a run.

    Attributes:
        label, predicted: class indices, or None where there is none.
        confidence: of the answer, in [0, 1], or None.
        right: None where it was not scored.
        error: why it failed, or None.
    """

    id: str
    image: str
    label: int | None
    predicted: int | None
    confidence: float | None
    right: bool | None
    error: str | None


class Measured(NamedTuple):
    """One metric of results.json."""

    name: str
    value: float | None
    ci: tuple[float, float] | None
    n: int | None


class ClassRow(NamedTuple):
    """One class: how many of its ``n`` samples were recognised (``right``), and how often it was answered (``answered``)."""

    label: int
    name: str
    n: int
    right: int
    answered: int
    recall: float
    ci: tuple[float, float]


@dataclass(frozen=True)
class RunView:
    """A run folder, read.

    Attributes:
        folder: where it lies. manifest, results: the files' content, possibly empty. rows: its samples in order.
    """

    folder: Path
    manifest: Mapping[str, Any]
    results: Mapping[str, Any]
    rows: tuple[Row, ...]

    @classmethod
    def read(cls, folder: str | Path) -> RunView:
        """Read a run folder. Raises what ``evals.records.read_run`` raises if it is none."""
        return cls.of(read_run(Path(folder)))

    @classmethod
    def of(cls, run: Run) -> RunView:
        """The view of a run that was read."""
        return cls(run.path, run.manifest, run.results or {}, tuple(read_row(sample) for sample in run.samples))

    @property
    def status(self) -> str:
        return clean(self.manifest.get("status") or "", 40)

    def _said(self, key: str) -> Any:
        return self.results.get(key, self.manifest.get(key))

    @cached_property
    def task(self) -> str:
        return _name(self._said("task")) or "a task without a name"

    @property
    def title(self) -> str:
        return task_title(self.task)

    @cached_property
    def model(self) -> str:
        return _name(self._said("model")) or "a model without a name"

    @cached_property
    def method(self) -> str:
        return _name(self._said("method"))

    @cached_property
    def settings(self) -> dict[str, str]:
        """What can differ between two runs of one model and one method, as short text: options, templates, number format, limit, seed."""
        said = self._said("method")
        options = said.get("config") if isinstance(said, Mapping) else None
        found = dict(options) if isinstance(options, Mapping) else {}
        templates = self.manifest.get("templates")
        if isinstance(templates, Sequence) and "templates" not in found:
            found["templates"] = templates
        generation = self.manifest.get("generation")
        found |= generation if isinstance(generation, Mapping) else {}
        found |= {key: self.manifest[key] for key in ("dtype", "limit", "seed") if key in self.manifest}
        found.pop("keep_maps", None)  # changes what is written down, and no answer
        return {clean(key, 40): _setting(value) for key, value in found.items()}

    @property
    def is_bazaar(self) -> bool:
        return self.task.startswith("bazaar")

    @cached_property
    def classnames(self) -> tuple[str, ...]:
        names = self.manifest.get("classnames")
        return tuple(clean(name) for name in names) if isinstance(names, Sequence) and not isinstance(names, str) else ()

    def class_title(self, index: int | None) -> str:
        """The name of a class; a number where the manifest has no name for it."""
        if index is None:
            return "nothing"
        return self.classnames[index] or "(empty name)" if 0 <= index < len(self.classnames) else f"class {index}"

    @cached_property
    def metrics(self) -> tuple[Measured, ...]:
        found = self.results.get("metrics")
        return tuple(measured(clean(name), value) for name, value in found.items()) if isinstance(found, Mapping) else ()

    @property
    def main(self) -> Measured | None:
        """The metric of the headline: top-1 if there is one, else the first that has a value."""
        defined = [metric for metric in self.metrics if metric.value is not None]
        return next((metric for metric in defined if metric.name == "top1"), defined[0] if defined else None)

    @cached_property
    def failed(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.error is not None)

    @cached_property
    def n(self) -> int:
        said = self.results.get("n")
        return said if isinstance(said, int) else len(self.rows)

    @cached_property
    def n_failed(self) -> int:
        said = self.results.get("n_failed")
        return said if isinstance(said, int) else len(self.failed)

    @cached_property
    def answered(self) -> tuple[Row, ...]:
        """Rows with a class answer and a true class."""
        return tuple(row for row in self.rows if row.predicted is not None and row.label is not None and row.error is None)

    @cached_property
    def n_classes(self) -> int:
        """How many classes the answers were chosen from, as far as is known."""
        seen = [index for row in self.answered for index in (row.label, row.predicted) if index is not None]
        return len(self.classnames) or max(seen, default=-1) + 1

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing evenly among the classes; None for a run that is no classification."""
        return 1 / self.n_classes if self.n_classes > 1 and self.answered else None

    @cached_property
    def mistakes(self) -> list[Row]:
        """Wrong answers, most confident first; those without a confidence last, in the order of the run."""
        wrong = [row for row in self.answered if row.right is False]
        return sorted(wrong, key=lambda row: -1.0 if row.confidence is None else row.confidence, reverse=True)

    @cached_property
    def hesitant(self) -> list[Row]:
        """Right answers with a confidence, least confident first."""
        right = [row for row in self.answered if row.right and row.confidence is not None]
        return sorted(right, key=lambda row: row.confidence or 0.0)

    @cached_property
    def counts(self) -> NDArray[np.int64] | None:
        """(C, C) confusion counts, or None where there is nothing to count."""
        inside = [(row.label, row.predicted) for row in self.answered if _within(row, self.n_classes)]
        if not inside or self.n_classes > MOST_MATRIX:
            return None
        pairs = np.asarray(inside, dtype=np.int64)
        return confusion_matrix(pairs[:, 0], pairs[:, 1], self.n_classes)

    @cached_property
    def classes(self) -> list[ClassRow]:
        """Every class that has samples, best recognised first."""
        if self.counts is None:
            return []
        n, right, answered = self.counts.sum(axis=1), np.diag(self.counts), self.counts.sum(axis=0)
        found = [
            ClassRow(c, self.class_title(c), int(n[c]), int(right[c]), int(answered[c]), right[c] / n[c], wilson(int(right[c]), int(n[c])))
            for c in np.flatnonzero(n).tolist()
        ]
        return sorted(found, key=lambda one: (-one.recall, one.label))

    @cached_property
    def bins(self) -> list[Bin]:
        """The bins of the calibration error, the same that the metric uses; empty without confidences."""
        known = [(row.confidence, float(bool(row.right))) for row in self.answered if row.confidence is not None and row.right is not None]
        if not known:
            return []
        columns = np.asarray(known, dtype=np.float64)
        table = reliability(columns[:, 0], columns[:, 1])
        width = 1 / len(table)
        return [
            Bin(b * width, (b + 1) * width, int(n), mean, right, wilson(round(n * right), int(n)) if n else (0.0, 1.0))
            for b, (n, mean, right) in enumerate(table.tolist())
        ]


def _within(row: Row, classes: int) -> bool:
    return row.label is not None and row.predicted is not None and 0 <= row.label < classes and 0 <= row.predicted < classes


def _name(value: Any) -> str:
    """A name that is written either as text or as {"name": ...}."""
    if isinstance(value, Mapping):
        value = value.get("name")
    return clean(value, 120) if value else ""


def _setting(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return clean(value[0], 60) if len(value) == 1 else f"{len(value)} different"
    return "default" if value is None else clean(value, 60)


def settings_apart(views: Sequence[RunView]) -> list[str]:
    """For each run of one model and method, the settings in which it differs from the others; the folder's name if there are none.

    A run that stands alone needs nothing to tell it apart and gets an empty text.
    """
    if len(views) < 2:
        return [""] * len(views)
    keys = [
        key for key in dict.fromkeys(key for view in views for key in view.settings) if len({view.settings.get(key) for view in views}) > 1
    ]
    texts = [", ".join(f"{key} = {view.settings.get(key, 'default')}" for key in keys[:3]) for view in views]
    return texts if len(set(texts)) == len(views) else [clean(view.folder.name, 60) for view in views]


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_row(sample: SampleRecord) -> Row:
    """A record as a row, whatever is missing in it."""
    answer, scores = sample.prediction or {}, sample.scores or {}
    label, predicted = sample.label, _integer(answer.get("label"))
    top1 = finite(scores.get("top1"))
    right = top1 >= 0.5 if top1 is not None else label == predicted if None not in (label, predicted) else None
    confidence = finite(answer.get("confidence"))
    return Row(
        id=sample.id,
        image=clean(sample.image or ""),
        label=label,
        predicted=predicted,
        confidence=None if confidence is None else min(1.0, max(0.0, confidence)),
        right=right if sample.error is None else None,
        error=None if sample.error is None else clean(sample.error, 400),
    )


def measured(name: str, value: Any) -> Measured:
    """A metric of results.json, whatever is missing in it."""
    fields: Mapping[str, Any] = value if isinstance(value, Mapping) else {"value": value}
    ci = fields.get("ci95")
    bounds = [finite(bound) for bound in ci] if isinstance(ci, Sequence) and not isinstance(ci, str) else []
    low, high = bounds if len(bounds) == 2 else (None, None)
    return Measured(name, finite(fields.get("value")), None if low is None or high is None else (low, high), _integer(fields.get("n")))
