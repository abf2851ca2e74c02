"""What a model is called with: prompt, cache and images, and what of it cannot be handled."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.attention.images import image_token_id
from toolkit.attention.prefill import Prefill
from toolkit.errors import Refused, ShapeError

__all__ = ["ModelCall", "build_prefill", "refuse_by_caller", "window_of"]

_VISION_INPUTS = ("image_sizes", "image_grid_thw", "batch_num_images", "spatial_shapes")
_MOST_FRAMES = 60


@dataclass(frozen=True)
class ModelCall:
    """The arguments of one forward call that matter here.

    Attributes:
        tokens: L, number of query tokens.
        seen: tokens in the cache before; None where finding out would wait for a device.
    """

    arguments: Mapping[str, Any]
    ids: Tensor | None
    embeds: Tensor | None
    batch: int
    tokens: int
    seen: int | None
    device: torch.device

    @classmethod
    def of(cls, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelCall:
        """Raises: Refused: if there are no tokens in the call."""
        kind: Any = type(model)
        arguments = {**kwargs, **dict(zip(_parameters(kind), args, strict=False))}
        ids, embeds = arguments.get("input_ids"), arguments.get("inputs_embeds")
        ids = None if ids is None or ids.shape[-1] == 0 else ids
        tokens = ids if ids is not None else embeds
        if tokens is None:
            raise Refused("the model was called without input_ids and without inputs_embeds", hint="give the prompt as input_ids")
        cache = arguments.get("past_key_values")
        seen = cache.get_seq_length() if cache is not None else 0
        if isinstance(seen, Tensor):
            # In decoding, asking a device for the length of a static cache would stall it at every token.
            seen = int(seen) if seen.device.type == "cpu" or tokens.shape[1] > 1 else None
        return cls(arguments, ids, embeds, tokens.shape[0], tokens.shape[1], seen, tokens.device)


@functools.cache
def _parameters(kind: Any) -> list[str]:
    """The names of what ``forward`` takes by position."""
    return list(inspect.signature(kind.forward).parameters)[1:]


def build_prefill(call: ModelCall, model: Any, given: Tensor | None) -> Prefill:
    """The prompt of ``call``. ``given`` is the caller's own image mask. Raises: ShapeError, Refused."""
    config = model.config
    vision = {name: call.arguments[name] for name in _VISION_INPUTS if call.arguments.get(name) is not None}
    for name in ("pixel_values", "image_patches"):
        if isinstance(call.arguments.get(name), Tensor):
            vision[f"{name}_shape"] = tuple(call.arguments[name].shape)
    copies = 1
    if not vision:
        vision, prompts = _given_to_generate()
        copies = call.batch // prompts if prompts and call.batch % prompts == 0 else 1
    return Prefill(
        batch=call.batch, length=call.tokens, input_ids=call.ids, attention_mask=_real_tokens(call), config=config, vision=vision,
        image_mask=_image_mask(call, model, given), copies=copies,
    )  # fmt: skip


def _given_to_generate() -> tuple[dict[str, Any], int]:
    """Sizes and grids of images that the caller gave ``generate``, and the number of prompts that they belong to.

    Newer versions of the library encode images before the first forward pass and keep what they were encoded from for themselves.
    """
    frame = sys._getframe(1)
    for _ in range(_MOST_FRAMES):
        if frame.f_code.co_name == "generate" and frame.f_globals.get("__name__") == "transformers.generation.utils":
            given = frame.f_locals.get("kwargs") or {}
            prompts = given.get("input_ids", frame.f_locals.get("inputs"))
            vision = {name: given[name] for name in _VISION_INPUTS if given.get(name) is not None}
            return vision, len(prompts) if isinstance(prompts, Tensor) else 0
        if frame.f_back is None:
            break
        frame = frame.f_back
    return {}, 0


def _image_mask(call: ModelCall, model: Any, given: Tensor | None) -> Tensor:
    if given is not None:
        if call.batch % given.shape[0] or given.shape[1] != call.tokens:
            raise ShapeError(f"the image mask has shape {tuple(given.shape)}; the prompt has {(call.batch, call.tokens)}")
        return given.bool().repeat_interleave(call.batch // given.shape[0], 0).to(call.device)  # beams stand side by side
    token = image_token_id(model.config)
    if token is None or _crosses(model.config):
        return torch.zeros(call.batch, call.tokens, dtype=torch.bool, device=call.device)
    if call.ids is not None:
        return call.ids == token
    assert call.embeds is not None
    embedding = model.get_input_embeddings()
    placeholder = embedding(torch.tensor(token, device=embedding.weight.device)).to(call.embeds)
    found: Tensor = (call.embeds == placeholder).all(-1)
    return found


def _crosses(config: Any) -> bool:
    """Whether images enter by cross-attention, so that their placeholders are no keys."""
    return bool(getattr(config.get_text_config(), "cross_attention_layers", None))


def _real_tokens(call: ModelCall) -> Tensor:
    """(B, L) bool. ``generate`` hands 4-D masks, one for each kind of layer, to models with a static cache."""
    mask = call.arguments.get("attention_mask")
    if isinstance(mask, Mapping):
        mask = mask.get("full_attention", next(iter(mask.values()), None))
    if not isinstance(mask, Tensor):
        return torch.ones(call.batch, call.tokens, dtype=torch.bool, device=call.device)
    if mask.ndim == 2:
        return mask[:, -call.tokens :].bool().to(call.device)
    # A real token sees itself; a padded one sees nothing.
    itself = mask[:, 0].diagonal(0, -2, -1)[:, : call.tokens]
    itself = itself if itself.dtype == torch.bool else itself > torch.finfo(itself.dtype).min / 2
    return itself.expand(call.batch, -1).to(call.device)


def refuse_by_caller(*, decides: bool, decodes: bool) -> None:
    """Look up the stack for ways of generating that would give wrong decisions: ``forward`` itself is not told about them.

    Args:
        decides: something depends on the prompt being whole and the cache being used.
        decodes: steps of decoding are edited, which compiled steps would leave out.
    Raises: Refused.
    """
    frame = sys._getframe(1)
    for _ in range(_MOST_FRAMES):
        if frame.f_globals.get("__name__") == "transformers.generation.utils":
            options = frame.f_locals.get("generation_config")
            if frame.f_code.co_name == "_assisted_decoding":
                raise Refused("assisted decoding guesses tokens behind the prompt", hint="generate without assistant and prompt lookup")
            if getattr(options, "prefill_chunk_size", None):
                raise Refused("a prompt that is read in chunks would get one decision a chunk", hint="leave prefill_chunk_size out")
            arguments, owner = frame.f_locals.get("model_kwargs"), frame.f_locals.get("self")
            if decides and options is not None and options.use_cache is False:
                raise Refused("without a cache every token would be decided anew", hint="generate with use_cache=True")
            if (
                decodes
                and options is not None
                and isinstance(arguments, dict)
                and owner is not None
                and owner._valid_auto_compile_criteria(arguments, options)
            ):
                raise Refused("compiled decoding would leave the edits out", hint="generate with disable_compile=True")
        if frame.f_back is None:
            return
        frame = frame.f_back


def window_of(attention: Any, layer: int) -> int | None:
    """The number of last tokens that a query of this attention module sees; None: all."""
    config = attention.config
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and layer < len(kinds):
        if kinds[layer] == "chunked_attention":
            return int(config.attention_chunk_size)
        if kinds[layer] != "sliding_attention":
            return None
    window = getattr(attention, "sliding_window", getattr(config, "sliding_window", None))
    return int(window) if isinstance(window, int) and window > 0 else None
