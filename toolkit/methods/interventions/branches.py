"""A second branch of a model: the same model on disturbed inputs, with a cache of its own, whose logits are contrasted.

The branch hangs on the model's forward by hooks, so it follows whatever drives the model: greedy decoding, sampling, beams,
streaming, a plain forward pass. No method of the library is replaced. Where ``generate`` encodes the images before the first forward
pass, what it was given is noted on the way, so that the branch can encode other pixels in the same manner.
"""

from __future__ import annotations

import copy
import functools
import inspect
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.attention.registry import allow_compiling, forbid_compiling
from toolkit.errors import Refused, SiteNotFound
from toolkit.hooks import HookSession, aside
from toolkit.sites import resolve
from toolkit.types import JSON

__all__ = ["Call", "Encodings", "Prompts", "SecondBranch", "driver_of", "follow_reorder", "last_positions", "named_inputs"]


@dataclass
class Call:
    """One forward pass.

    Attributes:
        kwargs: all inputs by name.
        prefill: nothing was cached before it.
        prompt: a prefill that begins an answer; without a cache every further token is a prefill too.
        cache: that of the branch; None where the model runs without one.
        state: what the branch wants to remember until the next token of the same sequences.
        skipped: the branch does not run for these sequences.
    """

    kwargs: dict[str, Any]
    prefill: bool
    prompt: bool = False
    cache: Any = None
    state: dict[str, Any] = field(default_factory=dict)
    skipped: bool = False


