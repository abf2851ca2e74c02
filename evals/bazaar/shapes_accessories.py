"""The things that lie beside an item. Each is drawn in [-1, 1] and placed small in a corner of the photo."""

from __future__ import annotations

import math

from evals.bazaar.canvas import Pen, arc, smooth


def _box(p: Pen, n: str, role: str, ribbon: str = "tape") -> None:
    p.rect(n, -0.85, -0.35, 0.85, 0.8, role, h=0.7)
    p.poly(n, [(-0.85, -0.35), (-0.6, -0.75), (0.95, -0.75), (0.85, -0.35)], "tape" if role == "card" else role, h=0.9)
    p.rect(n, -0.14, -0.35, 0.14, 0.8, ribbon, h=0.75)


def draw_accessory(p: Pen, name: str) -> None:
    """Adds the accessory; its part is ``accessory:<name>``."""
    n = f"accessory:{name}"
    if name in ("box", "shoe box", "watch box", "garage box"):
        _box(p, n, "card")
    elif name == "gift box":
        _box(p, n, "giftbox", "gold")
        for s in (-1, 1):
            p.oval(n, s * 0.26, -0.86, 0.26, 0.13, "gold", turn=s * -20, h=0.9)
    elif name in ("charger", "adapter"):
        if name == "charger":
            p.curve(n, [(0.2, -0.2), (0.9, 0.1), (0.5, 0.8), (-0.4, 0.75), (-0.8, 0.4)], 0.13, "rubber", h=0.5)
        p.rect(n, -0.6, -0.6, 0.35, 0.25, "ink", r=0.12, h=0.9, gloss=0.4)
        for x in (-0.35, 0.1):
            p.rect(n, x - 0.06, -0.95, x + 0.06, -0.58, "steel", h=0.6)
    elif name == "mouse":
        p.curve(n, [(0, -0.5), (0.1, -0.8), (0.5, -0.95)], 0.08, "rubber")
        p.oval(n, 0, 0.1, 0.5, 0.75, "steel", h=0.9)
        p.line(n, [(0, -0.6), (0, -0.1)], 0.08, "ink", h=0.7)
    elif name in ("case", "purse charm", "brooch"):
        if name == "case":
            p.rect(n, -0.85, -0.5, 0.85, 0.6, "ink", r=0.35, h=0.9)
            p.line(n, [(-0.8, 0.05), (0.8, 0.05)], 0.08, "steel", h=0.9)
        else:
            if name == "purse charm":
                p.arc(n, 0, -0.5, 0.35, 0.35, 0, 360, 0.12, "gold", h=0.6)
            p.poly(
                n,
                [
                    (0.8 * math.cos(t) * (1 if k % 2 else 0.5), 0.25 + 0.7 * math.sin(t) * (1 if k % 2 else 0.5))
                    for k, t in enumerate(math.pi * j / 6 for j in range(12))
                ],
                "gold",
                h=0.9,
            )
            p.oval(n, 0, 0.25, 0.24, 0.24, "giftbox", h=1.0, gloss=0.8)
    elif name in ("strap", "spare strap", "belt"):
        p.arc(n, 0, 0, 0.75, 0.6, -60, 265, 0.24, "timber", h=0.7)
        p.rect(n, 0.15, -0.85, 0.6, -0.45, "gold", r=0.06, h=0.9)
    elif name in ("lens cap", "polish", "lid"):
        role = {"lens cap": "ink", "polish": "giftbox", "lid": "steel"}[name]
        p.oval(n, 0, 0.12, 0.85, 0.62, "steel-" if name == "lid" else "ink", h=0.6)
        p.oval(n, 0, 0, 0.85, 0.6, role, h=0.9, gloss=0.5)
        p.oval(n, 0, -0.05, 0.28, 0.18, "steel-" if name != "polish" else "paper", h=1.0)
    elif name == "spare laces":
        for y in (-0.3, 0.35):
            p.line(n, [(-0.95 + 1.9 * k / 30, y + 0.25 * math.sin(k * 0.8)) for k in range(31)], 0.15, "paper", h=0.7)
    elif name == "hanger":
        p.curve(n, [(0, -0.3), (0.05, -0.55), (0.28, -0.65), (0.2, -0.9), (-0.05, -0.85)], 0.1, "steel", h=0.7)
        p.poly(n, [(0, -0.35), (0.98, 0.4), (0.9, 0.55), (-0.9, 0.55), (-0.98, 0.4)], "timber", h=0.8)
        p.poly(n, [(0, -0.08), (0.6, 0.36), (-0.6, 0.36)], "backdrop", h=0.0)
    elif name == "spoon":
        p.line(n, [(-0.2, 0.1), (0.75, 0.85)], 0.16, "steel", h=0.8)
        p.oval(n, -0.4, -0.25, 0.3, 0.5, "steel", turn=-40, h=0.9)
    elif name == "cushion":
        p.blob(
            n, [(-0.85, -0.75), (0, -0.62), (0.85, -0.75), (0.75, 0), (0.85, 0.75), (0, 0.62), (-0.85, 0.75), (-0.75, 0)], "giftbox", h=0.9
        )
        p.oval(n, 0, 0, 0.1, 0.1, "paper", h=0.7)
    elif name in ("blanket", "dust bag", "rain cover"):
        role = {"blanket": "cream", "dust bag": "paper", "rain cover": "bulb"}[name]
        p.blob(n, [(-0.85, -0.4), (-0.3, -0.6), (0.5, -0.5), (0.85, -0.3), (0.9, 0.7), (0, 0.8), (-0.9, 0.7)], role, h=0.9)
        if name == "blanket":
            for x in (-0.45, 0.0, 0.45):
                p.line(n, [(x, -0.5), (x, 0.72)], 0.1, "giftbox", h=0.9)
        else:
            p.line(n, [(-0.7, -0.3), (0.7, -0.25)], 0.1, "timber" if name == "dust bag" else "ink", h=1.0)
    elif name == "bulb":
        p.oval(n, 0, -0.25, 0.58, 0.6, "bulb", h=0.9, gloss=0.9)
        p.rect(n, -0.24, 0.25, 0.24, 0.85, "steel-", r=0.08, h=0.7)
    elif name == "hat":
        p.oval(n, 0, 0.45, 0.95, 0.26, "giftbox", h=0.6)
        p.poly(n, smooth([(-0.55, 0.45), (-0.48, -0.5), (0, -0.62), (0.48, -0.5), (0.55, 0.45)]), "giftbox", h=0.9)
        p.poly(n, [*arc(0, 0.3, 0.55, 0.14, 0, 180), (-0.54, 0.1), (0.54, 0.1)], "ink", h=0.95)
    elif name == "bottle":
        p.rect(n, -0.38, -0.45, 0.38, 0.95, "glass+", r=0.16, h=0.9)
        p.rect(n, -0.2, -0.95, 0.2, -0.4, "ink", r=0.06, h=0.8)
    elif name == "remote":
        p.rect(n, -0.45, -0.9, 0.45, 0.9, "ink", r=0.14, h=0.9)
        p.line(n, [(0.25, -0.8), (0.4, -1.1)], 0.07, "steel", h=0.6)
        for y, role in ((-0.4, "giftbox"), (0.05, "steel"), (0.5, "steel")):
            p.oval(n, 0, y, 0.2, 0.17, role, h=1.0)
    else:
        raise KeyError(f"no drawing for the accessory {name!r}")
