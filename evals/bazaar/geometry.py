"""From an item and a view to a map of shapes: which shape is seen at each pixel. Colours come later."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from evals.bazaar import shapes_carry, shapes_gadgets, shapes_home, shapes_wear
from evals.bazaar.canvas import Pen, Points, Shape, Shapes
from evals.bazaar.items import Item, View
from evals.bazaar.shapes_accessories import draw_accessory

_DRAWERS: dict[str, Callable[[Pen, dict[str, str]], None]] = {
    "phone": shapes_gadgets.phone,
    "laptop": shapes_gadgets.laptop,
    "headphones": shapes_gadgets.headphones,
    "camera": shapes_gadgets.camera,
    "sneaker": shapes_wear.sneaker,
    "boot": shapes_wear.boot,
    "jacket": shapes_wear.jacket,
    "dress": shapes_wear.dress,
    "mug": shapes_home.mug,
    "chair": shapes_home.chair,
    "lamp": shapes_home.lamp,
    "teddy bear": shapes_home.teddy_bear,
    "handbag": shapes_carry.handbag,
    "backpack": shapes_carry.backpack,
    "watch": shapes_carry.watch,
    "toy car": shapes_carry.toy_car,
}

ACCESSORY_SCALE = 0.27
_ACCESSORY_PLACES = ((0.80, 0.80), (0.19, 0.81), (0.82, 0.2))


@dataclass(frozen=True)
class Frame:
    """Where object coordinates lie in an image: pixel = object @ matrix.T + origin. unit: pixels of one object unit."""

    matrix: NDArray[np.float64]
    origin: NDArray[np.float64]
    unit: float
    size: int

    def place(self, points: Points) -> Points:
        return points @ self.matrix.T + self.origin

    def grid(self, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Object coordinates (u, v) of the pixel centres of the same picture at ``size`` pixels."""
        inverse = np.linalg.inv(self.matrix)
        step = self.size / size
        pixel = (np.arange(size, dtype=np.float32) + 0.5) * step
        x, y = pixel[None, :] - self.origin[0], pixel[:, None] - self.origin[1]
        u = inverse[0, 0] * x + inverse[0, 1] * y
        v = inverse[1, 0] * x + inverse[1, 1] * y
        return u.astype(np.float32), v.astype(np.float32)


@lru_cache(maxsize=4096)
def shapes_of(category: str, attributes: tuple[tuple[str, str], ...]) -> Shapes:
    pen = Pen()
    _DRAWERS[category](pen, dict(attributes))
    return pen.done()


@lru_cache(maxsize=64)
def accessory_shapes(name: str) -> Shapes:
    pen = Pen()
    draw_accessory(pen, name)
    return pen.done()


def shown_accessories(item: Item, view: View) -> tuple[str, ...]:
    """The accessories that lie in this picture."""
    return tuple(a.name for a in item.accessories if a.present) if view.contents else ()


def frame_of(item: Item, view: View, size: int) -> Frame:
    """The object's frame in a picture of ``size`` pixels."""
    crowd = bool(shown_accessories(item, view))
    unit = size * 0.455 * view.scale * (0.78 if crowd else 1.0)
    angle = math.radians(-view.rotation)
    c, s = math.cos(angle) * unit, math.sin(angle) * unit
    flip = -1.0 if view.mirrored else 1.0
    origin = np.array([size * (0.5 + view.dx), size * (0.5 + view.dy - (0.07 if crowd else 0.0))])
    return Frame(np.array([[c * flip, -s], [s * flip, c]]), origin, unit, size)


def accessory_frames(item: Item, view: View, size: int) -> list[tuple[str, Frame]]:
    frames = []
    for name, (x, y) in zip(shown_accessories(item, view), _ACCESSORY_PLACES, strict=False):
        unit = size * ACCESSORY_SCALE * 0.5
        x = 1 - x if view.mirrored else x
        frames.append((name, Frame(np.array([[unit, 0.0], [0.0, unit]]), np.array([size * x, size * y]), unit, size)))
    return frames


@dataclass(frozen=True)
class ShapeMap:
    """The map: ``index`` (n, n) uint8, 0 where the background is seen, k where ``shapes[k - 1]`` is."""

    index: NDArray[np.uint8]
    shapes: tuple[Shape, ...]

    def mask(self, part: str) -> NDArray[np.bool_]:
        """Where the part is seen."""
        table = np.zeros(256, dtype=np.bool_)
        for k, shape in enumerate(self.shapes, start=1):
            table[k] = shape.part == part
        return table[self.index]


def _draw(draw: ImageDraw.ImageDraw, shapes: Shapes, frame: Frame, skip: Sequence[str], first: int) -> None:
    flat = frame.place(shapes.points).ravel().tolist()
    start = 0
    for k, shape in enumerate(shapes.shapes, start=first):
        end = start + 2 * shape.count
        if shape.part not in skip:
            draw.polygon(flat[start:end], fill=0 if shape.role == "backdrop" else k)
        start = end


def shape_map(item: Item, view: View, size: int, *, complete: bool = False) -> ShapeMap:
    """The map at ``size`` pixels; ``complete`` draws missing parts as well."""
    image = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(image)
    shapes = shapes_of(item.category, item.attributes)
    _draw(draw, shapes, frame_of(item, view, size), () if complete else item.missing_parts, 1)
    every = shapes.shapes
    for name, frame in accessory_frames(item, view, size):
        extra = accessory_shapes(name)
        _draw(draw, extra, frame, (), len(every) + 1)
        every = every + extra.shapes
    return ShapeMap(np.asarray(image), every)


@lru_cache(maxsize=1024)
def anchor(
    category: str, attributes: tuple[tuple[str, str], ...], missing: tuple[str, ...], part: str, place: tuple[float, float]
) -> tuple[float, float]:
    """The visible point of a part, in object coordinates, nearest to ``place`` in its bounding box, away from its edge."""
    n, unit = 96, 44.0
    image = Image.new("L", (n, n), 0)
    shapes = shapes_of(category, attributes)
    frame = Frame(np.array([[unit, 0.0], [0.0, unit]]), np.array([n / 2, n / 2]), unit, n)
    _draw(ImageDraw.Draw(image), shapes, frame, missing, 1)
    mask = ShapeMap(np.asarray(image), shapes.shapes).mask(part)
    for _ in range(4):  # stay away from the edge as far as the part is wide enough
        inner = mask.copy()
        inner[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        if not inner.any():
            break
        mask = inner
    y, x = np.nonzero(mask)
    if not len(x):
        return (0.0, 0.0)
    wanted = x.min() + place[0] * (x.max() - x.min()), y.min() + place[1] * (y.max() - y.min())
    best = int(np.argmin((x - wanted[0]) ** 2 + (y - wanted[1]) ** 2))
    return ((x[best] + 0.5 - n / 2) / unit, (y[best] + 0.5 - n / 2) / unit)
