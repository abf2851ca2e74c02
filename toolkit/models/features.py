"""Image features that several questions share: encoded once, where the model takes encoded pictures (``mm_encoder_outputs``).

Only pictures that come more than once among the questions at hand are held, and only as long. Where a model takes no encoded
pictures, or where its features depend on the question (InstructBLIP), nothing is shared and nothing changes.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from toolkit.models.rows import IDS, Row

PIXELS = ("pixel_values", "pixel_attention_mask")
Batch = Callable[[Sequence[Row], Sequence[str]], dict[str, Any]]


class SharedFeatures:
    """Features of the pictures of one stretch of questions.

    Args:
        module: the whole model. image_token_id: of the placeholders that features take the place of.
    """

    def __init__(self, module: Any, image_token_id: int | None) -> None:
        self._module = module
        self._token = -1 if image_token_id is None else image_token_id
        encode = getattr(module.base_model, "get_image_features", None)
        self._keys = tuple(inspect.signature(encode).parameters) if encode is not None else ()
        self.possible = "mm_encoder_outputs" in inspect.signature(type(module).forward).parameters and image_token_id is not None
        self.possible &= "pixel_values" in self._keys and not any(key.startswith("qformer") for key in self._keys)
        self._shared: set[tuple[str, ...]] = set()
        self._kind: Any = None
        self._shape: tuple[int, ...] = ()
        self._held: dict[tuple[str, ...], tuple[Tensor, ...]] = {}

    def expect(self, rows: Sequence[Row]) -> None:
        """Say which rows are to come."""
        self.clear()
        if self.possible:
            counts = Counter(row.pictures for row in rows if row.pictures)
            self._shared = {pictures for pictures, count in counts.items() if count > 1}

    def clear(self) -> None:
        """Let go of all features; they are made anew where they are needed again."""
        self._held.clear()

    def encoded(self, rows: Sequence[Row], batch: Batch) -> Any:
        """What the model takes in place of the pixels of ``rows``; None where no picture of theirs is shared.

        Args:
            batch: (rows, keys) -> those inputs of these rows, on the model's device.
        Raises: ValueError: features and placeholders differ in number, in the words of the library.
        """
        if not any(row.pictures in self._shared for row in rows):
            return None
        # what is not shared is encoded along with the rest, held for this batch only
        missing = {row.pictures: row for row in rows if row.pictures not in self._held}
        if missing:
            self._held |= self._features(list(missing.values()), batch)
        made = self._join([self._held[row.pictures] for row in rows])
        for pictures in [key for key in self._held if key not in self._shared]:
            del self._held[pictures]
        return made

    def _features(self, rows: list[Row], batch: Batch) -> dict[tuple[str, ...], tuple[Tensor, ...]]:
        """For each row the features of all its pictures, one (tokens, D) tensor for each kind of feature."""
        inputs = batch(rows, [key for key in self._keys if key in rows[0].data])
        made = self._module.base_model.get_image_features(**inputs, return_dict=True)
        kinds = [made.pooler_output, *(getattr(made, "deepstack_features", None) or ())]
        self._kind = type(made)
        self._shape = tuple(kinds[0].shape[1:]) if isinstance(kinds[0], Tensor) else ()
        flat = [_flat(kind) for kind in kinds]
        counts = [int(row.data[IDS].eq(self._token).sum()) for row in rows]
        if sum(counts) != flat[0].shape[0]:
            raise ValueError(f"Image features and image tokens do not match, tokens: {sum(counts)}, features: {flat[0].shape[0]}")
        parts = [kind.split(counts) for kind in flat]
        return {row.pictures: tuple(part[number] for part in parts) for number, row in enumerate(rows)}

    def _join(self, rows: list[tuple[Tensor, ...]]) -> Any:
        kinds = list(zip(*rows, strict=True))
        pooled: Any = torch.cat(kinds[0]).reshape(-1, *self._shape) if self._shape else list(kinds[0])
        made = self._kind(pooler_output=pooled)
        if len(kinds) > 1:
            made.deepstack_features = [list(kind) for kind in kinds[1:]]
        return made


def _flat(features: Any) -> Tensor:
    """(tokens, D) of features that come as one tensor or as one for each picture."""
    parts = [features] if isinstance(features, Tensor) else list(features)
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])
