"""Rows of attention equal official eager attention, and reading them changes nothing, on every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests import tiny_mllm
from tests.attention_cases import (
    FAMILIES,
    WITH_IMAGE_TOKENS,
    configurations,
    eager_attentions,
    inputs_of,
    last_tokens,
    model_of,
    self_attention_layers,
    snapshot,
)  # fmt: skip
from toolkit.attention import AttentionSession, Prefill
from toolkit.errors import Refused, UsageError

TOLERANCE = 1e-6  # float32 sums in another order; probabilities are at most 1


def captured(model: Any, inputs: dict[str, Any], *, backend: Any = "interface", **call: Any) -> tuple[dict[int, Tensor], Tensor]:
    """Rows of all layers, and the logits of the pass in which they were read."""
    with torch.no_grad(), AttentionSession(model, backend=backend, on_no_image="skip") as session:
        rows = session.read(self_attention_layers(model))
        logits = model(**inputs, **call).logits
    return dict(rows), logits


def worst(rows: dict[int, Tensor], eager: dict[int, Tensor], index: Tensor) -> float:
    batch = torch.arange(len(index))
    return max(float((row - eager[layer][batch, :, index][..., : row.shape[-1]]).abs().max()) for layer, row in rows.items())


@pytest.mark.parametrize("backend", ["interface", "hook"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_equal_eager_attention_and_logits_stay_bit_identical(family: str, backend: str) -> None:
    model = model_of(family)
    for padding in ("left", "right"):
        inputs = inputs_of(family, 3, padding)
        index = last_tokens(inputs)
        eager = eager_attentions(model, **inputs)
        with torch.no_grad():
            plain = model(**inputs).logits
        before = snapshot(model)  # after the official attentions, for which transformers leaves hooks of its own
        rows, logits = captured(model, inputs, backend=backend)
        assert snapshot(model) == before
        assert sorted(rows) == self_attention_layers(model)
        assert all(row.dtype == torch.float32 and not row.requires_grad for row in rows.values())
        assert worst(rows, eager, index) <= TOLERANCE
        assert torch.equal(logits, plain)
        padded = inputs["attention_mask"] == 0
        assert all(float(row[padded[:, None].expand_as(row)].abs().sum()) == 0 for row in rows.values())
        sharp = torch.stack([row.amax(-1).mean() for row in rows.values()]).max()
        assert float(sharp) > 2.5 / inputs["input_ids"].shape[1]  # far from uniform: the comparison means something


@pytest.mark.parametrize("backend", ["interface", "hook"])
@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "gemma3"])
def test_with_and_without_a_cache(family: str, backend: str) -> None:
    model, inputs = model_of(family), inputs_of(family)
    with_cache, _ = captured(model, inputs, backend=backend, use_cache=True)
    without, _ = captured(model, inputs, backend=backend, use_cache=False)
    eager = eager_attentions(model, **inputs, use_cache=False)
    for rows in (with_cache, without):
        assert worst(rows, eager, last_tokens(inputs)) <= TOLERANCE


@pytest.mark.parametrize("base", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "gemma3"])
def test_static_cache(family: str, base: str) -> None:
    """Keys beyond the prompt exist there, and hold zeros that must not be attended to."""
    from transformers import StaticCache

    model, inputs = model_of(family), inputs_of(family, padding=None)
    eager = eager_attentions(model, **inputs)
    own = configurations(model)
    try:
        model.set_attn_implementation(base)
        length = inputs["input_ids"].shape[1]
        rows, _ = captured(model, inputs, past_key_values=StaticCache(config=model.config.get_text_config(), max_cache_len=length + 9))
    finally:
        model.set_attn_implementation("sdpa")
    assert {config._attn_implementation for config in own.values()} == {"sdpa"}
    assert all(row.shape[-1] == length for row in rows.values())
    assert worst(rows, eager, last_tokens(inputs)) <= TOLERANCE


def test_in_double_precision_rows_are_exact_however_sharp_the_attention() -> None:
    """No drift between kernels there: what is left are a few roundings of the float32 softmax in the reference."""
    model = tiny_mllm.build("llava", scale=0.3).double()
    inputs = tiny_mllm.inputs("llava", model, 3)
    inputs["pixel_values"] = inputs["pixel_values"].double()
    rows, _ = captured(model, inputs)
    assert worst(rows, eager_attentions(model, **inputs), last_tokens(inputs)) <= 5e-7
    assert max(float(row.max()) for row in rows.values()) > 0.9


def test_soft_caps_of_logits_are_applied() -> None:
    """Gemma 2, which runs eagerly because sdpa has no cap; a cap of 1 bends every logit."""
    import transformers

    torch.manual_seed(0)
    text = transformers.Gemma2Config(
        **tiny_mllm.TEXT, head_dim=16, attn_logit_softcapping=1.0, sliding_window=64, query_pre_attn_scalar=1, attn_implementation="eager"
    )
    model = transformers.Gemma2ForCausalLM(text).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(0, 0.3)
    inputs = {"input_ids": torch.randint(16, 500, (2, 9)), "attention_mask": torch.ones(2, 9, dtype=torch.long)}
    rows, _ = captured(model, inputs)
    assert worst(rows, eager_attentions(model, **inputs), last_tokens(inputs)) <= TOLERANCE
    text.attn_logit_softcapping = None
    for layer in model.model.layers:
        layer.self_attn.attn_logit_softcapping = None
    assert worst(rows, eager_attentions(model, **inputs), last_tokens(inputs)) > 0.01


@pytest.mark.parametrize("family", ["llava", "llava_next", "qwen2_vl", "internvl"])
def test_a_padded_row_through_our_name_equals_the_same_row_through_the_base(family: str) -> None:
    """Without a mask function under our name padding would be ignored."""
    model, inputs = model_of(family), inputs_of(family, 2, "left")
    assert (inputs["attention_mask"] == 0).any()
    _, logits = captured(model, inputs)
    with torch.no_grad():
        assert torch.equal(logits, model(**inputs).logits)
        ignored = model(**{**inputs, "attention_mask": torch.ones_like(inputs["attention_mask"])}).logits
    assert float((logits[1, -1] - ignored[1, -1]).abs().max()) > 1e-3


def alone(family: str, inputs: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    """One row of a batch without its padding."""
    real = inputs["attention_mask"][row].bool()
    share = len(inputs["pixel_values"]) // len(inputs["input_ids"])
    made = {}
    for name, value in inputs.items():
        if value.ndim == 2 and value.shape == inputs["input_ids"].shape:
            made[name] = value[row : row + 1, real]
        else:
            step = share if name == "pixel_values" else len(value) // len(inputs["input_ids"])
            made[name] = value[row * step : (row + 1) * step]
    return made


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("family", WITH_IMAGE_TOKENS)
def test_rows_do_not_depend_on_padding_nor_on_the_batch(family: str, padding: str) -> None:
    model, inputs = model_of(family), inputs_of(family, 3, padding)
    together, _ = captured(model, inputs)
    for row in range(3):
        single, _ = captured(model, alone(family, inputs, row))
        real = inputs["attention_mask"][row].bool()
        for layer, value in single.items():
            assert float((together[layer][row][:, real] - value[0]).abs().max()) <= TOLERANCE


def test_permuting_the_batch_permutes_the_rows() -> None:
    model, inputs = model_of("llava"), inputs_of("llava", 3)
    order = torch.tensor([2, 0, 1])
    rows, _ = captured(model, inputs)
    permuted, _ = captured(model, {name: value[order] for name, value in inputs.items()})
    for layer in rows:
        assert float((rows[layer][order] - permuted[layer]).abs().max()) <= TOLERANCE


def test_queries_other_than_the_last_prompt_token() -> None:
    model, inputs = model_of("qwen2_vl"), inputs_of("qwen2_vl", 3, "left", words=6)
    eager = eager_attentions(model, **inputs)
    third = torch.full((3,), 12)
    with torch.no_grad(), AttentionSession(model) as session:
        mean = session.read([2], query="mean_question")
        chosen = session.read([2, -1], query=lambda prefill: third)
        last = session.read([2])
        model(**inputs)
    assert torch.allclose(chosen[2], eager[2][:, :, 12], atol=TOLERANCE)
    assert torch.equal(chosen[-1], chosen[5])
    ids = inputs["input_ids"]
    for row in range(3):
        behind = int((ids[row] == tiny_mllm.IMAGE).nonzero().max()) + 1
        assert torch.allclose(mean[2][row], eager[2][row, :, behind:].mean(1), atol=TOLERANCE)
    assert not torch.allclose(mean[2], last[2], atol=1e-3)


def test_the_first_generated_token_as_query() -> None:
    """Its row stands in the first step of decoding; the reference is a forward pass over prompt and token."""
    model, inputs = model_of("llava"), inputs_of("llava", 2)
    with AttentionSession(model) as session:
        rows = session.read([3], query="first_generated")
        tokens = model.generate(**inputs, max_new_tokens=3, min_new_tokens=3)
    longer = {
        **inputs,
        "input_ids": torch.cat([inputs["input_ids"], tokens[:, -3:-2]], 1),
        "attention_mask": torch.cat([inputs["attention_mask"], torch.ones(2, 1, dtype=torch.long)], 1),
    }
    expected = eager_attentions(model, **longer)[3][:, :, -1]
    assert rows[3].shape == expected.shape
    assert torch.allclose(rows[3], expected, atol=TOLERANCE)


def test_official_output_attentions_under_sdpa() -> None:
    model, inputs = model_of("llava"), inputs_of("llava", 2)
    eager = eager_attentions(model, **inputs)
    with AttentionSession(model) as session:
        session.return_weights()
        with torch.no_grad():
            output = model(**inputs, output_attentions=True)
        steps = model.generate(
            **inputs, max_new_tokens=3, min_new_tokens=3, output_attentions=True, return_dict_in_generate=True
        ).attentions
    length = inputs["input_ids"].shape[1]
    for layer, weights in enumerate(output.attentions):
        assert torch.allclose(weights[:, :, 0], eager[layer][:, :, -1], atol=TOLERANCE)
    assert [tuple(step[0].shape) for step in steps] == [(2, 4, 1, length), (2, 4, 1, length + 1), (2, 4, 1, length + 2)]
    assert all(torch.allclose(part.sum(-1), torch.ones(2, 4, 1)) for step in steps for part in step)


def test_what_a_prefill_tells() -> None:
    model, inputs = model_of("llava"), inputs_of("llava", 3, "left", images=2)
    seen: list[Prefill] = []
    with torch.no_grad(), AttentionSession(model) as session:
        session.on_prefill_end(seen.append)
        model(**inputs)
    (prefill,) = seen
    assert prefill is session.prefill
    assert (prefill.batch, prefill.length) == tuple(inputs["input_ids"].shape)
    assert torch.equal(prefill.image_mask, inputs["input_ids"] == tiny_mllm.IMAGE)
    assert torch.equal(prefill.attention_mask, inputs["attention_mask"].bool())
    assert torch.equal(prefill.query_index, last_tokens(inputs))
    for row, views in enumerate(prefill.views):
        assert [(view.image, view.kind, view.grid) for view in views] == [(0, "whole", (6, 6)), (1, "whole", (6, 6))]
        assert torch.equal(torch.cat([view.positions for view in views]), prefill.image_mask[row].nonzero().flatten())


def test_rows_of_layers_that_come_later_are_not_there_yet() -> None:
    model, inputs = model_of("llava"), inputs_of("llava")
    known: list[list[int]] = []
    with torch.no_grad(), AttentionSession(model) as session:
        rows = session.read([1, 3, 5])
        session.at_layer(3, lambda prefill: known.append(list(rows)))
        with pytest.raises(UsageError, match="has not been computed yet"):
            rows[1]
        model(**inputs)
        model(**inputs)
    assert known == [[1], [1]]
    assert list(rows) == [1, 3, 5]
    with pytest.raises(UsageError, match="layer 2 is not read"):
        rows[2]


def test_nothing_behind_the_last_wanted_layer_is_computed() -> None:
    model, inputs = model_of("llava"), inputs_of("llava")
    full, _ = captured(model, inputs)
    calls: list[int] = []
    handles = [
        layer.register_forward_hook(lambda *_, number=number: calls.append(number))
        for number, layer in enumerate(model.get_decoder().layers)
    ]
    ends: list[int] = []
    with torch.no_grad(), AttentionSession(model) as session:
        rows = session.read([1, 3])
        session.on_prefill_end(lambda prefill: ends.append(prefill.length))
        session.stop_after(3)
        assert session.run(model, **inputs) is None
        assert session.run(model, **inputs) is None
    for handle in handles:
        handle.remove()
    assert calls == [0, 1, 2, 3] * 2
    assert len(ends) == 2
    assert torch.equal(rows[3], full[3])


def test_a_stop_before_a_wanted_layer_is_an_error() -> None:
    model, inputs = model_of("llava"), inputs_of("llava")
    with torch.no_grad(), AttentionSession(model) as session:
        session.read([4])
        session.stop_after(2)
        with pytest.raises(UsageError, match="layer 4 is asked for, and the pass stops after layer 2"):
            session.run(model, **inputs)


def test_image_positions_from_embeddings() -> None:
    model, inputs = model_of("llava"), inputs_of("llava")
    with torch.no_grad():
        embeds = model.get_input_embeddings()(inputs["input_ids"])
        call = {"inputs_embeds": embeds, "pixel_values": inputs["pixel_values"], "attention_mask": inputs["attention_mask"]}
        with AttentionSession(model) as session:
            model(**call)
        assert session.prefill is not None
        assert torch.equal(session.prefill.image_mask, inputs["input_ids"] == tiny_mllm.IMAGE)
        merged = {"inputs_embeds": torch.randn_like(embeds), "attention_mask": inputs["attention_mask"]}
        with AttentionSession(model) as session, pytest.raises(Refused, match="no image token") as caught:
            model(**merged)
        assert "image_mask" in str(caught.value.hint)
        mask = inputs["input_ids"] == tiny_mllm.IMAGE
        with AttentionSession(model, image_mask=mask) as session:
            model.generate(**merged, max_new_tokens=2, num_beams=2)
        assert session.prefill is not None
        assert torch.equal(session.prefill.image_mask, mask.repeat_interleave(2, 0))
