"""Handbag, backpack, watch, toy car."""

from __future__ import annotations

import math
from collections.abc import Mapping

from evals.bazaar.canvas import Pen, arc, smooth

Values = Mapping[str, str]


def handbag(p: Pen, a: Values) -> None:
    if a["handle"] == "long":
        p.arc("handle", 0, -0.1, 0.56, 0.84, 180, 360, 0.07, "main-", h=0.4)
    elif a["handle"] == "short":
        p.arc("handle", 0, -0.16, 0.3, 0.42, 180, 360, 0.13, "main-", h=0.5)
    else:
        p.arc("handle", -0.1, -0.16, 0.34, 0.58, 180, 360, 0.08, "main--", h=0.35)
        p.arc("handle", 0.12, -0.16, 0.34, 0.52, 180, 360, 0.08, "main-", h=0.5)
    if a["shape"] == "boxy":
        p.rect("body", -0.78, -0.22, 0.78, 0.8, "main", r=0.06, h=0.75, pat=True)
        p.rect("bottom trim", -0.79, 0.58, 0.79, 0.82, "second", r=0.06, h=0.85)
        flap = [(-0.8, -0.24), (0.8, -0.24), (0.74, 0.2), (-0.74, 0.2)]
        top = [(-0.72, -0.12), (0.72, -0.12)]
    elif a["shape"] == "round":
        p.oval("body", 0, 0.26, 0.76, 0.62, "main", h=0.75, pat=True)
        p.poly("bottom trim", arc(0, 0.26, 0.77, 0.63, 35, 145), "second", h=0.85)
        flap = [*arc(0, 0.26, 0.78, 0.64, 190, 350), (0.5, 0.3), (0, 0.4), (-0.5, 0.3)]
        top = arc(0, 0.26, 0.66, 0.5, 215, 325)
    else:
        p.poly("body", [(-0.5, -0.22), (0.5, -0.22), (0.84, 0.8), (-0.84, 0.8)], "main", h=0.75, pat=True)
        p.poly("bottom trim", [(-0.78, 0.58), (0.78, 0.58), (0.86, 0.82), (-0.86, 0.82)], "second", h=0.85)
        flap = [(-0.52, -0.24), (0.52, -0.24), (0.62, 0.16), (0, 0.34), (-0.62, 0.16)]
        top = [(-0.48, -0.1), (0.48, -0.1)]
    clasp = 0.12
    if a["top"] == "flap":
        p.poly("flap", flap, "main-", h=0.95)
        clasp = 0.26
    else:
        p.line("zip", top, 0.09, "steel", h=0.85)
        p.line("zip", top, 0.03, "ink", h=0.7)
        p.rect("zip", top[-1][0] - 0.12, top[-1][1], top[-1][0] - 0.04, top[-1][1] + 0.18, "gold", r=0.03, h=1.0)
    if a["clasp"] == "round":
        p.oval("clasp", 0, clasp, 0.13, 0.13, "gold", h=1.0)
        p.oval("clasp", 0, clasp, 0.06, 0.06, "ink", h=0.9)
    else:
        p.rect("clasp", -0.13, clasp - 0.11, 0.13, clasp + 0.11, "gold", h=1.0)
        p.rect("clasp", -0.07, clasp - 0.05, 0.07, clasp + 0.05, "ink", h=0.9)


