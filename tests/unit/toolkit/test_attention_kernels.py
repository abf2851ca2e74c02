"""A kernel of the flash kind: padding masks in two dimensions, a sliding window as an argument, and no place for a bias."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import tiny_mllm
from tests.attention_cases import configurations, eager_attentions, inputs_of, last_tokens, model_of, snapshot
from toolkit.attention import AttentionSession, LayerEdit, Prefill
from toolkit.errors import Refused

NAME = "tests_flash"


def flash(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float | None = None,
    sliding_window: int | None = None, softcap: float | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """What a flash kernel computes, in plain tensors: causal from the end, padding in two dimensions, a window."""
    assert attention_mask is None or attention_mask.ndim == 2
    rows, length = query.shape[2], key.shape[2]
    distance = torch.arange(rows)[:, None] + length - rows - torch.arange(length)
    allowed = distance >= 0
    if sliding_window is not None:
        allowed = allowed & (distance < sliding_window)
    if attention_mask is not None:
        allowed = allowed & attention_mask[:, None, None].bool()
    group = query.shape[1] // key.shape[1]
    logits = query @ key.repeat_interleave(group, 1).transpose(-1, -2) * scaling
    weights = torch.softmax(logits.masked_fill(~allowed, torch.finfo(logits.dtype).min), -1)
    return (weights @ value.repeat_interleave(group, 1)).transpose(1, 2), None


@pytest.fixture
def on_flash() -> Iterator[Any]:
    """A function that puts a model's decoder onto the kernel; all is undone afterwards."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, flash_attention_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    AttentionInterface.register(NAME, flash)
    AttentionMaskInterface.register(NAME, flash_attention_mask)
    changed: list[Any] = []

    def put(model: Any) -> Any:
        text = model.config.get_text_config()
        text._attn_implementation_internal = NAME
        changed.append(text)
        return model

    yield put
    for text in changed:
        text._attn_implementation_internal = "sdpa"
    for table in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
        del type(table)._global_mapping[NAME]


def bias(prefill: Prefill) -> LayerEdit:
    return LayerEdit(logit_bias=-2.0 * (prefill.image_mask & (prefill.image_mask.cumsum(-1) % 2 == 0)))


@pytest.mark.parametrize("padding", ["left", "right", None])
@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "internvl"])
def test_rows_under_a_flash_kernel_equal_eager_attention(family: str, padding: str | None, on_flash: Any) -> None:
    model, inputs = model_of(family), inputs_of(family, 3, padding)
    eager = eager_attentions(model, **inputs)
    on_flash(model)
    before = snapshot(model)
    with torch.no_grad():
        plain = model(**inputs).logits
        with AttentionSession(model) as session:
            rows = session.read(range(6))
            assert model.config.get_text_config()._attn_implementation == f"permafrost-{NAME}"
            assert torch.equal(model(**inputs).logits, plain)
    assert snapshot(model) == before
    batch, last = torch.arange(3), last_tokens(inputs)
    assert max(float((rows[layer] - eager[layer][batch, :, last]).abs().max()) for layer in range(6)) <= 1e-6


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}], ids=["greedy", "beams"])
def test_a_biased_layer_runs_through_sdpa_alone_and_says_so(options: dict[str, Any], on_flash: Any) -> None:
    model, inputs = model_of("llava"), inputs_of("llava", 2)
    results, layers = [], []
    for prepare in (lambda model: model, on_flash):
        prepare(model)
        with torch.no_grad(), AttentionSession(model) as session:
            session.read([4])
            session.at_layer(3, bias)
            made = model.generate(**inputs, max_new_tokens=4, min_new_tokens=4, output_logits=True, return_dict_in_generate=True, **options)
        assert session.prefill is not None
        layers.append(session.prefill.notes)
        results.append(torch.stack(made.logits))
    assert layers == [{}, {"sdpa_layers": [3]}]
    assert torch.allclose(results[0], results[1], atol=2e-5)


def test_a_cap_on_logits_and_a_bias_do_not_go_together(on_flash: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.attention.registry import Call

    model, inputs = on_flash(model_of("llava")), inputs_of("llava", 1)
    place = Call.place

    def capped(self: Call, keys: Any) -> None:
        self.options["softcap"] = 30.0
        place(self, keys)

    monkeypatch.setattr(Call, "place", capped)
    with torch.no_grad(), AttentionSession(model) as session:
        session.at_layer(3, bias)
        with pytest.raises(Refused, match="layer 3 caps its logits"):
            model(**inputs)


def test_only_the_decoder_is_switched() -> None:
    """The vision tower keeps its implementation, and each configuration gets its own back."""
    for family in ("llava", "qwen2_vl", "instructblip"):
        model = model_of(family)
        own = {name: config._attn_implementation for name, config in configurations(model).items()}
        with AttentionSession(model):
            decoder = model.get_decoder()
            text = {id(decoder.config), *(id(layer.self_attn.config) for layer in decoder.layers)}
            for name, config in configurations(model).items():
                expected = f"permafrost-{own[name]}" if id(config) in text else own[name]
                assert config._attn_implementation == expected, name
            assert model.get_submodule(vision_of(model)).config._attn_implementation == "sdpa"
        assert {name: config._attn_implementation for name, config in configurations(model).items()} == own


def vision_of(model: Any) -> str:
    return next(name for name, module in model.named_modules() if "vis" in name.rsplit(".", 1)[-1] and hasattr(module, "config"))


def test_an_implementation_that_the_user_sets_meanwhile_stays() -> None:
    model = tiny_mllm.build("llava")
    session = AttentionSession(model)
    session.__enter__()
    model.set_attn_implementation("eager")
    session.close()
    assert model.config.get_text_config()._attn_implementation == "eager"


def test_a_decoder_on_eager_attention_keeps_causality_and_padding() -> None:
    model, inputs = tiny_mllm.build("llava", scale=0.1), None
    model.set_attn_implementation("eager")
    inputs = tiny_mllm.inputs("llava", model, 2)
    with torch.no_grad():
        plain = model(**inputs).logits
        with AttentionSession(model) as session:
            session.read([1])
            assert torch.equal(model(**inputs).logits, plain)
