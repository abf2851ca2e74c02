"""One picture, two outputs: a list of boxes, lines, words and photos becomes inline SVG for a page or pixels for a file.

Colours are named, not given: the page's style sheet colours the SVG for light, dark and print, and PALETTE the pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup
from PIL import Image as pillow
from PIL import ImageDraw, ImageFont

from evals.report.svg import clean, tag, text_width

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

    Measure = Callable[[str, float, bool], float]  # text, size in px, bold -> width in px

SMOOTH = 3  # shapes are drawn so many times larger and then reduced, so that their edges are smooth
PALETTE = {
    "ground": "#ffffff",
    "panel": "#f1f4f7",
    "line": "#e0e5ea",
    "ink": "#171b21",
    "quiet": "#56606c",
    "rule": "#8d98a5",
    "accent": "#0a6ebd",
    "shade-1": "#d9dfe5",
    "shade-2": "#c3ccd5",
    "warn": "#a8480c",
}


@dataclass(frozen=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    look: str
    radius: float = 0.0


@dataclass(frozen=True)
class Stroke:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    look: str
    width: float = 1.0


@dataclass(frozen=True)
class Words:
    """One line of text; ``y`` is its base line, ``anchor`` "start", "middle" or "end", ``tip`` the whole of a shortened text."""

    x: float
    y: float
    text: str
    size: float
    look: str = "ink"
    anchor: str = "start"
    bold: bool = False
    tip: str = ""


Item = Box | Stroke | Words


def estimated(text: str, size: float, bold: bool = False) -> float:
    """Width of text whose font is not known: what a page's figures are laid out with."""
    return text_width(text, size) * (1.06 if bold else 1.0)


def measured(text: str, size: float, bold: bool = False) -> float:
    """Width of text in the font of the pixels."""
    return float(_font(round(size), bold).getlength(_drawable(text)))


def fit(text: str, room: float, size: float, measure: Measure, *, bold: bool = False) -> str:
    """``text`` shortened with an ellipsis until it fits ``room`` px.

    >>> fit("annual crop land", 60, 10, estimated)
    'annual cr…'
    """
    text = clean(text)
    if measure(text, size, bold) <= room:
        return text
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if measure(text[:middle].rstrip() + "…", size, bold) <= room else (low, middle - 1)
    return text[:low].rstrip() + "…"


def wrap(text: str, room: float, size: float, measure: Measure, *, most: int) -> list[str]:
    """``text`` in at most ``most`` lines of ``room`` px; the last one is shortened if more is left.

    >>> wrap("one two three four", 60, 10, estimated, most=2)
    ['one two', 'three four']
    """
    lines, words = [""], clean(text).split()
    for position, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or measure(longer, size, False) <= room:
            lines[-1] = longer
        elif len(lines) == most:
            lines[-1] = " ".join([lines[-1], *words[position:]])
            break
        else:
            lines.append(word)
    return [fit(line, room, size, measure) for line in lines]


def svg(items: Sequence[Item], width: float, height: float, *, class_: str, label: str) -> Markup:
    """Inline SVG of ``width`` x ``height`` px; ``label`` is its accessible name."""
    parts = [_element(item) for item in items]
    view = f"0 0 {width:.0f} {height:.0f}"
    return tag("svg", *parts, viewBox=view, class_=f"figure {class_}", role="img", aria_label=label)


def _element(item: Item) -> Markup:
    if isinstance(item, Box):
        radius = float(item.radius) if item.radius else None
        return tag(
            "rect", x=float(item.x), y=float(item.y), width=float(item.width), height=float(item.height), rx=radius, class_=item.look
        )
    if isinstance(item, Stroke):
        ends = {"x1": float(item.x1), "y1": float(item.y1), "x2": float(item.x2), "y2": float(item.y2)}
        return tag("line", **ends, class_=item.look, stroke_width=float(item.width))
    anchor = None if item.anchor == "start" else item.anchor
    weight = "650" if item.bold else None
    return tag(
        "text",
        item.text,
        *([tag("title", item.tip)] if item.tip else []),
        x=float(item.x),
        y=float(item.y),
        font_size=float(item.size),
        text_anchor=anchor,
        font_weight=weight,
        class_=item.look,
    )


def pixels(items: Sequence[Item], width: int, height: int, photos: Sequence[tuple[Image, tuple[int, int, int, int]]] = ()) -> Image:
    """An RGB image of ``width`` x ``height`` px.

    Args:
        photos: (image, (x, y, width, height)): drawn into the middle of that frame, as large as fits.
    """
    image = pillow.new("RGB", (width * SMOOTH, height * SMOOTH), PALETTE["ground"])
    draw = ImageDraw.Draw(image)
    for item in items:
        if isinstance(item, Box):
            box = [SMOOTH * v for v in (item.x, item.y, item.x + max(item.width, 0.0), item.y + max(item.height, 0.0))]
            draw.rounded_rectangle(
                (box[0], box[1], max(box[0], box[2] - 1), max(box[1], box[3] - 1)), item.radius * SMOOTH, PALETTE[item.look]
            )
        elif isinstance(item, Stroke):
            ends = [SMOOTH * v for v in (item.x1, item.y1, item.x2, item.y2)]
            draw.line(ends, PALETTE[item.look], max(1, round(item.width * SMOOTH)))
    image = image.resize((width, height), pillow.Resampling.BOX)
    for photo, frame in photos:
        _place(image, photo, frame)
    draw = ImageDraw.Draw(image)
    for item in items:
        if isinstance(item, Words):
            spot = {"start": "ls", "middle": "ms", "end": "rs"}[item.anchor]
            draw.text((item.x, item.y), _drawable(item.text), PALETTE[item.look], _font(round(item.size), item.bold), anchor=spot)
    return image


def _place(image: Image, photo: Image, frame: tuple[int, int, int, int]) -> None:
    x, y, width, height = frame
    factor = min(width / photo.width, height / photo.height)
    size = max(1, round(photo.width * factor)), max(1, round(photo.height * factor))
    shown = photo.convert("RGB").resize(size, pillow.Resampling.BICUBIC if factor > 1 else pillow.Resampling.LANCZOS)
    image.paste(shown, (x + (width - size[0]) // 2, y + (height - size[1]) // 2))


@lru_cache(maxsize=64)
def _font(size: int, bold: bool) -> FreeTypeFont:
    """DejaVu Sans: it comes with matplotlib, covers Latin, Greek and Cyrillic, and is the same on every machine."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size, layout_engine=ImageFont.Layout.BASIC)


def _drawable(text: str) -> str:
    return clean(text).replace("\u00a0", " ")
