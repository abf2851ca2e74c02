"""Nearest class mean of a few labelled images: what the pixels alone give, for comparison with descriptions.

Three forms: "global", the class with the nearest mean; "local", the same among the k classes with the best captions; "mixed",
``w * <x, caption> + <x, class mean>`` among them, which is classification by descriptions with pixels in their place.
Source: the nearest-mean classifier of Mensink et al., 2013, on CLIP embeddings. Differs from it: class means are scaled to norm 1; w is
chosen by exact leave-one-out on the support.
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
    need_support,
    text_classifier,
)
from toolkit.methods.descriptions.texts import at_least, check_weight, one_of
from toolkit.types import ClassifyProblem, Predictor

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.methods.descriptions.prototypes import Support
    from toolkit.models.base import DualEncoder

FORMS = ("global", "local", "mixed")


@dataclass(frozen=True)
class NearestMeanConfig:
    """Options of ``nearest-mean``.

    Attributes:
        form: "global", "local" or "mixed".
        k: candidates of "local" and "mixed".
        w_cls: weight of the caption in "mixed": "loo" or a number from 0.
        templates: of the caption: "first", "task", "single", or sentences with one "{}".
        temperature: scores, divided by w + 1 in "mixed", are divided by it; None takes the temperature that the model was trained with.
    """

    form: str = "global"
    k: int = 3
    w_cls: float | str = "loo"
    templates: str | Sequence[str] = "first"
    temperature: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "templates", check_templates(self.templates))
        one_of("form", self.form, FORMS)
        at_least("k", self.k, 1)
        check_weight("w_cls", self.w_cls)
        check_temperature(self.temperature)


class NearestMean:
    """Nearest class mean. See the module's docstring."""

    name = "nearest-mean"
    Config = NearestMeanConfig

    def __init__(self, config: NearestMeanConfig | None = None) -> None:
        self.config = config or NearestMeanConfig()

    def candidates(self, A: Tensor) -> Tensor:
        """(N, k) classes that compete, by (N, C) caption scores."""
        from toolkit.methods.descriptions.selection import nearest

        return nearest(A, A.shape[1] if self.config.form == "global" else self.config.k)

    def weight(self, support: Support, captions: Tensor) -> float:
        """The weight of the caption; 0 in the forms without."""
        from toolkit.methods.descriptions.weight import accuracy_curve, choose, positions

        if self.config.form != "mixed":
            return 0.0
        if not isinstance(self.config.w_cls, str):
            return float(self.config.w_cls)
        A = support.x.double() @ captions.double().T
        L = self.candidates(A)
        B = neutral(left_out_scores(support.x, support.y, len(captions)).gather(1, L))
        return choose(accuracy_curve(A.gather(1, L), B, positions(L, support.y))).w

    def predictor(self, encoder: DualEncoder, problem: ClassifyProblem, *, batch_size: int = 32) -> Predictor:
        """A function from samples to predictions, in order; images that cannot be read become failed predictions.

        Raises: UsageError: without support images.
        """
        check_classes(problem)
        support = encode_support(encoder, problem, batch_size=batch_size)
        need_support(support, self.name, len(problem.classnames))
        captions = text_classifier(encoder, problem.classnames, chosen_templates(self.config.templates, problem))
        means = unit_means(support.x, support.y, len(captions))
        w = self.weight(support, captions)
        scale = encoder.logit_scale if self.config.temperature is None else 1.0 / self.config.temperature

        def answer(images: Tensor) -> list[dict[str, Any]]:
            A = images.double() @ captions.double().T
            L = self.candidates(A)
            B = neutral((images.double() @ means.T).gather(1, L))
            scores = w * A.gather(1, L) + B
            return [output | {"w": w} for output in local_outputs(L, scores, A, scale / (w + 1))]

        return make_predictor(encoder, answer, batch_size)


def unit_means(x: Tensor, y: Tensor, classes: int) -> Tensor:
    """(C, D) float64 class means of norm 1; rows of classes without images are NaN.

    Args:
        x: (n, D). y: (n,).
    """
    import torch

    sums = torch.zeros(classes, x.shape[1], dtype=torch.float64).index_add_(0, y, x.double())
    norms = sums.norm(dim=1, keepdim=True).masked_fill(y.bincount(minlength=classes)[:, None] == 0, torch.nan)
    return torch.div(sums, norms)


def left_out_scores(x: Tensor, y: Tensor, classes: int) -> Tensor:
    """(n, C) float64: each support image against class means that it is no part of; NaN for classes that are then empty."""
    import torch

    x = x.double()
    scores = x @ unit_means(x, y, classes).T
    counts = y.bincount(minlength=classes)
    sums = torch.zeros(classes, x.shape[1], dtype=torch.float64).index_add_(0, y, x)
    rest = sums[y] - x
    own = (x * rest).sum(dim=1) / rest.norm(dim=1)
    return scores.scatter_(1, y[:, None], own.masked_fill(counts[y] == 1, torch.nan)[:, None])


def neutral(scores: Tensor) -> Tensor:
    """Scores (N, k) with the mean of the others in place of NaN: an empty class neither wins nor drags others down."""
    return scores.where(~scores.isnan(), scores.nanmean(dim=1, keepdim=True).nan_to_num(0.0))
