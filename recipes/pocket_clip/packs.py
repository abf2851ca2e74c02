"""The training packs of pocket-clip: Bazaar renders and EuroSAT train photos with their captions, and the tokenizer."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from evals.bazaar.captions import caption, facts
from evals.bazaar.items import Item, item
from evals.bazaar.render import render
from evals.bazaar.splits import is_heldout
from evals.bazaar.streams import Stream
from recipes.pocket_clip import data, eurosat
from recipes.pocket_clip.model import IMAGE_SIZE
from recipes.pocket_clip.tokenizer import train_tokenizer

TRAIN_SEED = 1  # the tasks use marketplace 0: no item of theirs is ever seen
BLOCK = 1000
PROMPTS = Path(__file__).parents[2] / "prompts"


def prepare(work: Path, eurosat_folder: Path, *, rows: int, captions: int, vocabulary: int, seed: int) -> PreTrainedTokenizerBase:
    """Write what is missing of the tokenizer and both packs below ``work``; returns the tokenizer."""
    if (work / "bazaar" / "facts.json").exists():  # written last
        return AutoTokenizer.from_pretrained(work / "tokenizer")
    goods = [_pick(row) for row in range(rows)]
    (work / "bazaar").mkdir(exist_ok=True)
    _render_all(work / "bazaar", goods)
    texts = [[caption(thing, Stream(TRAIN_SEED, thing.index, 99, view, k), view=view) for k in range(captions)] for thing, view in goods]
    if not (work / "eurosat" / "captions.json").exists():
        _pack_eurosat(work, eurosat_folder, captions, seed)
    land = [[(text, frozenset(claims)) for text, claims in own] for own in json.loads((work / "eurosat" / "captions.json").read_text())]
    if not (work / "tokenizer" / "tokenizer.json").exists():
        corpus = [text for own in (*texts, *land) for text, _ in own]
        train_tokenizer(_balanced(corpus), vocabulary).save_pretrained(work / "tokenizer")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(work / "tokenizer")
    if not (work / "eurosat" / "facts.json").exists():
        labels = json.loads((work / "eurosat" / "labels.json").read_text())
        data.write_pack(work / "eurosat", [eurosat.facts_of_class(name) for name in labels], land, tokenizer)
    if not (work / "bazaar" / "facts.json").exists():
        data.write_pack(work / "bazaar", [facts(thing, view) for thing, view in goods], texts, tokenizer)
    return tokenizer


def _pick(row: int) -> tuple[Item, int]:
    """Row -> item and view; an item of a held-out line or combination is replaced by one far away."""
    index = row
    while True:
        thing = item(index, TRAIN_SEED)
        if not is_heldout(thing):
            return thing, (0, 0, 1, 2)[row % 4]
        index += 10_000_000


def _balanced(corpus: list[str]) -> Iterator[str]:
    """Captions, and the shipped prompt texts so that words of other domains have pieces too."""
    yield from random.Random(0).sample(corpus, min(len(corpus), 200_000))
    for file in sorted(PROMPTS.rglob("*.json")):
        yield from _strings(json.loads(file.read_text()))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item_ in value.items():
            yield from _strings(key)
            yield from _strings(item_)
    elif isinstance(value, list):
        for item_ in value:
            yield from _strings(item_)


def _pack_eurosat(work: Path, folder: Path, captions: int, seed: int) -> None:
    out = work / "eurosat"
    out.mkdir(exist_ok=True)
    pixels, labels = eurosat.load(folder, IMAGE_SIZE)
    array = data.pixel_file(out, len(pixels), IMAGE_SIZE)
    array[:] = pixels
    array.flush()
    rng = random.Random(seed)
    own = [[eurosat.caption(name, rng) for _ in range(captions)] for name in labels]
    (out / "labels.json").write_text(json.dumps(labels))
    (out / "captions.json").write_text(json.dumps([[(text, sorted(claims)) for text, claims in row] for row in own]))


def _render_block(start: int, rows: int) -> tuple[int, np.ndarray]:
    stop = min(start + BLOCK, rows)
    return start, np.stack([render(thing, IMAGE_SIZE, view) for thing, view in map(_pick, range(start, stop))])


def _render_all(folder: Path, goods: list[tuple[Item, int]]) -> None:
    """Render in worker processes; finished blocks are remembered, so an interrupted run goes on."""
    array = data.pixel_file(folder, len(goods), IMAGE_SIZE)
    done_file = folder / "done.json"
    done: set[int] = set(json.loads(done_file.read_text())) if done_file.exists() else set()
    todo = [start for start in range(0, len(goods), BLOCK) if start not in done]
    if not todo:
        return
    with ProcessPoolExecutor() as pool:
        for start, block in pool.map(_render_block, todo, [len(goods)] * len(todo)):
            array[start : start + len(block)] = block
            array.flush()
            done.add(start)
            done_file.write_text(json.dumps(sorted(done)))
            print(f"\rrendered {len(done) * BLOCK} of {len(goods)}", end="", flush=True)
    print()
