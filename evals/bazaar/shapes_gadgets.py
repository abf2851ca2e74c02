"""Phone, laptop, headphones, camera."""

from __future__ import annotations

import math
from collections.abc import Mapping

from evals.bazaar.canvas import Pen, arc

Values = Mapping[str, str]


def phone(p: Pen, a: Values) -> None:
    """Both sides: the screen behind, the back in front."""
    edge = 0.11 if a["bezel"] == "thick" else 0.035
    p.rect("buttons", 0.68, -0.5, 0.79, -0.14, "steel-", r=0.03)
    p.rect("", -0.08, -0.94, 0.75, 0.66, "main-", r=0.13, h=0.5)
    p.rect("screen", -0.08 + edge, -0.94 + edge * 1.4, 0.75 - edge, 0.66 - edge * 1.4, "screen", r=0.07, h=0.55)
    p.poly("screen", [(0.2, -0.94 + edge * 1.4), (0.52, -0.94 + edge * 1.4), (0.1, 0.2), (-0.04, 0.1)], "screen+", h=0.55)
    p.rect("screen", 0.22, -0.9 + edge, 0.46, -0.83 + edge, "ink", r=0.03, h=0.55)
    p.rect("buttons", -0.84, -0.2, -0.72, 0.12, "steel-", r=0.03)
    p.rect("back", -0.78, -0.7, 0.08, 0.94, "main", r=0.15, h=0.75, gloss=0.25, pat=True)
    if a["bump"] == "square":
        p.rect("camera bump", -0.7, -0.62, -0.14, -0.06, "second", r=0.1, h=0.95)
        spots = {"one": [(-0.42, -0.34)], "two": [(-0.55, -0.47), (-0.29, -0.21)], "three": [(-0.55, -0.48), (-0.29, -0.48), (-0.42, -0.2)]}
    elif a["bump"] == "round":
        p.oval("camera bump", -0.35, -0.32, 0.32, 0.32, "second", h=0.95)
        spots = {"one": [(-0.35, -0.32)], "two": [(-0.48, -0.32), (-0.22, -0.32)], "three": [(-0.48, -0.4), (-0.22, -0.4), (-0.35, -0.17)]}
    else:
        p.rect("camera bump", -0.78, -0.54, 0.08, -0.22, "second", r=0.02, h=0.95)
        spots = {"one": [(-0.35, -0.38)], "two": [(-0.55, -0.38), (-0.15, -0.38)], "three": [(-0.6, -0.38), (-0.35, -0.38), (-0.1, -0.38)]}
    for x, y in spots[a["lenses"]]:
        p.oval("lens", x, y, 0.125, 0.125, "steel", h=1.0)
        p.oval("lens", x, y, 0.098, 0.098, "ink", h=0.8)
        p.oval("lens", x - 0.035, y - 0.035, 0.036, 0.036, "glass+", h=0.8)
    p.oval("logo", -0.35, 0.42, 0.11, 0.11, "steel", h=0.78)
    p.oval("", -0.33, 0.40, 0.07, 0.07, "main-", h=0.75)


def laptop(p: Pen, a: Values) -> None:
    wide = a["screen"] == "wide"
    w, top = (0.92, -0.66) if wide else (0.66, -0.88)
    p.rect("lid", -w, top, w, 0.36, "main", r=0.08, h=0.5, pat=True)
    p.rect("screen", -w + 0.13, top + 0.13, w - 0.13, 0.2, "screen", r=0.02, h=0.4)
    p.poly("screen", [(-w * 0.1, top + 0.13), (w * 0.45, top + 0.13), (-w * 0.2, 0.2), (-w * 0.75, 0.2)], "screen+", h=0.4)
    p.rect("", -w * 0.5, 0.34, w * 0.5, 0.42, "ink", h=0.4)
    d = 0.92 if wide else 0.74
    p.poly("deck", [(-d + 0.06, 0.4), (d - 0.06, 0.4), (d + 0.06, 0.84), (-d - 0.06, 0.84)], "main", h=0.7, pat=True)
    p.poly("", [(-d - 0.06, 0.84), (d + 0.06, 0.84), (d + 0.02, 0.91), (-d - 0.02, 0.91)], "main-", h=0.5)
    full = a["keyboard"] == "full"
    left, right = -d + 0.12, (d - 0.12 if full else 0.42 * d)
    p.poly("keyboard", [(left, 0.44), (right, 0.44), (right + 0.03, 0.65), (left - 0.03, 0.65)], "second", h=0.55)
    if full:
        gap = right - 0.34 * d
        p.poly("", [(gap, 0.44), (gap + 0.05, 0.44), (gap + 0.06, 0.65), (gap + 0.01, 0.65)], "main", h=0.7)
    for row in range(3):
        y = 0.458 + row * 0.064
        columns = 12 if full else 8
        step = (right - left) / columns
        for k in range(columns):
            x = left + (k + 0.12) * step
            p.rect("keyboard", x, y, x + step * 0.72, y + 0.044, "second-", h=0.8)
    if a["touchpad"] == "round":
        p.oval("touchpad", 0, 0.745, 0.15, 0.075, "steel", h=0.6)
    else:
        p.rect("touchpad", -0.26, 0.685, 0.26, 0.81, "steel", r=0.02, h=0.6)


