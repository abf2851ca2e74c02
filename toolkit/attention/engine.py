"""What happens inside the attention calls of one session: rows are read, masks are added to, single rows are recomputed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from toolkit.attention.arrival import ModelCall
from toolkit.attention.prefill import LayerEdit, Prefill, Query, Rows
from toolkit.attention.registry import Call
from toolkit.attention.rows import KeyEdit, Keys, add_to_mask
from toolkit.attention.turns import Turns
from toolkit.errors import Refused, SiteNotFound, UsageError
from toolkit.hooks import HookSession
from toolkit.sites import SiteMap

Places = Literal["text", "image"] | Callable[[Prefill], Tensor]
Result = tuple[Tensor, Tensor | None]

__all__ = ["Engine", "Places"]


class Engine:
    """The requests of a session, and the state of its generation."""

    def __init__(self, sites: SiteMap, depth: int) -> None:
        self.sites = sites
        self.depth = depth
        self.reads: list[Rows] = []
        self.edits: dict[int, list[Callable[[Prefill], LayerEdit | None]]] = {}
        self.barriers: list[tuple[tuple[int, ...], Places, Places]] = []
        self.amplified: list[tuple[tuple[int, ...], Callable[[Tensor], Tensor]]] = []
        self.returns_weights = False
        self.prefill: Prefill | None = None
        self.turns = Turns()
        self._total = 0  # tokens seen, those of the current call included
        self._steps = 0  # of decoding, the current one included; 0 in the prefill
        self._active: list[tuple[int, LayerEdit]] = []  # edits of this generation: (layer from which, edit)
        self._blocked: list[tuple[tuple[int, ...], Tensor, Tensor]] = []
        self._indices: dict[int, Tensor] = {}  # of each read, its query positions
        self._attended: set[int] = set()  # layers of this prefill whose attention has been seen
        self._busy: frozenset[int] | None = None  # layers whose attention this call has to look at; None between calls
        self._in_decoding: frozenset[int] = frozenset()
        self._asked: set[int] = set()  # layers whose edit functions have been asked in this prefill
        self._scales = HookSession(sites.model, sites=sites)  # hooks of this prefill only
        self._mask: tuple[Any, tuple[int, ...], Tensor] | None = None

    @property
    def running(self) -> bool:
        """Whether this thread is in a forward pass of the model."""
        return self.turns.mine

    @property
    def decides(self) -> bool:
        return bool(self.edits or self.barriers or self.amplified)

    @property
    def decodes(self) -> bool:
        """Whether steps of decoding may be looked at or changed."""
        return self.decides or self.returns_weights or any(rows.query == "first_generated" for rows in self.reads)

    def used_layers(self) -> set[int]:
        used = [*(rows.layers for rows in self.reads), tuple(self.edits), *(part[0] for part in self.barriers)]
        return {layer for layers in [*used, *(part[0] for part in self.amplified)] for layer in layers}

    # --- A generation

    def begin(self, prefill: Prefill) -> None:
        """A new prompt."""
        self._scales.close()
        self._scales = HookSession(self.sites.model, sites=self.sites)
        self._scales.__enter__()
        self.prefill, self._total, self._steps = prefill, prefill.length, 0
        self._active, self._mask, self._asked, self._attended = [], None, set(), set()
        for rows in self.reads:
            rows._rows.clear()
        self._indices = {number: query_index(rows.query, prefill) for number, rows in enumerate(self.reads)}
        blocked = [(layers, places(queries, prefill), places(keys, prefill)) for layers, queries, keys in self.barriers]
        self._blocked = [part for part in blocked if bool(part[2].any())]
        first = min(self.edits, default=self.depth)  # an edit may reach all layers behind its own
        self._busy = frozenset(range(self.depth) if self.returns_weights else {*self.used_layers(), *range(first, self.depth)})

    def step(self, call: ModelCall) -> None:
        """One more token. Raises: Refused: if it does not belong to the prompt that was seen last."""
        prefill = self.prefill
        if prefill is None or self._total == 0:
            raise Refused("the model goes on from a cache whose prompt has not been seen", hint="generate from the whole prompt at once")
        if call.batch != prefill.batch or (call.seen is not None and call.seen != self._total):
            raise Refused(
                f"a step with {call.batch} rows after {call.seen} tokens does not go on from the last prompt: "
                f"{prefill.batch} rows and {self._total} tokens",
                hint="generate from the whole prompt at once, one generation after the other",
            )
        self._total, self._steps = self._total + 1, self._steps + 1
        if self._steps <= 2:  # the first one may have to be read; all others are alike
            self._in_decoding = self._busy_in_decoding()
        self._busy = self._in_decoding

    def _busy_in_decoding(self) -> frozenset[int]:
        """Layers that a step of decoding looks at; most often none, and decoding then costs nothing."""
        if self.returns_weights:
            return frozenset(range(self.depth))
        first = [layer for rows in self.reads if rows.query == "first_generated" and self._steps == 1 for layer in rows.layers]
        edited = [layer for layer in range(self.depth) if self.key_edits(layer)]
        return frozenset([*first, *edited, *(layer for layers, _ in self.amplified for layer in layers)])

    def finish(self, stop: int | None, *, failed: bool) -> Prefill | None:
        """The end of a forward pass. Returns: the prefill, if this was one that succeeded. Raises: Refused, UsageError: without rows."""
        if not self.turns.mine:
            return None
        self.turns.give_back()
        self._mask = None
        self._busy = None
        if not self._steps:
            self._scales.close()
        if failed or self._steps or self.prefill is None:
            return None
        self._check_all_came(stop)
        return self.prefill

    def _check_all_came(self, stop: int | None) -> None:
        """Every layer that was to be read or edited has been. Raises: Refused, UsageError."""
        for layer in sorted(self.used_layers() - self._attended):
            if stop is not None and layer > stop:
                raise UsageError(f"layer {layer} is asked for, and the pass stops after layer {stop}", hint="stop later")
            raise Refused(
                f"layer {layer} did not pass its attention through the registry of transformers",
                hint='use AttentionSession(model, backend="hook")',
            )

    def close(self) -> None:
        self._scales.close()
        self.turns.reset()
        self._total, self._mask = 0, None
        self._active, self._blocked, self._indices = [], [], {}

    # --- A layer

    def enter_layer(self, layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Before a decoder layer in a prefill: ask what to change, and change what has to do with hidden states."""
        prefill = self.prefill
        if not self.running or self._steps or prefill is None or layer in self._asked:
            return None
        self._asked.add(layer)
        if not bool(prefill.image_mask.any()):
            return None
        changed = None
        for function in self.edits[layer]:
            wished = function(prefill)
            edit = None if wished is None else wished.effective(prefill)
            if edit is None:
                continue
            self._active.append((layer, edit))
            self._arm_scales(layer, edit)
            if edit.residual_scale is not None:
                changed = scale_first(edit.residual_scale, *(changed or (args, kwargs)))
        return changed

    def _arm_scales(self, layer: int, edit: LayerEdit) -> None:
        for other in range(layer, self.depth if edit.until == "onward" else layer + 1):
            try:
                if edit.attn_input_scale is not None:
                    self._scales.before(f"lm.attn:{other}", partial(scale_first, edit.attn_input_scale))
                if edit.kv_scale is not None:
                    self._scales.edit(self._key_site(other), partial(scaled, by=edit.kv_scale))
                    self._scales.edit(f"lm.v:{other}", partial(scaled, by=edit.kv_scale))
                if edit.value_scale is not None:
                    self._scales.edit(f"lm.v:{other}", partial(scaled, by=edit.value_scale))
            except SiteNotFound as error:
                raise Refused(f"layer {other} has no projection of its own for what is to be scaled", hint="use logit_bias") from error

    def _key_site(self, layer: int) -> str:
        """Behind the norm of keys, where there is one: it would undo the scale."""
        return f"lm.k_norm:{layer}" if layer in self.sites.layers("lm.k_norm") else f"lm.k:{layer}"

    # --- An attention call

    def attend(self, layer: int, call: Call, proceed: Callable[[], Result]) -> Result:
        if not self.busy(layer):
            return proceed()
        prefill = self.check_running(layer)
        call.place(self.keys_of(call))
        edits = self.key_edits(layer)
        if edits:
            self.merge(layer, call, edits)
        last = prefill.query_index if self._steps == 0 else torch.zeros(prefill.batch, dtype=torch.long)
        for layers, function in self.amplified:
            if layer in layers:
                call.terms.append((function, prefill.image_mask, last))
        output, weights = proceed()
        self.deliver(layer, call)
        if self.returns_weights:
            weights = call.weights(last[:, None]).to(output.dtype)
        return output, weights

    def check_running(self, layer: int) -> Prefill:
        """The prefill of a call of ``layer``. Raises: Refused: if nothing is known about the call that the decoder gets."""
        if not self.turns.mine or self.prefill is None:
            raise Refused(
                "the decoder of a patched model was called by itself, or from another thread", hint="call the whole model, in one thread"
            )
        self._attended.add(layer)
        return self.prefill

    def busy(self, layer: int) -> bool:
        """Whether this call has to look at ``layer``."""
        return layer in (self.used_layers() if self._busy is None else self._busy)

    def wants(self, layer: int) -> bool:
        """Whether a row of ``layer`` is read in this call."""
        return any(layer in rows.layers and self._steps == (rows.query == "first_generated") for rows in self.reads)

    @property
    def total(self) -> int:
        """Tokens seen, those of the current call included."""
        return self._total

    def keys_of(self, call: Call) -> Keys:
        """Where the tokens of ``call`` stand."""
        rows, length = call.query.shape[2], call.key.shape[2]
        return Keys(
            first_query=self._total - rows, first_key=max(0, self._total - length), seen=self._total,
            causal=call.causal, window=call.options.get("sliding_window") if "flash" in call.base else None,
        )  # fmt: skip

    def key_edits(self, layer: int) -> list[KeyEdit]:
        """What is added to the logits of ``layer`` in this call."""
        found = []
        for start, edit in self._active:
            reached = layer == start or (layer > start and edit.until == "onward")
            if edit.logit_bias is not None and reached and (self._steps == 0 or edit.phase != "prefill"):
                found.append(KeyEdit(bias=edit.logit_bias, diagonal_exempt=edit.diagonal_exempt))
        for layers, queries, keys in self._blocked:
            if layer in layers:
                found.append(KeyEdit(blocked=(queries, keys)))
        return found

    def scaled_input(self, layer: int, hidden: Tensor) -> Tensor:
        """The input of the attention of ``layer`` as it is after the edits."""
        for start, edit in self._active if self._steps == 0 else []:
            if edit.attn_input_scale is not None and (layer == start or (layer > start and edit.until == "onward")):
                hidden = scaled(hidden, edit.attn_input_scale)
        return hidden

    def merge(self, layer: int, call: Call, edits: list[KeyEdit]) -> None:
        """Put ``edits`` into the mask of ``call``. A flash kernel takes none: this layer then runs through sdpa, which is noted."""
        assert self.prefill is not None
        assert call.keys is not None
        key = (id(call.mask), call.query.shape, call.key.shape[2], call.query.dtype, call.query.device)
        parts = tuple(id(part) for edit in edits for part in (edit.bias, *(edit.blocked or ())))
        if self._mask is None or self._mask[0][0] != key or self._mask[1] != parts:
            # The old mask is kept alive with the new one, so that its id stays its own.
            self._mask = ((key, call.mask), parts, add_to_mask(call.mask, edits, call.query, call.key.shape[2], call.keys))
        call.mask = self._mask[2]
        if "flash" in call.base:
            if call.options.get("softcap") is not None:
                raise Refused(
                    f"layer {layer} caps its logits in a flash kernel, which takes no bias", hint='load with attn_implementation="eager"'
                )
            call.base = "sdpa"
            self.prefill.notes["sdpa_layers"] = sorted({*self.prefill.notes.get("sdpa_layers", ()), layer})

    def deliver(self, layer: int, call: Call) -> None:
        """Hand rows of this call to whoever reads them."""
        assert self.prefill is not None
        for number, rows in enumerate(self.reads):
            if layer not in rows.layers:
                continue
            if rows.query == "first_generated":
                if self._steps != 1:
                    continue
                index = torch.zeros(self.prefill.batch, 1, dtype=torch.long)
            elif self._steps:
                continue
            else:
                index = self._indices[number]
            # In place of -1 any real token does: a padded one sees nothing, and nothing times NaN is NaN.
            weights = call.weights(torch.where(index >= 0, index, index.amax(-1, keepdim=True)))[..., : self._total]
            present = (index >= 0).to(weights.device, weights.dtype)
            mean = (
                torch.einsum("bhqk,bq->bhk", weights, present / present.sum(-1, keepdim=True)) if index.shape[1] > 1 else weights[:, :, 0]
            )
            rows._rows[layer] = mean.detach()


