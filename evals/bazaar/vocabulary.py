"""Colours, patterns, materials, kinds of damage, and the dataclasses that describe a category of goods."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (204, 40, 44),
    "orange": (240, 128, 28),
    "yellow": (246, 208, 54),
    "green": (58, 148, 70),
    "turquoise": (44, 190, 184),
    "blue": (40, 82, 196),
    "purple": (126, 64, 172),
    "pink": (244, 142, 184),
    "brown": (122, 76, 42),
    "black": (40, 40, 44),
    "white": (242, 240, 234),
    "gray": (146, 150, 154),
}

PATTERNS = ("plain", "striped", "pinstriped", "dotted", "checked", "zigzag", "two-tone")

MATERIALS = ("leather", "metal", "fabric", "plastic", "wood", "ceramic", "plush", "denim")

BACKGROUNDS = ("studio", "wood", "cloth", "tiles", "room")

DEFECT_TYPES = ("scratch", "crack", "dent", "stain", "tear", "missing part")

# Which damage a surface can take. "glass" and "rubber" are materials of parts, never the main material of an item.
DAMAGE_OF: dict[str, tuple[str, ...]] = {
    "leather": ("scratch", "stain", "tear"),
    "metal": ("scratch", "dent"),
    "fabric": ("stain", "tear"),
    "plastic": ("scratch", "crack", "stain"),
    "wood": ("scratch", "crack", "stain"),
    "ceramic": ("crack", "stain"),
    "plush": ("stain", "tear"),
    "denim": ("stain", "tear"),
    "glass": ("scratch", "crack"),
    "rubber": ("scratch", "stain"),
}

BASE_DEDUCTION = {"scratch": 1.5, "stain": 1.5, "dent": 2.0, "tear": 2.5, "crack": 3.0, "missing part": 2.5}


@dataclass(frozen=True)
class Part:
    """A named part of a category.

    Attributes:
        name: the word for it; also its key in masks.
        material: its material, or "main" for the item's own.
        weight: how much damage on it counts (1.5 display or lens, 1 visible face, 0.6 minor).
        surface: whether it is large enough to carry surface damage.
        removable: whether it can be the missing part.
        when: (attribute, values) under which the part exists; None: always.
    """

    name: str
    material: str = "main"
    weight: float = 1.0
    surface: bool = True
    removable: bool = False
    when: tuple[str, tuple[str, ...]] | None = None


@dataclass(frozen=True)
class Attribute:
    """A visible property of a category: values, and for each value noun phrases that can follow "with"."""

    name: str
    phrases: dict[str, tuple[str, ...]]

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(self.phrases)


@dataclass(frozen=True)
class AccessorySpec:
    name: str
    major: bool


@dataclass(frozen=True)
class Category:
    """One kind of goods."""

    name: str
    synonyms: tuple[str, ...]
    materials: tuple[str, ...]
    parts: tuple[Part, ...]
    attributes: tuple[Attribute, ...]
    accessories: tuple[AccessorySpec, ...]
    accent: str  # the part that always shows the second colour
    msrp: tuple[float, float]
    decay: float  # yearly decline of log value

    @cached_property
    def attribute(self) -> dict[str, Attribute]:
        return {a.name: a for a in self.attributes}

    @cached_property
    def part(self) -> dict[str, Part]:
        return {p.name: p for p in self.parts}


def attributes(**table: dict[str, str]) -> tuple[Attribute, ...]:
    return tuple(
        Attribute(name, {value: tuple(p.strip() for p in text.split("|")) for value, text in values.items()})
        for name, values in table.items()
    )


def when(attribute: str, *values: str) -> tuple[str, tuple[str, ...]]:
    return attribute, values


def accessories(text: str) -> tuple[AccessorySpec, ...]:
    """``"charger! box"``: a mark of exclamation says that the accessory is a major one."""
    return tuple(AccessorySpec(word.rstrip("!").replace("_", " "), word.endswith("!")) for word in text.split())
