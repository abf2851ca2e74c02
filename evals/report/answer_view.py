"""What the run folder of a VQA run says, in the form that the page needs: questions, answers, scores, decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from evals.answer_comparison import RIGHT
from evals.records import Run, SampleRecord, read_run
from evals.report.svg import clean
from evals.report.view import Measured, RunView, measured, read_row
from evals.report.wording import finite

MOST_SHOWN = 400  # characters of a question or an answer


class Asked(NamedTuple):
    """One question of a run.

    Attributes:
        answers: (reference, how often) pairs, the most frequent first; empty where nobody outside knows them.
        said: what the model said, untouched; None where it failed.
        scores: scorer -> score.
        decision: what the method decided, or an empty mapping.
        kinds: types of the question, as text.
    """

    id: str
    question: str
    answers: tuple[tuple[str, int], ...]
    said: str | None
    scores: Mapping[str, float]
    decision: Mapping[str, Any]
    kinds: tuple[str, ...]
    error: str | None

    def score(self, scorer: str | None) -> float | None:
        """By one scorer, or None without one."""
        return finite(self.scores.get(scorer)) if scorer is not None else None

    @property
    def agreement(self) -> float:
        """The share of people who gave the most frequent answer; 0 without references."""
        total = sum(count for _, count in self.answers)
        return self.answers[0][1] / total if total else 0.0


@dataclass(frozen=True)
class AnswerView(RunView):
    """A run of questions and answers, read. ``asked`` has one entry for each of ``rows``, in the same order."""

    asked: tuple[Asked, ...] = ()
    records: tuple[SampleRecord, ...] = ()

    @classmethod
    def of(cls, run: Run) -> AnswerView:
        rows = tuple(read_row(sample) for sample in run.samples)
        kinds = [str(kind) for kind in run.manifest.get("breakdowns") or ()]
        asked = tuple(_asked(sample, kinds) for sample in run.samples)
        return cls(run.path, run.manifest, run.results or {}, rows, asked, run.samples)

    @cached_property
    def scorers(self) -> dict[str, int]:
        """name -> version."""
        found = self.results.get("scorers", self.manifest.get("scorers"))
        return {clean(name, 60): int(version) for name, version in found.items()} if isinstance(found, Mapping) else {}

    @cached_property
    def primary(self) -> str | None:
        """The scorer that counts: by the task, else the first one."""
        said = self.results.get("primary", self.manifest.get("primary"))
        return str(said) if said in self.scorers else next(iter(self.scorers), None)

    @property
    def main(self) -> Measured | None:
        return next((metric for metric in self.metrics if metric.name == self.primary and metric.value is not None), None)

    @cached_property
    def breakdown(self) -> dict[str, dict[str, Measured]]:
        """type -> value -> the primary metric of the questions of that value."""
        found = self.results.get("breakdown")
        if not isinstance(found, Mapping) or self.primary is None:
            return {}
        return {
            clean(kind, 60): {clean(value, 120): measured(self.primary, metrics.get(self.primary)) for value, metrics in groups.items()}
            for kind, groups in found.items()
            if isinstance(groups, Mapping)
        }

    @cached_property
    def method_name(self) -> str:
        """Of the method alone."""
        return super().method

    @cached_property
    def method(self) -> str:
        """With the mode, where the method has several: they are as different as methods are."""
        said = self.manifest.get("method")
        config = said.get("config") if isinstance(said, Mapping) else None
        mode = config.get("mode") if isinstance(config, Mapping) else None
        return f"{self.method_name}, {clean(mode, 40)}" if mode else self.method_name

    @cached_property
    def by_id(self) -> dict[str, SampleRecord]:
        return {record.id: record for record in self.records}

    @cached_property
    def n_images(self) -> int:
        return len({row.image or row.id for row in self.rows})

    def right(self, asked: Asked) -> bool:
        """Whether an answer counts as right where right and wrong are counted."""
        return (asked.score(self.primary) or 0.0) >= RIGHT


def read_view(folder: str | Path) -> RunView:
    """The view of a run folder, by the kind of its task. Raises what ``evals.records.read_run`` raises if it is no run."""
    run = read_run(Path(folder))
    return AnswerView.of(run) if run.manifest.get("family") == "vqa" else RunView.of(run)


def _asked(sample: SampleRecord, kinds: list[str]) -> Asked:
    meta, output = sample.meta or {}, sample.prediction or {}
    references = meta.get("answers")
    counted = Counter(clean(answer, 80) for answer in references) if isinstance(references, list) else Counter()
    said, decision = output.get("answer"), output.get("decision")
    types: list[Any] = []
    for value in map(meta.get, kinds):
        types += value if isinstance(value, list) else [value] if value else []
    return Asked(
        id=sample.id,
        question=clean(meta.get("question") or "", MOST_SHOWN),
        answers=tuple(counted.most_common()),
        said=clean(said, MOST_SHOWN) if isinstance(said, str) else None,
        scores=dict(sample.scores or {}),
        decision=decision if isinstance(decision, Mapping) else {},
        kinds=tuple(clean(value, 60) for value in types),
        error=None if sample.error is None else clean(sample.error, 400),
    )