class SecondBranch(ABC):
    """The attachment of a method that contrasts two branches; see the module's docstring.

    Args:
        module: a transformers model.
        name: of the method, for messages.
    Raises: Refused: if the model has no language model head.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module = module
        self.name = name
        self.driver = driver_of(module, name)
        self.decisions: list[dict[str, JSON]] = []
        self._session = HookSession(self.driver)
        self._session.before("model", self._enter)
        self._session.edit("model", self._edit)
        self._session.after("model", self._leave)
        self._seconds: weakref.WeakKeyDictionary[Any, Call] = weakref.WeakKeyDictionary()
        self._call: Call | None = None
        self._outputs: Any = None
        self._prompts = Prompts()

    neutral = False
    """The options ask for no change: the model runs once, and its logits stay as they are."""

    @abstractmethod
    def inputs(self, call: Call) -> dict[str, Any] | None:
        """The inputs of the branch's own forward pass, without the cache; None if there is nothing to contrast. Raises: Refused."""

    @abstractmethod
    def combine(self, call: Call, logits: Tensor, other: Tensor) -> Tensor:
        """(B, T, V) new logits from those of the model and of the branch. ``other`` may have another T."""

    def decide(self, call: Call, before: Tensor, after: Tensor) -> list[dict[str, JSON]]:
        """What is recorded of a prefill, one mapping a row, from (B, V) logits of the first token before and after the contrast."""
        chosen, kept = after.argmax(dim=-1), after.isfinite().sum(dim=-1)
        rows = zip(before.argmax(dim=-1).tolist(), chosen.tolist(), kept.tolist(), strict=True)
        return [{"plain_token": plain, "token": token, "plausible": count} for plain, token, count in rows]

    def run(self, kwargs: dict[str, Any]) -> Any:
        """A forward pass of the model as if nothing of ours hung on it: neither this method nor another one that is patched on."""
        with aside():
            return self.driver(**kwargs)

    def __enter__(self) -> SecondBranch:
        forbid_compiling_of(self.driver, self)
        self._session.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._session.close()
        allow_compiling(self)
        self._seconds.clear()
        self._call = self._outputs = None
        self._prompts = Prompts()

    def _enter(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = named_inputs(self.driver, args, kwargs)
        cache = given.get("past_key_values")
        self._call = None
        if self.neutral:
            return
        if cache is not None and cache.get_seq_length() > 0:
            self._call = self._continued(given, cache)
            return
        # A copy of the empty cache is of the same kind, static or not, and has the same length.
        second = None if cache is None else copy.deepcopy(cache)
        self._call = Call(given, prefill=True, prompt=self._prompts.begins(given), cache=second)
        if second is not None:
            self._pair(cache, self._call)

    def _continued(self, kwargs: dict[str, Any], cache: Any) -> Call:
        call = self._seconds.get(cache)
        if call is None:
            raise Refused(
                f"{self.name} cannot continue from a cache that was filled before it was attached", hint="start with the whole prompt"
            )
        tokens = kwargs.get("input_ids")
        tokens = kwargs.get("inputs_embeds") if tokens is None else tokens
        if tokens is not None and tokens.shape[1] > 1:
            raise Refused(
                f"{self.name} decodes token by token and got {tokens.shape[1]} new tokens at once",
                hint="no assisted decoding, and no prefill_chunk_size",
            )
        call.kwargs, call.prefill, call.prompt = kwargs, False, False
        return call

    def _edit(self, logits: Tensor) -> Tensor:
        call, self._call, self._outputs = self._call, None, None
        if call is None or call.skipped or self.neutral:
            return logits
        if logits.ndim != 3:
            raise Refused(f"{self.name} changes logits, and this call also asks for a loss", hint="leave the labels out")
        if logits.requires_grad:
            raise Refused(f"{self.name} is for inference, and this call records gradients", hint="use torch.no_grad()")
        with torch.no_grad():
            inputs = self.inputs(call)
            if inputs is None:
                call.skipped, call.kwargs = True, {}
                self.decisions += [{"skipped": "no image"} for _ in range(logits.shape[0])] if call.prompt else []
                return logits
            outputs = self.run({**inputs, "past_key_values": call.cache, "return_dict": True})
            changed = self.combine(call, logits, outputs.logits.to(logits.device)).to(logits.dtype)
            if call.prompt:
                rows = torch.arange(logits.shape[0], device=logits.device)
                places = last_positions(call.kwargs, logits)
                self.decisions += self.decide(call, logits[rows, places], changed[rows, places])
        # The inputs hold the model's cache, which must die with its generate call and not with this object.
        call.kwargs = {}
        self._outputs = (call, getattr(outputs, "past_key_values", None))
        return changed

    def _leave(self, output: Any) -> None:
        """A model that makes its cache by itself returns it: that one is continued next time."""
        if self._outputs is None:
            return
        (call, second), self._outputs = self._outputs, None
        cache = getattr(output, "past_key_values", None)
        if call.prefill and call.cache is None and cache is not None:
            call.cache = second
            self._pair(cache, call)

    def _pair(self, cache: Any, call: Call) -> None:
        self._seconds[cache] = call
        follow_reorder(cache, call.cache)


def follow_reorder(cache: Any, second: Any) -> None:
    """Let ``second`` be reordered whenever ``cache`` is: beams swap rows, and the branch has to swap them too.

    It is noted on this one cache, which lives as long as its ``generate`` call.
    """
    inner = vars(cache).get("reorder_cache")
    # No strong reference to the cache from itself: it would keep its memory until the garbage collector comes by.
    owner, reorder = weakref.ref(cache), type(cache).reorder_cache

    def reorder_both(beam_idx: Tensor) -> None:
        if inner is not None:
            inner(beam_idx)
        else:
            reorder(owner(), beam_idx)
        second.reorder_cache(beam_idx)

    cache.reorder_cache = reorder_both


class Prompts:
    """Tells the forward passes that begin an answer from those that go on with one."""

    def __init__(self) -> None:
        self._last: Tensor | None = None

    def begins(self, kwargs: dict[str, Any]) -> bool:
        """Whether a forward pass with these inputs, told once each, begins an answer: nothing is cached, and it is not the last
        prompt with one token more, as a model without a cache gets it."""
        cache, ids = kwargs.get("past_key_values"), kwargs.get("input_ids")
        if cache is not None and cache.get_seq_length() > 0:
            return False
        last, self._last = self._last, ids if cache is None else None
        if last is None or ids is None or (last.shape[0], last.shape[1] + 1) != tuple(ids.shape):
            return True
        return not bool((ids[:, :-1] == last).all())


class Encodings:
    """Notes what the model's image encoder is called with, so that other pixels can be encoded in the same manner.

    ``generate`` of recent versions encodes the images before the first forward pass, which then sees features and no pixels.

    Args:
        module: a transformers model.
    """

    def __init__(self, module: nn.Module) -> None:
        self.owner: Any = getattr(module, "base_model", module)
        self.kwargs: dict[str, Any] = {}
        self.output: Any = None
        self._again: Any = None
        self._encode: Callable[..., Any] | None = getattr(self.owner, "get_image_features", None)

    def __enter__(self) -> Encodings:
        if self._encode is not None:
            watched = vars(self.owner).get("get_image_features")
            if not isinstance(watched, _Watched):
                watched = self.owner.get_image_features = _Watched(self._encode)
            self._encode = watched.encode
            watched.watchers.append(self)
        return self

    def __exit__(self, *exception: Any) -> None:
        self.note({}, None)
        watched = vars(self.owner).get("get_image_features")
        if isinstance(watched, _Watched):
            watched.watchers[:] = [watcher for watcher in watched.watchers if watcher is not self]
            if not watched.watchers:
                watched.remove(self.owner)

    def again(self, output: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
        """The features of the images of ``output`` after ``change`` of what they were made from; None if they were made elsewhere."""
        if self._encode is None or output is None or self.output is not output:
            return None
        if self._again is None:  # a model without a cache asks at every token
            self._again = self._encode(**change(self.kwargs))
        return self._again

    def note(self, kwargs: dict[str, Any], output: Any) -> None:
        self.kwargs, self.output, self._again = kwargs, output, None


class _Watched:
    """Stands before a bound method of one model and tells watchers about its calls; ``inspect`` sees the method's own signature."""

    def __init__(self, encode: Callable[..., Any]) -> None:
        functools.update_wrapper(self, encode)
        self.encode = encode
        self.watchers: list[Encodings] = []
        self.previous = getattr(encode, "__self__", None) is None  # an attribute of this one model already, not of its class

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self.encode(*args, **kwargs)
        bound = inspect.signature(self.encode).bind(*args, **kwargs)
        given = {**bound.arguments, **bound.arguments.pop("kwargs", {})}
        given.pop("kwargs", None)
        for watcher in self.watchers:
            watcher.note(given, output)
        return output

    def remove(self, owner: Any) -> None:
        if self.previous:
            owner.get_image_features = self.encode
        else:
            del owner.get_image_features


def driver_of(module: nn.Module, name: str) -> nn.Module:
    """The part of the model that ``generate`` drives: the one that holds the head. Raises: Refused: if there is none."""
    try:
        head = resolve(module, "lm.head")
    except SiteNotFound as error:
        raise Refused(f"{name} needs a decoder with a language model head, and {type(module).__name__} has none") from error
    return next(part for part in module.modules() if any(child is head for child in part.children()))


def forbid_compiling_of(driver: nn.Module, user: object) -> None:
    """A compiled step of decoding would leave out what hangs on the model; ``allow_compiling(user)`` undoes it."""
    options = getattr(driver, "generation_config", None)
    if options is not None:
        forbid_compiling(options, user)


def named_inputs(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All inputs of a call of ``module`` by their names."""
    names = list(inspect.signature(type(module).forward).parameters)[1:]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def last_positions(kwargs: dict[str, Any], logits: Tensor) -> Tensor:
    """(B,) int64: where in (B, T, V) logits the next token of each row stands: the last one that is no padding."""
    last = logits.shape[1] - 1
    mask = kwargs.get("attention_mask")
    ids = kwargs.get("input_ids")
    if last == 0 or not isinstance(mask, Tensor) or mask.ndim != 2 or ids is None or mask.shape[1] != logits.shape[1]:
        return torch.full(logits.shape[:1], last, device=logits.device)
    places = torch.arange(mask.shape[1], device=mask.device) * mask.bool()
    return places.amax(dim=-1).to(logits.device)
