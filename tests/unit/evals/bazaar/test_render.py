"""Photos and masks: they agree with each other and with the item."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from evals.bazaar import image as image_module
from evals.bazaar.geometry import accessory_shapes, shape_map, shapes_of, shown_accessories
from evals.bazaar.image import DRAWING, RenderedImage
from evals.bazaar.items import VIEWS, Item, item, parts_of
from evals.bazaar.render import masks, render
from evals.bazaar.sheet import contact_sheet
from evals.bazaar.world import CATEGORIES
from toolkit.types import ImageSource

ROOT = Path(__file__).parents[4]


def damaged(kind: str, least: float = 0.3, most: int = 12) -> list[tuple[Item, int]]:
    """(item, number of the defect) of items with one defect, of that type."""
    found = []
    for index in range(6000):
        thing = item(index)
        if len(thing.defects) == 1 and thing.defects[0].type == kind and thing.defects[0].severity >= least:
            found.append((thing, 0))
            if len(found) == most:
                break
    return found


@settings(max_examples=30, deadline=None)
@given(index=st.integers(0, 2**32), seed=st.integers(0, 99), size=st.integers(32, 256), view=st.integers(0, VIEWS - 1))
def test_any_item_renders_at_any_size(index: int, seed: int, size: int, view: int) -> None:
    photo = render(item(index, seed), size, view)
    assert photo.shape == (size, size, 3)
    assert photo.dtype == np.uint8
    assert photo.std() > 4


def test_a_photo_is_a_function_of_its_recipe() -> None:
    first, second = render(item(11)), render(item.__wrapped__(11))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, render(item(11), view=1))
    assert np.array_equal(np.asarray(RenderedImage(11).load()), first)


@pytest.mark.parametrize(("size", "view"), [(8, 0), (5000, 0), (96, 3), (96, -1)])
def test_impossible_photos_are_refused(size: int, view: int) -> None:
    with pytest.raises(ValueError):
        render(item(0), size, view)
    with pytest.raises(ValueError):
        masks(item(0), size, view)


@pytest.mark.parametrize("kind", ["scratch", "crack", "dent", "stain", "tear", "missing part"])
def test_damage_changes_the_photo_inside_its_mask_and_nowhere_else(kind: str) -> None:
    cases = damaged(kind)
    assert len(cases) >= 8
    seen = 0
    for thing, number in cases:
        change = np.abs(render(thing).astype(int) - render(thing, clean=True).astype(int)).max(-1)
        mask = masks(thing).defects[number]
        if not mask.any():
            continue
        reach = 8 if kind == "missing part" else 2  # its shadow and its dark rim go with a missing part
        around = ndimage.binary_dilation(mask, iterations=reach)
        assert (change[~around] > 24).mean() < 0.002, thing.index
        seen += change[mask].max() > 24
    assert seen >= 0.85 * len(cases), f"{seen} of {len(cases)} can be seen"


def test_visible_damage_lies_on_its_part() -> None:
    for index in range(300):
        thing = item(index)
        found = masks(thing)
        for defect, mask in zip(thing.defects, found.defects, strict=True):
            if defect.type == "missing part":
                assert defect.part not in found.parts
            elif mask.any():
                on = ndimage.binary_dilation(found.parts[defect.part], iterations=2)
                assert on[mask].all(), index
                assert found.object[mask].mean() > 0.8


def test_severity_governs_size() -> None:
    sizes = {False: [], True: []}
    for index in range(2500):
        thing = item(index)
        for defect, mask in zip(thing.defects, masks(thing).defects, strict=True) if thing.defects else ():
            if defect.type in ("stain", "dent", "tear"):
                sizes[defect.severity > 0.5].append(mask.mean())
    assert np.median(sizes[True]) > 1.8 * np.median(sizes[False])


def test_every_part_of_every_category_is_drawn() -> None:
    for category, spec in CATEGORIES.items():
        for attribute in spec.attributes:
            for value in attribute.values:
                chosen = tuple((a.name, value if a is attribute else a.values[0]) for a in spec.attributes)
                shapes = shapes_of(category, chosen)
                assert len(shapes.shapes) < 200
                assert {p.name for p in parts_of(category, chosen)} == {s.part for s in shapes.shapes if s.part}, (category, chosen)
                assert np.abs(shapes.points).max() < 1.06


def test_values_of_an_attribute_look_different() -> None:
    for category, spec in CATEGORIES.items():
        for attribute in spec.attributes:
            chosen = [tuple((a.name, v if a is attribute else a.values[0]) for a in spec.attributes) for v in attribute.values]
            drawn = [shapes_of(category, c) for c in chosen]
            assert len({s.points.tobytes() for s in drawn}) == len(attribute.values), (category, attribute.name)


def test_every_accessory_has_a_drawing_and_lies_in_the_picture() -> None:
    for spec in CATEGORIES.values():
        for accessory in spec.accessories:
            assert len(accessory_shapes(accessory.name).shapes) >= 1
    shown = 0
    for index in range(80):
        thing = item(index)
        names = shown_accessories(thing, thing.views[2])
        assert set(names) == {a.name for a in thing.accessories if a.present}
        drawn = {s.part for s in shape_map(thing, thing.views[2], 128).shapes if s.part.startswith("accessory:")}
        assert drawn == {f"accessory:{n}" for n in names}
        shown += len(names)
        assert not any(p.startswith("accessory:") for p in masks(thing, view=1).parts)
    assert shown > 40


def test_the_object_fills_the_picture_without_leaving_it() -> None:
    shares, cut = [], 0
    for index in range(150):
        found = masks(item(index)).object
        shares.append(found.mean())
        edge = np.concatenate([found[0], found[-1], found[:, 0], found[:, -1]])
        cut += edge.mean() > 0.02
    assert 0.15 < np.median(shares) < 0.6
    assert min(shares) > 0.05
    assert cut < 15


def test_a_rendered_image_is_a_source_whose_id_needs_no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    source = RenderedImage(5, seed=2, size=64, view=1)
    assert isinstance(source, ImageSource)
    assert pickle.loads(pickle.dumps(source)) == source
    loaded = source.load()
    assert (loaded.mode, loaded.size) == ("RGB", (64, 64))
    others = [RenderedImage(6, 2, 64, 1), RenderedImage(5, 3, 64, 1), RenderedImage(5, 2, 65, 1), RenderedImage(5, 2, 64, 0)]
    ids = {s.content_id() for s in (source, *others)}
    assert len(ids) == 5
    assert all(len(i) == 64 for i in ids)
    before = source.content_id()
    monkeypatch.setattr(image_module, "renderer_version", lambda: "another renderer")
    assert source.content_id() != before


def test_the_renderer_version_covers_every_module_that_draws() -> None:
    """Whatever render.py imports of Bazaar, directly or not, is hashed; and what draws scenes on top of it."""
    code = "import sys, evals.bazaar.render; print(*[m.split('.')[-1] for m in sys.modules if m.startswith('evals.bazaar.')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert {*done.stdout.split(), "scene", "tag"} == set(DRAWING)


def test_the_contact_sheet_shows_the_items_in_order() -> None:
    sheet = contact_sheet(2, 3, 48, seed=4, start=10, gutter=2)
    assert sheet.size == (3 * 50 + 2, 2 * 50 + 2)
    tile = sheet.crop((2 + 50, 2 + 50, 2 + 98, 2 + 98))
    assert np.array_equal(np.asarray(tile), render(item(14, 4), 48))
    picked = contact_sheet(1, 2, 48, indices=[7, 9])
    assert isinstance(picked, Image.Image)
