"""A cache of labelled images beside the class names, without training.

Class scores are ``scale * <x, caption c> + alpha * sum over support images of c of exp(-beta * (1 - <x, x_i>))``.
Source: Zhang et al., 2022, arXiv 2207.09519 (Tip-Adapter, training-free). Differs from it: alpha and beta are chosen by exact leave-one-out
on the support (each image without its own key) and never on test features; for each beta of a grid the best alpha of all is found, not
one of a grid; ``scale`` is the model's own, 100 for CLIP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.errors import UsageError
from toolkit.methods.descriptions.prototypes import (
    as_output,
    check_classes,
    check_templates,
    chosen_templates,
    encode_support,
    make_predictor,
    need_support,
    text_classifier,
)
from toolkit.methods.descriptions.texts import check_weight
from toolkit.types import ClassifyProblem, Predictor

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.methods.descriptions.prototypes import Support
    from toolkit.models.base import DualEncoder

BETAS = (0.125, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.5, 7.0, 10.0, 14.0, 20.0, 28.0, 40.0)
ALPHA_MIN = 0.05  # the weight of captions against keys is looked at up to scale / ALPHA_MIN
ROWS = 2048  # support images against all keys at once


class Fit(NamedTuple):
    """What leave-one-out chose: ``accuracy`` is that of the support images, each without itself."""

    alpha: float
    beta: float
    accuracy: float | None


@dataclass(frozen=True)
class TipAdapterConfig:
    """Options of ``tip-adapter``.

    Attributes:
        alpha: weight of the keys: "loo" or a number from 0.
        beta: sharpness of the keys: "loo" or a number from 0.
        templates: of the caption: "first", "task", "single", or sentences with one "{}".
    """

    alpha: float | str = "loo"
    beta: float | str = "loo"
    templates: str | Sequence[str] = "first"

    def __post_init__(self) -> None:
        object.__setattr__(self, "templates", check_templates(self.templates))
        check_weight("alpha", self.alpha)
        check_weight("beta", self.beta)
        if isinstance(self.beta, str) and not isinstance(self.alpha, str):
            raise UsageError("beta is chosen together with alpha, and alpha is fixed", hint="fix both, only beta, or none")


class TipAdapter:
    """Captions and a cache of labelled images. See the module's docstring."""

    name = "tip-adapter"
    Config = TipAdapterConfig

    def __init__(self, config: TipAdapterConfig | None = None) -> None:
        self.config = config or TipAdapterConfig()

    def fit(self, support: Support, captions: Tensor, scale: float) -> Fit:
        """alpha and beta. The smallest beta wins among equally right ones."""
        from toolkit.methods.descriptions.weight import accuracy_curve, choose

        if not isinstance(self.config.alpha, str):
            return Fit(float(self.config.alpha), float(self.config.beta), None)
        A = support.x.double() @ captions.double().T
        best: Fit | None = None
        for beta in BETAS if isinstance(self.config.beta, str) else (float(self.config.beta),):
            found = choose(accuracy_curve(A, left_out_keys(support.x, support.y, len(captions), beta), support.y), scale / ALPHA_MIN)
            if best is None or best.accuracy is None or found.accuracy > best.accuracy:
                best = Fit(scale / found.w, beta, found.accuracy)
        assert best is not None
        return best

    def predictor(self, encoder: DualEncoder, problem: ClassifyProblem, *, batch_size: int = 32) -> Predictor:
        """A function from samples to predictions, in order; images that cannot be read become failed predictions.

        Raises: UsageError: without support images.
        """
        check_classes(problem)
        support = encode_support(encoder, problem, batch_size=batch_size)
        need_support(support, self.name, len(problem.classnames))
        captions = text_classifier(encoder, problem.classnames, chosen_templates(self.config.templates, problem))
        fit = self.fit(support, captions, encoder.logit_scale)

        def answer(images: Tensor) -> list[dict[str, Any]]:
            logits = encoder.logit_scale * (images.double() @ captions.double().T)
            logits += fit.alpha * keys(images, support.x, support.y, len(captions), fit.beta)
            return [as_output(row, alpha=fit.alpha, beta=fit.beta) for row in logits.softmax(dim=-1)]

        return make_predictor(encoder, answer, batch_size)


def keys(x: Tensor, support: Tensor, y: Tensor, classes: int, beta: float) -> Tensor:
    """(N, C) float64: sum over the support images of a class of ``exp(-beta * (1 - cosine))``.

    Args:
        x: (N, D) and support: (n, D), L2 norm 1. y: (n,) classes of the support.
    """
    import torch

    one_hot = torch.nn.functional.one_hot(y, classes).double()
    rows = [(beta * (part.double() @ support.double().T - 1)).exp() @ one_hot for part in x.split(ROWS)]
    return torch.cat(rows)


def left_out_keys(x: Tensor, y: Tensor, classes: int, beta: float) -> Tensor:
    """(n, C): the keys of each support image without its own, whose value is exp(0) = 1 up to rounding of its norm."""
    import torch

    own = (beta * ((x.double() ** 2).sum(dim=1) - 1)).exp()
    return keys(x, x, y, classes, beta).scatter_add_(1, y[:, None], -own[:, None].to(torch.float64))
