"""The looks of damage: polygons in object coordinates, laid over the part that they are on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from evals.bazaar.canvas import smooth, stroke
from evals.bazaar.defects import Defect
from evals.bazaar.geometry import Frame
from evals.bazaar.streams import Stream

Path = list[tuple[float, float]]


@dataclass(frozen=True)
class Layer:
    """Polygons of one tone: "mark" (against the surface), "dark", "light" or "stain"; alpha: how opaque."""

    polygons: tuple[Path, ...]
    tone: str
    alpha: float


def damage_layers(defect: Defect) -> tuple[Layer, ...]:
    """The layers about (0, 0), unturned; empty for a missing part."""
    stream = Stream(defect.shape)
    make = {"scratch": _scratch, "crack": _crack, "dent": _dent, "stain": _stain, "tear": _tear}.get(defect.type)
    return () if make is None else make(defect.severity, stream, defect.material)


def _wander(stream: Stream, length: float, bend: float, n: int) -> Path:
    return [((k / (n - 1) - 0.5) * length, stream.uniform(-bend, bend)) for k in range(n)]


def _scratch(s: float, stream: Stream, material: str) -> tuple[Layer, ...]:
    length, width = 0.24 + 0.8 * s, 0.022 + 0.03 * s
    lines, edges = [], []
    for k in range(1 if s < 0.45 else 2 if s < 0.8 else 3):
        path = [(x + 0.05 * k, y + 0.09 * k) for x, y in _wander(stream, length * (1 - 0.3 * k), 0.03, 4)]
        lines.append(stroke(smooth(path, closed=False, steps=3), width))
        edges.append(stroke(smooth([(x, y + width) for x, y in path], closed=False, steps=3), width * 0.8))
    return (Layer(tuple(edges), "dark", 0.25 + 0.25 * s), Layer(tuple(lines), "mark", 0.6 + 0.4 * s))


def _crack(s: float, stream: Stream, material: str) -> tuple[Layer, ...]:
    width, lines = 0.02 + 0.026 * s, []
    for k in range(3 + int(3 * s)):
        heading = k * 2.399 + stream.uniform(-0.4, 0.4)
        x = y = 0.0
        path = [(0.0, 0.0)]
        for _ in range(4):
            turn, step = heading + stream.uniform(-0.7, 0.7), (0.06 + 0.13 * s) * stream.uniform(0.6, 1.2)
            x, y = x + step * math.cos(turn), y + step * math.sin(turn)
            path.append((x, y))
        lines.append(stroke(path, width))
    if material == "glass":
        return (Layer(tuple(lines), "light", 0.6 + 0.4 * s),)
    shadow = tuple([(x + width * 0.7, y + width * 0.7) for x, y in line] for line in lines)
    return (Layer(shadow, "light", 0.35), Layer(tuple(lines), "dark", 0.65 + 0.35 * s))


def _dent(s: float, stream: Stream, material: str) -> tuple[Layer, ...]:
    rx, ry = 0.09 + 0.2 * s, 0.07 + 0.13 * s
    angles = [2 * math.pi * k / 28 for k in range(28)]
    hollow = [(rx * math.cos(t), ry * math.sin(t)) for t in angles]
    deep = [(0.72 * rx * math.cos(t), -0.18 * ry + 0.62 * ry * math.sin(t)) for t in angles]
    half = [2 * math.pi * k / 28 for k in range(1, 14)]
    lip = [(rx * math.cos(t), ry * math.sin(t)) for t in half] + [(0.9 * rx * math.cos(t), 0.55 * ry * math.sin(t)) for t in reversed(half)]
    return (Layer((hollow,), "dark", 0.25 + 0.25 * s), Layer((deep,), "dark", 0.25 + 0.35 * s), Layer((lip,), "light", 0.35 + 0.4 * s))


def _stain(s: float, stream: Stream, material: str) -> tuple[Layer, ...]:
    radius = 0.1 + 0.25 * s

    def blot(r: float, cx: float, cy: float) -> Path:
        return smooth(
            [
                (cx + r * q * math.cos(t), cy + r * q * math.sin(t))
                for t, q in ((k * math.pi / 5, stream.uniform(0.7, 1.15)) for k in range(10))
            ],
            steps=3,
        )

    main = blot(radius, 0.0, 0.0)
    inner = [(0.72 * x, 0.72 * y) for x, y in main]
    drops = [blot(radius * 0.2, radius * stream.uniform(-1.7, 1.7), radius * stream.uniform(1.1, 1.5)) for _ in range(2)]
    return (Layer((main, *drops), "stain", 0.38 + 0.4 * s), Layer((inner,), "stain", 0.2 + 0.2 * s))


def _tear(s: float, stream: Stream, material: str) -> tuple[Layer, ...]:
    length, width, n = 0.2 + 0.5 * s, 0.07 + 0.16 * s, 8
    upper, lower = [], []
    for k in range(n + 1):
        t = k / n
        x, gap = (t - 0.5) * length, width * math.sin(math.pi * t) / 2
        upper.append((x, -gap * stream.uniform(0.6, 1.2)))
        lower.append((x, gap * stream.uniform(0.6, 1.2)))
    core = upper + lower[::-1]
    fringe = [(x * 1.12, y * 1.5 + (0.02 if y > 0 else -0.02)) for x, y in core]
    return (Layer((fringe,), "light", 0.6 + 0.3 * s), Layer((core,), "dark", 0.8 + 0.2 * s))


def layer_image(layer: Layer, defect: Defect, at: tuple[float, float], frame: Frame) -> Image.Image:
    """The layer in the picture of ``frame``: (n, n) of mode "L", 255 inside."""
    image = Image.new("L", (frame.size, frame.size), 0)
    draw = ImageDraw.Draw(image)
    angle = math.radians(defect.angle)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    for polygon in layer.polygons:
        draw.polygon(frame.place(np.asarray(polygon) @ turn.T + np.asarray(at)).ravel().tolist(), fill=255)
    return image