def headphones(p: Pen, a: Values) -> None:
    if a["cable"] == "straight":
        p.curve("cable", [(-0.6, 0.5), (-0.55, 0.8), (-0.2, 0.9), (0.1, 0.7), (0.3, 0.78), (0.38, 0.95)], 0.055, "rubber")
    elif a["cable"] == "coiled":
        path = [
            (-0.6 + t * 0.95 + 0.05 * math.cos(t * 52), 0.62 + 0.2 * math.sin(t * 3) + 0.11 * math.sin(t * 52))
            for t in (k / 90 for k in range(91))
        ]
        p.line("cable", path, 0.045, "rubber")
    thick = a["band"] == "padded"
    p.arc("headband", 0, 0.12, 0.62, 0.9, 180, 360, 0.25 if thick else 0.12, "main", h=0.6, gloss=0.2, pat=True)
    if thick:
        p.arc("", 0, 0.12, 0.50, 0.78, 205, 335, 0.1, "second", h=0.5)
    for side in (-1, 1):
        x = side * 0.6
        p.line("", [(x, -0.05), (x, 0.3)], 0.09, "steel", h=0.6)
        if a["cups"] == "round":
            p.oval("ear pad", x - side * 0.17, 0.34, 0.2, 0.31, "second", h=0.7)
            p.oval("ear cup", x + side * 0.04, 0.34, 0.27, 0.35, "main", h=0.95, gloss=0.3, pat=True)
            p.oval("ear cup", x + side * 0.06, 0.34, 0.11, 0.15, "main-", h=0.85)
        else:
            p.rect("ear pad", x - side * 0.17 - 0.18, 0.06, x - side * 0.17 + 0.18, 0.64, "second", r=0.06, h=0.7)
            p.rect("ear cup", x + side * 0.04 - 0.25, 0.0, x + side * 0.04 + 0.25, 0.7, "main", r=0.05, h=0.95, gloss=0.3, pat=True)
            p.rect("ear cup", x + side * 0.06 - 0.09, 0.2, x + side * 0.06 + 0.09, 0.5, "main-", r=0.02, h=0.85)
    if a["microphone"] == "boom":
        p.curve("microphone", [(0.66, 0.6), (0.5, 0.86), (0.2, 0.9), (0.02, 0.82)], 0.06, "ink", h=0.7)
        p.oval("microphone", -0.01, 0.8, 0.12, 0.08, "rubber", h=0.9)


def camera(p: Pen, a: Values) -> None:
    if a["flash"] == "square":
        p.rect("flash", 0.38, -0.78, 0.8, -0.5, "steel-", r=0.03, h=0.7)
        p.rect("flash", 0.43, -0.73, 0.75, -0.54, "paper", r=0.02, h=0.7, gloss=0.8)
    elif a["flash"] == "round":
        p.oval("flash", 0.58, -0.66, 0.2, 0.2, "steel-", h=0.7)
        p.oval("flash", 0.58, -0.66, 0.14, 0.14, "paper", h=0.7, gloss=0.8)
    p.rect("shutter button", -0.74, -0.64, -0.46, -0.5, "steel", r=0.03, h=0.8)
    if a["hump"] == "prism":
        p.poly("top plate", [(-0.34, -0.5), (-0.18, -0.84), (0.18, -0.84), (0.34, -0.5)], "steel", h=0.7)
        p.poly("", [(-0.15, -0.62), (-0.1, -0.76), (0.1, -0.76), (0.15, -0.62)], "ink", h=0.5)
    p.rect("top plate", -0.9, -0.54, 0.9, -0.24, "steel", r=0.08, h=0.7)
    p.rect("body", -0.94, -0.32, 0.94, 0.66, "main", r=0.09, h=0.75, pat=True)
    p.rect("", -0.94, 0.58, 0.94, 0.7, "steel-", r=0.05, h=0.6)
    p.rect("", -0.78, -0.47, -0.6, -0.37, "glass", r=0.02)
    r = 0.5 if a["lens"] == "large" else 0.3
    p.oval("lens ring", 0, 0.15, r, r, "second", h=1.0, gloss=0.3)
    p.oval("lens ring", 0, 0.15, r * 0.78, r * 0.78, "steel-", h=0.7)
    p.oval("lens", 0, 0.15, r * 0.7, r * 0.7, "ink", h=0.9, gloss=0.9)
    p.oval("lens", 0, 0.15, r * 0.5, r * 0.5, "glass", h=0.8)
    p.oval("lens", 0, 0.15, r * 0.22, r * 0.22, "ink", h=0.8)
    p.poly("lens", arc(-r * 0.2, 0.15 - r * 0.24, r * 0.17, r * 0.12), "glass+", h=0.8)
