"""AttentionSession: read exact rows of attention while a model runs, and change what a layer sees. Reversible."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from toolkit.attention import registry
from toolkit.attention.arrival import ModelCall, build_prefill, refuse_by_caller, window_of
from toolkit.attention.engine import Engine, Places
from toolkit.attention.prefill import LayerEdit, Prefill, Query, Rows
from toolkit.errors import Refused, SiteNotFound, UsageError
from toolkit.hooks import HookSession
from toolkit.sites import SiteMap, module_of

T = TypeVar("T")
EditFunction = Callable[[Prefill], LayerEdit | None]

__all__ = ["AttentionSession"]


class AttentionSession:
    """Reads and edits attention as long as a ``with`` block lasts; afterwards the model is what it was, however the block ended.

    All requests may be made before the block or in it, and hold for every generation in it. A session can be used for several
    blocks one after the other. It belongs to one generation at a time: a second thread that uses the model meanwhile gets an error.

    Args:
        model: a transformers model, or an answerer that holds one.
        backend: "interface" enters the attention registry; "hook" computes rows beside the model, for code that ignores the
            registry. Never chosen silently.
        on_no_image: a prompt without image tokens is refused, or passes through ("skip") with ``has_image`` False.
        image_mask: (B, L) bool, for callers that give ``inputs_embeds`` in which images cannot be found.
    Raises: SiteNotFound: for an unknown architecture. UsageError.
    """

    def __init__(
        self,
        model: object,
        *,
        backend: Literal["interface", "hook"] = "interface",
        on_no_image: Literal["refuse", "skip"] = "refuse",
        image_mask: Tensor | None = None,
    ) -> None:
        if backend not in ("interface", "hook") or on_no_image not in ("refuse", "skip"):
            raise UsageError(f"backend {backend!r} with on_no_image {on_no_image!r} is not known", hint="interface or hook; refuse or skip")
        self.model: Any = module_of(model)
        self.backend = backend
        self.on_no_image = on_no_image
        self.image_mask = image_mask
        sites = SiteMap(self.model)
        self.depth = sites.known().get("lm.block", 0)
        if not self.depth:
            raise SiteNotFound(f"{type(self.model).__name__} has no decoder layers that are known", hint="known ones: toolkit/sites.py")
        self.attention = sites.layers("lm.attn")
        """Layer -> its self-attention module; layers without one are left out."""
        self._decoder: Any = sites.resolve("lm")
        self._hooks = HookSession(self.model, sites=sites)
        self._engine = Engine(sites, self.depth)
        self._ends: list[Callable[[Prefill], None]] = []
        self._stop: int | None = None
        self._open = False
        self._within = False
        self._ids: Tensor | None = None
        self._hooks.before("model", self._arrive)
        self._hooks.after("model", lambda output: self._leave(failed=output is None), always=True)
        self._whole: Any = sites.resolve("lm.whole") if "lm.whole" in sites.known() else None
        if self._whole is not None:  # InstructBLIP generates with its language model, which is told nothing about images
            self._hooks.before("lm.embed", self._remember)
            self._hooks.before("lm.whole", self._arrive_within)
            self._hooks.after("lm.whole", lambda output: self._leave_within(failed=output is None), always=True)

    @property
    def prefill(self) -> Prefill | None:
        """The prompt of the current or last generation."""
        return self._engine.prefill

    # --- Requests

    def read(self, layers: Iterable[int], query: Query = "last_prompt") -> Rows:
        """Read one row of attention in each of ``layers`` (negative ones count from the end) in every prefill.

        Args:
            query: which row. "last_prompt": of the last prompt token; "mean_question": mean over the tokens behind the last
                image; "first_generated": of the first generated token, complete after the first step of decoding, and with one key
                more; or a function of the prefill that gives (B,) positions, or (B, Q) to take the mean of, -1 for none.
        Returns: layer -> (B, H, L) float32 with exact zeros for padding, filled while the model runs. What a session edits is in it.
        Raises: UsageError: for a layer that does not exist. Refused: for one without self-attention.
        """
        rows = Rows(self._layers(layers), query, self.depth)
        self._engine.reads.append(rows)
        self._forbid_compiling()
        return rows

    def at_layer(self, layer: int, function: EditFunction) -> None:
        """Ask ``function(prefill)`` once per prefill, right before ``layer`` computes, what to change from there on.

        The rows of all layers before it can be read by then. Several functions add up.
        """
        (layer,) = self._layers([layer])
        if layer not in self._engine.edits:
            self._engine.edits[layer] = []
            self._hooks.before(f"lm.block:{layer}", lambda args, kwargs: self._engine.enter_layer(layer, args, kwargs))
        self._engine.edits[layer].append(function)
        self._forbid_compiling()

    def block(self, layers: Iterable[int], queries: Places = "text", keys: Places = "image") -> None:
        """Hide ``keys`` from ``queries`` in ``layers``, in the prompt and in decoding. A token always sees itself.

        Args:
            queries, keys: "text", "image", or a function of the prefill that gives (B, L) bool. Generated tokens are queries.
        """
        self._engine.barriers.append((self._layers(layers), queries, keys))
        self._forbid_compiling()

    def scale_residual(self, layer: int, factor: float) -> None:
        """Multiply the input of ``layer`` by ``factor`` at the positions of image tokens."""
        self.at_layer(layer, lambda prefill: LayerEdit(residual_scale=1 + (factor - 1) * prefill.image_mask.float()))

    def amplify(self, layers: Iterable[int], function: Callable[[Tensor], Tensor]) -> None:
        """Add ``function(logits)`` to the logits of image keys in the row of the last token, in the prompt and in decoding.

        ``function`` maps (B, H, 1, L_k) float32 to the same shape. Where its result is zero throughout, the row stays as the
        kernel computed it. Other rows are not touched. Raises: Refused: with the hook back-end.
        """
        if self.backend == "hook":
            raise Refused("the hook back-end cannot change the logits of single heads", hint='use backend="interface"')
        self._engine.amplified.append((self._layers(layers), function))
        self._forbid_compiling()

    def on_prefill_end(self, function: Callable[[Prefill], None]) -> None:
        """Call ``function(prefill)`` when a prompt has been computed, and all rows of it have been read."""
        self._ends.append(function)

    def stop_after(self, layer: int) -> None:
        """Compute nothing behind ``layer``. Call the model by ``run``, which then returns None."""
        (self._stop,) = self._layers([layer])
        self._hooks.stop_after(f"lm.block:{self._stop}")

    def return_weights(self) -> None:
        """For debugging: every layer returns its row of the last token as attention weights, (B, H, 1, L_k), also in decoding.

        Official ``output_attentions=True`` then works without eager attention. Raises: Refused: with the hook back-end.
        """
        if self.backend == "hook":
            raise Refused("the hook back-end returns no weights", hint='use backend="interface"')
        self._engine.returns_weights = True
        self._forbid_compiling()

    # --- Running

    def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T | None:
        """``function(*args, **kwargs)``; None if it was stopped by ``stop_after`` of this session."""
        result = self._hooks.run(function, *args, **kwargs)
        if self._engine.running:
            self._leave()
        return result

    def __enter__(self) -> AttentionSession:
        if self._open:
            raise UsageError("this AttentionSession is open already", hint="use a second one for a block within the block")
        self._within, self._ids = False, None
        self._open = True
        try:
            self._hooks.__enter__()
            if self.backend == "interface":
                registry.watch(self.attention, self._configs(), self._engine)
            else:
                from toolkit.attention.beside import watch_beside

                watch_beside(self._hooks, self.attention, self._engine)
            self._forbid_compiling()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        stopped = self._hooks.__exit__(kind, error, trace)
        try:
            if stopped and self._engine.running:
                self._leave()
        finally:
            self.close()
        return stopped

    def close(self) -> None:
        """Restore the model. What was read stays."""
        self._open = False
        self._hooks.close()
        registry.unwatch(self.attention, self._engine)
        self._engine.close()
        registry.allow_compiling(self)

    # --- Within

    def _arrive(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the model: a new prompt, or one more token of the one before."""
        if torch.compiler.is_compiling():
            return
        self._within = True
        self._begin(ModelCall.of(self.model, args, kwargs))

    def _remember(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The ids that are embedded before the language model is called with embeddings."""
        ids = args[0] if args else kwargs.get("input")
        if isinstance(ids, Tensor) and ids.ndim == 2 and ids.shape[1] > 1:
            self._ids = ids

    def _arrive_within(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a language model that is called by itself, and not by the model around it."""
        if torch.compiler.is_compiling() or self._within:
            return
        call = ModelCall.of(self._whole, args, kwargs)
        ids = self._ids
        if call.ids is None and ids is not None and ids.shape[1] == call.tokens and call.batch % ids.shape[0] == 0:
            call = dataclasses.replace(call, ids=ids.repeat_interleave(call.batch // ids.shape[0], 0))  # beams stand side by side
        self._begin(call)

    def _leave_within(self, *, failed: bool) -> None:
        if not self._within:
            self._leave(failed=failed)

    def _begin(self, call: ModelCall) -> None:
        engine = self._engine
        is_step = call.tokens == 1 and call.seen != 0
        engine.turns.take(prompt=not is_step)
        if is_step:
            engine.step(call)
            return
        if call.seen:
            raise Refused(
                f"the prompt goes on from a cache of {call.seen} tokens, whose attention has not been seen",
                hint="generate from the whole prompt at once: no past_key_values, no chunks, no assistant",
            )
        refuse_by_caller(decides=engine.decides or bool(self._ends), decodes=engine.decodes)
        if self.model.training and torch.is_grad_enabled():
            raise Refused("the model is in training mode with gradients", hint="call model.eval() and use torch.no_grad()")
        prefill = build_prefill(call, self.model, self.image_mask)
        self._check(prefill)
        engine.begin(prefill)

    def _check(self, prefill: Prefill) -> None:
        if self.on_no_image == "refuse" and not bool(prefill.has_image.all()):
            rows = (~prefill.has_image).nonzero().flatten().tolist()
            raise Refused(
                f"no image token in the prompt of row {', '.join(map(str, rows))}",
                hint='give an image, or pass such prompts through with on_no_image="skip"; with inputs_embeds give image_mask',
            )
        for layer in sorted(self._engine.used_layers()):
            window = window_of(self.attention[layer], layer) if layer in self.attention else None
            if window is not None and prefill.length > window:
                raise Refused(
                    f"layer {layer} sees only the last {window} tokens, and the prompt has {prefill.length}",
                    hint="choose layers with full attention, or a shorter prompt",
                )

    def _leave(self, *, failed: bool = False) -> None:
        """After the model, also when it failed."""
        if torch.compiler.is_compiling():
            return
        self._within = False
        prefill = self._engine.finish(self._stop, failed=failed)
        if prefill is not None:
            for function in self._ends:
                function(prefill)

    def _layers(self, layers: Iterable[int]) -> tuple[int, ...]:
        result = []
        for layer in layers:
            if not -self.depth <= layer < self.depth:
                raise UsageError(f"there is no layer {layer}", hint=f"this model has {self.depth}: 0 to {self.depth - 1}")
            result.append(layer % self.depth)
        missing = sorted(set(result) - set(self.attention))
        if missing:
            raise Refused(f"layer {missing[0]} has no self-attention: it attends to images by cross-attention", hint="choose other layers")
        return tuple(dict.fromkeys(result))

    def _configs(self) -> list[Any]:
        """The configurations that choose the attention function and the masks of the decoder, and no others."""
        return [self._decoder.config, *(module.config for module in self.attention.values())]

    def _forbid_compiling(self) -> None:
        """Compiled steps of decoding would leave our edits out; ``generate`` compiles by itself with a static cache on accelerators."""
        for model in (self.model, self._whole):
            options = getattr(model, "generation_config", None)
            if self._open and self._engine.decodes and options is not None:
                registry.forbid_compiling(options, self)
