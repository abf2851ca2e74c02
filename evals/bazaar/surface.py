"""Colour, pattern, material and light: from a map of shapes to a lit object."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from evals.bazaar.backdrop import Plane, noise_bank, sample, soft_bank
from evals.bazaar.canvas import ROLES, Shape
from evals.bazaar.geometry import Frame
from evals.bazaar.items import Item, View
from evals.bazaar.world import COLOURS

Colour = tuple[int, int, int]

_GLOSS = {"ceramic": 0.95, "metal": 0.8, "plastic": 0.6, "leather": 0.22, "wood": 0.15}


def _toned(colour: Colour, change: str) -> Colour:
    """ "-": darker, "--": much darker, "+": lighter, "~": black or white, whichever is seen on it."""
    luminance = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
    if change == "~":
        return (250, 248, 242) if luminance < 140 else (30, 30, 36)
    if change == "+" or (luminance < 60 and change == "-"):
        f = 0.3 if change == "+" else 0.14
        return tuple(int(c + (255 - c) * f) for c in colour)  # type: ignore[return-value]
    f = {"": 1.0, "-": 0.74, "--": 0.42}[change]
    return tuple(int(c * f) for c in colour)  # type: ignore[return-value]


@lru_cache(maxsize=2048)
def role_colour(role: str, main: Colour, second: Colour) -> Colour:
    """The colour of a role of ``canvas``, given the item's two colours."""
    if role in ROLES:
        return ROLES[role]
    name = role.rstrip("+-~")
    return _toned({"main": main, "second": second}[name], role[len(name) :])


def item_colours(item: Item) -> tuple[Colour, Colour]:
    """The two colours with the item's own shade."""
    f = 1.0 + item.shade
    main, second = (tuple(min(255, int(c * f)) for c in COLOURS[name]) for name in (item.colour, item.colour2))
    return main, second  # type: ignore[return-value]


def tables(shapes: tuple[Shape, ...], item: Item) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.bool_]]:
    """Look-up tables by shape index: packed (r, g, b, 0), packed (height, main material, gloss, alpha), patterned."""
    main, second = item_colours(item)
    colour = np.zeros((256, 4), dtype=np.uint8)
    body = np.zeros((256, 4), dtype=np.uint8)
    patterned = np.zeros(256, dtype=np.bool_)
    shine = _GLOSS.get(item.material, 0.0)
    for k, shape in enumerate(shapes, start=1):
        colour[k, :3] = role_colour(shape.role, main, second)
        own = shape.role.startswith("main")
        gloss = max(shape.gloss * 0.5, shine) if own else shape.gloss
        body[k] = (int(30 + 225 * shape.height), 255 * own, int(255 * gloss), 255)
        patterned[k] = shape.patterned
    return colour.view(np.uint32)[:, 0], body.view(np.uint32)[:, 0], patterned


def _cycle(plane: Plane) -> Plane:
    """The fraction of each value: ``plane % 1``, five times as fast."""
    return plane - np.floor(plane)


def pattern_mask(pattern: str, u: Plane, v: Plane) -> NDArray[np.bool_]:
    """Where the second colour lies, in object coordinates."""
    if pattern == "striped":
        return _cycle(v * 3.4) < 0.45
    if pattern == "pinstriped":
        return _cycle(u * 5.2 + 0.28) < 0.3
    if pattern == "dotted":
        a, b = _cycle(u * 3.2 + 0.2) - 0.5, _cycle(v * 3.2 + 0.1) - 0.5
        return a * a + b * b < 0.085
    if pattern == "checked":
        return (_cycle(u * 2.1 + 8.3) < 0.5) ^ (_cycle(v * 2.1 + 8.2) < 0.5)
    if pattern == "zigzag":
        return _cycle(v * 2.7 + 0.9 * np.abs(_cycle(u * 2.2) - 0.5)) < 0.42
    if pattern == "two-tone":
        return v > 0.12
    raise KeyError(pattern)


