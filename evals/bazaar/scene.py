"""Scenes: one picture with one to four things at places that are known, and perhaps a price tag.

``scene(index, seed)`` is always the same scene. A scene of one thing is a full photo of it; the things of larger scenes lie in the four
quarters of the picture and do not overlap. Questions about scenes are in ``vqa.py``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evals.bazaar.image import renderer_version
from evals.bazaar.items import Item, View, item, kind_of
from evals.bazaar.render import Cutout, cutout, masks_of, photo
from evals.bazaar.splits import is_heldout
from evals.bazaar.streams import Stream
from evals.bazaar.tag import draw_tag

if TYPE_CHECKING:
    from PIL.Image import Image

QUARTERS = ("top left", "top right", "bottom left", "bottom right")
PRICES = tuple(range(10, 100, 5))
QUARTER_SIZE = 0.48  # side of a thing's square, against the picture
TAG_WIDTH, TAG_HEIGHT = 0.38, 0.24

_SCENE = 21  # number of the random stream
_SPREAD = 64  # item indices that belong to one scene
_FAR = 10_000_000


@dataclass(frozen=True)
class Placed:
    """A thing in a scene.

    Attributes:
        item: what it is. view: how it is seen, without accessories.
        place: a word of QUARTERS, or "middle" for the one thing of a full photo.
        box: (left, top, side) of its square, in fractions of the picture.
    """

    item: Item
    view: View
    place: str
    box: tuple[float, float, float]


@dataclass(frozen=True)
class Tag:
    """A price tag: ``price`` in whole euros is all that it shows. ``box``: (left, top, width, height) in fractions. ``angle``: degrees."""

    price: int
    place: str
    box: tuple[float, float, float, float]
    angle: float


@dataclass(frozen=True)
class Scene:
    """What one picture shows; ``things`` in reading order of their places."""

    index: int
    seed: int
    things: tuple[Placed, ...]
    tag: Tag | None
    look: View


@dataclass(frozen=True)
class SceneMasks:
    """Boolean masks (size, size): each thing, each defect of each thing in the item's order, the tag."""

    things: tuple[NDArray[np.bool_], ...]
    defects: tuple[tuple[NDArray[np.bool_], ...], ...]
    tag: NDArray[np.bool_] | None


@lru_cache(maxsize=4096)
def scene(index: int, seed: int = 0) -> Scene:
    """Scene ``index`` (>= 0) of marketplace ``seed`` (>= 0): 1 to 4 things, in three of ten scenes two or more of one category.

    None of its things shows the attributes of a held-out product line.
    """
    stream = Stream(seed, index, _SCENE)
    count = stream.weighted((1, 2, 3, 4), (0.4, 0.22, 0.22, 0.16))
    twins = count > 1 and stream.chance(0.3)
    items = _items(index, seed, count, twins)
    look = replace(items[0].views[0], contents=False)
    tagged = stream.chance(0.5)
    if count == 1:
        things: tuple[Placed, ...] = (Placed(items[0], look, "middle", (0.0, 0.0, 1.0)),)
        corner = stream.choice(QUARTERS)
        return Scene(index, seed, things, _tag(stream, corner) if tagged else None, look)
    places = stream.shuffled(QUARTERS)
    order = sorted(places[:count], key=QUARTERS.index)
    things = tuple(_placed(stream, thing, place, look) for thing, place in zip(items, order, strict=True))
    free = places[count:]
    return Scene(index, seed, things, _tag(stream, free[0]) if tagged and free else None, look)


def _items(index: int, seed: int, count: int, twins: bool) -> list[Item]:
    """So many things; all of different categories, or the first two (of four things perhaps three) of one category."""
    start = index * _SPREAD
    chosen = [_allowed(start, seed)]
    same = (3 if count == 4 and index % 2 else 2) if twins else 1
    candidate = start + 1
    while len(chosen) < count:
        category, _ = kind_of(candidate, seed)
        used = {thing.category for thing in chosen}
        wanted = category == chosen[0].category if len(chosen) < same else category not in used
        if wanted:
            found = _allowed(candidate, seed)
            if (found.category == chosen[0].category) == (len(chosen) < same) and (len(chosen) < same or found.category not in used):
                chosen.append(found)
        candidate += 1
    return Stream(seed, index, _SCENE + 1).shuffled(chosen)


def _allowed(index: int, seed: int) -> Item:
    """The item, or one far away if it shows a held-out combination."""
    found = item(index, seed)
    while is_heldout(found):
        index += _FAR
        found = item(index, seed)
    return found


