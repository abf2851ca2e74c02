"""Models with random weights in real shapes, image files, and the one way in which a benchmark speaks."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

ADJECTIVES = ["bad", "good", "large", "small", "red", "green", "blue", "black", "white", "cracked"]
NOUNS = ["dog", "cat", "phone", "shoe", "bag", "screen", "laces"]
SHAPES: dict[str, dict[str, Any]] = {
    "vit-b-32": {
        "vision": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
        "image": {"image_size": 224, "patch_size": 32},
        "text": {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8},
        "dim": 512,
    },
    "pocket": {
        "vision": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 4},
        "image": {"image_size": 96, "patch_size": 8},
        "text": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4},
        "dim": 256,
    },
}


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder that is gone afterwards, also as the place of the feature cache; nothing is looked up on the network."""
    with TemporaryDirectory(prefix="permafrost-bench-") as folder:
        os.environ.update(HF_HUB_OFFLINE="1", PERMAFROST_CACHE=str(Path(folder) / "features.sqlite"), TOKENIZERS_PARALLELISM="false")
        yield Path(folder)


def write_clip(folder: Path, shape: str, seed: int = 0) -> Path:
    """A CLIPModel folder of that shape with random weights and a tokenizer that has the words of ``prompts`` as single tokens."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    from tests.tiny import clip_tokenizer

    torch.manual_seed(seed)
    tokenizer = clip_tokenizer()
    kind = SHAPES[shape]
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    text = {**kind["text"], **special, "vocab_size": len(tokenizer), "max_position_embeddings": 77}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config={**kind["vision"], **kind["image"]}, projection_dim=kind["dim"]))
    with torch.no_grad():  # from the small numbers of an untrained model nothing could be told apart
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(4)
    side = kind["image"]["image_size"]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}).save_pretrained(folder)
    return folder


def prompts(count: int) -> list[str]:
    """Different short prompts of 8 to 10 tokens, each word one token as in CLIP's own vocabulary."""
    texts = (
        f"a photo of {article} {first} {second} {noun}{end}"
        for end in ("", " with laces", " with screen")
        for article in ("a", "the")
        for first in ADJECTIVES
        for second in ADJECTIVES
        for noun in NOUNS
        if first != second
    )
    return [next(texts) for _ in range(count)]


def write_photos(folder: Path, count: int, classes: list[str], side: int = 256) -> Path:
    """``count`` JPEG files of ``side`` pixels in class folders: smooth random pictures, which compress as photos do."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(count):
        place = folder / classes[index % len(classes)]
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(place / f"{index:05d}.jpg", quality=90)
    return folder


class Seconds(NamedTuple):
    """``wall`` is what one waits; ``cpu`` (child processes included) hardly depends on what else the machine does."""

    wall: float
    cpu: float


def timed(work: Callable[[], T]) -> tuple[T, Seconds]:
    """The result and the seconds that it took."""
    before, started = os.times(), time.perf_counter()
    result = work()
    wall, after = time.perf_counter() - started, os.times()
    return result, Seconds(wall, sum(after[:4]) - sum(before[:4]))


def speak(name: str, *, usual: Seconds, ours: Seconds, target: float, **facts: Any) -> None:
    """Print the one JSON of a benchmark. ``ratio`` is how many times faster ours is, in seconds of waiting."""
    import torch

    ratio = usual.wall / ours.wall
    print(
        json.dumps(
            {
                "benchmark": name,
                "ratio": round(ratio, 2),
                "target": target,
                "reached": ratio >= target,
                "usual_s": round(usual.wall, 3),
                "ours_s": round(ours.wall, 3),
                "cpu_ratio": round(usual.cpu / ours.cpu, 2) if ours.cpu else None,
                "usual_cpu_s": round(usual.cpu, 3),
                "ours_cpu_s": round(ours.cpu, 3),
                "load": round(os.getloadavg()[0], 1),
                **facts,
                "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
                "threads": torch.get_num_threads(),
                "cores": os.cpu_count(),
                "torch": torch.__version__,
                "machine": platform.machine(),
            }
        ),
        flush=True,
    )
