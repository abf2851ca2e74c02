"""The packs of the second stage: photos whose texts speak of regions, so that patch features mean what lies under them.

``twins``: photos of damaged goods, each followed by the same photo of the undamaged thing; the damaged places are regions of both.
``scenes``: pictures of several things, perhaps with a price tag; each thing and the tag is a region.

A pack is a folder of numpy files: ``pixels.npy`` (N, S, S, 3) uint8; then R rows, each the whole photo or a region of it: ``row_image.npy``
(R,) int32, ``row_weights.npy`` (R, P) uint8 share of each patch that the region covers (all 0: the whole photo), and facts and texts
of rows as in ``data.py``. The rows of a photo follow each other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from evals.bazaar.captions import ABSENT_WORDS, DAMAGE_WORDS, DAMAGED, FAINT, PERFECT, Caption, caption, facts
from evals.bazaar.defects import Defect
from evals.bazaar.items import Item, item
from evals.bazaar.render import masks, render
from evals.bazaar.scene import Placed, render_scene, scene, scene_masks
from evals.bazaar.splits import is_heldout
from evals.bazaar.streams import Stream
from evals.bazaar.world import CATEGORIES
from recipes.pocket_clip import data
from recipes.pocket_clip.model import IMAGE_SIZE, PATCH

TRAIN_SEED = 1
CAPTIONS = 8
TEXTS = 176  # of a region pack in a batch
KINDS = tuple(DAMAGE_WORDS)
TWINS, SCENES = 16_000, 24_000  # pairs, pictures
BLOCK = 500
SIDE = IMAGE_SIZE // PATCH
LEAST_COVER = 24  # of 255: a patch that a region covers less does not belong to it
TAG_TEXTS = ("a price tag that says {}", "a price tag of {} euros", "the price is {}", "{} euros", "a tag with the number {}", "{}")
ABOUT_TAGS = ("a price tag", "a white tag", "a label with a price", "a number on a tag")


class Row(NamedTuple):
    """A photo (``weights`` None) or a region of it, with what is true of it and what is said of it."""

    weights: np.ndarray | None
    facts: frozenset[str]
    texts: list[Caption]


def cover(mask: np.ndarray) -> np.ndarray:
    """(S, S) bool -> (P,) uint8, the covered share of each patch."""
    share = mask.reshape(SIDE, PATCH, SIDE, PATCH).mean(axis=(1, 3)).ravel() * 255
    return np.where(share >= LEAST_COVER, share, 0).astype(np.uint8)


def twin_block(start: int) -> tuple[np.ndarray, list[list[Row]]]:
    """Photos and rows of the pairs ``start`` to ``start + BLOCK``: the damaged photo, then the undamaged one."""
    photos, rows = [], []
    for number in range(start, start + BLOCK):
        thing, view = _damaged(number)
        whole = replace(thing, defects=())
        photos += [render(thing, IMAGE_SIZE, view), render(thing, IMAGE_SIZE, view, clean=True)]
        covers = [cover(mask) for mask in masks(thing, IMAGE_SIZE, view).defects]
        for shown, photo_rows in ((thing, []), (whole, [])):
            stream = Stream(TRAIN_SEED, thing.index, 97, view, len(shown.defects))
            texts = [caption(shown, stream, "condition" if k % 2 else None, view) for k in range(CAPTIONS)]
            photo_rows.append(Row(None, facts(shown, view), texts))
            for defect, covered in zip(thing.defects, covers, strict=True):
                if covered.any() and defect.severity >= FAINT:
                    photo_rows.append(_place(thing, defect if shown.defects else None, covered, stream))
            rows.append(photo_rows)
    return np.stack(photos), rows


def _damaged(number: int) -> tuple[Item, int]:
    """The damaged item of pair ``number``: the first one from its own range of indices on."""
    index = 20_000_000 + number * 64
    while True:
        thing = item(index, TRAIN_SEED)
        if any(defect.severity >= FAINT for defect in thing.defects) and not is_heldout(thing):
            return thing, (0, 0, 1, 2)[number % 4]
        index += 1


def _place(thing: Item, defect: Defect | None, covered: np.ndarray, stream: Stream) -> Row:
    """A damaged place, or the same place of the undamaged thing."""
    about = {f"category={thing.category}", f"material={thing.material}", "part"}
    if defect is None:
        about |= {"undamaged", *(f"no:{kind}" for kind in DAMAGE_WORDS)}
        told = [_absent(stream) for _ in range(CAPTIONS)]
    else:
        about |= {"damaged", f"damage:{defect.type}", f"on:{defect.type}:{defect.part}"}
        about |= {f"no:{kind}" for kind in DAMAGE_WORDS if kind != defect.type}
        about |= {f"gone:{defect.part}"} if defect.type == "missing part" else set()
        told = [_present(defect, stream) for _ in range(CAPTIONS)]
    return Row(covered, frozenset(about), told)


def _absent(stream: Stream) -> Caption:
    if stream.chance(0.6):
        return stream.choice(PERFECT), frozenset({"undamaged"})
    kind = stream.choice(tuple(ABSENT_WORDS))
    return stream.choice(ABSENT_WORDS[kind]), frozenset({f"no:{kind}"})


def _present(defect: Defect, stream: Stream) -> Caption:
    draw = stream.random()
    if draw < 0.3:
        return stream.choice(DAMAGED), frozenset({"damaged"})
    words = DAMAGE_WORDS[defect.type]
    if draw < 0.8:
        return stream.choice(words), frozenset({f"damage:{defect.type}"})
    if defect.type == "missing part":
        return f"the {defect.part} is missing", frozenset({f"gone:{defect.part}"})
    return f"{stream.choice(words[1:])} on the {defect.part}", frozenset({f"on:{defect.type}:{defect.part}"})


def scene_block(start: int) -> tuple[np.ndarray, list[list[Row]]]:
    """Photos and rows of the scenes ``start`` to ``start + BLOCK``."""
    photos, rows = [], []
    for number in range(start, start + BLOCK):
        shown = scene(number, TRAIN_SEED)
        photos.append(render_scene(shown, IMAGE_SIZE))
        found = scene_masks(shown, IMAGE_SIZE)
        own = [_thing(placed, mask, number) for placed, mask in zip(shown.things, found.things, strict=True)]
        if shown.tag is not None and found.tag is not None:
            stream = Stream(TRAIN_SEED, number, 96)
            texts = [_tag_text(shown.tag.price, stream) for _ in range(CAPTIONS)]
            own.append(Row(cover(found.tag), frozenset({"tag", f"price={shown.tag.price}"}), texts))
        rows.append([row for row in own if row.weights is not None and row.weights.any()])
    return np.stack(photos), rows


def _thing(placed: Placed, mask: np.ndarray, number: int) -> Row:
    stream = Stream(TRAIN_SEED, number, 95, placed.item.index % 2**31)
    about = frozenset(fact for fact in facts(placed.item) if not fact.startswith(("background", "has:", "lacks:")))
    kinds = ("category", "adjectives", "adjectives", "phrase", "full")
    told = [caption(placed.item, stream, kinds[k % len(kinds)]) for k in range(CAPTIONS)]
    return Row(cover(mask), about, told)


def _tag_text(price: int, stream: Stream) -> Caption:
    if stream.chance(0.12):
        return stream.choice(ABOUT_TAGS), frozenset({"tag"})
    return stream.choice(TAG_TEXTS).format(price), frozenset({f"price={price}"})


def prepare(work: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write what is missing of both packs below ``work``."""
    for name, block, count, per in (("twins", twin_block, TWINS, 2), ("scenes", scene_block, SCENES, 1)):
        folder = work / name
        if (folder / "facts.json").exists():  # written last
            continue
        folder.mkdir(parents=True, exist_ok=True)
        pixels = data.pixel_file(folder, count * per, IMAGE_SIZE)
        rows: list[list[Row]] = []
        with ProcessPoolExecutor() as pool:
            for number, (photos, own) in enumerate(pool.map(block, range(0, count, BLOCK))):
                pixels[number * BLOCK * per :][: len(photos)] = photos
                rows += own
                print(f"\r{name}: {len(rows)} of {count * per}", end="", flush=True)
        print()
        flat = [row for own in rows for row in own]
        nothing = np.zeros(SIDE * SIDE, dtype=np.uint8)
        np.save(folder / "row_image.npy", np.repeat(np.arange(len(rows), dtype=np.int32), [len(own) for own in rows]))
        np.save(folder / "row_weights.npy", np.stack([nothing if row.weights is None else row.weights for row in flat]))
        data.write_pack(folder, [row.facts for row in flat], [row.texts for row in flat], tokenizer)


