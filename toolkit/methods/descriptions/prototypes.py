"""What all classification methods share: class prototypes, the encoded support, and one loop from images to predictions.

No method of its own: methods import from here and never from each other.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.errors import DataError, UsageError
from toolkit.types import ClassifyProblem, Prediction, Predictor, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.models.base import DualEncoder

SINGLE = "a photo of a {}."
TOP = 5

Answer = Callable[["Tensor"], "Sequence[Mapping[str, Any]]"]
"""(n, D) unit image embeddings -> n outputs."""

_log = logging.getLogger(__name__)


class Support(NamedTuple):
    """The labelled images of a problem, encoded.

    Attributes:
        x: (n, D) float32, L2 norm 1, in the order of the problem's support.
        y: (n,) int64 class positions.
        failures: one sentence for each image that could not be read; those are left out of ``x``.
    """

    x: Tensor
    y: Tensor
    failures: list[str]


def one_template(template: object) -> str:
    """Raises: UsageError: unless ``template`` is a sentence with one {} for the class name."""
    if not isinstance(template, str) or template.count("{}") != 1:
        raise UsageError(f"the template {template!r} needs one {{}} where the class name goes", hint='for example: "a photo of a {}."')
    return template


def check_templates(given: str | Sequence[str], words: Sequence[str] = ("task", "first", "single")) -> str | tuple[str, ...]:
    """The option ``templates`` in its one form: one of ``words``, or a tuple of sentences.

    Raises: UsageError: for an empty list, or a sentence without exactly one {}.
    """
    if isinstance(given, str):
        return given if given in words else (one_template(given),)
    if not given:
        raise UsageError("the list of templates is empty", hint='give "task", "first", "single" or at least one sentence with {}')
    return tuple(one_template(template) for template in given)


def check_temperature(value: object) -> None:
    """Raises: UsageError: unless ``value`` is None or a positive finite number."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf):
        raise UsageError(f"temperature={value!r} is not a positive number", hint="0.01 is what CLIP was trained with")


def chosen_templates(option: str | Sequence[str], problem: ClassifyProblem) -> tuple[str, ...]:
    """The sentences behind the option ``templates``: "task" is all of the task, "first" its best one, "single" the best-known one."""
    named = {"task": problem.templates, "first": problem.templates[:1], "single": (SINGLE,)}
    return tuple(named[option]) if isinstance(option, str) and option in named else tuple(option)


def check_classes(problem: ClassifyProblem) -> None:
    """Raises: UsageError: if the problem has no classes."""
    if not problem.classnames:
        raise UsageError("the task has no classes")


