"""Bazaar, the procedural marketplace: seeded second-hand goods whose truth is known. See docs/bazaar.md.

The functions that are called like their modules are imported from there: ``from evals.bazaar.render import render``,
``from evals.bazaar.scene import scene`` and ``from evals.bazaar.captions import captions``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evals.bazaar.captions import attribute_caption, caption, facts, line_attribute_texts
    from evals.bazaar.classify import classify_names, classify_spec, classify_split
    from evals.bazaar.descriptions import description_pool, true_descriptions
    from evals.bazaar.export import export_classify
    from evals.bazaar.image import RenderedImage
    from evals.bazaar.items import VIEWS, Item, item
    from evals.bazaar.lines import HELDOUT_LINES, LINES, SEEN_LINES, Line
    from evals.bazaar.listings import Listing, listing
    from evals.bazaar.price import Sale, sale
    from evals.bazaar.record import truth
    from evals.bazaar.render import Masks, masks
    from evals.bazaar.scene import Scene, SceneImage, render_scene, scene_masks
    from evals.bazaar.sheet import contact_sheet
    from evals.bazaar.splits import is_train, split_of
    from evals.bazaar.vqa import Evidence, VqaQuestion, evidence_mask, questions, training_questions, vqa_split
    from evals.bazaar.vqa_export import export_vqa
    from evals.bazaar.world import CATEGORIES

__all__ = [
    "CATEGORIES",
    "HELDOUT_LINES",
    "LINES",
    "SEEN_LINES",
    "VIEWS",
    "Evidence",
    "Item",
    "Line",
    "Listing",
    "Masks",
    "RenderedImage",
    "Sale",
    "Scene",
    "SceneImage",
    "VqaQuestion",
    "attribute_caption",
    "caption",
    "classify_names",
    "classify_spec",
    "classify_split",
    "contact_sheet",
    "description_pool",
    "evidence_mask",
    "export_classify",
    "export_vqa",
    "facts",
    "is_train",
    "item",
    "line_attribute_texts",
    "listing",
    "masks",
    "questions",
    "render_scene",
    "sale",
    "scene_masks",
    "split_of",
    "training_questions",
    "true_descriptions",
    "truth",
    "vqa_split",
]

_HOME = {
    "captions": ("attribute_caption", "caption", "facts", "line_attribute_texts"),
    "classify": ("classify_names", "classify_spec", "classify_split"),
    "descriptions": ("description_pool", "true_descriptions"),
    "export": ("export_classify",),
    "image": ("RenderedImage",),
    "items": ("VIEWS", "Item", "item"),
    "lines": ("HELDOUT_LINES", "LINES", "SEEN_LINES", "Line"),
    "listings": ("Listing", "listing"),
    "price": ("Sale", "sale"),
    "record": ("truth",),
    "render": ("Masks", "masks"),
    "scene": ("Scene", "SceneImage", "render_scene", "scene_masks"),
    "sheet": ("contact_sheet",),
    "splits": ("is_train", "split_of"),
    "vqa": ("Evidence", "VqaQuestion", "evidence_mask", "questions", "training_questions", "vqa_split"),
    "vqa_export": ("export_vqa",),
    "world": ("CATEGORIES",),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that ``import evals.bazaar`` costs nothing."""
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_MODULE[name]}")
    for each in _HOME[_MODULE[name]]:
        globals()[each] = getattr(module, each)
    return globals()[name]
