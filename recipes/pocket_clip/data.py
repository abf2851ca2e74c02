"""Packing photos and captions into files that train without decoding, and making batches of them.

A pack is a folder of numpy files: ``pixels.npy`` (N, S, S, 3) uint8, ``row_facts.npy`` (N, F) bool, ``row_texts.npy`` (N, K) int32
into the unique texts, ``ids.npy`` (U, L) uint16 padded with the end-of-text token, ``text_facts.npy`` (U, M) int16 padded with -1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

Caption = tuple[str, frozenset[str]]
MEAN = STD = (0.5, 0.5, 0.5)
MOST_FACTS = 16


class Vocabulary:
    """Fact -> number, in order of appearance."""

    def __init__(self) -> None:
        self.number: dict[str, int] = {}

    def __call__(self, facts: Iterable[str]) -> list[int]:
        return [self.number.setdefault(fact, len(self.number)) for fact in sorted(facts)]


def write_pack(
    folder: Path, rows: Sequence[frozenset[str]], captions: Sequence[Sequence[Caption]], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write everything of a pack but its pixels.

    Args:
        rows: facts of each of the N photos. captions: K captions for each of them.
    """
    vocabulary = Vocabulary()
    texts: dict[Caption, int] = {}
    row_texts = np.array([[texts.setdefault(caption, len(texts)) for caption in own] for own in captions], dtype=np.int32)
    text_facts = np.full((len(texts), MOST_FACTS), -1, dtype=np.int16)
    for (_, facts), number in texts.items():
        numbers = vocabulary(facts)
        text_facts[number, : len(numbers)] = numbers
    encoded = [vocabulary(facts) for facts in rows]
    row_facts = np.zeros((len(rows), len(vocabulary.number)), dtype=bool)
    for row, numbers in enumerate(encoded):
        row_facts[row, numbers] = True
    ids = tokenizer([text for text, _ in texts], truncation=True, max_length=48).input_ids
    padded = np.full((len(ids), max(map(len, ids))), tokenizer.eos_token_id, dtype=np.uint16)
    for number, tokens in enumerate(ids):
        padded[number, : len(tokens)] = tokens
    for name, array in {"row_texts": row_texts, "text_facts": text_facts, "row_facts": row_facts, "ids": padded}.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "facts.json").write_text(json.dumps(vocabulary.number))


@dataclass(frozen=True)
class Pack:
    """One packed source. ``flips``: its photos have no up or down (satellite tiles)."""

    pixels: np.ndarray
    row_facts: np.ndarray
    row_texts: np.ndarray
    ids: np.ndarray
    text_facts: np.ndarray
    flips: bool

    @classmethod
    def read(cls, folder: Path, *, flips: bool) -> Pack:
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("pixels", "row_facts", "row_texts", "ids", "text_facts")
        }
        return cls(**arrays, flips=flips)


class Batches:
    """A collator: the numbers of the draws in, a batch out. Draw ``k`` is the same photo, crop and captions in every run.

    Args:
        packs: the sources; facts of different sources never meet. shares: their shares of a batch. captions: texts for each photo.
    """

    def __init__(self, packs: Sequence[Pack], shares: Sequence[float], *, captions: int, seed: int) -> None:
        self.packs, self.shares, self.captions, self.seed = packs, shares, captions, seed

    def __call__(self, draws: Sequence[int]) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, int(draws[0])])
        counts = [round(share * len(draws)) for share in self.shares]
        counts[0] += len(draws) - sum(counts)
        parts = [self._part(pack, count, rng) for pack, count in zip(self.packs, counts, strict=True)]
        length = max(part["ids"].shape[1] for part in parts)
        ids = torch.cat([F.pad(part["ids"], (0, length - part["ids"].shape[1]), value=int(part["end"])) for part in parts])
        positive = torch.block_diag(*(part["positive"].float() for part in parts)).bool()
        return {"pixels": torch.cat([part["pixels"] for part in parts]), "ids": ids, "positive": positive}

    def _part(self, pack: Pack, count: int, rng: np.random.Generator) -> dict[str, Any]:
        rows = np.sort(rng.choice(len(pack.pixels), size=count, replace=count > len(pack.pixels)))
        which = np.stack([rng.choice(pack.row_texts.shape[1], size=self.captions, replace=False) for _ in rows])
        texts = np.take_along_axis(pack.row_texts[rows], which, axis=1).ravel()
        ids = pack.ids[texts].astype(np.int64)
        end = int(ids[0, -1])
        used = int((ids != end).sum(axis=1).max()) + 1
        positive = true_of(pack.text_facts[texts], pack.row_facts[rows])
        pixels = torch.from_numpy(pack.pixels[rows]).permute(0, 3, 1, 2).float().div_(255)
        pixels = augment(pixels, rng, flips=pack.flips)
        return {"pixels": normalise(pixels), "ids": torch.from_numpy(ids[:, :used]), "end": end, "positive": torch.from_numpy(positive)}


def true_of(text_facts: np.ndarray, row_facts: np.ndarray) -> np.ndarray:
    """(T, B) bool: whether all facts of a text, (T, M) padded with -1, are among those of a row, (B, F) bool."""
    facts = text_facts.astype(np.int64)
    truth: np.ndarray = (row_facts[:, np.maximum(facts, 0)] | (facts < 0)[None]).all(axis=2).T
    return truth


def normalise(pixels: Tensor) -> Tensor:
    """(B, 3, S, S) in [0, 1] -> the processor's range [-1, 1]."""
    return (pixels - 0.5) / 0.5


def augment(pixels: Tensor, rng: np.random.Generator, *, flips: bool) -> Tensor:
    """Random zoom, shift, small turn (with ``flips``: any symmetry of the square), brightness, contrast; one resampling in all."""
    n = len(pixels)
    zoom = rng.uniform(0.65, 1.0, n) if flips else rng.uniform(0.9, 1.06, n)
    angle = rng.uniform(-4, 4, n) * np.pi / 180 + (rng.integers(0, 4, n) * np.pi / 2 if flips else 0)
    mirror = np.where(rng.random(n) < 0.5, -1.0, 1.0) if flips else np.ones(n)
    room = np.maximum(1 - zoom, 0.04)
    theta = np.zeros((n, 2, 3))
    theta[:, 0, 0], theta[:, 0, 1] = zoom * np.cos(angle) * mirror, -zoom * np.sin(angle)
    theta[:, 1, 0], theta[:, 1, 1] = zoom * np.sin(angle) * mirror, zoom * np.cos(angle)
    theta[:, :, 2] = rng.uniform(-1, 1, (n, 2)) * room[:, None]
    grid = F.affine_grid(torch.from_numpy(theta).float(), list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    gain = torch.from_numpy(rng.uniform(0.85, 1.15, (n, 1, 1, 1))).float()
    contrast = torch.from_numpy(rng.uniform(0.85, 1.15, (n, 1, 1, 1))).float()
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    return (((pixels - mean) * contrast + mean) * gain).clamp_(0, 1)


def pixel_file(folder: Path, n: int, size: int) -> np.ndarray:
    """The pixel array of a pack, opened for writing; an existing file of the right shape is kept."""
    path = folder / "pixels.npy"
    if path.exists():
        array = np.lib.format.open_memmap(path, mode="r+")
        if array.shape == (n, size, size, 3):
            return array
    return open_memmap(path, mode="w+", dtype=np.uint8, shape=(n, size, size, 3))
