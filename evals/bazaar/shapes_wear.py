"""Sneaker, boot, jacket, dress."""

from __future__ import annotations

from collections.abc import Mapping

from evals.bazaar.canvas import Pen, smooth, spun

Values = Mapping[str, str]


def sneaker(p: Pen, a: Values) -> None:
    high, drop = a["ankle"] == "high", 0.0
    if high:
        top = [(-0.86, 0.44), (-0.9, 0.05), (-0.9, -0.5), (-0.84, -0.72), (-0.5, -0.74), (-0.2, -0.66), (-0.14, -0.34)]
    else:
        top = [(-0.86, 0.44), (-0.92, 0.16), (-0.88, -0.16), (-0.62, -0.1), (-0.36, -0.2), (-0.2, -0.22)]
        drop = 0.04
    front = [(0.1, 0.0), (0.36, 0.12), (0.66, 0.16), (0.88, 0.28), (0.93, 0.46)]
    p.blob(
        "",
        [(-0.8, top[-3][1] + 0.02), (-0.5, top[-3][1] - 0.1), (-0.16, top[-1][1] - 0.14), (-0.06, top[-1][1] + 0.1), (-0.5, 0.1)],
        "main-",
        h=0.3,
    )
    p.poly("upper", [*smooth([*top, *front], closed=False), (0, 0.5)], "main", h=0.75, pat=True)
    p.blob(
        "heel tab",
        [(-0.92, 0.4), (-0.93, 0.1), (-0.89, top[2][1] + 0.1), (-0.7, top[2][1] + 0.16), (-0.68, 0.15), (-0.7, 0.4)],
        "second",
        h=0.8,
    )
    if a["toe"] == "cap":
        p.blob("toe cap", [(0.5, 0.46), (0.5, 0.24), (0.64, 0.16), (0.84, 0.25), (0.94, 0.46)], "cream", h=0.9)
    if a["closure"] == "laces":
        p.curve("", [(-0.26, top[-1][1] + 0.08), (0.06, 0.06 + drop), (0.34, 0.22)], 0.05, "main-", h=0.6)
        for k in range(4 if high else 3):
            x, y = 0.3 - k * 0.17, 0.12 - k * (0.13 if high else 0.1)
            p.line("laces", [(x - 0.14, y + 0.12), (x + 0.07, y - 0.09)], 0.07, "paper", h=1.0)
        p.oval("laces", x - 0.03, y - 0.14, 0.11, 0.05, "paper", turn=-30, h=1.0)
        p.oval("laces", x + 0.12, y - 0.1, 0.11, 0.05, "paper", turn=30, h=1.0)
    elif a["closure"] == "straps":
        for k in range(2):
            x, y = 0.2 - k * 0.28, 0.06 - k * (0.22 if high else 0.15)
            p.poly("straps", [(x - 0.24, y + 0.2), (x + 0.06, y - 0.1), (x + 0.2, y - 0.02), (x - 0.08, y + 0.3)], "second", h=1.0)
            p.line("straps", [(x - 0.2, y + 0.22), (x - 0.1, y + 0.29)], 0.05, "ink", h=1.0)
    else:
        p.poly("", [(-0.42, top[-1][1] + 0.06), (-0.1, top[-1][1] + 0.1), (-0.2, top[-1][1] + 0.42)], "ink", h=0.6)
    depth = 0.3 if a["sole"] == "thick" else 0.13
    p.rect("sole", -0.95, 0.42, 0.97, 0.42 + depth, "cream", r=0.06, h=0.85)
    p.rect("sole", -0.95, 0.42 + depth - 0.06, 0.97, 0.42 + depth + 0.01, "rubber", r=0.03, h=0.6)


