"""Our entry in the attention registries of transformers. No other file touches them.

A model runs through us when its decoder's configuration names ``permafrost-<base>``. Under that name stand an attention function,
which calls the base function and lets the sessions of that module look and edit, and the mask function of the base: without it
masks would be None, padding would be ignored and eager attention would see the future. Names are registered once per process,
because the registries cannot forget; without a session the function does nothing but call the base.
"""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from toolkit.attention.rows import Keys, at_keys, attention_logits, mix_values, visible_keys
from toolkit.errors import Refused
from toolkit.hooks import is_aside

__all__ = ["Call", "Watcher", "allow_compiling", "base_function", "base_name", "forbid_compiling", "modelling_of", "unwatch", "watch"]

PREFIX = "permafrost-"
_UNKNOWN = {
    "s_aux": "attention sinks", "position_bias": "a position bias of its own", "cache": "a paged cache", "block_table": "a paged cache",
    "cu_seq_lens_q": "packed sequences",
}  # fmt: skip
Function = Callable[..., tuple[Tensor, Tensor | None]]


class Call:
    """One attention call of one layer, as the base function would get it."""

    def __init__(
        self, base: str, module: nn.Module, states: tuple[Tensor, Tensor, Tensor], mask: Any, scaling: float | None, options: dict[str, Any]
    ) -> None:
        self.base = base
        self.module = module
        self.query, self.key, self.value = states
        self.mask = mask
        self.scaling = scaling
        self.options = options
        self.keys: Keys | None = None
        self.terms: list[tuple[Callable[[Tensor], Tensor], Tensor, Tensor]] = []  # function, image keys (B, L), query rows (B,)

    @property
    def causal(self) -> bool:
        """What the base function does without a mask: sdpa and flash kernels hide the future from several queries, eager does not."""
        own = self.options.get("is_causal")
        own = getattr(self.module, "is_causal", True) if own is None else own
        return bool(own) and self.base != "eager" and self.query.shape[2] > 1

    def place(self, keys: Keys) -> None:
        """Say where the tokens stand. Raises: Refused: for what a row of attention could not be exact about."""
        self.keys = keys
        for name, what in _UNKNOWN.items():
            if self.options.get(name) is not None:
                raise Refused(
                    f"this model attends with {what}, which cannot be read exactly", hint="choose another model, or another implementation"
                )
        if self.mask is not None and not isinstance(self.mask, Tensor):
            raise Refused(f"the attention mask is a {type(self.mask).__name__}", hint='load the model with attn_implementation="sdpa"')

    def run(self) -> tuple[Tensor, Tensor | None]:
        """What the base function makes of it: (B, L_q, H, D) output, and weights if it is one that has them."""
        function = base_function(self.module, self.base)
        output, weights = function(self.module, self.query, self.key, self.value, self.mask, scaling=self.scaling, **self.options)
        for rows in {id(term[2]): term[2] for term in self.terms}.values():
            output = self._recomputed(output, rows.to(output.device))
        return output, weights

    def _recomputed(self, output: Tensor, rows: Tensor) -> Tensor:
        """``output`` with one row of each sample computed anew from edited logits; where nothing is added it stays as it is."""
        plain = self.logits(rows[:, None])
        edited = self._with_terms(plain, rows[:, None])
        changed = (edited != plain).flatten(1).any(-1)
        new = mix_values(torch.softmax(edited, -1), self.value)[:, :, 0].to(output.dtype)
        batch = torch.arange(len(rows), device=output.device)
        output = output.clone()
        output[batch, rows] = torch.where(changed[:, None, None], new, output[batch, rows])
        return output

    def logits(self, index: Tensor) -> Tensor:
        """(B, H, Q, L_k) float32 logits of query rows ``index`` (B, Q), -inf or lowest where nothing is seen."""
        assert self.keys is not None
        index = index.to(self.query.device)
        batch = torch.arange(index.shape[0], device=index.device)[:, None]
        query = self.query[batch, :, index].transpose(1, 2)
        softcap = None if self.base == "sdpa" else self.options.get("softcap")  # sdpa has none: it raises, or leaves the cap out
        logits = attention_logits(query, self.key, self.scaling, softcap)
        return logits + visible_keys(self.mask, index, self.key.shape[2], self.keys)

    def weights(self, index: Tensor) -> Tensor:
        """(B, H, Q, L_k) float32: attention of query rows ``index``, all edits in it."""
        logits = self._with_terms(self.logits(index), index)
        return torch.softmax(logits, -1).float().detach()

    def _with_terms(self, logits: Tensor, index: Tensor) -> Tensor:
        assert self.keys is not None
        places = torch.arange(logits.shape[-1], device=logits.device) + self.keys.first_key
        for function, image, rows in self.terms:
            here = (index == rows[:, None].to(index.device)).to(logits.device)[:, None, :, None]
            seen = at_keys(image.to(logits.device), places)[:, None, None] & (logits > torch.finfo(self.query.dtype).min / 2)
            logits = torch.where(here & seen, logits + function(logits), logits)
        return logits


