"""Training data of pocket-llava: patch features of scenes, and rows that ask several questions about one picture.

Every question of a row sees the picture and itself, not the other questions: a row trains exactly what a single question will be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from PIL import Image
from torch import Tensor
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from evals.bazaar.scene import scene
from evals.bazaar.streams import Stream
from evals.bazaar.vqa import training_questions
from recipes.pocket_clip.data import normalise
from recipes.pocket_clip.model import IMAGE_SIZE, TOKENS
from recipes.pocket_llava import model as M
from recipes.pocket_llava.tokenizer import IMAGE

TRAIN_SEED = 1
POST_PROMPTS = ("\nAnswer the question using a single word or phrase.", "")
POST_SHARES = (0.65, 0.35)
TWO_IMAGES = 0.12  # share of the batches with a second picture, a part of the first


def crop_box(index: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a square part of scene ``index``: a quarter to three quarters of the side, anywhere."""
    stream = Stream(TRAIN_SEED, index, 94)
    side = round(IMAGE_SIZE * stream.uniform(0.25, 0.75))
    left, top = stream.integer(IMAGE_SIZE - side + 1), stream.integer(IMAGE_SIZE - side + 1)
    return left, top, left + side, top + side


def encode(model: LlavaForConditionalGeneration, pixels: np.ndarray, file: Path, *, crops: bool, batch: int = 64) -> np.ndarray:
    """(N, P, D) float16 features of the photos (or of one part of each), written to ``file`` and kept there."""
    done = file.with_suffix(".done")
    if done.exists():
        return np.load(file, mmap_mode="r")
    width = model.config.vision_config.hidden_size
    out = open_memmap(file, mode="w+", dtype=np.float16, shape=(len(pixels), TOKENS, width))
    device = next(model.parameters()).device
    for start in range(0, len(pixels), batch):
        photos = np.asarray(pixels[start : start + batch])
        if crops:
            photos = np.stack([_enlarged(photo, crop_box(start + k)) for k, photo in enumerate(photos)])
        tensor = normalise(torch.from_numpy(photos).permute(0, 3, 1, 2).float().div_(255)).to(device)
        out[start : start + len(photos)] = M.features(model, tensor).half().cpu().numpy()
        print(f"\r{file.name}: {start + len(photos)} of {len(pixels)}", end="", flush=True)
    out.flush()
    done.touch()
    print()
    return np.load(file, mmap_mode="r")


def _enlarged(photo: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(photo).crop(box).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


class Rows:
    """A collator: the number of a draw in, a batch out; the same in every run.

    Args:
        pictures: (N, P, D) features of scenes 0 to N - 1, or None for a question-only model.
        parts: (K, P, D) features of a part of each of the first K scenes.
        rows: scenes a batch. questions: questions a scene.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, pictures: np.ndarray | None, parts: np.ndarray | None, scenes: int, *,
        rows: int, questions: int, seed: int, ask: Callable[..., list[tuple[str, str]]] = training_questions,
    ) -> None:  # fmt: skip
        self.tokenizer, self.pictures, self.parts, self.scenes = tokenizer, pictures, parts, scenes
        self.rows, self.questions, self.seed, self.ask = rows, questions, seed, ask
        self._known: dict[str, list[int]] = {}

    def __call__(self, draws: Sequence[int]) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, int(draws[0])])
        two = self.parts is not None and rng.random() < TWO_IMAGES
        chosen = np.sort(rng.choice(len(self.parts) if two and self.parts is not None else self.scenes, size=self.rows, replace=False))
        images = 0 if self.pictures is None else 2 if two else 1
        built = [self._row(int(index), images, rng, int(draws[0])) for index in chosen]
        length = max(len(row[0]) for row in built)
        pads = (self.tokenizer.pad_token_id, 0, -1, -100)
        names = ("ids", "positions", "segments", "labels")
        batch = {
            name: torch.tensor([[*row[k], *[pads[k]] * (length - len(row[k]))] for row in built])
            for k, name in enumerate(names)
        }
        if self.pictures is not None:
            seen = [self.pictures[chosen]] + ([self.parts[chosen]] if two and self.parts is not None else [])
            batch["features"] = torch.from_numpy(np.stack(seen, axis=1)).float()
        return batch

    def _row(self, index: int, images: int, rng: np.random.Generator, draw: int) -> tuple[list[int], list[int], list[int], list[int]]:
        """Tokens, positions, segments and labels of the questions about one scene."""
        prefix = self.prefix(images)
        ids, positions, segments = list(prefix), list(range(len(prefix))), [0] * len(prefix)
        labels = [-100] * len(prefix)
        asked = self.ask(scene(index, TRAIN_SEED), self.questions, draw=draw)
        posts = rng.choice(len(POST_PROMPTS), size=len(asked), p=POST_SHARES)
        for number, ((question, answer), post) in enumerate(zip(asked, posts, strict=True), start=1):
            asks = self._tokens(f"{question}{POST_PROMPTS[post]} ASSISTANT:")
            says = [*self._tokens(f" {answer}"), self.tokenizer.eos_token_id]
            own = asks + says[:-1]
            ids += own
            positions += range(len(prefix), len(prefix) + len(own))
            segments += [number] * len(own)
            labels += [-100] * (len(asks) - 1) + says
        return ids, positions, segments, labels

    def prefix(self, images: int) -> list[int]:
        """What stands before the question, as the chat template and the processor make it."""
        line = [*[self.tokenizer.convert_tokens_to_ids(IMAGE)] * TOKENS, *self._tokens("\n")]
        return [self.tokenizer.bos_token_id, *self._tokens("USER: "), *(line * images)]

    def _tokens(self, text: str) -> list[int]:
        if text not in self._known:  # the same questions and answers come again and again
            self._known[text] = self.tokenizer(text, add_special_tokens=False).input_ids
        return self._known[text]
