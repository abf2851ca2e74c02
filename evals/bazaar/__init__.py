"""Bazaar, the procedural marketplace: seeded second-hand goods whose truth is known. See docs/bazaar.md."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evals.bazaar.captions import attribute_caption, caption, captions, facts, line_attribute_texts
    from evals.bazaar.classify import classify_names, classify_spec, classify_split
    from evals.bazaar.descriptions import description_pool
    from evals.bazaar.image import RenderedImage
    from evals.bazaar.items import VIEWS, Item, item
    from evals.bazaar.lines import HELDOUT_LINES, LINES, SEEN_LINES, Line
    from evals.bazaar.render import Masks, masks, render
    from evals.bazaar.sheet import contact_sheet
    from evals.bazaar.splits import is_train, split_of
    from evals.bazaar.world import CATEGORIES

_HOME = {
    "captions": ("captions", "caption", "facts", "attribute_caption", "line_attribute_texts"),
    "classify": ("classify_names", "classify_spec", "classify_split"),
    "descriptions": ("description_pool",),
    "image": ("RenderedImage",),
    "items": ("Item", "item", "VIEWS"),
    "lines": ("Line", "LINES", "SEEN_LINES", "HELDOUT_LINES"),
    "render": ("Masks", "masks", "render"),
    "sheet": ("contact_sheet",),
    "splits": ("split_of", "is_train"),
    "world": ("CATEGORIES",),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "CATEGORIES",
    "HELDOUT_LINES",
    "LINES",
    "SEEN_LINES",
    "VIEWS",
    "Item",
    "Line",
    "Masks",
    "RenderedImage",
    "attribute_caption",
    "caption",
    "captions",
    "classify_names",
    "classify_spec",
    "classify_split",
    "contact_sheet",
    "description_pool",
    "facts",
    "is_train",
    "item",
    "line_attribute_texts",
    "masks",
    "render",
    "split_of",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that ``import evals.bazaar`` costs nothing."""
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_MODULE[name]}")
    for each in _HOME[_MODULE[name]]:
        globals()[each] = getattr(module, each)
    return globals()[name]