def query_index(query: Query, prefill: Prefill) -> Tensor:
    """(B, Q) positions of the query rows, -1 for none. Raises: UsageError."""
    if query in ("last_prompt", "first_generated"):
        return prefill.query_index[:, None]
    if query == "mean_question":
        return prefill.question_index()
    if not callable(query):
        raise UsageError(f"there is no query {query!r}", hint="last_prompt, mean_question, first_generated, or a function of the prefill")
    index = query(prefill)
    index = index[:, None] if index.ndim == 1 else index
    outside = index.shape[0] != prefill.batch or bool((index >= prefill.length).any()) or not bool((index >= 0).any(-1).all())
    if outside:
        raise UsageError(f"a query function gave positions that are not in the prompt: {tuple(index.shape)}, {index.tolist()}")
    return index


def places(wanted: Places, prefill: Prefill) -> Tensor:
    """(B, L) bool. Raises: UsageError."""
    named = {"image": prefill.image_mask, "text": prefill.attention_mask & ~prefill.image_mask}
    if isinstance(wanted, str):
        if wanted not in named:
            raise UsageError(f"there are no places called {wanted!r}", hint="text, image, or a function of the prefill")
        return named[wanted]
    return wanted(prefill).bool()


def scale_first(by: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a layer with its hidden states (B, L, D) times ``by`` (B, L)."""
    if args:
        return (scaled(args[0], by), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": scaled(kwargs["hidden_states"], by)}


def scaled(states: Tensor, by: Tensor) -> Tensor:
    """``states`` times ``by`` (B, L); the tokens stand in dimension 1 of (B, L, ...), or in dimension 2 of (B, H, L, D)."""
    by = by.to(states.device, states.dtype)
    length = by.shape[1]
    if states.ndim == 4 and states.shape[1] != length:
        return states * by[:, None, :, None]
    if states.ndim == 4 and states.shape[2] == length:
        raise Refused(f"{length} heads and {length} tokens cannot be told apart", hint="use value_scale or logit_bias")
    return states * by.reshape(*by.shape, *[1] * (states.ndim - 2))
