"""The things that lie beside an item. Each is drawn in [-1, 1] and placed small in a corner of the photo."""

from __future__ import annotations

import math
from collections.abc import Callable

from evals.bazaar.canvas import Pen, arc, smooth


def draw_accessory(p: Pen, name: str) -> None:
    """Adds the accessory; its part is ``accessory:<name>``."""
    draw, role = _TABLE[name]
    draw(p, f"accessory:{name}", role)


def _box(p: Pen, n: str, role: str, ribbon: str = "tape") -> None:
    p.rect(n, -0.85, -0.35, 0.85, 0.8, role, h=0.7)
    p.poly(n, [(-0.85, -0.35), (-0.6, -0.75), (0.95, -0.75), (0.85, -0.35)], "tape" if role == "card" else role, h=0.9)
    p.rect(n, -0.14, -0.35, 0.14, 0.8, ribbon, h=0.75)


def _gift_box(p: Pen, n: str, role: str) -> None:
    _box(p, n, role, "gold")
    for s in (-1, 1):
        p.oval(n, s * 0.26, -0.86, 0.26, 0.13, "gold", turn=s * -20, h=0.9)


def _charger(p: Pen, n: str, role: str) -> None:
    p.curve(n, [(0.2, -0.2), (0.9, 0.1), (0.5, 0.8), (-0.4, 0.75), (-0.8, 0.4)], 0.13, "rubber", h=0.5)
    _plug(p, n, role)


def _plug(p: Pen, n: str, role: str) -> None:
    p.rect(n, -0.6, -0.6, 0.35, 0.25, role, r=0.12, h=0.9, gloss=0.4)
    for x in (-0.35, 0.1):
        p.rect(n, x - 0.06, -0.95, x + 0.06, -0.58, "steel", h=0.6)


def _mouse(p: Pen, n: str, role: str) -> None:
    p.curve(n, [(0, -0.5), (0.1, -0.8), (0.5, -0.95)], 0.08, "rubber")
    p.oval(n, 0, 0.1, 0.5, 0.75, role, h=0.9)
    p.line(n, [(0, -0.6), (0, -0.1)], 0.08, "ink", h=0.7)


def _case(p: Pen, n: str, role: str) -> None:
    p.rect(n, -0.85, -0.5, 0.85, 0.6, role, r=0.35, h=0.9)
    p.line(n, [(-0.8, 0.05), (0.8, 0.05)], 0.08, "steel", h=0.9)


def _charm(p: Pen, n: str, role: str) -> None:
    p.arc(n, 0, -0.5, 0.35, 0.35, 0, 360, 0.12, role, h=0.6)
    _brooch(p, n, role)


def _brooch(p: Pen, n: str, role: str) -> None:
    rays = enumerate(math.pi * j / 6 for j in range(12))
    points = [(0.8 * math.cos(t) * (1 if k % 2 else 0.5), 0.25 + 0.7 * math.sin(t) * (1 if k % 2 else 0.5)) for k, t in rays]
    p.poly(n, points, role, h=0.9)
    p.oval(n, 0, 0.25, 0.24, 0.24, "giftbox", h=1.0, gloss=0.8)


def _strap(p: Pen, n: str, role: str) -> None:
    p.arc(n, 0, 0, 0.75, 0.6, -60, 265, 0.24, role, h=0.7)
    p.rect(n, 0.15, -0.85, 0.6, -0.45, "gold", r=0.06, h=0.9)


def _disc(p: Pen, n: str, role: str) -> None:
    """A cap, a tin or a lid."""
    p.oval(n, 0, 0.12, 0.85, 0.62, "steel-" if role == "steel" else "ink", h=0.6)
    p.oval(n, 0, 0, 0.85, 0.6, role, h=0.9, gloss=0.5)
    p.oval(n, 0, -0.05, 0.28, 0.18, "paper" if role == "giftbox" else "steel-", h=1.0)


def _laces(p: Pen, n: str, role: str) -> None:
    for y in (-0.3, 0.35):
        p.line(n, [(-0.95 + 1.9 * k / 30, y + 0.25 * math.sin(k * 0.8)) for k in range(31)], 0.15, role, h=0.7)


def _hanger(p: Pen, n: str, role: str) -> None:
    p.curve(n, [(0, -0.3), (0.05, -0.55), (0.28, -0.65), (0.2, -0.9), (-0.05, -0.85)], 0.1, "steel", h=0.7)
    p.poly(n, [(0, -0.35), (0.98, 0.4), (0.9, 0.55), (-0.9, 0.55), (-0.98, 0.4)], role, h=0.8)
    p.poly(n, [(0, -0.08), (0.6, 0.36), (-0.6, 0.36)], "backdrop", h=0.0)


