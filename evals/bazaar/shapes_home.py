"""Mug, chair, lamp, teddy bear."""

from __future__ import annotations

import math
from collections.abc import Mapping

from evals.bazaar.canvas import Pen, arc, smooth

Values = Mapping[str, str]


def star(cx: float, cy: float, r: float) -> list[tuple[float, float]]:
    spikes = ((r if k % 2 == 0 else r * 0.42, math.radians(36 * k - 90)) for k in range(10))
    return [(cx + q * math.cos(t), cy + q * math.sin(t)) for q, t in spikes]


def heart(cx: float, cy: float, r: float) -> list[tuple[float, float]]:
    path = []
    for k in range(24):
        t = 2 * math.pi * k / 24
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        path.append((cx + r * x / 16, cy - r * y / 15))
    return path


def mug(p: Pen, a: Values) -> None:
    tall = a["height"] == "tall"
    top, foot, left, right = (-0.72, 0.8, -0.62, 0.36) if tall else (-0.32, 0.62, -0.78, 0.44)
    middle, reach = (top + foot) / 2 + 0.02, 0.36 if tall else 0.3
    if a["handle"] == "round":
        p.arc("handle", right - 0.04, middle, 0.42, reach, -95, 95, 0.15, "main", h=0.5, gloss=0.5)
    else:
        x = right + 0.36
        path = [(right - 0.1, middle - reach), (x, middle - reach), (x, middle + reach), (right - 0.1, middle + reach)]
        inner = [
            (right - 0.1, middle + reach - 0.15),
            (x - 0.15, middle + reach - 0.15),
            (x - 0.15, middle - reach + 0.15),
            (right - 0.1, middle - reach + 0.15),
        ]
        p.poly("handle", [*path, *inner], "main", h=0.5, gloss=0.5)
    mid, half = (left + right) / 2, (right - left) / 2
    body = [(left, top), *arc(mid, foot - 0.12, half * 0.94, 0.15, 180, 0), (right, top)]
    p.poly("body", body, "main", h=0.8, gloss=0.6, pat=True)
    p.oval("rim", mid, top, half, 0.16, "second", h=1.0, gloss=0.6)
    p.oval("", mid, top + 0.005, half * 0.84, 0.115, "main--", h=0.4)
    p.oval("", mid, top + 0.045, half * 0.72, 0.07, "coffee", h=0.35, gloss=0.5)
    if a["motif"] != "none":
        y = (top + foot) / 2 + 0.08
        r = 0.3 if tall else 0.27
        p.oval("motif", mid, y, r, r, "main", h=0.8, gloss=0.4)
        p.poly("motif", star(mid, y, r * 0.84) if a["motif"] == "star" else heart(mid, y - 0.01, r * 0.72), "second", h=0.85, gloss=0.4)


def chair(p: Pen, a: Values) -> None:
    back_legs = a["legs"] != "swivel"
    if back_legs:
        for s in (-1, 1):
            p.line("legs", [(s * 0.4, 0.1), (s * 0.42, 0.72)], 0.09, "second-", h=0.35)
    if a["back"] == "solid":
        p.rect("backrest", -0.46, -0.92, 0.46, 0.06, "main", r=0.1, h=0.6, pat=True)
    elif a["back"] == "round":
        p.rect("", -0.08, -0.3, 0.08, 0.12, "second-", h=0.4)
        p.oval("backrest", 0, -0.5, 0.5, 0.44, "main", h=0.6, pat=True)
    else:
        for x in (-0.24, 0.0, 0.24):
            p.rect("backrest", x - 0.06, -0.8, x + 0.06, 0.1, "main", h=0.5, pat=True)
        for s in (-1, 1):
            p.line("backrest", [(s * 0.44, -0.9), (s * 0.42, 0.1)], 0.13, "main", h=0.6, pat=True)
        p.rect("backrest", -0.5, -0.94, 0.5, -0.72, "main", r=0.06, h=0.65, pat=True)
    if a["legs"] == "swivel":
        p.rect("legs", -0.07, 0.2, 0.07, 0.72, "second", h=0.4, gloss=0.4)
        for x in (-0.55, -0.2, 0.2, 0.55):
            p.line("legs", [(0, 0.66), (x, 0.84)], 0.09, "second", h=0.5)
        for x in (-0.55, -0.2, 0.2, 0.55):
            p.oval("legs", x, 0.9, 0.07, 0.07, "ink", h=0.6)
    seat = [(-0.48, 0.06), (0.48, 0.06), (0.6, 0.26), (-0.6, 0.26)]
    p.poly("seat", seat, "main", h=0.9, pat=True)
    p.rect("", -0.61, 0.25, 0.61, 0.35, "main-", r=0.03, h=0.8)
    if back_legs:
        for s in (-1, 1):
            p.line("legs", [(s * 0.54, 0.33), (s * 0.58, 0.86 if a["legs"] == "rocker" else 0.94)], 0.11, "second", h=0.6)
    if a["legs"] == "rocker":
        p.curve("legs", [(-0.94, 0.72), (-0.6, 0.88), (0, 0.94), (0.6, 0.88), (0.94, 0.72)], 0.1, "second", h=0.7)
    if a["arms"] == "yes":
        for s in (-1, 1):
            p.line("armrests", [(s * 0.62, 0.26), (s * 0.66, -0.14)], 0.08, "second", h=0.9)
            p.line("armrests", [(s * 0.42, -0.2), (s * 0.74, -0.12)], 0.13, "second", h=1.0)


