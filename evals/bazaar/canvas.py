"""The drawing vocabulary: a ``Pen`` collects shapes in object coordinates, and ``Shapes`` is what they become.

Object coordinates: x to the right, y down, the object fills about [-1, 1] in both. A shape names its part, the role of
its colour ("main", "second", "steel" ...) and how it takes light; no colour is fixed before the item is known, so the
shapes of one category and one set of attribute values are computed once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

ROLES: dict[str, tuple[int, int, int]] = {  # the colours that do not depend on the item
    "ink": (34, 34, 40),
    "paper": (246, 244, 238),
    "cream": (232, 224, 204),
    "steel": (188, 192, 198),
    "steel-": (122, 126, 134),
    "gold": (214, 172, 74),
    "rubber": (62, 60, 62),
    "glass": (44, 60, 84),
    "glass+": (128, 164, 200),
    "screen": (38, 50, 78),
    "screen+": (96, 146, 206),
    "glow": (255, 240, 186),
    "timber": (164, 116, 70),
    "card": (196, 158, 112),
    "tape": (226, 204, 164),
    "bulb": (255, 236, 150),
    "coffee": (74, 46, 30),
    "giftbox": (168, 58, 92),
    "backdrop": (0, 0, 0),
}


@dataclass(frozen=True)
class Shape:
    """One filled polygon: ``count`` points in the common array, its part, colour role and surface."""

    count: int
    part: str
    role: str
    height: float  # 0 to 1: higher parts catch an edge of light
    gloss: float  # 0 to 1
    patterned: bool


@dataclass(frozen=True)
class Shapes:
    """All shapes of a thing, back to front. points: (M, 2)."""

    points: Points
    shapes: tuple[Shape, ...]


def smooth(points: Iterable[Sequence[float]], closed: bool = True, steps: int = 6) -> list[tuple[float, float]]:
    """A Catmull-Rom curve through ``points``."""
    p = np.asarray(list(points), dtype=np.float64)
    before, after = (np.roll(p, 1, 0), np.roll(p, -1, 0)) if closed else (np.vstack([p[:1], p[:-1]]), np.vstack([p[1:], p[-1:]]))
    after2 = np.roll(p, -2, 0) if closed else np.vstack([p[2:], p[-1:], p[-1:]])
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = (q[:, None, :] for q in (before, p, after, after2))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    if not closed:
        curve = curve[:-1]
    path = [(float(x), float(y)) for x, y in curve.reshape(-1, 2)]
    return path if closed else [*path, (float(p[-1, 0]), float(p[-1, 1]))]


def arc(cx: float, cy: float, rx: float, ry: float, start: float = 0.0, end: float = 360.0, n: int = 0) -> list[tuple[float, float]]:
    """Points on an ellipse from angle ``start`` to ``end`` (degrees, 0 to the right, 90 down)."""
    n = n or max(8, int(abs(end - start) / 360 * (40 if max(rx, ry) > 0.2 else 18)))
    angles = [math.radians(start + (end - start) * k / n) for k in range(n + 1)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def stroke(path: Sequence[Sequence[float]], width: float) -> list[tuple[float, float]]:
    """The outline of a line of that width."""
    p = np.asarray(path, dtype=np.float64)
    step = np.gradient(p, axis=0)
    norm = np.hypot(step[:, 0], step[:, 1])[:, None]
    normal = np.stack([-step[:, 1], step[:, 0]], axis=1) / np.maximum(norm, 1e-9) * (width / 2)
    return [(float(x), float(y)) for x, y in np.vstack([p + normal, (p - normal)[::-1]])]


def spun(points: Sequence[Sequence[float]], degrees: float, cx: float = 0.0, cy: float = 0.0) -> list[tuple[float, float]]:
    """``points`` turned about (cx, cy)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(cx + c * (x - cx) - s * (y - cy), cy + s * (x - cx) + c * (y - cy)) for x, y in points]


class Pen:
    """Collects shapes. Every method returns nothing and adds one shape, the later ones in front."""

    def __init__(self) -> None:
        self._points: list[tuple[float, float]] = []
        self._shapes: list[Shape] = []

    def poly(
        self,
        part: str,
        points: Sequence[Sequence[float]],
        role: str,
        *,
        h: float = 0.5,
        gloss: float | None = None,
        pat: bool = False,
    ) -> None:
        if gloss is None:
            gloss = 0.9 if role.startswith(("glass", "screen")) else 0.6 if role.startswith(("steel", "gold")) else 0.0
        self._points.extend((float(x), float(y)) for x, y in points)
        self._shapes.append(Shape(len(points), part, role, h, gloss, pat))

    def blob(self, part: str, points: Sequence[Sequence[float]], role: str, **how: float | bool) -> None:
        """A smooth closed shape through ``points``."""
        self.poly(part, smooth(points), role, **how)  # type: ignore[arg-type]

    def oval(self, part: str, cx: float, cy: float, rx: float, ry: float, role: str, *, turn: float = 0.0, **how: float | bool) -> None:
        points = arc(cx, cy, rx, ry)[:-1]
        self.poly(part, spun(points, turn, cx, cy) if turn else points, role, **how)  # type: ignore[arg-type]

    def rect(self, part: str, x0: float, y0: float, x1: float, y1: float, role: str, *, r: float = 0.0, **how: float | bool) -> None:
        """A rectangle with rounded corners of radius ``r``."""
        if r <= 0:
            points = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        else:
            corners = ((x1 - r, y1 - r, 0), (x0 + r, y1 - r, 90), (x0 + r, y0 + r, 180), (x1 - r, y0 + r, 270))
            points = [q for x, y, a in corners for q in arc(x, y, r, r, a, a + 90, n=4)]
        self.poly(part, points, role, **how)  # type: ignore[arg-type]

    def line(self, part: str, path: Sequence[Sequence[float]], width: float, role: str, **how: float | bool) -> None:
        self.poly(part, stroke(path, width), role, **how)  # type: ignore[arg-type]

    def curve(self, part: str, path: Sequence[Sequence[float]], width: float, role: str, **how: float | bool) -> None:
        """A smooth line through ``path``."""
        self.poly(part, stroke(smooth(path, closed=False), width), role, **how)  # type: ignore[arg-type]

    def arc(
        self, part: str, cx: float, cy: float, rx: float, ry: float, start: float, end: float, width: float, role: str, **how: float | bool
    ) -> None:
        self.poly(part, stroke(arc(cx, cy, rx, ry, start, end), width), role, **how)  # type: ignore[arg-type]

    def done(self) -> Shapes:
        return Shapes(np.asarray(self._points, dtype=np.float64).reshape(-1, 2), tuple(self._shapes))
