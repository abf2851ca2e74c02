"""What lies behind the item: a studio, a wooden table, a cloth, a tiled floor, a blurred room; in any tint."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from evals.bazaar.items import View
from evals.bazaar.streams import Stream

Plane = NDArray[Any]  # (height, width) float32


@lru_cache(maxsize=1)
def noise_bank() -> Plane:
    """(256, 256) white noise, sd 1, from raw Philox words (the same everywhere)."""
    from numpy.random import Philox, SeedSequence

    raw = Philox(SeedSequence(20)).random_raw(256 * 256 * 4).reshape(4, 256, 256)
    bank: Plane = (((raw >> 11) * 2.0**-53).sum(0) - 2.0).astype(np.float32) * np.float32(1.7320508)
    return bank


@lru_cache(maxsize=4)
def soft_bank(radius: float) -> Plane:
    """The noise bank, wrapped and blurred, sd about 1."""
    tile = np.tile(np.clip(noise_bank() * 40 + 128, 0, 255).astype(np.uint8), (2, 2))
    blurred = np.asarray(Image.fromarray(tile).filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32)[128:384, 128:384]
    soft: Plane = (blurred - blurred.mean()) / blurred.std()
    return soft


def sample(bank: Plane, x: Plane, y: Plane) -> Plane:
    """The bank at integer parts of (x, y), wrapped."""
    found: Plane = bank[y.astype(np.int32) & 255, x.astype(np.int32) & 255]
    return found


def backdrop(view: View, size: int) -> NDArray[np.float32]:
    """(size, size, 3) float32, 0 to 255."""
    stream = Stream(view.grain, 1)
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.broadcast_to(axis[None, :], (size, size)), np.broadcast_to(axis[:, None], (size, size))
    tint = np.array(view.tint, dtype=np.float32)
    if view.background == "room":
        return _room(stream, size, tint)
    light = 1.0 + 0.1 * (0.5 - y) + 0.08 * view.light * (x - 0.5)
    if view.background == "studio":
        horizon = stream.uniform(0.55, 0.75)
        tone = light + np.where(y > horizon, 0.07, 0.0) * np.clip((y - horizon) * 9, 0, 1) - 0.25 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
        return np.asarray(tone[..., None] * tint, dtype=np.float32)
    if view.background == "wood":
        tone, tint = (
            _planks(stream, x, y),
            tint * 0.45 + np.array([158, 112, 68], dtype=np.float32) * (0.35 + 0.3 * float(tint.mean()) / 255),
        )
    elif view.background == "cloth":
        a, b = stream.uniform(4, 9), stream.uniform(3, 8)
        folds = np.sin(x * a + b * y * y + stream.uniform(0, 6)) * 0.07 + np.sin(x * b - y * a) * 0.05
        weave = sample(noise_bank(), x * 256, y * 256) * 0.025
        tone = 1.0 + folds + weave
    else:
        tone = _tiles(stream, x, y)
    return np.asarray((tone * light)[..., None] * tint, dtype=np.float32)


def _planks(stream: Stream, x: Plane, y: Plane) -> Plane:
    width = stream.uniform(0.16, 0.3)
    across, along = (x, y) if stream.chance(0.5) else (y, x)
    place = across / width + stream.uniform(0, 1)
    board = np.floor(place)
    tone = 1.0 + 0.07 * np.sin(board * 12.9898)
    tone += 0.075 * sample(soft_bank(3.0), along * 30 + board * 57, across * 330)
    return np.asarray(tone - 0.28 * ((place - board) < 0.06))


def _tiles(stream: Stream, x: Plane, y: Plane) -> Plane:
    width, depth = stream.uniform(0.2, 0.34), 1.0 + 0.5 * (1 - y)
    column = (x - 0.5) * depth / width + stream.uniform(0, 1)
    row = y * (1.25 - 0.25 * y) / (width * 0.8) + stream.uniform(0, 1)
    c, r = np.floor(column), np.floor(row)
    tone = 1.0 + 0.06 * np.sin(c * 78.2 + r * 37.7) + 0.02 * sample(soft_bank(2.0), x * 250, y * 250)
    gap = ((column - c) < 0.07) | ((row - r) < 0.07)
    return np.where(gap, tone * 0.74, tone)


def _room(stream: Stream, size: int, tint: NDArray[np.float32]) -> NDArray[np.float32]:
    small = np.empty((24, 24, 3), dtype=np.float32)
    floor = 13 + stream.integer(5)
    small[:floor] = tint
    small[floor:] = tint * stream.uniform(0.6, 0.85)
    for _ in range(5):
        x, w, h = stream.integer(22), 2 + stream.integer(6), 3 + stream.integer(8)
        tone = np.array([stream.uniform(0.55, 1.25) for _ in range(3)], dtype=np.float32)
        bottom = floor - stream.integer(4)
        small[max(0, bottom - h) : bottom, x : x + w] = tint * tone
    image = Image.fromarray(np.clip(small, 0, 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(1))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