def _placed(stream: Stream, thing: Item, place: str, look: View) -> Placed:
    """In its quarter, with the light and the camera of the scene."""
    own = thing.views[0]
    view = replace(own, contents=False, scale=min(1.0, own.scale + 0.1), dx=0.0, dy=0.0)
    view = replace(view, light=look.light, warmth=look.warmth, brightness=look.brightness)
    slack = 0.5 - QUARTER_SIZE
    left = (0.5 if "right" in place else 0.0) + stream.uniform(0.0, slack)
    top = (0.5 if "bottom" in place else 0.0) + stream.uniform(0.0, slack)
    return Placed(thing, view, place, (left, top, QUARTER_SIZE))


def _tag(stream: Stream, place: str) -> Tag:
    left = (0.99 - TAG_WIDTH if "right" in place else 0.01) + stream.uniform(-0.01, 0.01)
    top = (0.98 - TAG_HEIGHT if "bottom" in place else 0.02) + stream.uniform(-0.01, 0.01)
    return Tag(stream.choice(PRICES), place, (left, top, TAG_WIDTH, TAG_HEIGHT), stream.uniform(-6, 6))


def render_scene(shown: Scene, size: int = 96) -> NDArray[np.uint8]:
    """The picture: (size, size, 3) uint8, size in [48, 2048]."""
    _check(size)
    cutouts = [(cutout(placed.item, placed.view, _side(placed, size)), _corner(placed, size)) for placed in shown.things]
    if shown.tag is not None:
        cutouts.append(_tag_cutout(shown.tag, size))
    return photo(cutouts, shown.look, size)


def scene_masks(shown: Scene, size: int = 96) -> SceneMasks:
    """Where things, their defects and the tag are in ``render_scene(shown, size)``. A tag hides what lies behind it."""
    _check(size)
    tag = None
    if shown.tag is not None:
        part, at = _tag_cutout(shown.tag, size)
        tag = _at(part.alpha >= 0.5, at, size)
    things, defects = [], []
    for placed in shown.things:
        found, at = masks_of(placed.item, placed.view, _side(placed, size)), _corner(placed, size)
        things.append(_uncovered(_at(found.object, at, size), tag))
        defects.append(tuple(_uncovered(_at(mask, at, size), tag) for mask in found.defects))
    return SceneMasks(tuple(things), tuple(defects), tag)


def _check(size: int) -> None:
    if not 48 <= size <= 2048:
        raise ValueError(f"the size of a scene is 48 to 2048 pixels, got {size}")


def _side(placed: Placed, size: int) -> int:
    return round(placed.box[2] * size)


def _corner(placed: Placed, size: int) -> tuple[int, int]:
    return round(placed.box[0] * size), round(placed.box[1] * size)


def _tag_cutout(tag: Tag, size: int) -> tuple[Cutout, tuple[int, int]]:
    left, top, width, height = tag.box
    side = round(width * size)
    at = max(0, min(size - side, round(left * size))), max(0, min(size - side, round(top * size - (width - height) / 2 * size)))
    return draw_tag(tag.price, side, height / width, tag.angle), at


def _at(mask: NDArray[np.bool_], at: tuple[int, int], size: int) -> NDArray[np.bool_]:
    out = np.zeros((size, size), dtype=np.bool_)
    out[at[1] : at[1] + len(mask), at[0] : at[0] + len(mask)] = mask[: size - at[1], : size - at[0]]
    return out


def _uncovered(mask: NDArray[np.bool_], tag: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    return mask if tag is None else mask & ~tag


@dataclass(frozen=True)
class SceneImage:
    """Scene ``index`` of marketplace ``seed`` as an ImageSource, ``size`` pixels wide and high."""

    index: int
    seed: int = 0
    size: int = 96

    @property
    def name(self) -> str:
        """``bazaar-scene:<seed>:<index>``."""
        return f"bazaar-scene:{self.seed}:{self.index}"

    def content_id(self) -> str:
        """sha256 (hex) of the renderer's version and the three numbers; nothing is drawn."""
        return hashlib.sha256(f"scene:{renderer_version()}:{self.seed}:{self.index}:{self.size}".encode()).hexdigest()

    def load(self) -> Image:
        """The picture as an RGB image."""
        from PIL import Image as pillow

        return pillow.fromarray(render_scene(scene(self.index, self.seed), self.size))
