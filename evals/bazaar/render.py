"""``render(item)``: the photo. ``masks(item)``: where the object, its parts and its defects are in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from evals.bazaar.backdrop import Plane, backdrop, noise_bank
from evals.bazaar.damage import damage_layers, layer_image
from evals.bazaar.geometry import Frame, ShapeMap, anchor, frame_of, shape_map
from evals.bazaar.items import VIEWS, Item, View
from evals.bazaar.streams import Stream
from evals.bazaar.surface import item_colours, lit, pattern_mask, tables

SMALLEST, LARGEST = 16, 2048

_TONES = {"dark": (22, 18, 18), "light": (246, 242, 234), "stain": (92, 62, 26)}


@dataclass(frozen=True)
class Masks:
    """Boolean masks (size, size): the object with its accessories, each part that is seen, each defect in the item's order."""

    object: NDArray[np.bool_]
    parts: dict[str, NDArray[np.bool_]]
    defects: tuple[NDArray[np.bool_], ...]


def _check(size: int, view: int) -> None:
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(f"the size of a picture is {SMALLEST} to {LARGEST} pixels, got {size}")
    if not 0 <= view < VIEWS:
        raise ValueError(f"an item has views 0 to {VIEWS - 1}, got {view}")


def _oversampling(size: int) -> int:
    return 3 if size < 64 else 2


def render(item: Item, size: int = 96, view: int = 0, *, clean: bool = False) -> NDArray[np.uint8]:
    """The photo of an item: (size, size, 3) uint8.

    Args:
        view: 0 the main photo, 1 another pose, 2 the contents with all accessories.
        clean: draw the same photo of the undamaged, complete item.
    """
    _check(size, view)
    look = item.views[view]
    return photo([(cutout(item, look, size, clean=clean), (0, 0))], look, size)


@dataclass(frozen=True)
class Cutout:
    """A lit thing before any background: ``thing`` (n, n, 3) premultiplied by ``alpha`` (n, n); ``cover`` (mode "L") casts the shadow."""

    thing: NDArray[np.float32]
    alpha: NDArray[np.float32]
    cover: Image.Image


def cutout(item: Item, look: View, size: int, *, clean: bool = False) -> Cutout:
    """An item as it is seen in ``look``, in a square of ``size`` pixels."""
    factor = _oversampling(size)
    n = size * factor
    frame = frame_of(item, look, n)
    picture = shape_map(item, look, n, complete=clean)
    index = picture.index
    if item.material == "plush":
        index = _ruffled(index, factor)
    colour_of, body_of, patterned_of = tables(picture.shapes, item)
    rgb = colour_of[index]
    if item.pattern != "plain":
        u, v = frame.grid(n)
        where = pattern_mask(item.pattern, u, v) & patterned_of[index]
        np.copyto(rgb, _second(item), where=where)
    if not clean:
        _damage(rgb.view(np.uint8).reshape(n, n, 4), item, picture, frame)
    colours = Image.frombuffer("CMYK", (n, n), rgb.tobytes(), "raw", "CMYK", 0, 1).reduce(factor)
    body = Image.frombuffer("CMYK", (n, n), body_of[index].tobytes(), "raw", "CMYK", 0, 1).reduce(factor)
    thing, alpha = lit(np.asarray(colours)[..., :3].astype(np.float32), body, item, look, frame)
    return Cutout(thing, alpha, body.getchannel(3))


def _second(item: Item) -> NDArray[np.uint32]:
    """The second colour, packed: (1,)."""
    return np.array([*item_colours(item)[1], 0], dtype=np.uint8).view(np.uint32)