def _spoon(p: Pen, n: str, role: str) -> None:
    p.line(n, [(-0.2, 0.1), (0.75, 0.85)], 0.16, role, h=0.8)
    p.oval(n, -0.4, -0.25, 0.3, 0.5, role, turn=-40, h=0.9)


def _cushion(p: Pen, n: str, role: str) -> None:
    corners = [(-0.85, -0.75), (0, -0.62), (0.85, -0.75), (0.75, 0), (0.85, 0.75), (0, 0.62), (-0.85, 0.75), (-0.75, 0)]
    p.blob(n, corners, role, h=0.9)
    p.oval(n, 0, 0, 0.1, 0.1, "paper", h=0.7)


def _cloth(p: Pen, n: str, role: str) -> None:
    p.blob(n, [(-0.85, -0.4), (-0.3, -0.6), (0.5, -0.5), (0.85, -0.3), (0.9, 0.7), (0, 0.8), (-0.9, 0.7)], role, h=0.9)


def _blanket(p: Pen, n: str, role: str) -> None:
    _cloth(p, n, role)
    for x in (-0.45, 0.0, 0.45):
        p.line(n, [(x, -0.5), (x, 0.72)], 0.1, "giftbox", h=0.9)


def _bag(p: Pen, n: str, role: str) -> None:
    _cloth(p, n, role)
    p.line(n, [(-0.7, -0.3), (0.7, -0.25)], 0.1, "timber" if role == "paper" else "ink", h=1.0)


def _bulb(p: Pen, n: str, role: str) -> None:
    p.oval(n, 0, -0.25, 0.58, 0.6, role, h=0.9, gloss=0.9)
    p.rect(n, -0.24, 0.25, 0.24, 0.85, "steel-", r=0.08, h=0.7)


def _hat(p: Pen, n: str, role: str) -> None:
    p.oval(n, 0, 0.45, 0.95, 0.26, role, h=0.6)
    p.poly(n, smooth([(-0.55, 0.45), (-0.48, -0.5), (0, -0.62), (0.48, -0.5), (0.55, 0.45)]), role, h=0.9)
    p.poly(n, [*arc(0, 0.3, 0.55, 0.14, 0, 180), (-0.54, 0.1), (0.54, 0.1)], "ink", h=0.95)


def _bottle(p: Pen, n: str, role: str) -> None:
    p.rect(n, -0.38, -0.45, 0.38, 0.95, role, r=0.16, h=0.9)
    p.rect(n, -0.2, -0.95, 0.2, -0.4, "ink", r=0.06, h=0.8)


def _remote(p: Pen, n: str, role: str) -> None:
    p.rect(n, -0.45, -0.9, 0.45, 0.9, role, r=0.14, h=0.9)
    p.line(n, [(0.25, -0.8), (0.4, -1.1)], 0.07, "steel", h=0.6)
    for y, button in ((-0.4, "giftbox"), (0.05, "steel"), (0.5, "steel")):
        p.oval(n, 0, y, 0.2, 0.17, button, h=1.0)


_TABLE: dict[str, tuple[Callable[[Pen, str, str], None], str]] = {
    "box": (_box, "card"),
    "shoe box": (_box, "card"),
    "watch box": (_box, "card"),
    "garage box": (_box, "card"),
    "gift box": (_gift_box, "giftbox"),
    "charger": (_charger, "ink"),
    "adapter": (_plug, "ink"),
    "mouse": (_mouse, "steel"),
    "case": (_case, "ink"),
    "purse charm": (_charm, "gold"),
    "brooch": (_brooch, "gold"),
    "strap": (_strap, "timber"),
    "spare strap": (_strap, "timber"),
    "belt": (_strap, "timber"),
    "lens cap": (_disc, "ink"),
    "polish": (_disc, "giftbox"),
    "lid": (_disc, "steel"),
    "spare laces": (_laces, "paper"),
    "hanger": (_hanger, "timber"),
    "spoon": (_spoon, "steel"),
    "cushion": (_cushion, "giftbox"),
    "blanket": (_blanket, "cream"),
    "dust bag": (_bag, "paper"),
    "rain cover": (_bag, "bulb"),
    "bulb": (_bulb, "bulb"),
    "hat": (_hat, "giftbox"),
    "bottle": (_bottle, "glass+"),
    "remote": (_remote, "ink"),
}
