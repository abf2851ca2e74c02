"""Questions about images, answered in words: the task that all VQA sets become."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any, ClassVar

from evals.metrics.vqa import Scorer, check_scorers, get_scorer
from evals.records import SampleRecord, metric_to_json
from evals.tasks.order import choose
from evals.tasks.submissions import SUBMISSION, submission_rows
from evals.tasks.vqa_prompts import VqaPrompt
from toolkit.config import fingerprint
from toolkit.errors import DataError, UsageError
from toolkit.stats import mean_ci, wilson
from toolkit.types import JSON, AnswerProblem, Metric, Prediction, Sample

TYPES = ("question_type", "answer_type")


@dataclass(frozen=True)
class VqaTask:
    """Questions with reference answers, or without where nobody outside knows them.

    Attributes:
        name: the name it was asked for by.
        items: all samples in task order; ids are unique and stable. ``meta`` holds ``question``, ``prompt`` (all that the model is told,
            without chat template), ``answers`` (a list of strings, or None) and the types in ``breakdowns`` as far as they are known: a
            string, or a list of strings where a question is of several.
        data: where they come from, for people.
        content: hash of what the items are beside their texts.
        scorers: names of the scorers, the primary one first; every one scores every answer.
        prompt: what stands around the questions.
        breakdowns: keys of ``meta`` by which scores are also given.
        submission: name of the format in which answers without public references are handed in, if the set has one.
        about: what the manifest of a run also says of the task.
    """

    name: str
    items: Sequence[Sample]
    data: str
    content: str
    scorers: tuple[str, ...]
    prompt: VqaPrompt
    breakdowns: tuple[str, ...] = TYPES
    submission: str | None = None
    version: str = "1"
    family: str = "vqa"
    about: Mapping[str, JSON] = field(default_factory=dict)
    keeps_meta: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not len(self.items):
            raise DataError(f"{self.name} has no questions in {self.data}", hint="check the path and the split")
        chosen = find_scorers(self.scorers)
        known = sum(sample.meta.get("answers") is not None for sample in self.items)
        if known not in (0, len(self.items)):
            hint = "give data in which all of them have some, or none"
            raise DataError(f"{self.name}: {known} of {len(self.items)} questions have reference answers", hint=hint)
        for sample in self.items if known else ():
            for scorer in chosen:
                try:
                    scorer.check(sample.meta["answers"])
                except (TypeError, ValueError) as error:
                    hint = "choose other scorers, or correct the data"
                    raise DataError(f"{self.name}, question {sample.id}: {error}", hint=hint) from error

    @cached_property
    def scored(self) -> bool:
        """Whether the reference answers are there."""
        return self.items[0].meta.get("answers") is not None

    @cached_property
    def rules(self) -> tuple[Scorer, ...]:
        """The scorers themselves; none where no reference answers are."""
        return find_scorers(self.scorers) if self.scored else ()

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(rule.name for rule in self.rules)

    @property
    def max_new_tokens(self) -> int:
        return self.prompt.max_new_tokens

    def __len__(self) -> int:
        return len(self.items)

    def problem(self) -> AnswerProblem:
        """What an answering method is told."""
        return AnswerProblem(max_new_tokens=self.max_new_tokens)

    def samples(self, limit: int | None = None, seed: int = 0) -> Iterator[Sample]:
        """The samples in task order, or a random ``limit`` of them: a larger limit of the same seed contains a smaller one."""
        yield from choose(self.items, limit, seed)

    def score(self, sample: Sample, prediction: Prediction) -> Mapping[str, float]:
        """The score of one answer by each scorer; nothing is done to the answer before."""
        answer = (prediction.output or {}).get("answer")
        if not isinstance(answer, str):
            raise RuntimeError(f"the predictor's answer to {sample.id} is not a text: {dict(prediction.output or {})}")
        return {rule.name: rule(answer, sample.meta["answers"]) for rule in self.rules}

    def summarise(self, records: Sequence[SampleRecord]) -> dict[str, Metric]:
        return summarise(records, self.rules)

    def details(self, records: Sequence[SampleRecord]) -> dict[str, JSON]:
        """What results.json says beside the metrics: the scorers' versions and the scores by type."""
        return details(records, self.rules, self.breakdowns)

    def files(self, records: Sequence[SampleRecord]) -> dict[str, JSON]:
        """The submission of a split without public answers; none while an answer is missing, since a failure is not an empty answer."""
        if self.submission is None or self.scored:
            return {}
        complete = len(records) == len(self.items) and all(record.prediction is not None for record in records)
        return {SUBMISSION: submission_rows(self.submission, records) if complete else None}

    def data_fingerprint(self) -> str:
        """Hash of ids, questions, reference answers and what is known of the images without decoding them; the prompt is not in it."""
        digest = sha256()
        for sample in self.items:
            digest.update(json.dumps([sample.id, sample.meta["question"], sample.meta.get("answers")]).encode())
        return fingerprint("vqa", self.version, self.content, digest.hexdigest())

    def describe(self) -> dict[str, Any]:
        """What the manifest of a run says about the task."""
        return {
            "task": self.name,
            "task_version": self.version,
            "family": self.family,
            "data": self.data,
            "data_fingerprint": self.data_fingerprint(),
            "prompt": self.prompt.describe(),
            "prompts": dict(self.prompt.hashes),
            "scorers": {rule.name: rule.version for rule in self.rules},
            "primary": self.metrics[0] if self.scored else None,
            "breakdowns": list(self.breakdowns),
            "submission": None if self.scored else self.submission,
            "questions": len(self.items),
            "metrics": list(self.metrics),
            **self.about,
        }