def _ruffled(index: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """The outlines of plush: every pixel is taken from a near place."""
    n = index.shape[0]
    times = -(-n // 256)
    bank = np.tile(noise_bank(), (times, times))[:n, :n] if times > 1 else noise_bank()[:n, :n]
    reach = max(1.0, n / 130)
    rows = np.clip(np.arange(n)[:, None] + (bank * reach).astype(np.int32), 0, n - 1)
    columns = np.clip(np.arange(n)[None, :] + (bank.T * reach).astype(np.int32), 0, n - 1)
    ruffled: NDArray[np.uint8] = index[rows, columns]
    return ruffled


def _damage(rgb: NDArray[np.uint8], item: Item, picture: ShapeMap, frame: Frame) -> None:
    """Draws the surface damage into ``rgb`` (n, n, 4) in place."""
    for defect in item.defects:
        if defect.type == "missing part":
            continue
        seen = picture.mask(defect.part)
        at = anchor(item.category, item.attributes, item.missing_parts, defect.part, defect.place)
        for layer in damage_layers(defect):
            drawn = layer_image(layer, defect, at, frame)
            left, top, right, bottom = drawn.getbbox() or (0, 0, 0, 0)
            window = rgb[top:bottom, left:right]
            where = (np.asarray(drawn.crop((left, top, right, bottom))) > 0) & seen[top:bottom, left:right]
            pixels = window[where][:, :3].astype(np.float32)
            if not len(pixels):
                continue
            tone = layer.tone
            if tone == "mark":
                tone = "dark" if pixels.mean() > 118 else "light"
            window[where, :3] = (pixels * (1 - layer.alpha) + np.array(_TONES[tone], dtype=np.float32) * layer.alpha).astype(np.uint8)


def photo(cutouts: Sequence[tuple[Cutout, tuple[int, int]]], look: View, size: int) -> NDArray[np.uint8]:
    """Things at (left, top) of their squares, on the background of ``look``, with shadow, light and camera."""
    cover = Image.new("L", (size, size), 0)
    for part, at in cutouts:
        cover.paste(part.cover, at)
    scene: Plane = backdrop(look, size)
    cast = cover.filter(ImageFilter.GaussianBlur(size * 0.03))
    shadow = np.asarray(cast, dtype=np.float32) / 255
    dx, dy = round(-look.light * 0.05 * size), round(0.045 * size)
    shadow = np.roll(shadow, (dy, dx), axis=(0, 1))
    shadow[:dy] = 0
    near = np.asarray(cover.filter(ImageFilter.BoxBlur(size * 0.012)), dtype=np.float32) / 255
    scene *= ((1 - 0.5 * shadow) * (1 - 0.3 * near))[..., None]
    for part, (left, top) in cutouts:
        window = scene[top : top + len(part.alpha), left : left + len(part.alpha)]
        window *= (1 - part.alpha)[..., None]
        window += part.thing
    tone = np.array([1 + 0.07 * look.warmth, 1.0, 1 - 0.08 * look.warmth], dtype=np.float32) * look.brightness
    scene *= tone
    stream = Stream(look.grain, 2)
    reach = look.blur * 0.009 * size
    if reach > 0.2:
        blurred = Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(reach))
        scene = np.asarray(blurred, dtype=np.float32)
    scene = scene + _noise(stream, size)[..., None] * (0.8 + 6.5 * look.noise)
    return np.asarray(np.clip(scene + 0.5, 0, 255), dtype=np.uint8)


def _noise(stream: Stream, size: int) -> Plane:
    bank, y, x = noise_bank(), stream.integer(256), stream.integer(256)
    wrap = np.arange(size)
    noise: Plane = bank[((y + wrap) & 255)[:, None], ((x + wrap) & 255)[None, :]]
    return noise


def masks(item: Item, size: int = 96, view: int = 0) -> Masks:
    """The masks of ``render(item, size, view)``; a missing part's mask is where it would be seen."""
    _check(size, view)
    return masks_of(item, item.views[view], size)


def masks_of(item: Item, look: View, size: int) -> Masks:
    """The masks of ``cutout(item, look, size)``."""
    factor = _oversampling(size)
    n = size * factor
    frame, picture = frame_of(item, look, n), shape_map(item, look, n)
    whole = shape_map(item, look, n, complete=True) if item.missing_parts else picture
    names = dict.fromkeys(shape.part for shape in picture.shapes if shape.part)
    parts = {name: _reduced(picture.mask(name)[..., None], factor) for name in names}
    found = []
    for defect in item.defects:
        if defect.type == "missing part":
            found.append(_reduced(whole.mask(defect.part)[..., None], factor))
            continue
        at = anchor(item.category, item.attributes, item.missing_parts, defect.part, defect.place)
        layers = [np.asarray(layer_image(layer, defect, at, frame)) > 0 for layer in damage_layers(defect)]
        where = np.logical_or.reduce(layers) & picture.mask(defect.part)
        found.append(_reduced(where[..., None], factor, most=False))
    return Masks(_reduced((picture.index > 0)[..., None], factor), {k: m for k, m in parts.items() if m.any()}, tuple(found))


def _reduced(mask: NDArray[np.bool_], factor: int, most: bool = True) -> NDArray[np.bool_]:
    """The mask at picture size: pixels of which at least half (or, with ``most`` off, any) lies inside."""
    size = mask.shape[0] // factor
    share = mask.reshape(size, factor, size, factor).mean(axis=(1, 3))
    return np.asarray(share >= 0.5 if most else share > 0)
