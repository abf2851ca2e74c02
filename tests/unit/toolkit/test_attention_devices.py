"""Quantised models and models that are spread over CPU and disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import tiny_mllm
from tests.attention_cases import SCALE, eager_attentions, last_tokens
from toolkit.attention import AttentionSession, LayerEdit, Prefill
from toolkit.quantize import plan, settle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llava")
    tiny_mllm.build("llava", scale=SCALE).save_pretrained(path)
    return path


def load(folder: Path, **options: Any) -> Any:
    from transformers import LlavaForConditionalGeneration

    return LlavaForConditionalGeneration.from_pretrained(folder, **options).eval()


def inputs_for(model: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    inputs = tiny_mllm.inputs("llava", model, 2)
    inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
    return inputs


def distance(model: Any, inputs: dict[str, Tensor], backend: Any) -> float:
    """The largest difference between captured rows and official eager attention of the same model, with eager kernels below both."""
    eager = eager_attentions(model, **inputs)
    text = model.config.get_text_config()
    text._attn_implementation_internal = "eager"
    try:
        with torch.no_grad(), AttentionSession(model, backend=backend) as session:
            rows = session.read(range(6))
            model(**inputs)
    finally:
        text._attn_implementation_internal = "sdpa"
    batch = torch.arange(2)
    return max(float((rows[layer] - eager[layer][batch, :, last_tokens(inputs)].float()).abs().max()) for layer in range(6))


@pytest.mark.parametrize("backend", ["interface", "hook"])
def test_eight_bits(folder: Path, backend: str) -> None:
    pytest.importorskip("bitsandbytes")
    config = plan(tiny_mllm.build("llava"), 8).config()
    model = load(folder, quantization_config=config, dtype=torch.float32, device_map="cpu")
    assert any("Int8" in type(weight).__name__ for weight in model.get_decoder().parameters())
    assert distance(model, inputs_for(model, torch.float32), backend) <= 1e-6


@pytest.mark.parametrize("backend", ["interface", "hook"])
def test_four_bits(folder: Path, backend: str) -> None:
    """In bfloat16: no worse than twice what the plain model's own rounding of eager weights makes."""
    pytest.importorskip("bitsandbytes")
    config = plan(tiny_mllm.build("llava"), 4, torch.bfloat16).config()
    model = load(folder, quantization_config=config, dtype=torch.bfloat16, device_map="cpu")
    settle(model)
    assert any("4bit" in type(module).__name__ for module in model.get_decoder().modules())
    plain = load(folder, dtype=torch.bfloat16)
    inputs = inputs_for(plain, torch.bfloat16)
    ours, theirs = distance(model, inputs, backend), distance(plain, inputs, backend)
    assert 0 < ours <= 2 * theirs
    assert theirs < 4e-3  # eight bits of a mantissa


def test_a_model_on_cpu_and_disk(folder: Path, tmp_path: Path) -> None:
    """Same rows, same decision, same tokens as in memory."""
    pytest.importorskip("accelerate")
    device_map: dict[str, Any] = {"model.vision_tower": "cpu", "model.multi_modal_projector": "cpu", "lm_head": "cpu"}
    device_map |= {f"model.language_model.{part}": "cpu" for part in ("embed_tokens", "norm", "rotary_emb")}
    device_map |= {f"model.language_model.layers.{layer}": "disk" if layer in (2, 3, 4) else "cpu" for layer in range(6)}
    whole = load(folder)
    spread = load(folder, device_map=device_map, offload_folder=tmp_path)
    assert next(spread.get_decoder().layers[3].parameters()).device.type == "meta"
    inputs = inputs_for(whole, torch.float32)
    results = []
    for model in (whole, spread):
        with torch.no_grad(), AttentionSession(model) as session:
            rows = session.read([1, 3])
            changes: list[Tensor] = []

            def edit(prefill: Prefill, rows: Any = rows, changes: list[Tensor] = changes) -> LayerEdit:
                change = (rows[1] - rows[3]).abs().mean(1) * prefill.image_mask
                changes.append(change)
                return LayerEdit(
                    logit_bias=torch.where(change > change.mean(), -3.0, 0.0), value_scale=1 - 0.5 * prefill.image_mask.float()
                )

            session.at_layer(4, edit)
            tokens = model.generate(**inputs, max_new_tokens=4, min_new_tokens=4)
        results.append((dict(rows), changes[0], tokens))
    (rows, change, tokens), (spread_rows, spread_change, spread_tokens) = results
    assert all(torch.allclose(rows[layer], spread_rows[layer], atol=1e-6) for layer in rows)
    assert torch.allclose(change, spread_change, atol=1e-6)
    assert torch.equal(tokens, spread_tokens)
