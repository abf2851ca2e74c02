"""Zero-shot classification by class names: the nearest text prototype wins.

Source: Radford et al., 2021, arXiv 2103.00020, section 3.1 (prompt ensembling in embedding space). Differs from it: nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.errors import UsageError
from toolkit.types import ClassifyProblem, Prediction, Predictor, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.models.base import DualEncoder

SINGLE = "a photo of a {}."
TOP = 5


@dataclass(frozen=True)
class ZeroShotConfig:
    """Options of ``zero-shot``.

    Attributes:
        templates: "task" (the templates of the task), "single" ("a photo of a {}."), or a list of sentences with one "{}" each.
        temperature: cosines are divided by it; None takes the temperature that the model was trained with.
    """

    templates: str | Sequence[str] = "task"
    temperature: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.templates, str):
            if self.templates not in ("task", "single"):
                one_template(self.templates)
                object.__setattr__(self, "templates", (self.templates,))
        else:
            for template in self.templates:
                one_template(template)
            object.__setattr__(self, "templates", tuple(self.templates))
            if not self.templates:
                raise UsageError("the list of templates is empty", hint='give "task", "single" or at least one sentence with {}')
        value = self.temperature
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf):
            raise UsageError(f"temperature={value!r} is not a positive number", hint="0.01 is what CLIP was trained with")


def one_template(template: object) -> str:
    """Raises: UsageError: unless ``template`` is a sentence with one {} for the class name."""
    if not isinstance(template, str) or template.count("{}") != 1:
        raise UsageError(f"the template {template!r} needs one {{}} where the class name goes", hint='for example: "a photo of a {}."')
    return template


class ZeroShot:
    """Zero-shot classification. See the module's docstring."""

    name = "zero-shot"
    Config = ZeroShotConfig

    def __init__(self, config: ZeroShotConfig | None = None) -> None:
        self.config = config or ZeroShotConfig()

    def predictor(self, encoder: DualEncoder, problem: ClassifyProblem, *, batch_size: int = 32) -> Predictor:
        """A function from samples to predictions, in order; images that cannot be read become failed predictions.

        Raises: UsageError: if the problem has no classes, or a template has no slot.
        """
        if not problem.classnames:
            raise UsageError("the task has no classes")
        templates = {"task": problem.templates, "single": (SINGLE,)}.get(str(self.config.templates), self.config.templates)
        prototypes = text_classifier(encoder, problem.classnames, tuple(templates))
        scale = encoder.logit_scale if self.config.temperature is None else 1.0 / self.config.temperature

        def predict(samples: Sequence[Sample]) -> Iterator[Prediction]:
            return _predict(encoder, samples, prototypes, scale, batch_size)

        return predict


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


def class_probabilities(images: Tensor, prototypes: Tensor, scale: float) -> Tensor:
    """Softmax of scaled cosines.

    Args:
        images: (N, D), L2 norm 1.
        prototypes: (C, D), L2 norm 1.
        scale: factor on cosines, 1 / temperature.
    Returns: (N, C) float64, rows sum to 1.
    """
    return (scale * (images.double() @ prototypes.double().T)).softmax(dim=-1)


def as_output(probabilities: Tensor) -> dict[str, Any]:
    """The output of one prediction from (C,) probabilities; of equal ones the first class wins."""
    values, classes = probabilities.sort(descending=True, stable=True)
    top = [[int(index), float(value)] for index, value in zip(classes[:TOP], values[:TOP], strict=True)]
    return {"label": top[0][0], "confidence": top[0][1], "top": top}


def _predict(encoder: DualEncoder, samples: Sequence[Sample], prototypes: Tensor, scale: float, batch_size: int) -> Iterator[Prediction]:
    """Stream the samples that have an image; put the others back in their places."""
    positions = [position for position, sample in enumerate(samples) if sample.image is not None]
    done: dict[int, Prediction] = {
        position: Prediction(sample.id, error="the sample has no image") for position, sample in enumerate(samples) if sample.image is None
    }
    following = 0
    began = time.perf_counter()
    for batch in encoder.iter_images([samples[position].image for position in positions], batch_size=batch_size):
        probabilities = class_probabilities(batch.embeddings, prototypes, scale)
        elapsed = time.perf_counter() - began
        seconds = elapsed / max(1, len(batch.indices) + len(batch.failures))
        for index, row in zip(batch.indices, probabilities, strict=True):
            sample = samples[positions[index]]
            done[positions[index]] = Prediction(sample.id, output=as_output(row), seconds=seconds)
        for index, sentence in batch.failures:
            done[positions[index]] = Prediction(samples[positions[index]].id, error=sentence, seconds=seconds)
        while following in done:
            yield done.pop(following)
            following += 1
        began = time.perf_counter()
    while following in done:
        yield done.pop(following)
        following += 1