def backpack(p: Pen, a: Values) -> None:
    for s in (-1, 1):
        p.curve("straps", [(s * 0.4, -0.6), (s * 0.78, -0.3), (s * 0.82, 0.3), (s * 0.56, 0.78)], 0.13, "second-", h=0.3)
    p.arc("top handle", 0, -0.76, 0.17, 0.17, 180, 360, 0.08, "second-", h=0.4)
    if a["shape"] == "boxy":
        p.rect("body", -0.62, -0.8, 0.62, 0.92, "main", r=0.07, h=0.7, pat=True)
        arch = [(-0.5, -0.24), (-0.48, -0.66), (0.48, -0.66), (0.5, -0.24)]
        flap = [(-0.64, -0.82), (0.64, -0.82), (0.64, -0.1), (0.5, 0.02), (-0.5, 0.02), (-0.64, -0.1)]
    else:
        p.poly(
            "body", [*arc(0, -0.2, 0.62, 0.64, 180, 360), (0.62, 0.82), (0.52, 0.92), (-0.52, 0.92), (-0.62, 0.82)], "main", h=0.7, pat=True
        )
        arch = arc(0, -0.16, 0.48, 0.5, 180, 360)
        flap = [*arc(0, -0.2, 0.64, 0.66, 180, 360), (0.64, -0.1), (0.42, 0.02), (-0.42, 0.02), (-0.64, -0.1)]
    boxes = {
        "one": [(-0.44, 0.3, 0.44, 0.84)],
        "two": [(-0.54, 0.3, -0.05, 0.84), (0.05, 0.3, 0.54, 0.84)],
        "three": [(-0.54, 0.5, -0.05, 0.86), (0.05, 0.5, 0.54, 0.86), (-0.34, 0.12, 0.34, 0.42)],
    }
    for x0, y0, x1, y1 in boxes[a["pockets"]]:
        p.rect("pocket", x0, y0, x1, y1, "second", r=0.06, h=0.95)
        p.rect("pocket", x0 + 0.03, y0 + 0.05, x1 - 0.03, y0 + 0.1, "second-", h=0.8)
    if a["top"] == "flap":
        p.poly("flap", flap, "main-", h=0.95)
        for x in (-0.3, 0.3):
            p.rect("flap", x - 0.05, -0.16, x + 0.05, 0.16, "ink", h=1.0)
            p.rect("flap", x - 0.08, 0.0, x + 0.08, 0.12, "gold", r=0.02, h=1.0)
    else:
        p.line("zip", arch, 0.07, "steel", h=0.85)
        p.line("zip", arch, 0.025, "ink", h=0.7)
        p.rect("zip", arch[-1][0] - 0.04, arch[-1][1] - 0.02, arch[-1][0] + 0.04, arch[-1][1] + 0.16, "gold", r=0.02, h=1.0)


def watch(p: Pen, a: Values) -> None:
    half = 0.34 if a["strap"] == "wide" else 0.19
    p.poly("strap", [(-half, -0.2), (-half * 0.8, -0.96), (half * 0.8, -0.96), (half, -0.2)], "main", h=0.6, pat=True)
    p.poly("strap", [(-half, 0.2), (-half * 0.8, 0.96), (half * 0.8, 0.96), (half, 0.2)], "main", h=0.6, pat=True)
    p.rect("", -half * 0.86, -0.95, half * 0.86, -0.87, "steel", r=0.02, h=0.8)
    for k in range(3):
        p.oval("", 0, 0.66 + k * 0.1, 0.03, 0.03, "ink", h=0.4)
    for y in (0.0,) if a["crown"] == "one" else (-0.24, 0.0, 0.24):
        p.rect("crown", 0.42, y - 0.07, 0.62 if y == 0 else 0.57, y + 0.07, "steel", r=0.02, h=0.6)
    if a["dial"] == "round":
        p.oval("case", 0, 0, 0.54, 0.54, "steel", h=0.95)
        p.oval("case", 0, 0, 0.47, 0.47, "steel-", h=0.8)
        p.oval("dial", 0, 0, 0.44, 0.44, "second", h=0.85, gloss=0.5)
    else:
        p.rect("case", -0.5, -0.52, 0.5, 0.52, "steel", r=0.08, h=0.95)
        p.rect("case", -0.43, -0.45, 0.43, 0.45, "steel-", r=0.04, h=0.8)
        p.rect("dial", -0.4, -0.42, 0.4, 0.42, "second", r=0.03, h=0.85, gloss=0.5)
    for k in range(12):
        t = math.radians(30 * k)
        reach = 1.0 if a["dial"] == "round" else min(1 / max(abs(math.cos(t)), 1e-6), 1 / max(abs(math.sin(t)), 1e-6), 1.25)
        x, y = math.cos(t) * reach, math.sin(t) * reach
        if a["markers"] == "dots":
            p.oval("dial", 0.34 * x, 0.34 * y, 0.036, 0.036, "second~", h=0.85)
        elif a["markers"] == "bars":
            p.line("dial", [(0.28 * x, 0.28 * y), (0.38 * x, 0.38 * y)], 0.045, "second~", h=0.85)
    p.line("hands", [(0.02, 0.03), (-0.15, -0.14)], 0.055, "second~", h=1.0)
    p.line("hands", [(-0.02, 0.03), (0.14, -0.26)], 0.04, "second~", h=1.0)
    p.oval("hands", 0, 0, 0.04, 0.04, "gold", h=1.0)


