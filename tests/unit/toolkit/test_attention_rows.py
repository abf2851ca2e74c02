"""The pure functions of attention rows and masks, against the definition in double precision, and against sdpa."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from toolkit.attention.rows import KeyEdit, Keys, add_to_mask, attention_logits, mix_values, visible_keys

LOWEST = torch.finfo(torch.float32).min


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def defined_weights(query: Tensor, key: Tensor, allowed: Tensor, added: Tensor, softcap: float | None = None) -> Tensor:
    """(B, H, L_q, L_k) attention by its definition, in double precision with repeated keys; no key at all gives zeros."""
    group = query.shape[1] // key.shape[1]
    logits = torch.einsum("bhid,bhjd->bhij", query.double(), key.double().repeat_interleave(group, 1)) / math.sqrt(query.shape[-1])
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    exponents = torch.where(allowed[:, None], (logits + added[:, None].double()).exp(), 0.0)
    return (exponents / exponents.sum(-1, keepdim=True).clamp(min=1e-300)).float()


@st.composite
def cases(draw: Any) -> dict[str, Any]:
    batch, kv_heads, group = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    tokens, spare = draw(st.integers(2, 6)), draw(st.integers(0, 3))
    pads = [draw(st.integers(0, tokens - 1)) for _ in range(batch)]
    return {
        "batch": batch, "heads": kv_heads * group, "kv_heads": kv_heads, "tokens": tokens, "spare": spare, "pads": pads,
        "left": draw(st.booleans()), "kind": draw(st.sampled_from(["none", "bool", "float", "padding"])),
        "window": draw(st.sampled_from([None, 1, 2, 4])), "softcap": draw(st.sampled_from([None, 2.0])), "seed": draw(st.integers(0, 99)),
    }  # fmt: skip


def built(case: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Keys, Tensor]:
    """Queries, keys, values, the mask as a kernel gets it, the places, and (B, L_q, L_k) what is really allowed."""
    generator = seeded(case["seed"])
    tokens, length = case["tokens"], case["tokens"] + case["spare"]
    query = torch.randn(case["batch"], case["heads"], tokens, 4, generator=generator) * 2
    key, value = (torch.randn(case["batch"], case["kv_heads"], length, 4, generator=generator) for _ in range(2))
    real = torch.ones(case["batch"], tokens, dtype=torch.bool)
    if case["kind"] != "none":
        for row, pad in enumerate(case["pads"]):
            real[row, slice(0, pad) if case["left"] else slice(tokens - pad, None)] = False
    allowed = torch.ones(tokens, length, dtype=torch.bool).tril() & torch.nn.functional.pad(real, (0, case["spare"]))[:, None]
    window = case["window"] if case["kind"] in ("none", "padding") else None
    if window is not None:
        allowed &= torch.ones(tokens, length, dtype=torch.bool).triu(1 - window)
    masks = {
        "none": None, "bool": allowed[:, None], "padding": real.long(),
        "float": torch.zeros(allowed.shape).masked_fill(~allowed, LOWEST)[:, None],
    }  # fmt: skip
    keys = Keys(first_query=0, first_key=0, seen=tokens, causal=True, window=window)
    return query, key, value, masks[case["kind"]], keys, allowed


def library_weights(query: Tensor, key: Tensor, mask: Tensor | None, keys: Keys, index: Tensor, softcap: float | None = None) -> Tensor:
    picked = query[torch.arange(len(index))[:, None], :, index].transpose(1, 2)
    logits = attention_logits(picked, key, None, softcap) + visible_keys(mask, index, key.shape[2], keys)
    return torch.softmax(logits, -1)


@given(cases())
@settings(max_examples=40, deadline=None)
def test_rows_are_those_of_the_definition(case: dict[str, Any]) -> None:
    query, key, value, mask, keys, allowed = built(case)
    expected = defined_weights(query, key, allowed, torch.zeros(allowed.shape), case["softcap"])
    index = torch.arange(case["tokens"]).expand(case["batch"], -1)
    weights = library_weights(query, key, mask, keys, index, case["softcap"])
    seeing = allowed.any(-1)[:, None, :, None]  # a padded query sees nothing; it is never asked for
    assert torch.allclose(torch.where(seeing, weights, 0.0), expected, atol=2e-6)
    mixed = mix_values(torch.where(seeing, weights, 0.0), value)
    group = case["heads"] // case["kv_heads"]
    assert torch.allclose(mixed, expected @ value.repeat_interleave(group, 1), atol=1e-5)


@given(cases(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_an_edited_mask_does_what_the_kernel_would_do_and_the_edits(case: dict[str, Any], exempt: bool) -> None:
    """Through sdpa itself: -inf biases, a blocked pair, an ordinary bias, the diagonal, and padding rows stay finite."""
    query, key, value, mask, keys, allowed = built({**case, "softcap": None})
    generator = seeded(case["seed"] + 1)
    batch, tokens = case["batch"], case["tokens"]
    length = tokens + case["spare"]
    bias = torch.randn(batch, tokens, generator=generator)
    bias[torch.rand(batch, tokens, generator=generator) < 0.3] = -math.inf
    asking, hidden = (torch.rand(batch, tokens, generator=generator) < 0.4 for _ in range(2))
    edits = [KeyEdit(bias=bias, diagonal_exempt=exempt), KeyEdit(blocked=(asking, hidden), diagonal_exempt=exempt)]
    made = add_to_mask(mask, edits, query, length, keys)
    assert made.dtype == query.dtype
    assert torch.isfinite(made).all()
    full = torch.nn.functional.pad(bias, (0, case["spare"]))[:, None].expand(-1, tokens, -1).clone()
    permitted = allowed & ~(asking[:, :, None] & torch.nn.functional.pad(hidden, (0, case["spare"]))[:, None])
    if exempt:
        diagonal = torch.eye(tokens, length, dtype=torch.bool)
        full[:, diagonal] = 0.0
        permitted |= allowed & diagonal
    permitted &= full > -math.inf
    expected = defined_weights(query, key, permitted, full)
    group = case["heads"] // case["kv_heads"]
    output = torch.nn.functional.scaled_dot_product_attention(
        query, key.repeat_interleave(group, 1), value.repeat_interleave(group, 1), attn_mask=made
    )
    assert torch.isfinite(output).all()
    seeing = permitted.any(-1)[:, None, :, None]
    assert torch.allclose(torch.where(seeing, output, 0.0), expected @ value.repeat_interleave(group, 1), atol=1e-5)
    index = torch.arange(tokens).expand(batch, -1)
    assert torch.allclose(torch.where(seeing, library_weights(query, key, made, keys, index), 0.0), expected, atol=2e-6)


@pytest.mark.parametrize("kind", ["none", "bool", "float", "padding"])
def test_a_step_of_decoding_sees_the_bias_at_the_prompt_and_itself(kind: str) -> None:
    """One query behind a prompt of four tokens, two of them hidden, with two empty places of a static cache."""
    query = torch.zeros(1, 1, 1, 4)
    seen = torch.tensor([[True, True, True, True, True, False, False]])
    mask = {"none": None, "bool": seen[:, None, None], "float": (~seen).float()[:, None, None] * LOWEST, "padding": seen[:, :5].long()}[
        kind
    ]
    keys = Keys(first_query=4, first_key=0, seen=5, causal=False)
    bias = torch.tensor([[0.0, -math.inf, math.log(0.5), 0.0]])
    made = add_to_mask(mask, [KeyEdit(bias=bias)], query, 7, keys)
    weights = torch.softmax(made[0, 0, 0], -1)
    assert torch.allclose(weights, torch.tensor([2.0, 0, 1, 2, 2, 0, 0]) / 7)
    blocked = add_to_mask(mask, [KeyEdit(blocked=(torch.zeros(1, 4).bool(), torch.tensor([[False, True, False, True]])))], query, 7, keys)
    assert torch.allclose(torch.softmax(blocked[0, 0, 0], -1), torch.tensor([1.0, 0, 1, 0, 1, 0, 0]) / 3)  # what is generated is text


def test_keys_that_a_sliding_cache_dropped_shift_the_bias() -> None:
    query = torch.zeros(1, 1, 1, 4)
    keys = Keys(first_query=6, first_key=3, seen=7, causal=False)
    made = add_to_mask(None, [KeyEdit(bias=torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]))], query, 4, keys)
    assert made.flatten().tolist() == [4.0, 5.0, 0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_hidden_keys_stay_hidden_in_half_precision(dtype: torch.dtype) -> None:
    """ln(0) and the lowest number add up to -inf in half precision, and 0 * inf is NaN."""
    query = torch.zeros(1, 2, 3, 4, dtype=dtype)
    padded = torch.tensor([[False, True, True]])
    mask = torch.ones(3, 3, dtype=torch.bool).tril()[None, None] & padded[:, None, None]
    floats = torch.zeros(1, 1, 3, 3, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
    bias = torch.full((1, 3), -math.inf)
    keys = Keys(first_query=0, first_key=0, seen=3, causal=True)
    for given_mask in (mask, floats, padded):
        made = add_to_mask(given_mask, [KeyEdit(bias=bias), KeyEdit(bias=bias)], query, 3, keys)
        assert torch.isfinite(made).all()
        weights = torch.softmax(made.float(), -1)[0, 0]
        assert torch.equal(weights[1:], torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
