"""Rows of attention from queries and keys, and masks with something added. Pure functions of tensors.

Everything is computed in float32, or in the model's own dtype if that is wider, from the queries and keys that the kernel itself
gets: after norms, rotary embedding and the update of the cache. Grouped heads are viewed, never repeated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["KeyEdit", "Keys", "add_to_mask", "attention_logits", "mix_values", "visible_keys"]


@dataclass(frozen=True)
class Keys:
    """Where the queries and keys of one attention call stand in the sequence.

    Attributes:
        first_query: position of query row 0.
        first_key: position of key 0; more than 0 only if a sliding cache has dropped keys.
        seen: number of tokens that exist, this call's included; keys behind them are empty places of a static cache.
        causal: what the kernel does when it gets no mask.
        window: a query sees only the last ``window`` keys; None: all. Only for kernels that do not find it in their mask.
    """

    first_query: int
    first_key: int
    seen: int
    causal: bool
    window: int | None = None


@dataclass(frozen=True)
class KeyEdit:
    """Something to add to the logits of one layer.

    Attributes:
        bias: (B, L) float32 for each key of the prompt, added in every query row; None: nothing.
        blocked: a pair of (B, L) bool, queries that may not see keys; None: none.
        diagonal_exempt: a token's attention to itself is left alone.
    """

    bias: Tensor | None = None
    blocked: tuple[Tensor, Tensor] | None = None
    diagonal_exempt: bool = True


def attention_logits(query: Tensor, key: Tensor, scaling: float | None, softcap: float | None = None) -> Tensor:
    """Logits of a few query rows.

    Args:
        query: (B, H, Q, D).
        key: (B, H_kv, L_k, D); H is a multiple of H_kv, heads of one group stand together.
        scaling: None means D ** -0.5.
        softcap: cap * tanh(logit / cap), as Gemma 2 has it.
    Returns: (B, H, Q, L_k) float32 (float64 for a float64 model).
    """
    batch, heads, rows, width = query.shape
    wide = torch.promote_types(query.dtype, torch.float32)
    grouped = query.to(wide).reshape(batch, key.shape[1], -1, width)  # heads of a group and rows: one matrix
    logits = torch.matmul(grouped, key.to(wide).transpose(-1, -2)) * (width**-0.5 if scaling is None else scaling)
    logits = logits.view(batch, heads, rows, key.shape[2])
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def visible_keys(mask: Tensor | None, index: Tensor, key_length: int, keys: Keys) -> Tensor:
    """What the kernel adds to the logits of some query rows: 0 for keys that they see, -inf or the mask's own number elsewhere.

    Args:
        mask: as the kernel gets it. None; (B or 1, 1 or H, L_q, L) bool (True: seen) or float (added); (B, L) of any type, which
            tells real tokens from padding and is combined with causality.
        index: (B, Q) long, query rows.
    Returns: (B, 1 or H, Q, L_k) float32.
    """
    if mask is not None and mask.ndim == 4 and mask.dtype != torch.bool:
        return _picked(mask, index, key_length).float()
    allowed = _allowed(mask, index, key_length, keys)
    return torch.zeros(allowed.shape, device=index.device).masked_fill_(~allowed, -math.inf)


def _picked(mask: Tensor, index: Tensor, key_length: int) -> Tensor:
    """Rows ``index`` (B, Q) of a 4-D mask: (B, 1 or H, Q, L_k)."""
    batch = torch.arange(index.shape[0], device=index.device)[:, None]
    return mask.expand(index.shape[0], -1, -1, -1)[batch, :, index].transpose(1, 2)[..., :key_length]


def _allowed(mask: Tensor | None, index: Tensor, key_length: int, keys: Keys) -> Tensor:
    """(B, 1 or H, Q, L_k) bool, for masks that are not numbers."""
    if mask is not None and mask.ndim == 4:
        return _picked(mask, index, key_length)
    places = torch.arange(key_length, device=index.device) + keys.first_key
    queries = (index + keys.first_query)[:, None, :, None]
    allowed = places < keys.seen
    allowed = allowed & (places <= queries) if keys.causal else allowed.expand(*queries.shape[:3], key_length)
    if keys.window is not None:
        allowed = allowed & (places > queries - keys.window)
    if mask is not None:
        real = mask.bool()[:, -key_length:]
        allowed = allowed & torch.nn.functional.pad(real, (0, key_length - real.shape[1]))[:, None, None]
    return allowed


def add_to_mask(mask: Tensor | None, edits: list[KeyEdit], query: Tensor, key_length: int, keys: Keys) -> Tensor:
    """A mask for sdpa and eager kernels that does what ``mask`` does and what ``edits`` ask for.

    What is forbidden has the lowest finite number of the dtype, never -inf: a row without any key (padding) then stays finite,
    and cannot reach real tokens as 0 * NaN.

    Args:
        mask: as in ``visible_keys``.
        query: (B, H, L_q, D), for shape, dtype and device.
    Returns: (B, 1 or H, L_q, L_k) in the query's dtype.
    """
    batch, _, rows, _ = query.shape
    lowest = torch.finfo(query.dtype).min
    places = torch.arange(key_length, device=query.device) + keys.first_key
    queries = torch.arange(rows, device=query.device) + keys.first_query
    # One (B, L_q, L_k) tensor, filled in place: at the length of an any-resolution prompt a second one would count.
    result = torch.zeros(batch, 1, rows, key_length, dtype=query.dtype, device=query.device)
    itself = result.diagonal(keys.first_query - keys.first_key, -2, -1)
    for exempt in (True, False):
        biases = [edit.bias.to(query.device) for edit in edits if edit.bias is not None and edit.diagonal_exempt == exempt]
        if biases:
            result += at_keys(sum(biases[1:], biases[0]), places).clamp(min=lowest).to(query.dtype)[:, None, None]
        if exempt:
            itself.zero_()
    result.clamp_(min=lowest)
    for edit in edits:
        if edit.blocked is not None:
            asking, seen = (part.to(query.device) for part in edit.blocked)
            # What comes behind the prompt is text, and asks.
            hidden = at_keys(asking, queries, fill=True)[:, None, :, None] & at_keys(seen, places)[:, None, None]
            if edit.diagonal_exempt:
                hidden.diagonal(keys.first_query - keys.first_key, -2, -1).zero_()
            result.masked_fill_(hidden, lowest)
    if mask is None or mask.ndim == 2:
        index = torch.arange(rows, device=query.device).expand(1 if mask is None else batch, -1)
        return result.masked_fill_(_allowed(mask, index, key_length, keys).logical_not(), lowest)
    mask = mask[..., :key_length]
    result = result.expand(-1, mask.shape[1], -1, -1).contiguous()  # the same tensor for the usual mask, that all heads share
    return result.masked_fill_(~mask, lowest) if mask.dtype == torch.bool else result.add_(mask).clamp_(min=lowest)


def at_keys(values: Tensor, places: Tensor, *, fill: bool = False) -> Tensor:
    """``values`` (B, L), given for positions 0 to L-1, at ``places`` (n,): (B, n). Positions behind L have 0, or True with ``fill``."""
    length = values.shape[1]
    inside = places < length
    picked = values[:, places.clamp(max=length - 1)]
    outside = torch.full((), fill, dtype=values.dtype, device=values.device)
    return torch.where(inside, picked, outside)


def mix_values(weights: Tensor, value: Tensor) -> Tensor:
    """Attention output of a few rows: (B, H, Q, L_k) weights and (B, H_kv, L_k, D) values give (B, H, Q, D) float32."""
    batch, heads, rows, length = weights.shape
    grouped = weights.reshape(batch, value.shape[1], -1, length)
    return torch.matmul(grouped, value.to(grouped.dtype)).view(batch, heads, rows, value.shape[-1])