def texture(material: str, u: Plane, v: Plane, pixel: float) -> Plane | None:
    """Relative brightness of the main material about 1; ``pixel`` is the size of a pixel in object units."""
    fine = 2 * np.pi / max(0.062, 3.2 * pixel)
    if material == "leather":
        return 1 + 0.075 * sample(soft_bank(1.2), u * 34 + 90, v * 34 + 90) + 0.05 * sample(soft_bank(6.0), u * 50 + 60, v * 50 + 60)
    if material == "metal":
        brushed = sample(noise_bank(), u * 3 + 128, v * 42 + 128)
        return 1 + 0.06 * brushed + 0.13 * np.sin(u * 4.2 + v * 2.2 + 0.6)
    if material == "fabric":
        return 1 + 0.1 * np.sin(u * fine) * np.sin(v * fine) + 0.02 * sample(noise_bank(), u * 60 + 100, v * 60 + 100)
    if material == "wood":
        wave = sample(soft_bank(6.0), u * 14 + 90, v * 26 + 90)
        grain: Plane = 1 + 0.12 * np.sin(v * 26 + 1.6 * wave + 2 * u) + 0.04 * sample(noise_bank(), u * 5 + 90, v * 44 + 90)
        return grain
    if material == "plush":
        return 1 + 0.13 * sample(noise_bank(), u * 40 + 100, v * 40 + 100)
    if material == "denim":
        return 1.02 + 0.1 * np.sin((u + v) * fine * 0.75) + 0.06 * sample(noise_bank(), u * 30 + 100, v * 70 + 100)
    return None


def _slope(plane: Plane, lx: float, ly: float) -> Plane:
    """Brightness of a height map under light from (lx, ly): positive where the surface faces it."""
    out = np.zeros_like(plane)
    out[:, 1:-1] -= (plane[:, 2:] - plane[:, :-2]) * lx
    out[1:-1, :] -= (plane[2:, :] - plane[:-2, :]) * ly
    return out


def lit(rgb: Plane, body: Image.Image, item: Item, view: View, frame: Frame) -> tuple[Plane, Plane]:
    """Light on the reduced object.

    Args:
        rgb: (S, S, 3), premultiplied by alpha. body: its four channels height, main material, gloss, alpha.

    Returns: the lit (S, S, 3), premultiplied, and alpha (S, S) in [0, 1].
    """
    size = rgb.shape[0]
    height, own, gloss, alpha8 = body.split()
    alpha = np.asarray(alpha8, dtype=np.float32) / 255
    lx, ly = view.light * 0.75, -0.85
    near = np.asarray(height.filter(ImageFilter.BoxBlur(size * 0.008)), dtype=np.float32) / 255
    far = (
        np.asarray(
            height.resize((32, 32), Image.Resampling.BOX)
            .filter(ImageFilter.GaussianBlur(2.0))
            .resize((size, size), Image.Resampling.BICUBIC),
            dtype=np.float32,
        )
        / 255
    )
    scale = size / 96
    edge = np.clip(_slope(near, lx, ly), -0.6, 0.6) * 0.62
    volume = _slope(far, lx, ly) * (3.4 * scale)
    crease = np.clip(far - near, 0, 1) * 0.35
    shade = 0.97 + edge + volume - crease
    grain = np.asarray(own, dtype=np.float32) / 255
    u, v = frame.grid(size)
    surface = texture(item.material, u, v, frame.size / size / frame.unit)
    if surface is not None:
        shade *= 1 + (surface - 1) * grain
    np.clip(shade, 0.25, 1.6, out=shade)
    shine = np.asarray(gloss, dtype=np.float32) / 255
    flip = -1.0 if view.mirrored else 1.0
    band = u * flip * 0.8 + v * 0.55 + 0.36 - 0.2 * view.light
    spark = np.exp(-((band / 0.1) ** 2)) * 0.42 + np.exp(-(((band - 0.28) / 0.05) ** 2)) * 0.16
    light = (spark + np.clip(volume, 0, 1) * 0.5) * shine * shine
    out = rgb * shade[..., None]
    out += (light * alpha * 215)[..., None]
    return out, alpha
