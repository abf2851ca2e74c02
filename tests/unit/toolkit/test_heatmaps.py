"""Figures of maps: what is bright is where the attention is, the same input gives the same bytes, and text cannot break the page."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toolkit import heatmaps as h
from toolkit.errors import DataError


def view(grid: tuple[int, int], *, at: tuple[int, int], kind: str = "whole", image: int = 0, box: Any = (0, 0, 1, 1)) -> dict[str, Any]:
    early, late = np.full(grid, 0.001), np.full(grid, 0.001)
    early[0, 0] = 0.9
    late[at] = 0.9
    masked = [index for index in range(grid[0] * grid[1]) if index not in (0, at[0] * grid[1] + at[1])]
    return {
        "image": image, "kind": kind, "grid": list(grid), "box": list(box), "early": early.ravel().tolist(), "late": late.ravel().tolist(),
        "contrast": (late - early).ravel().tolist(), "masked": masked,
    }  # fmt: skip


def decision(*views: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"mode": "mask", "i_star": 3, "layers": {"late": 27}, "maps": list(views), **more}


GREY = Image.new("RGB", (80, 40), (128, 128, 128))


def brightest(picture: Image.Image) -> tuple[float, float]:
    """(x, y) of the middle of the brightest pixels, as fractions."""
    values = np.asarray(picture.convert("L"), dtype=float)
    y, x = np.nonzero(values >= values.max() - 1)
    return float(x.mean() / values.shape[1]), float(y.mean() / values.shape[0])


def test_attention_is_bright_where_it_is() -> None:
    (row,) = h.map_panels(GREY, decision(view((4, 8), at=(3, 6))))
    image, early, late, change, masked = row
    assert [panel.picture.size for panel in row] == [(240, 120)] * 5
    assert brightest(early.picture) == pytest.approx((0.5 / 8, 0.5 / 4), abs=0.02)
    assert brightest(late.picture) == pytest.approx((6.5 / 8, 3.5 / 4), abs=0.02)
    pixels = np.asarray(change.picture).astype(int)
    red, blue = pixels[105, 195], pixels[15, 15]
    assert red[0] > red[2] + 80
    assert blue[2] > blue[0] + 80
    assert masked.title == "30 of 32 masked"
    dark = np.asarray(masked.picture.convert("L"))
    assert dark[15, 15] > 100
    assert dark[60, 120] < 60
    assert image.picture.getpixel((5, 5)) == (128, 128, 128)


def test_a_crop_is_framed_and_shown() -> None:
    picture = GREY.copy()
    picture.paste((255, 0, 0), (40, 0, 80, 40))
    found = decision(view((4, 8), at=(3, 6)), mode="crop", crop={"image": 0, "box": [0.5, 0.0, 1.0, 1.0]})
    (row,) = h.map_panels(picture, found)
    assert row[0].picture.getpixel((121, 60)) == (255, 210, 0)
    assert row[4].title == "region"
    assert row[4].picture.getpixel((120, 60)) == (255, 0, 0)


def test_a_model_with_tiles_has_a_row_for_each_kind() -> None:
    base, tile = view((2, 2), at=(1, 1), kind="base"), view((2, 2), at=(0, 1), kind="tile", box=(0.5, 0.0, 1.0, 0.5))
    rows = h.map_panels(GREY, decision(base, tile))
    assert [row[1].title for row in rows] == ["early layer 3", "base: early layer 3", "tile: early layer 3"]
    assert rows[2][4].title == "tile: 2 of 4 masked"


def test_maps_of_another_image_or_without_grid_cannot_be_drawn() -> None:
    grid = decision(view((2, 2), at=(1, 1), image=1))
    assert h.has_maps(grid, image=1)
    assert not h.has_maps(grid)
    assert not h.has_maps(None)
    assert not h.has_maps({"maps": [{**view((2, 2), at=(1, 1)), "grid": None}]})
    with pytest.raises(DataError) as caught:
        h.maps_png(GREY, grid)
    assert "keep_maps" in (caught.value.hint or "")


def test_constant_maps_are_drawn() -> None:
    flat = {"image": 0, "kind": "whole", "grid": [2, 2], "box": [0, 0, 1, 1], "masked": []}
    flat |= {name: [0.0] * 4 for name in ("early", "late", "contrast")}
    assert h.maps_figure(GREY, decision(flat)).width > 5 * 240


def test_png_is_the_same_every_time_and_holds_all_panels() -> None:
    found = decision(view((4, 8), at=(3, 6)))
    first, second = (h.maps_png(GREY, found, title="Which colour?\nred " * 40) for _ in range(2))
    assert first == second
    with Image.open(io.BytesIO(first)) as picture:
        assert picture.format == "PNG"
        assert picture.width == 5 * (240 + h.GAP) + h.GAP


def test_svg_is_well_formed_and_text_is_escaped() -> None:
    text = h.maps_svg(GREY, decision(view((4, 8), at=(3, 6))), title='<script>"&')
    root = ET.fromstring(text)
    assert root.get("aria-label") == '<script>"&'
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}image")) == 5
    assert [element.text for element in root.findall(f"{space}text")][2] == "early layer 3"
    assert "<script" not in text
    assert all((image.get("href") or "").startswith("data:image/jpeg;base64,") for image in root.findall(f"{space}image"))
