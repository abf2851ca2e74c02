"""Text encoding that does no work twice and none for padding.

In a causal text tower that pools at the end-of-text token, nothing behind that token has an influence on the result. So unique
texts are sorted by length and encoded in buckets, each cut to its own longest text (``lengths`` tells how much of a text
counts). On first use a guard encodes a few texts both ways, and keeps the full length from then on if they differ.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.errors import ModelConfigError, UsageError

_log = logging.getLogger(__name__)

CHUNK = 16_384  # texts that are tokenized at once: bounds the memory for very many texts
CPU_POSITIONS = 1024  # of a bucket on the CPU: larger ones fall out of its caches and are a fifth slower
GUARD_TEXTS = 8
GUARD_TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""Largest accepted difference of unit embeddings, trimmed against full. Half precision rounds differently for other shapes."""

Tokens = dict[str, Tensor]
IDS = "input_ids"
MIXED_UP = "tokenizer and weights belong to different models, or the tokenizer was saved without its special tokens"


class TextTower(Protocol):
    """A library's tokenizer and text tower."""

    dim: int
    vocab_size: int

    def tokenize(self, texts: list[str]) -> Tokens:
        """(N, L) tensors exactly as the library makes them, L the same for all, on the CPU."""

    def lengths(self, tokens: Tokens) -> Tensor | None:
        """(N,) how many leading positions have an influence on each text's embedding; None if the tower needs all."""

    def count_cut(self, texts: list[str], tokens: Tokens) -> int:
        """How many of the texts were longer than the tower's context and lost their end."""

    def features(self, tokens: Tokens) -> Tensor:
        """(N, D) embeddings, not normalised, of tokens on the model's device, cut to any length that ``lengths`` allows."""


class TextEncoder:
    """Encodes texts with one tower on one device."""

    def __init__(self, tower: TextTower, device: torch.device, dtype: torch.dtype) -> None:
        self.tower, self.device, self.dtype = tower, device, dtype
        self.trim: bool | None = None  # unknown until the guard has looked

    def encode(self, texts: Sequence[str], *, batch_size: int) -> Tensor:
        """(N, D) float32 on the CPU, L2 norm 1.

        Raises: UsageError: if ``texts`` is one string or holds something else than strings, or batch_size < 1.
        """
        if isinstance(texts, str):
            raise UsageError("texts is one string; expected a list of strings", hint="put it into brackets: [text]")
        if batch_size < 1:
            raise UsageError(f"batch_size={batch_size} is not possible", hint="use 1 or more")
        for text in texts:
            _check_text(text)
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        unique = list(rows)
        result = torch.empty(len(unique), self.tower.dim)
        cut = 0
        for start in range(0, len(unique), CHUNK):
            chunk = unique[start : start + CHUNK]
            tokens = self.tower.tokenize(chunk)
            cut += self.tower.count_cut(chunk, tokens)
            if int(tokens[IDS].max()) >= self.tower.vocab_size:
                raise ModelConfigError(
                    f"the tokenizer makes ids beyond the {self.tower.vocab_size} that the text tower knows", hint=MIXED_UP
                )
            result[start : start + len(chunk)] = self._encode_tokens(tokens, batch_size)
        if cut:
            _log.warning("%d of %d texts are longer than the model's context and lost their end", cut, len(unique))
        return result[torch.tensor([rows[text] for text in texts], dtype=torch.long)]

    def _encode_tokens(self, tokens: Tokens, batch_size: int) -> Tensor:
        count, width = tokens[IDS].shape
        lengths = self.tower.lengths(tokens) if self.trim is not False else None
        if lengths is None:
            lengths = torch.full((count,), width)
        elif self.trim is None:
            self.trim = self._guard(tokens, lengths, width)
            if self.trim is False:
                lengths = torch.full_like(lengths, width)
        order = torch.argsort(lengths, stable=True)
        result = torch.empty(len(order), self.tower.dim)
        start = 0
        while start < len(order):
            size = batch_size
            if self.device.type == "cpu":
                longest = int(lengths[order[min(start + size, len(order)) - 1]])
                size = min(size, max(1, CPU_POSITIONS // longest))
            rows = order[start : start + size]
            result[rows] = self._forward(tokens, rows, int(lengths[rows].max()))
            start += size
        return result

    def _guard(self, tokens: Tokens, lengths: Tensor, width: int) -> bool | None:
        """Whether trimmed and full agree on a few of these texts, from the shortest to the longest; None if none can be trimmed."""
        short = torch.nonzero(lengths < width).flatten()
        if not len(short):
            return None
        order = short[torch.argsort(lengths[short], stable=True)]
        picks = order[torch.linspace(0, len(order) - 1, min(GUARD_TEXTS, len(order))).long()]
        trimmed = self._forward(tokens, picks, int(lengths[picks].max()))
        difference = (trimmed - self._forward(tokens, picks, width)).abs().max().item()
        if difference <= GUARD_TOLERANCE[self.dtype]:
            return True
        _log.warning("this text tower reads behind the end of a text (by %.1e): encoding at full length, which is slower", difference)
        return False

    def _forward(self, tokens: Tokens, rows: Tensor, length: int) -> Tensor:
        batch = {name: tensor[rows, :length].to(self.device) for name, tensor in tokens.items()}
        with torch.inference_mode():
            features = self.tower.features(batch).float()
        return unit(features, self.dtype)


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise UsageError(f"texts holds a {type(text).__name__}; expected strings")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"the text {text[:60]!r} is not valid Unicode", hint="it holds half of a character; read its file as UTF-8"
        ) from None


def unit(features: Tensor, dtype: torch.dtype) -> Tensor:
    """float32 of norm 1 on the CPU. Called outside inference mode: heads can train on the result.

    Raises: ModelConfigError: if the model computed something else than finite numbers in ``dtype``.
    """
    features = functional.normalize(features.float(), dim=-1).cpu()
    if not bool(features.isfinite().all()):
        hint = "the weights are damaged" if dtype == torch.float32 else "try --dtype float32"
        raise ModelConfigError(f"the model's embeddings in {str(dtype).removeprefix('torch.')} are not finite numbers", hint=hint)
    return features


def first_position_of(ids: Tensor, token: int) -> Tensor:
    """(N,) position of the first ``token`` in each row of (N, L) ids.

    Raises: ModelConfigError: if a row has none: the libraries would pool at the first position, where all texts are equal.
    """
    found = ids == token
    if not bool(found.any(dim=-1).all()):
        raise ModelConfigError(f"the tokenizer does not end texts with the token {token}, at which the text tower pools", hint=MIXED_UP)
    return found.int().argmax(dim=-1)
