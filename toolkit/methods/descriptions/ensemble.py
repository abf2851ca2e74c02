"""Class names in many templates: 7 or 80 sentences a class, averaged.

Source: Radford et al., 2021, arXiv 2103.00020, section 3.1.4; the templates are those of openai/CLIP (MIT). Differs from it: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.methods.descriptions.prototypes import check_classes, check_temperature, linear_predictor, text_classifier
from toolkit.methods.descriptions.texts import TEMPLATES_7, one_of, templates_80
from toolkit.types import ClassifyProblem, Predictor

if TYPE_CHECKING:
    from toolkit.models.base import DualEncoder


@dataclass(frozen=True)
class EnsembleConfig:
    """Options of ``ensemble``.

    Attributes:
        templates: "80" (written for ImageNet), "7" (the best of them), "task" (those of the task).
        temperature: cosines are divided by it; None takes the temperature that the model was trained with.
    """

    templates: str | int = "80"
    temperature: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "templates", str(self.templates))
        one_of("templates", self.templates, ("80", "7", "task"))
        check_temperature(self.temperature)


class Ensemble:
    """Zero-shot classification with many templates. See the module's docstring."""

    name = "ensemble"
    Config = EnsembleConfig

    def __init__(self, config: EnsembleConfig | None = None) -> None:
        self.config = config or EnsembleConfig()

    def predictor(self, encoder: DualEncoder, problem: ClassifyProblem, *, batch_size: int = 32) -> Predictor:
        """A function from samples to predictions, in order; images that cannot be read become failed predictions."""
        check_classes(problem)
        templates = {"80": templates_80, "7": lambda: TEMPLATES_7, "task": lambda: problem.templates}[str(self.config.templates)]()
        scale = encoder.logit_scale if self.config.temperature is None else 1.0 / self.config.temperature
        return linear_predictor(encoder, text_classifier(encoder, problem.classnames, templates), scale, batch_size)
