"""Pure functions of contrastive attention: distributions over image tokens, their distance, the contrast, and what it masks.

Notation of the source (arXiv 2601.08151): a(l, j) is the attention of the query to image token j in layer l, P(l) the distribution
that it makes over the image tokens, H the Hellinger distance, I the contrast of a late and an early layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from toolkit.errors import ShapeError, UsageError

__all__ = [
    "closed_form_mass",
    "contrast",
    "distribution",
    "hellinger",
    "masked_tokens",
    "merge_heads",
    "norm_gain",
    "pre_integrated_layer",
    "value_map",
]


def merge_heads(attention: Tensor, heads: str | Sequence[int] = "mean") -> Tensor:
    """a(l, j): one number for each image token from the attention of all heads.

    Args:
        attention: (H, V) float, softmax attention of each head from the query to the V image tokens.
        heads: "mean" (the source), "max", or the heads whose mean counts.
    Returns: (V,) float.
    Raises: UsageError: for a head that the layer does not have.
    Source: arXiv 2601.08151, attention of one layer.

    >>> merge_heads(torch.tensor([[0.1, 0.3], [0.3, 0.1]]))
    tensor([0.2000, 0.2000])
    >>> merge_heads(torch.tensor([[0.1, 0.3], [0.3, 0.1]]), [1])
    tensor([0.3000, 0.1000])
    """
    if heads == "mean":
        return attention.mean(dim=0)
    if heads == "max":
        return attention.amax(dim=0)
    chosen = [int(head) for head in heads]
    if not chosen or not all(0 <= head < attention.shape[0] for head in chosen):
        raise UsageError(
            f"the option heads names {chosen}, and a layer has {attention.shape[0]} heads", hint=f"use 0 to {attention.shape[0] - 1}"
        )
    return attention[chosen].mean(dim=0)


def distribution(attention: Tensor) -> Tensor:
    """P(l, j) = a(l, j) / sum_v a(l, v), over the last dimension.

    A query that gives its image tokens nothing at all (an underflow) has no preference among them: its P is uniform.

    Args:
        attention: (..., V) float, not negative.
    Source: arXiv 2601.08151, distribution over image tokens.

    >>> distribution(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
    tensor([[0.2500, 0.7500],
            [0.5000, 0.5000]])
    """
    total = attention.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, attention / total, 1.0 / max(attention.shape[-1], 1))


def hellinger(p: Tensor, q: Tensor) -> Tensor:
    """H(P, Q) = (1 / sqrt 2) sqrt( sum_j (sqrt P_j - sqrt Q_j)^2 ), over the last dimension.

    Args:
        p, q: (..., V) float, distributions over the last dimension.
    Returns: (...) float in [0, 1].
    Source: arXiv 2601.08151, Hellinger distance. Differs from it: nothing.

    >>> hellinger(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]))
    tensor(0.5412)
    """
    return ((p.sqrt() - q.sqrt()).square().sum(dim=-1) / 2).sqrt().clamp(max=1.0)


def value_map(attention: Tensor, normalise: str = "image_after_mean", heads: str | Sequence[int] = "mean") -> Tensor:
    """A(l): what of a layer enters the contrast.

    Args:
        attention: (H, V) float, softmax attention of each head to the image tokens.
        normalise: "none" takes a(l), the raw mass; "image_after_mean" P(l); "image_per_head" merges the distributions of the heads.
        heads: as in ``merge_heads``.
    Returns: (V,) float.

    >>> attention = torch.tensor([[0.1, 0.3], [0.02, 0.02]])
    >>> value_map(attention, "none"), value_map(attention), value_map(attention, "image_per_head")
    (tensor([0.0600, 0.1600]), tensor([0.2727, 0.7273]), tensor([0.3750, 0.6250]))
    """
    if normalise == "image_per_head":
        return merge_heads(distribution(attention), heads)
    merged = merge_heads(attention, heads)
    return merged if normalise == "none" else distribution(merged)


def contrast(late: Tensor, pre: Tensor, kind: str = "abs") -> Tensor:
    """I = A(k) - A(i*): "signed" as it is, "abs" its size (v1 of the source), "relu" its gains alone.

    >>> contrast(torch.tensor([0.2, 0.8]), torch.tensor([0.5, 0.5]), "abs")
    tensor([0.3000, 0.3000])
    >>> contrast(torch.tensor([0.2, 0.8]), torch.tensor([0.5, 0.5]), "relu")
    tensor([0.0000, 0.3000])
    """
    if late.shape != pre.shape:
        raise ShapeError(f"the maps of two layers have {tuple(late.shape)} and {tuple(pre.shape)} image tokens")
    difference = late - pre
    return {"abs": difference.abs, "relu": difference.relu, "signed": difference.clone}[kind]()


def masked_tokens(importance: Tensor, rho: float) -> Tensor:
    """Which image tokens are masked: I_j < Q_rho(I), the linear rho-quantile, strictly.

    Args:
        importance: (V,) float, the contrast I.
        rho: fraction in [0, 1).
    Returns: (V,) bool. Nothing for rho = 0 and for a constant I.
    Source: arXiv 2601.08151 v1, masking. The kind of quantile is ours (unpublished).

    >>> masked_tokens(torch.tensor([1.0, 2.0, 3.0, 4.0]), 0.5)
    tensor([ True,  True, False, False])
    """
    if rho == 0 or importance.numel() == 0:
        return torch.zeros_like(importance, dtype=torch.bool)
    return importance < torch.quantile(importance.float(), rho)


def pre_integrated_layer(distances: Mapping[int, float]) -> int:
    """i* = argmax over the candidates i of H(P(i), P(k)); of equal ones the smallest i.

    Raises: UsageError: without candidates.
    >>> pre_integrated_layer({4: 0.5, 2: 0.5, 8: 0.1})
    2
    """
    if not distances:
        raise UsageError("there is no candidate layer to choose from")
    return min(distances, key=lambda layer: (-distances[layer], layer))


def norm_gain(lam: float, mean_square: float = 1.0, eps: float = 1e-5) -> float:
    """g(lam): the factor on the RMS-normalised input of a layer when its input is scaled by lam.

    It stays at 1 until lam is as small as sqrt(eps): scaling the residual stream masks nothing in the layer itself.

    Args:
        mean_square: m, the mean of the squared input. eps: of the norm.
    >>> [round(norm_gain(lam), 4) for lam in (0.1, 0.01, 0.001)]
    [0.9995, 0.9535, 0.3015]
    """
    return lam * math.sqrt(mean_square + eps) / math.sqrt(lam * lam * mean_square + eps)


def closed_form_mass(share: Tensor, lam: float) -> Tensor:
    """The attention on masked tokens after ln(lam) was added to their logits: lam s / (lam s + 1 - s).

    Args:
        share: float in [0, 1], their attention s before.
    >>> closed_form_mass(torch.tensor([0.2965, 1.0]), 0.1)
    tensor([0.0404, 1.0000])
    """
    left = lam * share
    return torch.where(share < 1, left / (left + 1 - share), share)
