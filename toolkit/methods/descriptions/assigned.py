"""Descriptions as the language model assigned them, without class names: caption and own list, weighted.

Score of class c: ``w * <x, caption c> + mean over its own list of <x, d>``. With ``scope="local"`` only the k classes with the best
captions compete, as in the selected rows; with "global" all do.
Source: the rows "LLM assignment" of arXiv 2412.11917. Differs from it: w is chosen on the support, never on the test set (the scores of a
support image do not depend on any support image, so that this is leave-one-out already); without support it is ``w_text``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.methods.descriptions.prototypes import (
    check_classes,
    check_temperature,
    check_templates,
    chosen_templates,
    encode_support,
    local_outputs,
    make_predictor,
    text_classifier,
)
from toolkit.methods.descriptions.texts import at_least, check_weight, mean_of_sentences, one_of, problem_lists
from toolkit.types import ClassifyProblem, Predictor

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.models.base import DualEncoder


@dataclass(frozen=True)
class AssignedConfig:
    """Options of ``assigned``.

    Attributes:
        pool: "task", the name of another pool of the task, or a JSON file {class: [texts]}. A class without texts gets the pool's mean.
        scope: "local" (the k best captions compete) or "global" (all classes).
        k: candidates of the local scope.
        w_cls: weight of the caption: "loo" (chosen on the support) or a number from 0.
        w_text: the weight where there is no support to choose one on.
        templates: of the caption: "first", "task", "single", or sentences with one "{}".
        temperature: scores, divided by w + 1, are divided by it; None takes the temperature that the model was trained with.
    """

    pool: str = "task"
    scope: str = "local"
    k: int = 3
    w_cls: float | str = "loo"
    w_text: float = 1.0
    templates: str | Sequence[str] = "first"
    temperature: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "templates", check_templates(self.templates))
        one_of("scope", self.scope, ("local", "global"))
        at_least("k", self.k, 1)
        check_weight("w_cls", self.w_cls)
        check_weight("w_text", self.w_text, words=())
        check_temperature(self.temperature)


class Assigned:
    """Caption and own descriptions. See the module's docstring."""

    name = "assigned"
    Config = AssignedConfig

    def __init__(self, config: AssignedConfig | None = None) -> None:
        self.config = config or AssignedConfig()

    def fit(self, encoder: DualEncoder, problem: ClassifyProblem, batch_size: int) -> tuple[Tensor, Tensor, float]:
        """(C, D) captions, (C, D) mean descriptions, and the weight."""
        lists = problem_lists(problem, self.config.pool)
        pool = [text for texts in lists for text in texts]
        captions = text_classifier(encoder, problem.classnames, chosen_templates(self.config.templates, problem))
        means = mean_of_sentences(encoder, [texts or pool for texts in lists])
        if not isinstance(self.config.w_cls, str):
            return captions, means, float(self.config.w_cls)
        support = encode_support(encoder, problem, batch_size=batch_size)
        if not len(support.y):
            return captions, means, self.config.w_text
        from toolkit.methods.descriptions.weight import accuracy_curve, choose, positions

        L, A, B = self.scores(support.x, captions, means)
        curve = accuracy_curve(A.gather(1, L), B.gather(1, L), positions(L, support.y))
        return captions, means, choose(curve).w

    def scores(self, x: Tensor, captions: Tensor, means: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, k) candidates, (N, C) float64 caption scores and description scores."""
        from toolkit.methods.descriptions.selection import nearest

        A, B = x.double() @ captions.double().T, x.double() @ means.double().T
        return nearest(A, self.config.k if self.config.scope == "local" else A.shape[1]), A, B

    def predictor(self, encoder: DualEncoder, problem: ClassifyProblem, *, batch_size: int = 32) -> Predictor:
        """A function from samples to predictions, in order; images that cannot be read become failed predictions."""
        check_classes(problem)
        captions, means, w = self.fit(encoder, problem, batch_size)
        scale = encoder.logit_scale if self.config.temperature is None else 1.0 / self.config.temperature

        def answer(images: Tensor) -> list[dict[str, Any]]:
            L, A, B = self.scores(images, captions, means)
            return [output | {"w": w} for output in local_outputs(L, (w * A + B).gather(1, L), A, scale / (w + 1))]

        return make_predictor(encoder, answer, batch_size)
