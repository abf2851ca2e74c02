"""What a session tells about a prefill, and what it can be asked to change in one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from toolkit.attention.images import View, views_of_row
from toolkit.errors import ShapeError, UsageError

__all__ = ["LayerEdit", "Prefill", "Query", "Rows"]

Query = Literal["last_prompt", "mean_question", "first_generated"] | Callable[["Prefill"], Tensor]
"""Which row of attention is read: see ``AttentionSession.read``."""


@dataclass
class Prefill:
    """The prompt of one ``generate`` or forward call.

    Attributes:
        batch: number of rows, beams and returned sequences counted singly.
        length: L, tokens in every row, padding included.
        input_ids: (B, L), or None where the caller gave embeddings.
        attention_mask: (B, L) bool, True for real tokens.
        image_mask: (B, L) bool, True where a token of an image stands. Positions are absolute: they hold for keys of later steps too.
        vision: what else the model was called with and is small: image sizes and grids, and the shape of the pixels.
        config: the model's configuration.
        copies: rows that stand side by side for each prompt that ``vision`` is about: beams and returned sequences.
        rows_done: layers of which a row has been read so far.
        notes: facts that a result record should hold, for example that a layer ran through another kernel.
    """

    batch: int
    length: int
    input_ids: Tensor | None
    attention_mask: Tensor
    image_mask: Tensor
    vision: Mapping[str, Any] = field(default_factory=dict)
    config: Any = None
    copies: int = 1
    notes: dict[str, Any] = field(default_factory=dict)
    _views: list[list[View]] | None = None

    @property
    def query_index(self) -> Tensor:
        """(B,) position of the last prompt token of each row, whatever the side of the padding."""
        places = torch.arange(self.length, device=self.attention_mask.device)
        return torch.where(self.attention_mask, places, -1).amax(-1)

    @property
    def has_image(self) -> Tensor:
        """(B,) bool."""
        return self.image_mask.any(-1)

    @property
    def views(self) -> list[list[View]]:
        """Per row, the pictures as the model sees them, in the order of the tokens: whole images, tiles, grids of any-resolution models."""
        if self._views is None:
            ids = None if self.input_ids is None else self.input_ids[:: self.copies]
            views = views_of_row(self.image_mask[:: self.copies], ids, self.config, self.vision)
            self._views = [row for row in views for _ in range(self.copies)]
        return self._views

    def question_index(self) -> Tensor:
        """(B, Q) positions of the real tokens behind the last image of each row, padded with -1. Raises: UsageError: if a row has none."""
        places = torch.arange(self.length, device=self.attention_mask.device)
        last = torch.where(self.image_mask, places, -1).amax(-1, keepdim=True)
        asked = self.attention_mask & (places > last)
        if not bool(asked.any(-1).all()):
            raise UsageError("a prompt has no text behind its last image, so it has no question to take the mean of")
        most = int(asked.sum(-1).max())
        order = torch.where(asked, places, self.length).sort(-1).values[:, :most]
        return torch.where(order < self.length, order, -1)


class Rows(Mapping[int, Tensor]):
    """Attention rows of one ``read``, newest prefill only: layer -> (B, H, L) float32, detached, on its layer's device.

    Attributes:
        layers: the layers asked for, counted from 0.
        query: as given to ``read``.
    """

    def __init__(self, layers: tuple[int, ...], query: Query, depth: int) -> None:
        self.layers = layers
        self.query = query
        self._depth = depth
        self._rows: dict[int, Tensor] = {}

    def __getitem__(self, layer: int) -> Tensor:
        layer = layer + self._depth if layer < 0 else layer
        if layer not in self.layers:
            raise UsageError(f"layer {layer} is not read", hint=f"layers read here: {', '.join(map(str, self.layers))}")
        if layer not in self._rows:
            raise UsageError(f"the attention of layer {layer} has not been computed yet in this prefill")
        return self._rows[layer]

    def __contains__(self, layer: object) -> bool:
        return layer in self._rows

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._rows))

    def __len__(self) -> int:
        return len(self._rows)


@dataclass(frozen=True)
class LayerEdit:
    """What to change from one layer on. Fields that are None, all zero (bias) or all one (scales) change nothing, to the last bit.

    Attributes:
        logit_bias: (B, L) added to the logits of each key in every query row; -inf hides the key.
        diagonal_exempt: a token's attention to itself keeps its logit. Without this a sequence that starts with image tokens
            would have rows with no key left.
        residual_scale: (B, L) times the input of the decoder layer. It lasts: the residual stream carries it on.
        attn_input_scale: (B, L) times the input of the attention, behind the norm.
        kv_scale: (B, L) times keys and values, before they enter the cache.
        value_scale: (B, L) times values alone, before they enter the cache.
        until: "review": in this layer only; "onward": in all layers from this one. A residual scale is applied once either way.
        phase: "prefill": not in the steps of decoding; "all": in these too; "auto": all for the bias, which no cache keeps.
            Scales live in the cache and act in decoding anyway.
    """

    logit_bias: Tensor | None = None
    diagonal_exempt: bool = True
    residual_scale: Tensor | None = None
    attn_input_scale: Tensor | None = None
    kv_scale: Tensor | None = None
    value_scale: Tensor | None = None
    until: Literal["review", "onward"] = "review"
    phase: Literal["auto", "prefill", "all"] = "auto"

    def effective(self, prefill: Prefill) -> LayerEdit | None:
        """This edit without the fields that change nothing; None if nothing is left. Raises: ShapeError, UsageError."""
        if self.until not in ("review", "onward") or self.phase not in ("auto", "prefill", "all"):
            raise UsageError(f"an edit until {self.until!r} in phase {self.phase!r} is not known")
        kept: dict[str, Tensor] = {}
        for name, neutral in _NEUTRAL.items():
            value = getattr(self, name)
            if value is None:
                continue
            if tuple(value.shape) != (prefill.batch, prefill.length):
                raise ShapeError(
                    f"{name} has shape {tuple(value.shape)}; expected {(prefill.batch, prefill.length)}: batch and prompt length"
                )
            if bool((value != neutral).any()):
                kept[name] = value.detach().float()
        if not kept:
            return None
        return LayerEdit(**kept, diagonal_exempt=self.diagonal_exempt, until=self.until, phase=self.phase)


_NEUTRAL = {"logit_bias": 0.0, "residual_scale": 1.0, "attn_input_scale": 1.0, "kv_scale": 1.0, "value_scale": 1.0}
