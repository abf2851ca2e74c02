"""Bazaar, the procedural marketplace: seeded second-hand goods whose truth is known. See docs/bazaar.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evals.bazaar.items import Item, item

__all__ = ["Item", "item"]

_HOME = {"Item": "items", "item": "items"}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that ``import evals.bazaar`` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