def lamp(p: Pen, a: Values) -> None:
    if a["base"] == "tripod":
        for x, tone in ((0.0, "second-"), (-0.46, "second"), (0.46, "second")):
            p.line("base", [(x * 0.1, 0.22), (x, 0.94)], 0.09, tone, h=0.6)
        p.line("stem", [(0, 0.3), (0, -0.2)], 0.11, "second", h=0.6)
    else:
        p.line("stem", [(0, 0.84), (0, -0.2)], 0.11, "second", h=0.6)
        if a["base"] == "round":
            p.oval("base", 0, 0.82, 0.44, 0.13, "main-", h=0.7, gloss=0.4)
            p.oval("base", 0, 0.77, 0.44, 0.12, "main", h=0.9, gloss=0.4)
        else:
            p.rect("base", -0.38, 0.62, 0.38, 0.94, "main", r=0.03, h=0.9, gloss=0.3)
            p.rect("base", -0.38, 0.62, 0.38, 0.69, "main+", r=0.02, h=0.95)
        p.line("stem", [(0, 0.78), (0, 0.4)], 0.11, "second", h=0.95)
    if a["switch"] == "chain":
        p.line("switch", [(0.3, -0.2), (0.3, 0.24)], 0.03, "gold", h=0.7)
        p.oval("switch", 0.3, 0.28, 0.06, 0.06, "gold", h=0.9)
    elif a["switch"] == "button":
        y = 0.78 if a["base"] == "round" else 0.82
        if a["base"] == "tripod":
            p.oval("switch", 0, 0.1, 0.1, 0.1, "paper", h=1.0, gloss=0.6)
        else:
            p.oval("switch", 0.24, y, 0.08, 0.06, "paper", h=1.0, gloss=0.6)
    if a["shade"] == "cone":
        p.poly("shade", [(-0.16, -0.92), (0.16, -0.92), (0.68, -0.12), (-0.68, -0.12)], "main", h=0.8, pat=True)
    elif a["shade"] == "dome":
        p.poly("shade", arc(0, -0.12, 0.66, 0.78, 180, 360), "main", h=0.8, pat=True)
        p.oval("", 0, -0.9, 0.07, 0.06, "second", h=0.9)
    else:
        p.poly("shade", [(-0.5, -0.92), (0.5, -0.92), (0.56, -0.12), (-0.56, -0.12)], "main", h=0.8, pat=True)
    half = {"cone": 0.68, "dome": 0.66, "drum": 0.56}[a["shade"]]
    p.oval("", 0, -0.12, half, 0.075, "main-", h=0.6)
    p.oval("", 0, -0.115, half * 0.88, 0.052, "glow", h=0.4)


def teddy_bear(p: Pen, a: Values) -> None:
    r = 0.25 if a["ears"] == "big" else 0.14
    for s in (-1, 1):
        p.oval("ears", s * 0.38, -0.76, r, r, "main", h=0.5)
        p.oval("ears", s * 0.38, -0.75, r * 0.58, r * 0.58, "second", h=0.45)
    for s in (-1, 1):
        p.oval("arms", s * 0.52, 0.16, 0.17, 0.36, "main", turn=-s * 28, h=0.5, pat=True)
    p.oval("belly", 0, 0.36, 0.48, 0.5, "main", h=0.7, pat=True)
    if a["tummy"] == "patch":
        p.oval("", 0, 0.42, 0.28, 0.32, "second+", h=0.75)
    if a["outfit"] == "vest":
        for s in (-1, 1):
            p.poly(
                "outfit",
                smooth([(s * 0.16, -0.06), (s * 0.42, 0.02), (s * 0.5, 0.4), (s * 0.36, 0.74), (s * 0.16, 0.72), (s * 0.2, 0.3)]),
                "second-",
                h=0.85,
            )
            p.oval("outfit", s * 0.24, 0.32, 0.035, 0.035, "gold", h=0.95)
    for s in (-1, 1):
        p.oval("feet", s * 0.36, 0.76, 0.22, 0.2, "main", h=0.85)
        p.oval("feet", s * 0.37, 0.77, 0.14, 0.13, "second", h=0.9)
    p.oval("head", 0, -0.42, 0.5, 0.42, "main", h=0.95, pat=True)
    p.oval("", 0, -0.28, 0.24, 0.19, "cream", h=1.0)
    p.oval("nose", 0, -0.36, 0.085, 0.06, "ink", h=1.0, gloss=0.8)
    p.curve("", [(-0.09, -0.22), (0, -0.19), (0.09, -0.22)], 0.025, "ink", h=0.95)
    for s in (-1, 1):
        p.oval("eyes", s * 0.2, -0.52, 0.065, 0.075, "ink", h=1.0, gloss=0.8)
        p.oval("eyes", s * 0.2 - 0.02, -0.55, 0.022, 0.022, "paper", h=1.0)
    if a["outfit"] == "bow":
        for s in (-1, 1):
            p.poly("outfit", [(0, -0.02), (s * 0.3, -0.17), (s * 0.3, 0.15)], "second", h=1.0)
        p.oval("outfit", 0, -0.02, 0.07, 0.075, "second-", h=1.0)
    elif a["outfit"] == "scarf":
        p.curve("outfit", [(-0.4, -0.1), (-0.2, 0.0), (0, 0.03), (0.2, 0.0), (0.4, -0.1)], 0.17, "second", h=1.0)
        p.poly("outfit", [(0.12, 0.0), (0.3, -0.04), (0.4, 0.42), (0.2, 0.46)], "second-", h=0.95)