@dataclass(frozen=True)
class RegionPack:
    """One packed source with regions; ``group``: so many photos in a row belong together."""

    pack: data.Pack
    row_image: np.ndarray
    row_weights: np.ndarray
    group: int
    facts: dict[str, int]

    def fact(self, name: str) -> int:
        """The column of a fact; the last one, which no row has, if none of the pack's photos has it."""
        return self.facts.get(name, -1)

    @classmethod
    def read(cls, folder: Path, *, group: int) -> RegionPack:
        pack = data.Pack.read(folder, flips=False)
        empty = np.zeros((len(pack.row_facts), 1), dtype=bool)
        pack = replace(pack, row_facts=np.hstack([pack.row_facts, empty]))
        row_image, row_weights = np.load(folder / "row_image.npy"), np.load(folder / "row_weights.npy", mmap_mode="r")
        return cls(pack, row_image, row_weights, group, json.loads((folder / "facts.json").read_text()))


class RegionBatches:
    """A collator for the second stage: whole photos of the first stage's packs, and photos with their regions.

    A batch is ``pixels`` (B, 3, S, S), ``row_image`` (R,), ``row_weights`` (R, P) float (all 0: the whole photo), ``ids`` (T, L) and
    ``positive`` (T, R). ``counts`` whole photos of each pack and ``groups`` groups of each region pack make one. For the probe of
    condition, the photos from ``probe_start`` on, as many as ``probe_kind`` has rows, are twins: ``probe_kind`` (N, P) is the number of the
    damage at each patch (0: none), ``probe_category`` (N,) the category; and ``probe_ids`` (C + 1, 8, L) are texts, one set without a
    noun and one a category, each of "undamaged", six kinds of damage and "damaged".
    """

    def __init__(
        self, packs: Sequence[data.Pack], counts: Sequence[int], regions: Sequence[RegionPack], groups: Sequence[int], *,
        captions: int, seed: int, tokenizer: PreTrainedTokenizerBase,
    ) -> None:  # fmt: skip
        self.whole = data.Batches(packs, [count / sum(counts) for count in counts], captions=captions, seed=seed)
        self.counts, self.regions, self.groups, self.captions, self.seed = counts, regions, groups, captions, seed
        self.tokenizer = tokenizer

    def __call__(self, draws: Sequence[int]) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed + 1, int(draws[0])])
        first = self.whole([int(draws[0])] * sum(self.counts))
        plain = len(first["pixels"])
        parts = [{**first, "row_image": torch.arange(plain), "row_weights": torch.zeros(plain, SIDE * SIDE)}]
        parts += [self._part(source, count, rng) for source, count in zip(self.regions, self.groups, strict=True)]
        length = -(-max(part["ids"].shape[1] for part in parts) // 8) * 8  # few different shapes: the allocator's memory stays small
        end = int(self.tokenizer.eos_token_id)
        starts = np.cumsum([0, *(len(part["pixels"]) for part in parts[:-1])])
        return {
            "probe_start": torch.tensor(plain),
            "probe_kind": parts[1]["kind"],
            "probe_category": parts[1]["category"],
            "probe_ids": self._probe_texts(int(draws[0])),
            "pixels": torch.cat([part["pixels"] for part in parts]),
            "row_image": torch.cat([part["row_image"] + int(start) for part, start in zip(parts, starts, strict=True)]),
            "row_weights": torch.cat([part["row_weights"] for part in parts]),
            "ids": torch.cat([F.pad(part["ids"], (0, length - part["ids"].shape[1]), value=end) for part in parts]),
            "positive": torch.block_diag(*(part["positive"].float() for part in parts)).bool(),
        }

    def _probe_texts(self, draw: int) -> Tensor:
        """(C + 1, 8, L) token ids."""
        stream = Stream(self.seed, draw, 93)
        texts = [text for noun in (None, *CATEGORIES) for text in probe_texts(noun, stream)]
        ids = self.tokenizer(texts, padding="max_length", max_length=24, truncation=True).input_ids
        found = torch.tensor(ids).reshape(len(CATEGORIES) + 1, len(KINDS) + 2, -1)
        return torch.where(found == self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, found)

    def _part(self, source: RegionPack, count: int, rng: np.random.Generator) -> dict[str, Tensor]:
        pack = source.pack
        groups = np.sort(rng.choice(len(pack.pixels) // source.group, size=count, replace=False))
        images = (groups[:, None] * source.group + np.arange(source.group)).ravel()
        starts, ends = np.searchsorted(source.row_image, images), np.searchsorted(source.row_image, images, side="right")
        rows = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])
        owner = np.repeat(np.arange(len(images)), ends - starts)
        texts = np.unique(pack.row_texts[rows, rng.integers(0, CAPTIONS, size=(self.captions, len(rows)))])
        texts = np.sort(rng.choice(texts, size=min(TEXTS, len(texts)), replace=False))
        pixels = torch.from_numpy(pack.pixels[images]).permute(0, 3, 1, 2).float().div_(255)
        gain = torch.from_numpy(rng.uniform(0.85, 1.15, (count, 1, 1, 1))).float().repeat_interleave(source.group, dim=0)
        weights, facts_of = source.row_weights[rows], pack.row_facts[rows]
        kind = np.zeros((len(images), SIDE * SIDE), dtype=np.int64)
        for number, name in enumerate(KINDS, start=1):
            for row in np.flatnonzero(facts_of[:, source.fact(f"damage:{name}")] & (weights.max(axis=1) > 0)):
                kind[owner[row], weights[row] > 0] = number
        category = np.zeros(len(images), dtype=np.int64)
        for number, name in enumerate(CATEGORIES):
            category[owner[facts_of[:, source.fact(f"category={name}")]]] = number
        return {
            "pixels": data.normalise((pixels * gain).clamp_(0, 1)),
            "row_image": torch.from_numpy(owner),
            "row_weights": torch.from_numpy(weights.astype(np.float32) / 255),
            "ids": torch.from_numpy(pack.ids[texts].astype(np.int64)),
            "positive": torch.from_numpy(data.true_of(pack.text_facts[texts], facts_of)),
            "kind": torch.from_numpy(kind),
            "category": torch.from_numpy(category),
        }


def probe_texts(noun: str | None, stream: Stream) -> list[str]:
    """One text each for undamaged, every kind of damage, damaged; about a category or about nothing in particular."""
    frame = "{}" if noun is None or stream.chance(0.3) else stream.choice(("a photo of {}", "a picture of {}", "a product photo of {}"))

    def joined(text: str) -> str:
        if noun is None:
            return text
        if text.startswith(("with", "in ", "no ", "a ", "the ", "like", "something", "nothing", "scratches", "scuff", "cracks")):
            glue = "" if text.startswith(("with", "in ")) else "with "
            return frame.format(f"a {noun} {glue}{text}")
        return frame.format(f"a {text} {noun}")

    return [joined(stream.choice(PERFECT)), *(joined(stream.choice(DAMAGE_WORDS[kind])) for kind in KINDS), joined(stream.choice(DAMAGED))]
