"""Tiny checkpoints on disk, one of each kind, and images to encode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from toolkit.models import load_encoder

HF = {"clip": tiny.tiny_hf_clip, "siglip": tiny.tiny_siglip, "siglip2": tiny.tiny_siglip2, "vtde": tiny.tiny_vtde}
TEXTS = [
    "a photo of a dog",
    "",
    "the large red phone with no laces and a cracked screen",
    "zebra crossing, 1999",
    "a cat",
    "a photo of a dog",
    "white shoe",
    "a bag and a bag and a bag and a bag and a bag and a bag",
    "schön ☂",
]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Kind -> folder of a tiny checkpoint, written once."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            build = HF.get(kind, tiny.tiny_open_clip)
            made[kind] = build(tmp_path_factory.mktemp(kind))
        return made[kind]

    return folder


@pytest.fixture
def load(folders: Callable[[str], Path]) -> Callable[..., Any]:
    """Kind -> encoder, without a cache by default."""

    def encoder(kind: str, **settings: Any) -> Any:
        return load_encoder(f"local:{folders(kind)}", **{"cache": False, **settings})

    return encoder


@pytest.fixture(scope="session")
def images() -> list[np.ndarray]:
    """33 images of all shapes; smooth, as photos are, so that resizing matters."""
    from PIL import Image

    generator = np.random.default_rng(0)
    made = []
    for number in range(33):
        coarse = Image.fromarray(generator.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        size = (32, 32) if number % 5 == 0 else (20 + 3 * number, 90 - 2 * number)
        made.append(np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)))
    return made