def find_scorers(names: Sequence[str]) -> tuple[Scorer, ...]:
    """The scorers of these names. Raises: UsageError: for an unknown one, one that comes twice, or lenient ones alone."""
    try:
        found = tuple(get_scorer(name) for name in names)
        check_scorers(found)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return found


def summarise(records: Sequence[SampleRecord], rules: Sequence[Scorer]) -> dict[str, Metric]:
    """The mean of each scorer over the answered questions; failed ones are left out.

    Intervals: of questions about different images Wilson where scores are 0 or 1 and BCa bootstrap otherwise; where several questions are
    about one image, BCa bootstrap over images, because answers about one image go wrong together.
    """
    answered = [record for record in records if record.prediction is not None and record.scores is not None]
    named = [record.image or record.id for record in answered]
    images = None if len(set(named)) == len(named) else named
    rows = [record.scores or {} for record in answered]
    return {rule.name: _mean([row[rule.name] for row in rows], images, rule.binary) for rule in rules}


def details(records: Sequence[SampleRecord], rules: Sequence[Scorer], breakdowns: Sequence[str]) -> dict[str, JSON]:
    """``scorers`` (name -> version) and ``breakdown`` (type -> value -> metrics, the most frequent value first)."""
    answered = [record for record in records if record.prediction is not None]
    return {
        "scorers": {rule.name: rule.version for rule in rules},
        "primary": rules[0].name if rules else None,
        "breakdown": {kind: groups for kind in breakdowns if rules and (groups := _by_type(answered, rules, kind))},
    }


def _by_type(records: Sequence[SampleRecord], rules: Sequence[Scorer], kind: str) -> dict[str, JSON]:
    groups: dict[str, list[SampleRecord]] = {}
    for record in records:
        for value in types_of(record, kind):
            groups.setdefault(value, []).append(record)
    order = sorted(groups, key=lambda value: (-len(groups[value]), value))
    return {value: {name: metric_to_json(metric) for name, metric in summarise(groups[value], rules).items()} for value in order}


def types_of(record: SampleRecord, kind: str) -> tuple[str, ...]:
    """The values of one type of a question: none, one or several."""
    value = (record.meta or {}).get(kind)
    if value is None:
        return ()
    return tuple(dict.fromkeys(map(str, value))) if isinstance(value, list) else (str(value),)


def _mean(scores: Sequence[float], images: Sequence[str] | None, binary: bool) -> Metric:
    n = len(scores)
    if not n:
        return Metric(None, None, 0)
    total = sum(scores)
    return Metric(total / n, wilson(round(total), n) if binary and images is None else mean_ci(scores, images), n)
