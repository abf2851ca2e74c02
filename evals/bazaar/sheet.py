"""Contact sheets: many items at a glance."""

from __future__ import annotations

from PIL import Image

from evals.bazaar.items import item
from evals.bazaar.render import render


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