def boot(p: Pen, a: Values) -> None:
    top = -0.94 if a["shaft"] == "tall" else -0.42
    tip = {"high": 0.22, "block": 0.08, "flat": 0.0}[a["heel"]]
    if a["heel"] == "high":
        p.poly("heel", [(-0.52, 0.68), (-0.24, 0.74), (-0.36, 0.96), (-0.48, 0.96)], "timber", h=0.5)
    elif a["heel"] == "block":
        p.poly("heel", [(-0.52, 0.68), (-0.06, 0.72), (-0.08, 0.92), (-0.52, 0.92)], "timber", h=0.5)
    else:
        p.rect("heel", -0.54, 0.7, -0.1, 0.82, "timber", h=0.5)
    sole = [
        (-0.53, 0.64),
        (-0.2, 0.66),
        (0.1, 0.66 + tip),
        (0.8, 0.66 + tip),
        (0.86, 0.76 + tip),
        (0.1, 0.77 + tip),
        (-0.2, 0.75),
        (-0.53, 0.72),
    ]
    p.poly("sole", sole, "rubber", h=0.6)
    foot = [
        (-0.5, 0.69),
        (-0.53, 0.3),
        (-0.3, 0.0),
        (0.02, 0.12),
        (0.25, 0.3 + tip * 0.6),
        (0.6, 0.38 + tip),
        (0.84, 0.55 + tip),
        (0.82, 0.68 + tip),
    ]
    p.poly("foot", [*smooth(foot, closed=False), (0.15, 0.69 + tip)], "main", h=0.75, pat=True)
    p.poly(
        "shaft",
        smooth([(-0.56, top), (0.04, top), (0.02, -0.1), (0.1, 0.2), (-0.1, 0.34), (-0.4, 0.36), (-0.53, 0.3), (-0.52, -0.1)]),
        "main",
        h=0.8,
        pat=True,
    )
    p.rect("cuff", -0.61, top - 0.02, 0.1, top + 0.17, "second", r=0.05, h=0.95)
    length = -0.05 - top
    if a["closure"] == "laces":
        for k in range(4):
            y = top + 0.3 + k * (length * 0.24)
            p.line("laces", [(-0.16, y + 0.06), (0.09, y - 0.04)], 0.055, "paper", h=1.0)
            p.line("laces", [(-0.16, y - 0.05), (0.09, y + 0.07)], 0.055, "paper", h=1.0)
    elif a["closure"] == "zip":
        p.line("zip", [(-0.2, top + 0.2), (-0.2, 0.42)], 0.08, "steel", h=0.9)
        p.line("zip", [(-0.2, top + 0.2), (-0.2, 0.42)], 0.025, "ink", h=0.8)
        p.rect("zip", -0.25, top + 0.2, -0.15, top + 0.38, "gold", r=0.03, h=1.0)
    else:
        for y in (top + 0.32, 0.2):
            p.poly("buckle", [(-0.55, y), (0.08, y - 0.04), (0.09, y + 0.09), (-0.54, y + 0.13)], "ink", h=0.95)
            p.rect("buckle", -0.3, y - 0.06, -0.08, y + 0.17, "gold", r=0.03, h=1.0)
            p.rect("buckle", -0.25, y, -0.13, y + 0.1, "ink", h=0.9)


def jacket(p: Pen, a: Values) -> None:
    if a["neck"] == "hood":
        p.oval("hood", 0, -0.64, 0.38, 0.32, "main", h=0.5, pat=True)
        p.oval("hood", 0, -0.58, 0.25, 0.24, "main--", h=0.2)
    else:
        p.oval("", 0, -0.62, 0.22, 0.12, "main--", h=0.2)
    for s in (-1, 1):
        if a["sleeves"] == "long":
            arm = [(s * 0.3, -0.62), (s * 0.56, -0.56), (s * 0.72, -0.2), (s * 0.94, 0.52), (s * 0.72, 0.62), (s * 0.46, 0.0)]
            p.blob("sleeve", arm, "main", h=0.55, pat=True)
            p.poly("hem", [(s * 0.96, 0.48), (s * 0.98, 0.6), (s * 0.73, 0.71), (s * 0.68, 0.58)], "second", h=0.65)
        elif a["sleeves"] == "short":
            p.poly(
                "sleeve",
                [(s * 0.3, -0.62), (s * 0.54, -0.58), (s * 0.82, -0.1), (s * 0.54, 0.06), (s * 0.4, -0.1)],
                "main",
                h=0.55,
                pat=True,
            )
            p.line("hem", [(s * 0.82, -0.1), (s * 0.53, 0.07)], 0.09, "second", h=0.65)
    body = [(-0.24, -0.64), (-0.46, -0.56), (-0.48, 0.1), (-0.53, 0.78), (0.53, 0.78), (0.48, 0.1), (0.46, -0.56), (0.24, -0.64), (0, -0.5)]
    p.poly("body", body, "main", h=0.75, pat=True)
    if a["sleeves"] == "none":
        for s in (-1, 1):
            p.curve("", [(s * 0.42, -0.58), (s * 0.38, -0.3), (s * 0.49, -0.02)], 0.09, "second", h=0.7)
    p.rect("hem", -0.54, 0.7, 0.54, 0.86, "second", r=0.03, h=0.85)
    if a["closure"] == "zip":
        p.line("zip", [(0, -0.5), (0, 0.84)], 0.09, "steel", h=0.85)
        p.line("zip", [(0, -0.5), (0, 0.84)], 0.03, "ink", h=0.7)
        p.rect("zip", -0.05, -0.4, 0.05, -0.2, "gold", r=0.03, h=1.0)
    else:
        p.line("", [(0, -0.5), (0, 0.84)], 0.03, "main--", h=0.6)
        for k in range(5):
            p.oval("buttons", 0.0, -0.38 + k * 0.26, 0.065, 0.065, "second", h=1.0, gloss=0.6)
            p.oval("buttons", 0.0, -0.38 + k * 0.26, 0.022, 0.022, "ink", h=0.9)
    for y in {"two": (0.38,), "four": (-0.14, 0.38), "none": ()}[a["pockets"]]:
        for s in (-1, 1):
            p.rect("pockets", s * 0.29 - 0.13, y - 0.11, s * 0.29 + 0.13, y + 0.18, "main-", r=0.03, h=0.95)
            p.rect("pockets", s * 0.29 - 0.15, y - 0.13, s * 0.29 + 0.15, y - 0.03, "second", r=0.02, h=1.0)
    if a["neck"] == "collar":
        for s in (-1, 1):
            p.poly("collar", [(s * 0.02, -0.52), (s * 0.2, -0.72), (s * 0.42, -0.56), (s * 0.22, -0.3)], "second", h=0.95)
    elif a["neck"] == "hood":
        for s in (-1, 1):
            p.line("", [(s * 0.12, -0.5), (s * 0.14, -0.2)], 0.035, "paper", h=1.0)
    else:
        p.curve("", [(-0.25, -0.64), (-0.14, -0.52), (0, -0.47), (0.14, -0.52), (0.25, -0.64)], 0.08, "second", h=0.95)


