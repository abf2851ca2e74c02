"""Pure functions that contrastive decoding methods share: which tokens are plausible, and the contrast of two sets of logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from toolkit.errors import ShapeError, UsageError

__all__ = ["check_fraction", "contrasted", "plausible"]


def plausible(logits: Tensor, beta: float) -> Tensor:
    """The tokens y with p(y) >= beta * max p: adaptive plausibility. beta = 0 keeps all, beta = 1 the best alone.

    Args:
        logits: (..., V) float.
        beta: fraction in [0, 1].
    Returns: (..., V) bool; the likeliest token is always in.
    Source: Li et al., 2022, arXiv 2210.15097, Eq. 2 (contrastive decoding); used by VCD, PAI and DoLa.

    >>> plausible(torch.tensor([0.0, 1.0, 3.0]), 0.1)
    tensor([False,  True,  True])
    """
    if beta == 0:
        return torch.ones_like(logits, dtype=torch.bool)
    return logits >= logits.amax(dim=-1, keepdim=True) + math.log(beta)


def contrasted(logits: Tensor, other: Tensor, alpha: float, beta: float) -> Tensor:
    """(1 + alpha) logits - alpha other for the tokens that are plausible under ``logits``, and -inf for the rest.

    Args:
        logits: (..., V) float, of the undisturbed model.
        other: (..., V) float, of the model that lacks what shall count.
        alpha: strength; 0 leaves ``logits`` as they are.
        beta: of ``plausible``.
    Returns: (..., V) float32.
    Raises: ShapeError.

    >>> contrasted(torch.tensor([2.0, 1.0, -9.0]), torch.tensor([2.0, 0.0, 0.0]), 1.0, 0.1)
    tensor([2., 2., -inf])
    """
    if logits.shape != other.shape:
        raise ShapeError(f"the logits to contrast have the shapes {tuple(logits.shape)} and {tuple(other.shape)}; expected equal ones")
    logits, other = logits.float(), other.float()
    # -inf - (-inf) is no number: a token that the model itself excludes stays excluded.
    difference = torch.where(logits.isneginf(), logits, (1 + alpha) * logits - alpha * other)
    return difference.masked_fill(~plausible(logits, beta), -math.inf)


def check_fraction(name: str, value: float, *, low: float = 0.0, high: float = 1.0) -> float:
    """``value`` as a float. Raises: UsageError: unless it is a number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise UsageError(f"the option {name} is {value!r}; expected a number from {low:g} to {high:g}")
    return float(value)
