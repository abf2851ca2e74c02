"""Items: ``item(index, seed)`` is always the same item, on every machine, in any order.

An ``Item`` is what the photo shows. Its sale is truth too, and derived from it: ``evals.bazaar.listings`` (title,
description, claims with verdicts) and ``evals.bazaar.price`` (law of depreciation).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from evals.bazaar.defects import Defect, draw_defects
from evals.bazaar.lines import LINES, LINES_OF, SIGNATURES, WEIGHTS_OF, Line, Signature
from evals.bazaar.streams import Stream
from evals.bazaar.world import BACKGROUNDS, CATEGORIES, COLOURS, PATTERNS, Category, Part

VIEWS = 3  # 0: the main photo; 1: another pose, closer; 2: the contents, with all accessories that are there

_CORE, _DEFECTS, _SCENE = 1, 2, 3  # numbers of the random streams of an item; 4 and up: listing, price


@dataclass(frozen=True)
class Accessory:
    """A thing that belongs to the item; ``major`` ones count more in the price."""

    name: str
    present: bool
    major: bool


@dataclass(frozen=True)
class View:
    """One photo of the item.

    Attributes:
        rotation: degrees, counter-clockwise as seen.
        mirrored: left and right are exchanged.
        scale: size of the object against the frame.
        dx, dy: place of the object's centre, in fractions of the frame.
        contents: the accessories that are there lie beside the item; otherwise none is in the picture.
        background, tint: its kind, and (r, g, b) of it.
        light: x of the light's direction, -1 (from the left) to 1. warmth: -1 (cold) to 1 (warm). brightness: about 1.
        noise, blur: of the camera, in [0, 1]. grain: seed of the noise and of the background.
    """

    rotation: float
    mirrored: bool
    scale: float
    dx: float
    dy: float
    contents: bool
    background: str
    tint: tuple[int, int, int]
    light: float
    warmth: float
    brightness: float
    noise: float
    blur: float
    grain: int


@dataclass(frozen=True)
class Item:
    """One second-hand thing.

    Attributes:
        index, seed: its key.
        category: a key of ``world.CATEGORIES``.
        line: name of its product line, or None for a no-name item.
        colour, colour2, pattern, material: words of ``world``.
        attributes: (name, value) of the category's attributes, in the category's order.
        shade: small change of the colour's lightness, as paint and fabric differ.
        defects: 0 to 3, on named parts.
        accessories: all that belong to it, present or missing.
        views: ``VIEWS`` photos.
    """

    index: int
    seed: int
    category: str
    line: str | None
    colour: str
    colour2: str
    pattern: str
    material: str
    attributes: tuple[tuple[str, str], ...]
    shade: float
    defects: tuple[Defect, ...]
    accessories: tuple[Accessory, ...]
    views: tuple[View, ...]

    @property
    def spec(self) -> Category:
        return CATEGORIES[self.category]

    @cached_property
    def attribute(self) -> dict[str, str]:
        """Category attribute name -> value."""
        return dict(self.attributes)

    @property
    def signature(self) -> Signature:
        values = tuple(value for _, value in self.attributes)
        return (self.category, self.colour, self.colour2, self.pattern, self.material, *values)

    @property
    def product_line(self) -> Line | None:
        return None if self.line is None else LINES[self.line]

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that this item was made with (a missing part is one of them)."""
        return parts_of(self.category, self.attributes)

    @property
    def missing_parts(self) -> tuple[str, ...]:
        return tuple(d.part for d in self.defects if d.type == "missing part")


@lru_cache(maxsize=8192)
def parts_of(category: str, attributes: tuple[tuple[str, str], ...]) -> tuple[Part, ...]:
    """The parts of a category that exist under these attribute values."""
    values = dict(attributes)
    return tuple(p for p in CATEGORIES[category].parts if p.when is None or values[p.when[0]] in p.when[1])


