"""Contact sheets: many items at a glance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from evals.bazaar.items import item
from evals.bazaar.render import render
from evals.bazaar.scene import render_scene, scene
from evals.bazaar.vqa import VqaQuestion, evidence_mask, questions

RARE_FIRST = ("defect", "relation", "reading", "place", "colour", "count", "pattern", "material", "presence", "kind")


def contact_sheet(
    rows: int = 8,
    cols: int = 8,
    size: int = 96,
    seed: int = 0,
    *,
    start: int = 0,
    view: int = 0,
    gutter: int = 4,
    indices: list[int] | None = None,
) -> Image.Image:
    """``rows`` x ``cols`` items from ``start`` on (or ``indices``), with thin gutters."""
    chosen = list(range(start, start + rows * cols)) if indices is None else indices
    sheet = Image.new("RGB", (cols * (size + gutter) + gutter, rows * (size + gutter) + gutter), (250, 250, 248))
    for k, index in enumerate(chosen[: rows * cols]):
        place = (gutter + k % cols * (size + gutter), gutter + k // cols * (size + gutter))
        sheet.paste(Image.fromarray(render(item(index, seed), size, view)), place)
    return sheet


def question_sheet(indices: Sequence[int], cols: int = 4, size: int = 192, seed: int = 0, *, each: int = 3) -> Image.Image:
    """Scenes with some of their questions and true answers below; the pixels that show the first answer have a bright edge.

    Args:
        indices: of the scenes. size: side of a picture in pixels. each: questions a scene, of different types.
    """
    points = max(9, size // 17)
    font = ImageFont.load_default(size=points)
    line, gutter = round(points * 1.35), max(4, size // 16)
    wide, tall = size + 2 * gutter, size + (each + 1) * line + gutter
    sheet = Image.new("RGB", (wide * cols, tall * -(-len(indices) // cols)), (250, 250, 248))
    draw = ImageDraw.Draw(sheet)
    for k, index in enumerate(indices):
        shown = scene(index, seed)
        fitting = [one for one in questions(shown) if font.getlength(_said(one)) <= size + gutter]
        asked = _various(fitting, each, turn=k)
        left, top = k % cols * wide + gutter, k // cols * tall + gutter
        sheet.paste(Image.fromarray(_edged(render_scene(shown, size), asked[0], size)), (left, top))
        for row, one in enumerate(asked):
            ink = (160, 40, 30) if row == 0 else (40, 40, 44)
            draw.text((left, top + size + row * line + line // 3), _said(one), fill=ink, font=font)
    return sheet


def _said(asked: VqaQuestion) -> str:
    return f"{asked.text} {asked.answer}"


def _various(asked: Sequence[VqaQuestion], most: int, turn: int) -> list[VqaQuestion]:
    """One question of each type, the rarer types first, beginning with another one on each turn."""
    first: dict[str, VqaQuestion] = {}
    for one in sorted(asked, key=lambda one: not one.evidence.defects):
        first.setdefault(one.type, one)
    rare = sorted(first.values(), key=lambda one: RARE_FIRST.index(one.type))
    start = turn % max(1, len(rare) - most + 1)
    return rare[start : start + most]


def _edged(picture: NDArray[np.uint8], asked: VqaQuestion, size: int) -> NDArray[np.uint8]:
    mask = evidence_mask(asked.evidence, size)
    if mask is not None:
        wide = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(5)))
        picture = np.where(((wide > 0) & ~mask)[..., None], np.array((255, 40, 220), dtype=np.uint8), picture)
    return picture