def text_classifier(encoder: DualEncoder, classnames: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Class prototypes: the mean of the unit embeddings of all templates filled with the class name, scaled to norm 1.

    Args:
        classnames: C names.
        templates: T sentences with one "{}" each.
    Returns: (C, D) float32, L2 norm 1.
    Source: arXiv 2103.00020, section 3.1.4.
    """
    import torch

    texts = [one_template(template).replace("{}", name) for name in classnames for template in templates]
    if not texts:
        raise UsageError("the task has no templates", hint="pass --template 'a photo of a {}.'")
    means = encoder.encode_texts(texts).reshape(len(classnames), len(templates), -1).mean(dim=1)
    return torch.nn.functional.normalize(means, dim=-1)


def encode_support(encoder: DualEncoder, problem: ClassifyProblem, *, batch_size: int = 32) -> Support:
    """Encode the support images once. Images that cannot be read are left out, with a warning.

    Raises: DataError: if a support sample has no label of a class, or all images are unreadable.
    """
    import torch

    samples = list(problem.support)
    for sample in samples:
        if sample.label is None or not 0 <= sample.label < len(problem.classnames):
            raise DataError(f"support image {sample.id} has label {sample.label}, and labels go from 0 to {len(problem.classnames) - 1}")
    samples = [sample for sample in samples if sample.image is not None]
    rows: list[Tensor] = []
    labels: list[int | None] = []
    failures: list[str] = []
    for batch in encoder.iter_images([sample.image for sample in samples], batch_size=batch_size):
        rows.append(batch.embeddings)
        labels += [samples[index].label for index in batch.indices]
        failures += [sentence for _, sentence in batch.failures]
    for sentence in failures:
        _log.warning("support image left out: %s", sentence)
    if failures and not labels:
        raise DataError(f"none of the {len(samples)} support images can be read: {failures[0]}")
    y = torch.tensor(labels, dtype=torch.int64)
    return Support(torch.cat(rows) if labels else torch.empty(0, 0), y, failures)


def need_support(support: Support, method: str, classes: int) -> None:
    """Raises: UsageError: if there are no support images at all; a class without any is only warned about."""
    if not len(support.y):
        raise UsageError(f"{method} learns from labelled images and was given none", hint="pass --shots 16")
    empty = sorted(set(range(classes)) - set(support.y.tolist()))
    if empty:
        _log.warning("%d of %d classes have no support image, the first is class %d", len(empty), classes, empty[0])


def class_probabilities(images: Tensor, prototypes: Tensor, scale: float) -> Tensor:
    """Softmax of scaled cosines.

    Args:
        images: (N, D), L2 norm 1.
        prototypes: (C, D), L2 norm 1.
        scale: factor on cosines, 1 / temperature.
    Returns: (N, C) float64, rows sum to 1.
    """
    return (scale * (images.double() @ prototypes.double().T)).softmax(dim=-1)


def as_output(probabilities: Tensor, tail: Tensor | None = None, **more: Any) -> dict[str, Any]:
    """The output of one prediction from (C,) probabilities; of equal ones the first class wins.

    Args:
        tail: (C,) scores that order equal probabilities, above all the zeros of classes that were no candidates.
        more: further entries of the output.
    """
    import torch

    order = torch.arange(len(probabilities)) if tail is None else tail.sort(descending=True, stable=True).indices
    values, places = probabilities[order].sort(descending=True, stable=True)
    classes = order[places[:TOP]].tolist()
    top = [[index, value] for index, value in zip(classes, values[:TOP].tolist(), strict=True)]
    return {"label": top[0][0], "confidence": top[0][1], "top": top, **more}


def local_outputs(L: Tensor, scores: Tensor, A: Tensor, scale: float) -> list[dict[str, Any]]:
    """Outputs where only some classes are candidates: a softmax over them, and 0 for the others, which follow in the order of ``A``.

    Args:
        L: (N, k) candidates. scores: (N, k). A: (N, C) caption cosines, which also break ties. scale: 1 / temperature.
    """
    import torch

    probabilities = torch.zeros(A.shape, dtype=torch.float64).scatter_(1, L, (scale * scores.double()).softmax(dim=-1))
    return [as_output(row, tail) for row, tail in zip(probabilities, A, strict=True)]


def linear_predictor(encoder: DualEncoder, prototypes: Tensor, scale: float, batch_size: int) -> Predictor:
    """A predictor whose class scores are ``scale`` times the inner products with (C, D) prototypes."""

    def answer(images: Tensor) -> list[dict[str, Any]]:
        return [as_output(row) for row in class_probabilities(images, prototypes, scale)]

    return make_predictor(encoder, answer, batch_size)


def make_predictor(encoder: DualEncoder, answer: Answer, batch_size: int) -> Predictor:
    """A function from samples to predictions, in order; images that cannot be read become failed predictions."""

    def predict(samples: Sequence[Sample]) -> Iterator[Prediction]:
        return stream_predictions(encoder, samples, answer, batch_size)

    return predict


def stream_predictions(encoder: DualEncoder, samples: Sequence[Sample], answer: Answer, batch_size: int) -> Iterator[Prediction]:
    """Stream the samples that have an image; put the others back in their places."""
    positions = [position for position, sample in enumerate(samples) if sample.image is not None]
    done: dict[int, Prediction] = {
        position: Prediction(sample.id, error="the sample has no image") for position, sample in enumerate(samples) if sample.image is None
    }
    following = 0
    began = time.perf_counter()
    for batch in encoder.iter_images([samples[position].image for position in positions], batch_size=batch_size):
        outputs = answer(batch.embeddings) if batch.indices else []
        seconds = (time.perf_counter() - began) / max(1, len(batch.indices) + len(batch.failures))
        for index, output in zip(batch.indices, outputs, strict=True):
            done[positions[index]] = Prediction(samples[positions[index]].id, output=output, seconds=seconds)
        for index, sentence in batch.failures:
            done[positions[index]] = Prediction(samples[positions[index]].id, error=sentence, seconds=seconds)
        while following in done:
            yield done.pop(following)
            following += 1
        began = time.perf_counter()
    while following in done:
        yield done.pop(following)
        following += 1
