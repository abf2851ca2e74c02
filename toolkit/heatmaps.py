"""Pictures of attention maps over an image, as PNG and as SVG for a page. Drawn from a decision's JSON alone: no model, no torch.

A decision is what ``contrastive-attention`` records with ``mode=maps`` or ``keep_maps=true``: under ``maps`` one entry for every view
of the image with ``grid``, ``box``, ``early``, ``late``, ``contrast`` and ``masked``; under ``crop``, if there is one, its ``box``.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from toolkit.errors import DataError
from toolkit.regions import WHOLE, Box, HeatGrid, merge_grids, pixel_box

SIDE = 240  # pixels of the longer side of a panel
GAP, LINE = 12, 18

# Anchors of the two scales, evenly spaced: from nothing to much, and from loss over nothing to gain.
_MUCH = np.array([(12, 7, 60), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], dtype=np.float64)
_GAIN = np.array([(5, 80, 200), (110, 165, 235), (247, 247, 247), (240, 120, 95), (190, 10, 40)], dtype=np.float64)
_BOX = (255, 210, 0)

__all__ = ["Panel", "has_maps", "map_panels", "maps_figure", "maps_png", "maps_svg"]


class Panel(NamedTuple):
    """One picture of a figure.

    Attributes:
        title: above it. scale: what its colours mean, below it; may be empty.
        picture: RGB.
    """

    title: str
    scale: str
    picture: Image.Image


def has_maps(decision: Mapping[str, Any] | None, image: int = 0) -> bool:
    """Whether a decision holds maps of that image which can be drawn."""
    views = [view for view in (decision or {}).get("maps") or () if view.get("image") == image]
    return bool(views) and all(view.get("grid") for view in views)


def map_panels(picture: Image.Image, decision: Mapping[str, Any], *, image: int = 0, side: int = SIDE) -> list[list[Panel]]:
    """Rows of panels: the image, early and late attention, their contrast, and what is masked or cropped.

    The first row adds all views of the image up; a model with tiles gets one more row for each kind of view.

    Args:
        picture: the image that was asked about, RGB.
        image: which image of the question, from 0.
        side: pixels of the longer side of a panel.
    Raises: DataError: if the decision has no maps with a grid.
    """
    if not has_maps(decision, image):
        raise DataError("this decision holds no maps that can be drawn", hint="ask for them: -o keep_maps=true or -o mode=maps")
    views = [view for view in decision["maps"] if view["image"] == image]
    small = picture.convert("RGB").resize(_fit(picture.size, side), Image.Resampling.LANCZOS)
    kinds = list(dict.fromkeys(view["kind"] for view in views))
    rows = [_row(small, decision, views, "")]
    if len(kinds) > 1:
        rows += [_row(small, decision, [view for view in views if view["kind"] == kind], f"{kind}: ") for kind in kinds]
    return rows


def maps_figure(picture: Image.Image, decision: Mapping[str, Any], *, title: str = "", image: int = 0, side: int = SIDE) -> Image.Image:
    """All panels in one RGB picture, with ``title`` (a question and its answer) above. Raises: DataError."""
    rows = map_panels(picture, decision, image=image, side=side)
    width, height = rows[0][0].picture.size
    head = LINE + GAP if title else GAP
    step = height + 2 * LINE + GAP
    canvas = Image.new("RGB", (len(rows[0]) * (width + GAP) + GAP, head + len(rows) * step), "white")
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((GAP, 8), _cut(title, canvas.width - 2 * GAP, 14), fill="black", font=_font(14))
    for down, row in enumerate(rows):
        for across, panel in enumerate(row):
            left, top = GAP + across * (width + GAP), head + down * step
            draw.text((left, top), _cut(panel.title, width + GAP - 4, 12), fill="black", font=_font(12))
            canvas.paste(panel.picture, (left, top + LINE))
            draw.text((left, top + LINE + height + 2), _cut(panel.scale, width + GAP - 4, 11), fill=(90, 90, 90), font=_font(11))
    return canvas


def maps_png(picture: Image.Image, decision: Mapping[str, Any], *, title: str = "", image: int = 0, side: int = SIDE) -> bytes:
    """``maps_figure`` as the bytes of a PNG file: the same for the same input. Raises: DataError."""
    return _png(maps_figure(picture, decision, title=title, image=image, side=side))


def maps_svg(picture: Image.Image, decision: Mapping[str, Any], *, title: str = "", image: int = 0, side: int = SIDE) -> str:
    """All panels as one inline SVG element with real text, for a page without scripts and files. Raises: DataError."""
    rows = map_panels(picture, decision, image=image, side=side)
    width, height = rows[0][0].picture.size
    step = height + 2 * LINE + GAP
    total = (len(rows[0]) * (width + GAP), len(rows) * step)
    name = html.escape(title or "Attention of the model over the image", quote=True)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{name}" viewBox="0 0 {total[0]} {total[1]}"']
    parts.append(f' width="{total[0]}" style="max-width:100%;height:auto" font-family="sans-serif" fill="currentColor">')
    for down, row in enumerate(rows):
        for across, panel in enumerate(row):
            left, top = across * (width + GAP), down * step
            data = base64.b64encode(_jpeg(panel.picture)).decode()
            parts.append(f'<text x="{left}" y="{top + 13}" font-size="12">{html.escape(panel.title)}</text>')
            parts.append(f'<image x="{left}" y="{top + LINE}" width="{width}" height="{height}" href="data:image/jpeg;base64,{data}"/>')
            parts.append(f'<text x="{left}" y="{top + LINE + height + 14}" font-size="11" opacity="0.7">{html.escape(panel.scale)}</text>')
    return "".join([*parts, "</svg>"])


def _row(small: Image.Image, decision: Mapping[str, Any], views: Sequence[Mapping[str, Any]], prefix: str) -> list[Panel]:
    early, late, gain = (merge_grids([_grid(view, view[name]) for view in views]) for name in ("early", "late", "contrast"))
    top = max(_high(early), _high(late))  # one scale for both layers, so that they can be compared
    before, after = _titles(decision)
    panels = [
        Panel(f"{prefix}image", "", _framed(small, _crop_box(decision, views))),
        _much(f"{prefix}{before}", small, early, top),
        _much(f"{prefix}{after}", small, late, top),
        _gain(f"{prefix}late - early", small, gain) if gain.min() < 0 else _much(f"{prefix}contrast", small, gain, _high(gain)),
    ]
    return [*panels, _effect(prefix, small, decision, views)]


def _titles(decision: Mapping[str, Any]) -> tuple[str, str]:
    """What the two compared maps are: two layers, or, of a method that reads one, two prompts."""
    layers, early = decision.get("layers") or {}, decision.get("i_star")
    if early is None and "layer" in decision:
        return "any question", f"this question, layer {decision['layer']}"
    base = layers.get("layer_base", 0)  # records count from 0; people see the numbers that the options have
    return f"early layer {'?' if early is None else early + base}", f"late layer {layers['late'] + base if 'late' in layers else '?'}"


def _effect(prefix: str, small: Image.Image, decision: Mapping[str, Any], views: Sequence[Mapping[str, Any]]) -> Panel:
    """What the method made of it: the crop, or the image without the masked tokens."""
    box = _crop_box(decision, views)
    if box is not None:
        cut = small.crop(pixel_box(box, small.size))
        cut = cut.resize(_fit(cut.size, max(small.size)), Image.Resampling.BICUBIC)
        cut.thumbnail(small.size)
        panel = Image.new("RGB", small.size, (235, 235, 235))
        panel.paste(cut, ((small.width - cut.width) // 2, (small.height - cut.height) // 2))
        return Panel(f"{prefix}region", "shown to the model beside the image", panel)
    covered = merge_grids([_grid(view, _flags(view)) for view in views])
    present = merge_grids([_grid(view, np.ones(view["grid"][0] * view["grid"][1])) for view in views])
    share = _resized(covered / np.maximum(present, 1e-12), small.size, Image.Resampling.NEAREST)[..., None]
    pixels = np.asarray(small, dtype=np.float64)
    dark = 0.12 * pixels.mean(axis=2, keepdims=True) + 15
    tokens, masked = sum(view["grid"][0] * view["grid"][1] for view in views), sum(len(view["masked"]) for view in views)
    verb = "masked" if decision.get("mode") == "mask" else "below the quantile"
    return Panel(f"{prefix}{masked} of {tokens} {verb}", "", _picture(pixels * (1 - share) + dark * share))


def _much(title: str, small: Image.Image, heat: np.ndarray, top: float) -> Panel:
    """Light and coloured where there is much; where there is little, the dimmed grey image."""
    share = _resized(np.clip(heat / max(top, 1e-12), 0, 1), small.size, Image.Resampling.NEAREST)[..., None]
    grey = np.asarray(small.convert("L"), dtype=np.float64)[..., None] * 0.75
    strength = 0.12 + 0.78 * np.sqrt(share)
    return Panel(title, f"0 to {_number(top)} and more", _picture(grey * (1 - strength) + _colour(share[..., 0], _MUCH) * strength))


def _gain(title: str, small: Image.Image, heat: np.ndarray) -> Panel:
    """Red where attention rose, blue where it fell."""
    top = _high(np.abs(heat))
    share = _resized(np.clip(heat / max(top, 1e-12), -1, 1), small.size, Image.Resampling.NEAREST)
    grey = np.asarray(small.convert("L"), dtype=np.float64)[..., None] * 0.6 + 100
    strength = 0.85 * np.sqrt(np.abs(share))[..., None]
    picture = _picture(grey * (1 - strength) + _colour((share + 1) / 2, _GAIN) * strength)
    return Panel(title, f"blue: -{_number(top)}, red: +{_number(top)}", picture)


def _grid(view: Mapping[str, Any], values: Any) -> HeatGrid:
    box = view.get("box") or WHOLE
    return HeatGrid(np.asarray(values, dtype=np.float64).reshape(tuple(view["grid"])), (box[0], box[1], box[2], box[3]))


def _flags(view: Mapping[str, Any]) -> np.ndarray:
    flags = np.zeros(view["grid"][0] * view["grid"][1])
    flags[list(view["masked"])] = 1.0
    return flags


def _crop_box(decision: Mapping[str, Any], views: Sequence[Mapping[str, Any]]) -> Box | None:
    crop = decision.get("crop") or {}
    box = crop.get("box")
    return None if box is None or crop.get("image", 0) != views[0]["image"] else (box[0], box[1], box[2], box[3])


def _framed(small: Image.Image, box: Box | None) -> Image.Image:
    picture = small.copy()
    if box is not None:
        left, top, right, bottom = pixel_box(box, small.size)
        ImageDraw.Draw(picture).rectangle((left, top, right - 1, bottom - 1), outline=_BOX, width=3)
    return picture


def _high(heat: np.ndarray) -> float:
    """The end of the scale. A few tokens draw most attention whatever is asked (sinks); they must not make all others dark."""
    return float(np.quantile(heat, 0.99))


def _colour(share: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    marks = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(share, marks, anchors[:, channel]) for channel in range(3)], axis=-1)


def _resized(values: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, how), dtype=np.float64)


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def _fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _number(value: float) -> str:
    return f"{value:.2g}"


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _cut(text: str, width: int, size: int) -> str:
    """As much of ``text`` as fits; line breaks become spaces."""
    text, font = " ".join(text.split()), _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _jpeg(picture: Image.Image) -> bytes:
    """A tenth of a PNG's size: a page holds many of these."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue()
