"""The methods, by name. The table names modules and imports none: listing methods loads no library."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from toolkit.config import build_config
from toolkit.errors import unknown_name
from toolkit.types import JSON

CLASSIFY: dict[str, str] = {
    "classname-free": "toolkit.methods.descriptions.classname_free:ClassnameFreeMethod",
    "assigned": "toolkit.methods.descriptions.assigned:Assigned",
    "cupl": "toolkit.methods.descriptions.cupl:Cupl",
    "dclip": "toolkit.methods.descriptions.dclip:Dclip",
    "ensemble": "toolkit.methods.descriptions.ensemble:Ensemble",
    "fudd": "toolkit.methods.descriptions.fudd:Fudd",
    "nearest-mean": "toolkit.methods.descriptions.nearest_mean:NearestMean",
    "tip-adapter": "toolkit.methods.descriptions.tip_adapter:TipAdapter",
    "waffle": "toolkit.methods.descriptions.waffle:Waffle",
    "zero-shot": "toolkit.methods.descriptions.zero_shot:ZeroShot",
}
"""Methods that classify images with a dual encoder: name on the command line -> "module:Class"."""

ANSWER: dict[str, str] = {
    "contrastive-attention": "toolkit.methods.interventions.contrastive_attention:ContrastiveAttention",
    "dola": "toolkit.methods.interventions.dola:Dola",
    "pai": "toolkit.methods.interventions.pai:Pai",
    "plain": "toolkit.methods.interventions.plain:Plain",
    "vcd": "toolkit.methods.interventions.vcd:Vcd",
    "vicrop": "toolkit.methods.interventions.vicrop:Vicrop",
}
"""Methods that answer questions with a multimodal language model, likewise."""

METHODS: dict[str, str] = CLASSIFY | ANSWER
"""All of them. A class has ``Config``, a frozen dataclass, and takes one."""

_FAMILIES = {"classify": CLASSIFY, "answer": ANSWER}


def list_methods(family: str | None = None) -> list[str]:
    """The names of all methods, or of one family: "classify" or "answer"."""
    return sorted(METHODS if family is None else _FAMILIES[family])


def family_of(name: str) -> str:
    """The family of a method, "classify" or "answer". Raises: UsageError: for an unknown name."""
    for family, table in _FAMILIES.items():
        if name in table:
            return family
    raise unknown_name("method", name, METHODS)


def build_method(name: str, options: Mapping[str, JSON] | None = None) -> Any:
    """The method called ``name`` with ``options``. Raises: UsageError: for an unknown name or option, with near matches."""
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    module, _, attribute = METHODS[name].partition(":")
    method = getattr(importlib.import_module(module), attribute)
    return method(build_config(method.Config, options or {}))


__all__ = ["ANSWER", "CLASSIFY", "METHODS", "build_method", "family_of", "list_methods"]
