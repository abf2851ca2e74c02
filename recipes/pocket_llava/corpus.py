"""The pictures that pocket-llava is trained on, and its tokenizer."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from evals.bazaar.scene import render_scene, scene
from evals.bazaar.vqa import training_questions
from recipes.pocket_clip import data
from recipes.pocket_clip.model import IMAGE_SIZE
from recipes.pocket_llava.data import POST_PROMPTS, TRAIN_SEED
from recipes.pocket_llava.tokenizer import train_tokenizer

BLOCK = 500
READ = 6000  # scenes whose questions the tokenizer is trained on


def tokenizer(work: Path, vocabulary: int) -> PreTrainedTokenizerFast:
    """The tokenizer of ``work``, trained first if it is not there."""
    folder = work / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        asked = [pair for index in range(READ) for pair in training_questions(scene(index, TRAIN_SEED), 6)]
        texts = [f"{question}{POST_PROMPTS[k % 2]} ASSISTANT: {answer}" for k, (question, answer) in enumerate(asked)]
        train_tokenizer(["USER: ", *texts], vocabulary).save_pretrained(folder)
    found: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
    return found


def _block(start: int) -> np.ndarray:
    return np.stack([render_scene(scene(index, TRAIN_SEED), IMAGE_SIZE) for index in range(start, start + BLOCK)])


def pictures(work: Path, count: int) -> np.ndarray:
    """(count, S, S, 3) uint8: scenes 0 to ``count`` - 1, rendered by worker processes if they are not there."""
    if (work / "rendered").exists():
        return np.load(work / "pixels.npy", mmap_mode="r")[:count]
    array = data.pixel_file(work, count, IMAGE_SIZE)
    with ProcessPoolExecutor() as pool:
        for number, photos in enumerate(pool.map(_block, range(0, count, BLOCK))):
            array[number * BLOCK :][: len(photos)] = photos[: count - number * BLOCK]
            print(f"\rrendered {number * BLOCK + len(photos)} of {count}", end="", flush=True)
    array.flush()
    (work / "rendered").touch()
    print()
    return array
