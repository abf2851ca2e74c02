"""Whole sentences instead of templates: the class vector is the mean of the embeddings of sentences about the class, scaled to norm 1.

Source: Pratt et al., 2023, arXiv 2209.03320. Differs from it: the authors' sentences carry no licence, so any pool can be given. EuroSAT
comes with sentences of Meta-Prompting (arXiv 2403.11755, MIT) as the pool "mpvr". A text that does not name its class is joined with the
class's caption, unless ``names="as is"``.
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
from toolkit.methods.descriptions.texts import joined, mean_of_sentences, names_class, one_of, problem_lists
from toolkit.types import ClassifyProblem, Predictor

if TYPE_CHECKING:
    from toolkit.models.base import DualEncoder


@dataclass(frozen=True)
class CuplConfig:
    """Options of ``cupl``.

    Attributes:
        pool: "task", the name of another pool of the task, or a JSON file {class: [sentences]}.
        names: "add" joins sentences that do not name their class with its caption; "as is" changes nothing.
        templates: the caption for that, and for classes without sentences: "first", "task", "single", or sentences with one "{}".
        temperature: cosines are divided by it; None takes the temperature that the model was trained with.
    """

    pool: str = "task"
    names: str = "add"
    templates: str | Sequence[str] = "first"
    temperature: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "templates", check_templates(self.templates))
        one_of("names", self.names, ("add", "as is"))
        check_temperature(self.temperature)


class Cupl:
    """Ensembles of sentences. See the module's docstring."""

    name = "cupl"
    Config = CuplConfig

    def __init__(self, config: CuplConfig | None = None) -> None:
        self.config = config or CuplConfig()

    def sentences(self, problem: ClassifyProblem) -> list[list[str]]:
        """(C,) what is said about each class. Raises: UsageError: if the task has no such pool."""
        templates = chosen_templates(self.config.templates, problem)
        found = []
        for name, texts in zip(problem.classnames, problem_lists(problem, self.config.pool), strict=True):
            said = [text for text in texts if self.config.names == "as is" or names_class(text, name)]
            kept = set(said)
            said += [joined(template, name, text, "plain") for template in templates for text in texts if text not in kept]
            found.append(said or [template.replace("{}", name) for template in templates])
        return found

    def predictor(self, encoder: DualEncoder, problem: ClassifyProblem, *, batch_size: int = 32) -> Predictor:
        """A function from samples to predictions, in order; images that cannot be read become failed predictions."""
        check_classes(problem)
        scale = encoder.logit_scale if self.config.temperature is None else 1.0 / self.config.temperature
        return linear_predictor(encoder, mean_of_sentences(encoder, self.sentences(problem), unit=True), scale, batch_size)