_NAMES = tuple(CATEGORIES)
_COLOUR_NAMES = tuple(COLOURS)
_PATTERN_WEIGHTS = tuple(0.3 if p == "plain" else 0.7 / (len(PATTERNS) - 1) for p in PATTERNS)


@lru_cache(maxsize=4096)
def item(index: int, seed: int = 0) -> Item:
    """The item ``index`` (>= 0) of the marketplace ``seed`` (>= 0)."""
    stream, category, line = _kind(index, seed)
    if line is not None:
        signature = line.signature
    else:
        signature = _no_name(stream, category)
    attributes = tuple((a.name, value) for a, value in zip(category.attributes, signature[5:], strict=True))
    accessories = tuple(Accessory(a.name, stream.chance(0.6), a.major) for a in category.accessories)
    shade = stream.uniform(-0.08, 0.08)
    parts = parts_of(category.name, attributes)
    defects = draw_defects(Stream(seed, index, _DEFECTS), parts, signature[4])
    views = _views(Stream(seed, index, _SCENE))
    return Item(
        index,
        seed,
        category.name,
        None if line is None else line.name,
        signature[1],
        signature[2],
        signature[3],
        signature[4],
        attributes,
        shade,
        defects,
        accessories,
        views,
    )


def kind_of(index: int, seed: int = 0) -> tuple[str, str | None]:
    """Category and product line of ``item(index, seed)``, without making the item: to look through many."""
    _, category, line = _kind(index, seed)
    return category.name, None if line is None else line.name


def _kind(index: int, seed: int) -> tuple[Stream, Category, Line | None]:
    """The first draws of an item, and the stream that they came from."""
    if index < 0 or seed < 0:
        raise ValueError(f"index and seed of an item are >= 0, got {index} and {seed}")
    stream = Stream(seed, index, _CORE)
    category = CATEGORIES[stream.choice(_NAMES)]
    if not stream.chance(0.5):
        return stream, category, None
    return stream, category, stream.weighted(LINES_OF[category.name], WEIGHTS_OF[category.name])


def _no_name(stream: Stream, category: Category) -> Signature:
    """Attributes at random; never those of a product line."""
    while True:
        colour = stream.choice(_COLOUR_NAMES)
        colour2 = stream.choice([c for c in _COLOUR_NAMES if c != colour])
        pattern = stream.weighted(PATTERNS, _PATTERN_WEIGHTS)
        material = stream.choice(category.materials)
        values = tuple(stream.choice(a.values) for a in category.attributes)
        signature = (category.name, colour, colour2, pattern, material, *values)
        if signature not in SIGNATURES:
            return signature


def _views(stream: Stream) -> tuple[View, ...]:
    """The photos: one seller, one place and one light, other poses."""
    background = stream.choice(BACKGROUNDS)
    base = stream.uniform(0.45, 0.95)
    tint = tuple(int(255 * min(1.0, max(0.15, base + stream.uniform(-0.16, 0.16)))) for _ in range(3))
    light, warmth, brightness = stream.uniform(-1, 1), stream.uniform(-1, 1), stream.uniform(0.9, 1.1)
    noise, blur = stream.uniform(0, 1) ** 2, stream.uniform(0, 1) ** 3
    mirrored = stream.chance(0.5)
    views = []
    for number in range(VIEWS):
        closer = 1.12 if number == 1 else 1.0
        views.append(
            View(
                rotation=stream.uniform(-15, 15),
                mirrored=mirrored != (number == 1),
                scale=stream.uniform(0.82, 1.0) * closer,
                dx=stream.uniform(-0.05, 0.05),
                dy=stream.uniform(-0.04, 0.04),
                contents=number == 2 or (number == 0 and stream.chance(0.4)),
                background=background,
                tint=(tint[0], tint[1], tint[2]),
                light=light,
                warmth=warmth,
                brightness=brightness,
                noise=round(noise, 6),
                blur=round(blur, 6),
                grain=stream.integer(2**31),
            )
        )
    return tuple(views)
