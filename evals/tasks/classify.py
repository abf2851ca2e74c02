"""Single-label image classification: the task that all classification data sets become."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evals.metrics import classification as metric
from evals.records import SampleRecord
from evals.tasks.order import choose
from evals.tasks.support import OTHER_IMAGES, Train, draw, no_support, same_images
from toolkit.config import fingerprint
from toolkit.errors import DataError, UsageError
from toolkit.stats import binned_gap_ci, mean_recall_ci, wilson
from toolkit.types import Metric, Prediction, Sample

DEFAULT_TEMPLATES = ("a photo of a {}.",)
ECE_BINS = 15


@dataclass(frozen=True)
class ClassifyTask:
    """Images with one label each.

    Attributes:
        name: the name it was asked for by.
        classnames: (C,) what a prompt says for each label, in label order.
        templates: prompts with one ``{}``; the first one is the best single prompt, all of them are the ensemble.
        items: all samples in task order; ids are unique and stable.
        data: where they come from, for people.
        content: hash of what the items are (names, sizes, labels).
        descriptions: class name -> texts without the name, where a pool exists.
        prompts: name -> content hash of the prompt files behind class names, templates and descriptions.
        pools: name -> further description pools of the same form.
        spellings: per class, what else data sets call it.
        truth: class name -> texts of the pool that are known to be true of it; rendered goods know that, and no method is told.
        train: gives the samples of a split to learn from, where the data have one.
    """

    name: str
    classnames: tuple[str, ...]
    items: Sequence[Sample]
    data: str
    content: str
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    descriptions: Mapping[str, tuple[str, ...]] | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    pools: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    spellings: Sequence[Sequence[str]] = field(default=(), repr=False)
    truth: Mapping[str, tuple[str, ...]] | None = field(default=None, repr=False, compare=False)
    train: Train | None = field(default=None, repr=False, compare=False)
    version: str = "1"
    family: str = "classify"

    def __post_init__(self) -> None:
        check_templates(self.templates)
        if len(self.classnames) < 2:
            raise DataError(
                f"{self.name} has {len(self.classnames)} class, and every answer would be right",
                hint="give data of at least two classes, for example one subfolder a class",
            )
        if not len(self.items):
            raise DataError(f"{self.name} has no images in {self.data}", hint="check the path and the split")
        for sample in self.items:
            if sample.label is None or not 0 <= sample.label < len(self.classnames):
                raise DataError(f"{self.name}: {sample.id} has label {sample.label}, and labels go from 0 to {len(self.classnames) - 1}")

    @property
    def metrics(self) -> tuple[str, ...]:
        """top5 needs more than five classes: with five or fewer it is always right."""
        return metric_names(len(self.classnames))

    def __len__(self) -> int:
        return len(self.items)

    def samples(self, limit: int | None = None, seed: int = 0) -> Iterator[Sample]:
        """The samples in task order, or a random ``limit`` of them: a larger limit of the same seed contains a smaller one."""
        yield from choose(self.items, limit, seed)

    def support(self, shots: int | None = None, seed: int = 0, split: str | None = None) -> list[Sample]:
        """Labelled images to learn from, of another split than the one that is tested.

        Args:
            shots: images a class, drawn by ``seed`` for each class by itself (all, where a class has fewer); None takes the whole split.
            split: its name; None takes the usual one of the data.
        Raises: DataNotFound: if the data have no other split. DataError: if that split is the one that is tested.
        """
        if self.train is None:
            raise no_support(self.name)
        found = self.train(split)
        if same_images(found, self.items):
            raise DataError(f"{self.data} holds one set of images, and those are tested", hint=OTHER_IMAGES)
        return draw(found, len(self.classnames), shots, seed)

    def score(self, sample: Sample, prediction: Prediction) -> Mapping[str, float]:
        """top1 and, with more than five classes, top5 of one answer: 1.0 or 0.0."""
        output = prediction.output or {}
        classes = len(self.classnames)
        answers = [output.get("label"), *(entry[0] for entry in output.get("top") or ())]
        wrong = [a for a in answers if not isinstance(a, int) or not 0 <= a < classes]
        if wrong or not 0.0 <= float(output.get("confidence", -1.0)) <= 1.0 + 1e-6:
            raise RuntimeError(
                f"the predictor's answer to {sample.id} is not of {classes} classes with a confidence in [0, 1]: {dict(output)}"
            )
        scores = {"top1": float(output["label"] == sample.label)}
        if classes > 5:
            scores["top5"] = float(sample.label in answers[1:6])
        return scores

    def summarise(self, records: Sequence[SampleRecord]) -> dict[str, Metric]:
        return summarise(records, len(self.classnames))

    def data_fingerprint(self) -> str:
        """Hash of ids, labels and what is known of the files without decoding them (sizes, parquet footers)."""
        return fingerprint("classify", self.version, self.content, [(sample.id, sample.label) for sample in self.items])

    def describe(self) -> dict[str, Any]:
        """What the manifest of a run says about the task."""
        return {
            "task": self.name,
            "task_version": self.version,
            "family": self.family,
            "data": self.data,
            "data_fingerprint": self.data_fingerprint(),
            "classnames": list(self.classnames),
            "templates": list(self.templates),
            "prompts": dict(self.prompts),
            "metrics": list(self.metrics),
        }


def metric_names(classes: int) -> tuple[str, ...]:
    """The metrics of a task with so many classes."""
    return ("top1", *(("top5",) if classes > 5 else ()), "mean_per_class_recall", "ece")


def check_templates(templates: Sequence[str]) -> None:
    """Raises: UsageError: unless there is a template and each has exactly one ``{}``."""
    if not templates:
        raise UsageError("a task needs at least one template", hint='for example "a photo of a {}."')
    for template in templates:
        if template.count("{}") != 1 or "{" in template.replace("{}", "") or "}" in template.replace("{}", ""):
            raise UsageError(f"template {template!r} must hold exactly one {{}} and no other braces", hint='for example "a photo of a {}."')


def summarise(records: Sequence[SampleRecord], classes: int) -> dict[str, Metric]:
    """The metrics of a classification run over its answered samples; all undefined if there are none.

    Intervals: Wilson for top1 and top5, BCa bootstrap (stratified by class for the recall) for the others.
    """
    answered = [record for record in records if record.prediction is not None]
    n = len(answered)
    if not n:
        return {name: Metric(None, None, 0) for name in metric_names(classes)}
    labels, predictions, confidences, ranked = _columns(answered)
    correct = labels == predictions
    metrics = {"top1": Metric(metric.top1(labels, predictions), wilson(int(correct.sum()), n), n)}
    if classes > 5:
        top5 = metric.topk(labels, ranked, 5)
        metrics["top5"] = Metric(top5, wilson(round(top5 * n), n), n)
    matrix = metric.confusion_matrix(labels, predictions, classes)
    recall = metric.mean_per_class_recall(labels, predictions, classes)
    metrics["mean_per_class_recall"] = Metric(recall, mean_recall_ci(np.diag(matrix), matrix.sum(axis=1)), n)
    gaps = confidences - correct
    interval = binned_gap_ci(metric.calibration_bins(confidences, ECE_BINS), gaps)
    metrics["ece"] = Metric(metric.ece(confidences, correct, ECE_BINS), interval, n)
    return metrics


def _columns(answered: Sequence[SampleRecord]) -> tuple[Any, Any, Any, Any]:
    labels = np.array([record.label for record in answered], dtype=np.int64)
    outputs = [record.prediction or {} for record in answered]
    try:
        predictions = np.array([output["label"] for output in outputs], dtype=np.int64)
        confidences = np.array([output["confidence"] for output in outputs], dtype=np.float64)
        tops = [[int(entry[0]) for entry in (output.get("top") or [[output["label"], 1.0]])[:5]] for output in outputs]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise DataError(f"these are not records of a classification run: {error!r}", hint="evaluate again with --no-resume") from error
    ranked = np.array([top + [-1] * (5 - len(top)) for top in tops], dtype=np.int64)
    return labels, predictions, confidences, ranked