def dress(p: Pen, a: Values) -> None:
    end = 0.92 if a["length"] == "long" else 0.5
    wide = 0.66 if a["length"] == "long" else 0.6
    bare = a["sleeves"] == "none"
    for s in (-1, 1):
        if a["sleeves"] == "long":
            p.blob(
                "sleeve",
                [(s * 0.2, -0.8), (s * 0.34, -0.74), (s * 0.56, -0.3), (s * 0.7, 0.16), (s * 0.56, 0.22), (s * 0.28, -0.4)],
                "main",
                h=0.5,
                pat=True,
            )
        elif a["sleeves"] == "short":
            p.oval("sleeve", s * 0.38, -0.62, 0.22, 0.17, "main", turn=s * 30, h=0.5, pat=True)
        else:
            p.line("", [(s * 0.2, -0.9), (s * 0.21, -0.5)], 0.05, "second", h=0.6)
    top = -0.6 if bare else -0.82
    if a["neck"] == "v":
        cut = [(-0.16, top), (0, top + 0.34), (0.16, top)]
    else:
        cut = [(-0.18, top), (-0.14, top + 0.12), (-0.07, top + 0.19), (0, top + 0.21), (0.07, top + 0.19), (0.14, top + 0.12), (0.18, top)]
    bodice = [(-0.31, top), *cut, (0.31, top), (0.34, -0.5), (0.24, -0.08), (-0.24, -0.08), (-0.34, -0.5)]
    p.poly("bodice", bodice, "main", h=0.7, pat=True)
    skirt = [(-0.24, -0.1), (0.24, -0.1), (wide * 0.8, end - 0.3), (wide, end)]
    wave = [(wide - k * wide / 4, end + (0.035 if k % 2 else -0.01)) for k in range(1, 8)]
    p.poly("skirt", [*skirt, *wave, (-wide, end), (-wide * 0.8, end - 0.3)], "main", h=0.75, pat=True)
    for k in (-2, -1, 1, 2):
        p.line("", [(k * 0.07, 0.0), (k * wide * 0.33, end - 0.16)], 0.018, "main-", h=0.68)
    hem = [(-wide * 0.93, end - 0.13), (wide * 0.93, end - 0.13), (wide, end), *wave, (-wide, end)]
    p.poly("hem", hem, "second", h=0.8)
    if a["belt"] != "none":
        p.rect("belt", -0.27, -0.16, 0.27, -0.03, "second", r=0.02, h=0.95)
    if a["belt"] == "bow":
        for s in (-1, 1):
            p.poly("belt", [(0, -0.1), (s * 0.26, -0.26), (s * 0.28, 0.08)], "second", h=1.0)
            p.poly("belt", spun([(0, -0.08), (0.07, 0.3), (-0.05, 0.3)], -s * 18, 0, -0.08), "second-", h=0.95)
        p.oval("belt", 0, -0.1, 0.065, 0.07, "second-", h=1.0)
    elif a["belt"] == "band":
        p.rect("belt", -0.08, -0.18, 0.08, -0.01, "gold", r=0.02, h=1.0)
