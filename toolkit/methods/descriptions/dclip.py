"""Classification by description: a class scores the mean cosine of "a photo of a NAME, which has DESCRIPTION".

Source: Menon and Vondrick, 2023, arXiv 2210.07183. Differs from it: "which is" stands only before the words a and an and not before
every text that starts with the letter a (``wording="published"`` brings that back); a class without descriptions keeps its caption.
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
)
from toolkit.methods.descriptions.texts import WORDINGS, joined, mean_of_sentences, one_of, problem_lists
from toolkit.types import ClassifyProblem, Predictor

if TYPE_CHECKING:
    from toolkit.models.base import DualEncoder


@dataclass(frozen=True)
class DclipConfig:
    """Options of ``dclip``.

    Attributes:
        pool: "task", the name of another pool of the task, or a JSON file {class: [texts]}.
        templates: "first" (the task's best), "task" (all), "single", or sentences with one "{}"; each is joined with each description.
        wording: how both are joined: "ours", "published" or "plain" (a comma).
        temperature: cosines are divided by it; None takes the temperature that the model was trained with.
    """

    pool: str = "task"
    templates: str | Sequence[str] = "first"
    wording: str = "ours"
    temperature: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "templates", check_templates(self.templates))
        one_of("wording", self.wording, WORDINGS)
        check_temperature(self.temperature)


class Dclip:
    """Classification by description. See the module's docstring."""

    name = "dclip"
    Config = DclipConfig

    def __init__(self, config: DclipConfig | None = None) -> None:
        self.config = config or DclipConfig()

    def sentences(self, problem: ClassifyProblem) -> list[list[str]]:
        """(C,) what is said about each class. Raises: UsageError: if the task has no such pool."""
        templates = chosen_templates(self.config.templates, problem)
        lists = problem_lists(problem, self.config.pool)
        return [
            [joined(template, name, text, self.config.wording) for template in templates for text in texts]
            or [template.replace("{}", name) for template in templates]
            for name, texts in zip(problem.classnames, lists, strict=True)
        ]

    def predictor(self, encoder: DualEncoder, problem: ClassifyProblem, *, batch_size: int = 32) -> Predictor:
        """A function from samples to predictions, in order; images that cannot be read become failed predictions."""
        check_classes(problem)
        scale = encoder.logit_scale if self.config.temperature is None else 1.0 / self.config.temperature
        return linear_predictor(encoder, mean_of_sentences(encoder, self.sentences(problem)), scale, batch_size)
