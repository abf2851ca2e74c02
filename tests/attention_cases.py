"""What the tests of attention share: tiny models that are built once, official eager attention, and a plain snapshot of a model."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from tests import tiny_mllm

FAMILIES = tuple(tiny_mllm.FAMILIES)
WITH_IMAGE_TOKENS = tuple(family for family in FAMILIES if family not in tiny_mllm.CROSS_ATTENTION)
# At this scale of the weights attention is far from uniform, and two kernels do not drift apart over six layers by more than the
# tolerance of a row: with sharper weights the hidden states of eager and sdpa runs differ by more than a row is allowed to.
SCALE = 0.1


@functools.cache
def model_of(family: str) -> Any:
    """Built once for all tests: every test leaves it as it was, and says so if not. Transformers has put its own hooks on it already."""
    model = tiny_mllm.build(family, scale=SCALE)
    with torch.no_grad():
        model(**tiny_mllm.inputs(family, model, 1))
    return model


def inputs_of(family: str, batch: int = 2, padding: str | None = "left", **options: Any) -> dict[str, Tensor]:
    return tiny_mllm.inputs(family, model_of(family), batch, padding, **options)


def self_attention_layers(model: Any) -> list[int]:
    text = model.config.get_text_config()
    crossing = getattr(text, "cross_attention_layers", None) or []
    return [layer for layer in range(text.num_hidden_layers) if layer not in crossing]


def eager_attentions(model: Any, **inputs: Any) -> dict[int, Tensor]:
    """Official attention, layer -> (B, H, L, L_k), of the same model run eagerly."""
    implementations = snapshot(model)["implementations"]
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            output = model(**inputs, output_attentions=True)
    finally:
        for name, config in configurations(model).items():
            config._attn_implementation_internal = implementations[name]
    output = getattr(output, "language_model_outputs", output)
    layers = self_attention_layers(model)
    attentions = [part for part in output.attentions if part is not None]
    return dict(zip(layers if len(attentions) == len(layers) else range(len(attentions)), attentions, strict=True))


def configurations(model: nn.Module) -> dict[str, Any]:
    """Every module's configuration by the module's path."""
    return {name: module.config for name, module in model.named_modules() if hasattr(module, "config")}


def snapshot(model: Any) -> dict[str, Any]:
    """All that a session may not leave changed: hooks, attention implementations, instance attributes, generation options, weights."""
    return {
        "hooks": {
            name: [list(getattr(module, table)) for table in ("_forward_hooks", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs")]
            for name, module in model.named_modules()
        },
        "implementations": {name: config._attn_implementation for name, config in configurations(model).items()},
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
        "generation": model.generation_config.to_dict(),
        "weights": sum(float(weight.double().sum()) for weight in model.state_dict().values()),
    }


def last_tokens(inputs: dict[str, Tensor]) -> Tensor:
    """(B,) the last real position of each row."""
    places = torch.arange(inputs["attention_mask"].shape[1])
    return (inputs["attention_mask"] * (places + 1)).argmax(-1)
