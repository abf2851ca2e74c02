"""The hook back-end: rows are computed beside the model, from what its attention modules are called with.

For modelling code that does not ask the attention registry. It needs the parts that such code has by convention (``q_proj``,
``k_proj``, norms, ``apply_rotary_pos_emb``), and the keys in the cache. It cannot work where a sliding cache has dropped keys, nor
for cross-attention.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from toolkit.attention.engine import Engine
from toolkit.attention.registry import Call, base_name, modelling_of
from toolkit.errors import Refused
from toolkit.hooks import HookSession

__all__ = ["watch_beside"]


def watch_beside(hooks: HookSession, attention: dict[int, nn.Module], engine: Engine) -> None:
    """Let ``engine`` take part in the calls of ``attention`` (layer -> module), by ``hooks``."""
    for layer, module in attention.items():
        watcher = _Beside(layer, module, engine)
        hooks.before(f"lm.attn:{layer}", watcher.before)
        hooks.after(f"lm.attn:{layer}", watcher.after)


class _Beside:
    def __init__(self, layer: int, module: Any, engine: Engine) -> None:
        self.layer = layer
        self.module = module
        self.engine = engine
        self.inputs: dict[str, Any] = {}

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        engine = self.engine
        self.inputs = {}
        if not engine.busy(self.layer):
            return None
        engine.check_running(self.layer)
        edits = engine.key_edits(self.layer)
        if args:
            kwargs = {"hidden_states": args[0], **kwargs}
            args = args[1:]
        self.inputs = dict(kwargs)
        if not edits:
            return args, kwargs
        hidden, base = kwargs["hidden_states"], base_name(self.module.config._attn_implementation)
        if "flash" in base:
            raise Refused("a flash kernel takes no bias, and the hook back-end cannot choose another one", hint='use backend="interface"')
        # Only shapes, dtype and device of the states count for a mask.
        query, key = (
            hidden.new_empty(*hidden.shape[:1], 1, hidden.shape[1], 1),
            hidden.new_empty(1, 1, self._key_length(hidden.shape[1]), 1),
        )
        call = Call(base, self.module, (query, key, key), kwargs.get("attention_mask"), None, {})
        call.place(engine.keys_of(call))
        engine.merge(self.layer, call, edits)
        self.inputs["attention_mask"] = call.mask
        return args, {**kwargs, "attention_mask": call.mask}

    def after(self, output: object) -> None:
        if not self.inputs:
            return
        inputs, self.inputs = self.inputs, {}
        if self.engine.wants(self.layer):
            call = self._call(inputs)
            call.place(self.engine.keys_of(call))
            self.engine.deliver(self.layer, call)

    def _key_length(self, tokens: int) -> int:
        cache = self.inputs.get("past_key_values")
        if cache is None:
            return tokens
        return int(cache.get_mask_sizes(tokens, self.module.layer_idx)[0])

    def _call(self, inputs: dict[str, Any]) -> Call:
        """The attention call, rebuilt: queries of all tokens, keys from the cache."""
        module, hidden = self.module, self.engine.scaled_input(self.layer, inputs["hidden_states"])
        query = self._heads(module.q_proj(hidden), "q_norm")
        cache = inputs.get("past_key_values")
        keys = None if cache is None else cache.layers[module.layer_idx].keys
        if keys is None:
            query, keys = self._rotated(query, self._heads(module.k_proj(hidden), "k_norm"), inputs)
        else:
            query, _ = self._rotated(query, query, inputs)
            if keys.shape[2] < self.engine.total:
                raise Refused(
                    f"the cache of layer {self.layer} keeps only the last {keys.shape[2]} keys, so its rows cannot be computed beside it",
                    hint='use backend="interface"',
                )
        scaling = getattr(module, "scaling", None)
        base = base_name(module.config._attn_implementation)
        softcap = getattr(module, "attn_logit_softcapping", None)
        return Call(base, module, (query, keys, keys), inputs.get("attention_mask"), scaling, {"softcap": softcap})

    def _heads(self, states: Tensor, norm: str) -> Tensor:
        """(B, L, H * D) -> (B, H, L, D), normalised where the model does so."""
        states = states.view(*states.shape[:-1], -1, self.module.head_dim)
        if isinstance(getattr(self.module, norm, None), nn.Module):
            states = getattr(self.module, norm)(states)
        return states.transpose(1, 2)

    def _rotated(self, query: Tensor, key: Tensor, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        if inputs.get("position_embeddings") is None:
            return query, key
        cos, sin = inputs["position_embeddings"]
        modelling = modelling_of(self.module)
        if cos.ndim == 4 and "apply_multimodal_rotary_pos_emb" in modelling:
            sections = self.module.config.rope_parameters["mrope_section"]
            rotate = partial(modelling["apply_multimodal_rotary_pos_emb"], mrope_section=sections)
        elif "apply_rotary_pos_emb" in modelling:
            rotate = modelling["apply_rotary_pos_emb"]
        else:
            raise Refused(f"{type(self.module).__name__} rotates its queries in a way that is not known", hint='use backend="interface"')
        rotated: tuple[Tensor, Tensor] = rotate(query, key, cos, sin)
        return rotated