def toy_car(p: Pen, a: Values) -> None:
    r = 0.3 if a["wheels"] == "big" else 0.2
    form, floor = a["form"], 0.44
    roof = {"sedan": -0.34, "truck": -0.4, "van": -0.6, "racer": -0.14}[form]
    left, right = {"sedan": (-0.5, 0.36), "truck": (0.0, 0.5), "van": (-0.88, 0.5), "racer": (-0.34, 0.16)}[form]
    if a["extra"] == "rack":
        for x in (left + 0.14, right - 0.14):
            p.line("roof rack", [(x, roof + 0.05), (x, roof - 0.12)], 0.05, "steel", h=0.5)
        p.line("roof rack", [(left + 0.02, roof - 0.12), (right - 0.02, roof - 0.12)], 0.06, "steel", h=0.6)
    elif a["extra"] == "spoiler":
        back = -0.5 if form == "van" else -0.1 if form != "racer" else 0.0
        p.line("spoiler", [(-0.74, back + 0.25), (-0.8, back - 0.12)], 0.07, "main-", h=0.5)
        p.poly("spoiler", [(-0.98, back - 0.22), (-0.6, back - 0.16), (-0.6, back - 0.06), (-0.98, back - 0.1)], "second", h=0.8)
    cabin = {
        "sedan": smooth([(-0.62, 0.1), (-0.46, -0.24), (-0.3, -0.34), (0.14, -0.34), (0.3, -0.22), (0.52, 0.1)]),
        "truck": [(-0.04, 0.1), (0.0, -0.4), (0.36, -0.4), (0.56, 0.1)],
        "van": [(-0.9, 0.1), (-0.9, -0.54), (-0.84, -0.6), (0.44, -0.6), (0.52, -0.54), (0.68, 0.1)],
        "racer": smooth([(-0.42, 0.16), (-0.26, -0.08), (-0.06, -0.14), (0.12, -0.04), (0.3, 0.16)]),
    }[form]
    p.poly("cabin", cabin, "main" if form == "van" else "main-", h=0.6, gloss=0.4, pat=form == "van")
    windows = {
        "sedan": [
            [(-0.46, 0.06), (-0.34, -0.24), (-0.1, -0.26), (-0.1, 0.06)],
            [(-0.02, 0.06), (-0.02, -0.26), (0.14, -0.24), (0.38, 0.06)],
        ],
        "truck": [[(0.06, 0.04), (0.09, -0.3), (0.3, -0.3), (0.44, 0.04)]],
        "van": [[(0.1, -0.04), (0.1, -0.46), (0.4, -0.46), (0.56, -0.04)], [(-0.4, -0.1), (-0.4, -0.46), (0.0, -0.46), (0.0, -0.1)]],
        "racer": [[(-0.1, 0.1), (-0.06, -0.06), (0.06, -0.02), (0.2, 0.12)]],
    }[form]
    for pane in windows:
        p.poly("windows", pane, "glass+", h=0.5)
    bodies = {
        "sedan": [(-0.92, floor), (-0.94, 0.16), (-0.86, 0.06), (-0.5, 0.02), (0.5, 0.02), (0.82, 0.1), (0.94, 0.24), (0.94, floor)],
        "truck": [(-0.94, floor), (-0.94, -0.04), (-0.86, -0.04), (-0.84, 0.08), (0.6, 0.08), (0.84, 0.14), (0.94, 0.26), (0.94, floor)],
        "van": [(-0.92, floor), (-0.92, -0.02), (0.62, -0.02), (0.84, 0.1), (0.94, 0.24), (0.94, floor)],
        "racer": [(-0.94, floor), (-0.94, 0.08), (-0.6, 0.12), (0.1, 0.12), (0.6, 0.26), (0.97, 0.38), (0.97, floor)],
    }
    p.poly("body", bodies[form], "main", h=0.75, gloss=0.4, pat=True)
    p.rect("bumper", 0.82, floor - 0.13, 0.99, floor + 0.03, "second", r=0.03, h=0.9)
    p.rect("bumper", -0.99, floor - 0.13, -0.82, floor + 0.03, "second", r=0.03, h=0.9)
    p.oval("headlight", 0.82, floor - 0.21 if form != "racer" else floor - 0.1, 0.08, 0.08, "bulb", h=0.95, gloss=0.8)
    for x in (-0.52, 0.54):
        p.oval("wheels", x, floor + 0.06, r, r, "rubber", h=1.0)
        p.oval("wheels", x, floor + 0.06, r * 0.56, r * 0.56, "steel", h=0.9)
        p.oval("wheels", x, floor + 0.06, r * 0.2, r * 0.2, "ink", h=0.8)
