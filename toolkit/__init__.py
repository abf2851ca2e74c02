"""Permafrost: more out of frozen vision-language models, without training them.

    import toolkit

    encoder = toolkit.load_encoder("pocket-clip")
    images = encoder.encode_images(toolkit.find_images("photos"))
    texts = encoder.encode_texts(["a photo of a scratched phone", "a photo of a phone"])
    similarity = images @ texts.T

Importing this loads nothing: a name is fetched from its module when it is first used.
"""

# ruff: noqa: F401  # the imports for type checkers are the public names; a test compares them with the table

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.attention import AttentionSession, LayerEdit
    from toolkit.cache import FeatureStore, default_store
    from toolkit.devices import pick_device, pick_dtype
    from toolkit.errors import PermafrostError
    from toolkit.hooks import Captured, HookSession
    from toolkit.images import ArrayImage, BytesImage, FileImage, as_source, find_images, open_image
    from toolkit.methods import build_method, list_methods
    from toolkit.methods.interventions.contrastive_attention import ContrastiveAttention
    from toolkit.models import list_models, load_answerer, load_encoder
    from toolkit.models.base import Answerer, DualEncoder
    from toolkit.models.mllm import wrap_answerer
    from toolkit.patching import PatchHandle, patch
    from toolkit.sites import Site, known_sites, resolve
    from toolkit.types import Answer, ClassifyProblem, ImageSource, Metric, PatchFeatures, Prediction, Question, Sample
    from toolkit.version import VERSION as __version__

_HOMES = {
    "toolkit.attention": ("AttentionSession", "LayerEdit"),
    "toolkit.cache": ("FeatureStore", "default_store"),
    "toolkit.devices": ("pick_device", "pick_dtype"),
    "toolkit.errors": ("PermafrostError",),
    "toolkit.hooks": ("Captured", "HookSession"),
    "toolkit.images": ("ArrayImage", "BytesImage", "FileImage", "as_source", "find_images", "open_image"),
    "toolkit.methods": ("build_method", "list_methods"),
    "toolkit.methods.interventions.contrastive_attention": ("ContrastiveAttention",),
    "toolkit.models": ("list_models", "load_answerer", "load_encoder"),
    "toolkit.models.base": ("Answerer", "DualEncoder"),
    "toolkit.models.mllm": ("wrap_answerer",),
    "toolkit.patching": ("PatchHandle", "patch"),
    "toolkit.sites": ("Site", "known_sites", "resolve"),
    "toolkit.types": ("Answer", "ClassifyProblem", "ImageSource", "Metric", "PatchFeatures", "Prediction", "Question", "Sample"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]  # noqa: PLE0604  # the names in the table


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = importlib.import_module("toolkit.version").VERSION
    elif name in _HOME_OF:
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module 'toolkit' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
