"""Scenes: the same ones always, things where they are said to be, masks that agree with pixels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from evals.bazaar.image import DRAWING
from evals.bazaar.render import masks, render
from evals.bazaar.scene import PRICES, QUARTERS, Scene, SceneImage, render_scene, scene, scene_masks
from evals.bazaar.splits import is_heldout
from evals.bazaar.tag import draw_tag

MANY = [scene(index) for index in range(300)]


def middle(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean() / mask.shape[1]), float(rows.mean() / mask.shape[0])


def test_a_scene_is_always_the_same() -> None:
    scene.cache_clear()
    again = [scene(index) for index in (5, 3, 5)]
    assert again == [MANY[5], MANY[3], MANY[5]]
    assert MANY[3] != scene(3, 1)
    np.testing.assert_array_equal(render_scene(again[0]), render_scene(MANY[5]))


def test_every_number_of_things_occurs_and_twins_do() -> None:
    counts = np.bincount([len(shown.things) for shown in MANY], minlength=5)
    assert counts[0] == 0
    assert (counts[1:] > 20).all()
    repeated = [len(shown.things) - len({placed.item.category for placed in shown.things}) for shown in MANY]
    assert {0, 1, 2} <= set(repeated)
    assert 100 < sum(shown.tag is not None for shown in MANY) < 200


def test_no_thing_shows_a_heldout_combination() -> None:
    assert not any(is_heldout(placed.item) for shown in MANY for placed in shown.things)


@pytest.mark.parametrize("size", [96, 130])
def test_things_lie_in_their_quarters_and_do_not_overlap(size: int) -> None:
    for shown in MANY[:60]:
        found = scene_masks(shown, size)
        assert sum(mask.astype(int) for mask in found.things).max() == 1
        for placed, mask in zip(shown.things, found.things, strict=True):
            if placed.place == "middle":
                continue
            x, y = middle(mask)
            assert placed.place == QUARTERS[2 * (y > 0.5) + (x > 0.5)]


def test_masks_are_where_the_picture_changes() -> None:
    """Taking a thing out of a scene changes its pixels and, shadow and camera apart, no others."""
    shown = next(shown for shown in MANY if len(shown.things) == 3)
    without: Scene = dataclasses.replace(shown, things=shown.things[:2])
    change = np.abs(render_scene(shown).astype(int) - render_scene(without)).sum(axis=2)
    found = scene_masks(shown)
    assert change[found.things[2]].mean() > 60
    assert change[found.things[0] | found.things[1]].mean() < 6


def test_defects_lie_on_their_things() -> None:
    checked = 0
    for shown in MANY[:100]:
        found = scene_masks(shown)
        for placed, thing, defects in zip(shown.things, found.things, found.defects, strict=True):
            assert len(defects) == len(placed.item.defects)
            for defect, mask in zip(placed.item.defects, defects, strict=True):
                if defect.type != "missing part" and mask.sum() > 8:
                    checked += 1
                    assert (mask & thing).sum() >= 0.5 * mask.sum()
    assert checked > 30


def test_one_thing_without_a_tag_is_the_photo_of_the_item() -> None:
    shown = next(s for s in MANY if len(s.things) == 1 and s.tag is None and not s.things[0].item.views[0].contents)
    np.testing.assert_array_equal(render_scene(shown), render(shown.things[0].item))
    np.testing.assert_array_equal(scene_masks(shown).things[0], masks(shown.things[0].item).object)


def test_the_tag_is_inside_and_hides_what_is_behind_it() -> None:
    for shown in [s for s in MANY if s.tag is not None][:40]:
        found = scene_masks(shown)
        assert found.tag is not None
        assert shown.tag is not None
        assert shown.tag.price in PRICES
        assert 0.04 < found.tag.mean() < 0.12
        x, y = middle(found.tag)
        assert shown.tag.place == QUARTERS[2 * (y > 0.5) + (x > 0.5)]
        assert not any((mask & found.tag).any() for mask in found.things)


def test_prices_look_different() -> None:
    pictures = [draw_tag(price, 36, 0.6, 0.0).thing for price in PRICES]
    gaps = [np.abs(a - b).mean() for k, a in enumerate(pictures) for b in pictures[:k]]
    assert min(gaps) > 2


def test_the_image_source() -> None:
    image = SceneImage(7, 0, 120)
    np.testing.assert_array_equal(np.asarray(image.load()), render_scene(scene(7), 120))
    assert len({SceneImage(i, s, z).content_id() for i in (0, 1) for s in (0, 1) for z in (96, 120)}) == 8
    assert {"scene", "tag"} <= set(DRAWING)


@pytest.mark.parametrize("size", [47, 2049])
def test_sizes_out_of_range(size: int) -> None:
    with pytest.raises(ValueError, match="48 to 2048"):
        render_scene(MANY[0], size)
