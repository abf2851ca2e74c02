"""Zero-shot classification by class names: the nearest text prototype wins.

Source: Radford et al., 2021, arXiv 2103.00020, section 3.1 (prompt ensembling in embedding space). Differs from it: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.methods.descriptions.prototypes import (
    check_classes,
    check_temperature,
    check_templates,
    chosen_templates,
    linear_predictor,
    text_classifier,
)
from toolkit.types import ClassifyProblem, Predictor

if TYPE_CHECKING:
    from toolkit.models.base import DualEncoder


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
        object.__setattr__(self, "templates", check_templates(self.templates))
        check_temperature(self.temperature)


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
        check_classes(problem)
        prototypes = text_classifier(encoder, problem.classnames, chosen_templates(self.config.templates, problem))
        scale = encoder.logit_scale if self.config.temperature is None else 1.0 / self.config.temperature
        return linear_predictor(encoder, prototypes, scale, batch_size)
