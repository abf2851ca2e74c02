"""What lmms-eval finds by the entry point group ``lmms_eval.models``: names, and where the class is. It loads nothing else, because an
entry point that fails takes all later ones with it."""

from __future__ import annotations

from typing import Any


def manifests() -> list[Any]:
    """The models of Permafrost for the registry of lmms-eval, which is the one who calls this."""
    from lmms_eval.models.registry_v2 import ModelManifest

    path = "toolkit.integrations.lmms_eval_model.PermafrostLmm"
    return [ModelManifest(model_id="permafrost_llava", simple_class_path=path, aliases=("permafrost",))]