class Watcher(Protocol):
    """Whoever takes part in the attention calls of a module; several take turns in the order in which they came."""

    def attend(self, layer: int, call: Call, proceed: Callable[[], tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]: ...


_lock = threading.RLock()
_watchers: weakref.WeakKeyDictionary[nn.Module, tuple[tuple[int, Watcher], ...]] = weakref.WeakKeyDictionary()
_uncompiled: dict[int, tuple[Any, set[int]]] = {}  # id of generation options -> (the options, ids of their users)
_switched: dict[int, tuple[Any, str, set[int]]] = {}  # id of a configuration -> (it, its own implementation, ids of its watchers)


def watch(modules: dict[int, nn.Module], configs: Iterable[Any], watcher: Watcher) -> None:
    """Let ``watcher`` take part in the attention of ``modules`` (layer -> attention module), whose functions ``configs`` choose.

    Raises: Refused: for a base implementation that is not known to us.
    """
    with _lock:
        unique = {id(config): config for config in configs}
        names = {key: _register(config._attn_implementation) for key, config in unique.items()}
        for layer, module in modules.items():
            _watchers[module] = (*_watchers.get(module, ()), (layer, watcher))
        for key, config in unique.items():
            _switched.setdefault(key, (config, config._attn_implementation, set()))[2].add(id(watcher))
            config._attn_implementation_internal = names[key]


def unwatch(modules: dict[int, nn.Module], watcher: Watcher) -> None:
    """Undo ``watch``, also half of one; harmless when done twice. The last watcher of a configuration restores its own value.

    An implementation that somebody has set since stays.
    """
    with _lock:
        for module in modules.values():
            left = tuple(pair for pair in _watchers.get(module, ()) if pair[1] is not watcher)
            if left:
                _watchers[module] = left
            else:
                _watchers.pop(module, None)
        for key, (config, own, users) in list(_switched.items()):
            users.discard(id(watcher))
            if not users:
                del _switched[key]
                if str(config._attn_implementation).startswith(PREFIX):
                    config._attn_implementation_internal = own


def forbid_compiling(options: Any, user: object) -> None:
    """Let ``generate`` compile no steps with these generation options, as long as ``user`` needs it. A user's own setting stays."""
    with _lock:
        if id(options) in _uncompiled:
            _uncompiled[id(options)][1].add(id(user))
        elif options.disable_compile is None:
            options.disable_compile = True
            _uncompiled[id(options)] = (options, {id(user)})


def allow_compiling(user: object) -> None:
    """Undo ``forbid_compiling``; the last user restores the option."""
    with _lock:
        for key, (options, users) in list(_uncompiled.items()):
            users.discard(id(user))
            if not users:
                options.disable_compile = None
                del _uncompiled[key]


def base_name(implementation: str | None) -> str:
    """The implementation behind a name of ours; any other name itself. None is what transformers calls eager."""
    return (implementation or "eager").removeprefix(PREFIX)


def base_function(module: nn.Module, base: str) -> Function:
    """The attention function that the modelling code of ``module`` would call for ``base``."""
    modelling = modelling_of(module)
    if base == "eager":
        eager: Function | None = modelling.get("eager_attention_forward")
        if eager is None:
            raise Refused(f"{type(module).__name__} has no eager attention function", hint='use backend="hook"')
        return eager
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    function: Function = modelling.get("ALL_ATTENTION_FUNCTIONS", ALL_ATTENTION_FUNCTIONS)[base]
    return function


def modelling_of(module: nn.Module) -> dict[str, Any]:
    """The names that the code of ``module`` sees: also where a class inherits its forward from another modelling file."""
    names: dict[str, Any] = inspect.unwrap(type(module).forward).__globals__
    return names


def _register(implementation: str | None) -> str:
    """Our name for ``implementation``, registered. Raises: Refused."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    base = base_name(implementation)
    if "flex" in base:
        raise Refused("flex attention keeps its masks in blocks that cannot be read", hint='load the model with attn_implementation="sdpa"')
    if base.startswith("paged") or not (base in ("eager", "sdpa") or "flash" in base):
        raise Refused(f"the attention implementation {base!r} is not supported", hint='load the model with attn_implementation="sdpa"')
    name = PREFIX + base
    if name not in ALL_ATTENTION_FUNCTIONS.valid_keys():

        def attend(
            module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, scaling: float | None = None, **kwargs: Any
        ) -> tuple[Tensor, Tensor | None]:
            watchers = () if torch.compiler.is_compiling() else _watchers.get(module, ())
            if not watchers or is_aside():
                return base_function(module, base)(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
            call = Call(base, module, (query, key, value), attention_mask, scaling, kwargs)
            return _in_turn(call, watchers)

        if base in ALL_MASK_ATTENTION_FUNCTIONS.valid_keys():
            AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[base])
        AttentionInterface.register(name, attend)
    return name


def _in_turn(call: Call, watchers: tuple[tuple[int, Watcher], ...]) -> tuple[Tensor, Tensor | None]:
    """The first watcher is innermost: it sees what all later ones made of the call."""
    if not watchers:
        return call.run()
    layer, watcher = watchers[-1]
    return watcher.attend(layer, call, lambda: _in_turn(call, watchers[:-1]))
