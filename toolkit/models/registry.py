"""Model names and what they stand for. The grammar of the whole house:

pocket-clip, pocket-llava        shipped with the package
open_clip:ARCH/PRETRAINED        open_clip:ViT-B-32/laion2b_s34b_b79k
hf:REPO[@REVISION]               hf:openai/clip-vit-base-patch32@main
local:DIR                        a folder in the format of transformers or of open_clip
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.errors import ModelConfigError, ModelNotFound, UsageError, unknown_name

if TYPE_CHECKING:
    import torch

    from toolkit.cache import FeatureStore
    from toolkit.models.base import Answerer, DualEncoder
    from toolkit.models.generative import DeviceMap

SHIPPED = ("pocket-clip", "pocket-llava")
GRAMMAR = "pocket-clip, pocket-llava, open_clip:ARCH/PRETRAINED, hf:REPO[@REVISION] or local:DIR"


class ModelName(NamedTuple):
    """A parsed model name. ``scheme`` is "shipped", "open_clip", "hf" or "local"; ``extra`` the tag or revision."""

    scheme: str
    target: str
    extra: str | None = None


def parse_name(name: str) -> ModelName:
    """Raises: UsageError, ModelNotFound: for what is not in the grammar, with near matches.

    >>> parse_name("open_clip:ViT-B-32/openai")
    ModelName(scheme='open_clip', target='ViT-B-32', extra='openai')
    """
    if name in SHIPPED:
        return ModelName("shipped", name)
    scheme, colon, rest = name.partition(":")
    if scheme == "local" and rest:
        return ModelName("local", rest)
    if scheme == "hf" and rest:
        repo, _, revision = rest.partition("@")
        if repo.count("/") != 1 or not all(repo.split("/")):
            raise UsageError(f"{name!r} names no repository", hint="for example: hf:openai/clip-vit-base-patch32")
        return ModelName("hf", repo, revision or None)
    if scheme == "open_clip" and rest:
        architecture, _, tag = rest.partition("/")
        return ModelName("open_clip", architecture, tag or None)
    if colon and scheme in ("local", "hf", "open_clip"):
        raise UsageError(f"{name!r} ends after the colon", hint=f"expected {GRAMMAR}")
    if os.path.isdir(name):
        raise UsageError(f"there is no model called {name!r}, but a folder of that name", hint=f"write local:{name}")
    raise unknown_name("model", name, [*SHIPPED, *_schemes()], ModelNotFound)


def _schemes() -> list[str]:
    return ["open_clip:ARCH/PRETRAINED", "hf:REPO", "local:DIR"]


def list_models() -> list[str]:
    """All names that can be listed: the shipped models and every pretrained tag of open_clip."""
    from toolkit.models.openclip import list_names

    return [*SHIPPED, *list_names()]


def load_encoder(
    name: str, *, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto", offline: bool = False,
    allow_pickle: bool = False, cache: bool | FeatureStore = True,
) -> DualEncoder:  # fmt: skip
    """A frozen dual encoder by name.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", "mps" or a torch.device.
        dtype: "auto", "float32", "bfloat16", "float16" or a torch.dtype. Embeddings are float32 in any case.
        offline: use only what is on this machine.
        allow_pickle: accept pickled weights where there are no safetensors (still tensors only, never code).
        cache: answer images and texts that were seen before from the default store, or from the given one; False for none.
    Raises: ModelNotFound, UnsafeLoadError, ModelConfigError, UsageError. It never gives a random or partly random model.
    """
    parsed = parse_name(name)
    settings = _settings(device, dtype) | {"name": name, "allow_pickle": allow_pickle}
    if parsed.scheme == "open_clip":
        from toolkit.models.openclip import load_builtin

        encoder: DualEncoder = load_builtin(parsed.target, parsed.extra, offline=offline, **settings)
    else:
        encoder = _load_folder(find_folder(parsed, offline=offline, allow_pickle=allow_pickle), offline=offline, **settings)
    if cache is False:
        return encoder
    from toolkit.cache import default_store
    from toolkit.models.cached import CachedEncoder

    return CachedEncoder(encoder, default_store() if cache is True else cache)


def load_answerer(
    name: str, *, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto", offline: bool = False,
    quantise: int | None = None, device_map: DeviceMap | None = None, allow_pickle: bool = False,
) -> Answerer:  # fmt: skip
    """A frozen multimodal language model by name: pocket-llava, hf:REPO or local:DIR.

    Args:
        device, dtype, offline, allow_pickle: as for ``load_encoder``.
        quantise: 4 (NF4 with double quantisation) or 8 bits for the weights of the decoder's layers; vision tower, projector and head
            keep ``dtype``, and the loaded model is looked at whether it is so.
        device_map: "auto" and the like, or module path -> device, "cpu" or "disk"; None puts all on ``device``.
    Raises: ModelNotFound, UnsafeLoadError, ModelConfigError, UsageError. It never gives a random or partly random model.
    """
    parsed = parse_name(name)
    from toolkit.models.mllm import HINT, load_folder

    if parsed.scheme == "open_clip" or name == "pocket-clip":
        raise UsageError(f"{name} is an image-text encoder and answers no questions", hint=HINT)
    folder = find_folder(parsed, offline=offline, allow_pickle=allow_pickle)
    return load_folder(
        folder, name=name, device=device, dtype=dtype, quantise=quantise, device_map=device_map, allow_pickle=allow_pickle
    )


def _settings(device: str | torch.device, dtype: str | torch.dtype) -> dict[str, Any]:
    from toolkit.devices import pick_device, pick_dtype

    place = pick_device(device)
    return {"device": place, "dtype": pick_dtype(dtype, place)}


def find_folder(parsed: ModelName, *, offline: bool, allow_pickle: bool) -> Path:
    """The local folder of a model's files, fetched where it has to be. Raises: ModelNotFound, UnsafeLoadError."""
    if parsed.scheme == "shipped":
        from toolkit.models.pocket import shipped_folder

        return shipped_folder(parsed.target)
    if parsed.scheme == "hf":
        from toolkit.models.hub import fetch_repository

        return fetch_repository(parsed.target, parsed.extra, offline=offline, allow_pickle=allow_pickle)
    folder = Path(parsed.target).expanduser()
    if not folder.is_dir():
        what = "a file, not a folder" if folder.exists() else "not there"
        raise ModelNotFound(f"the model folder {folder} is {what}", hint="local:DIR takes the folder that holds config.json")
    return folder


def _load_folder(folder: Path, *, offline: bool, **settings: Any) -> DualEncoder:
    """A folder in either library's format; where it is in both, transformers' own comes first."""
    from toolkit.models import weights

    weights.refuse_remote_code(folder)
    for_open_clip = (folder / "open_clip_config.json").is_file()
    if (folder / "config.json").is_file():
        from toolkit.models import hf_clip

        known = weights.read_json(folder / "config.json").get("model_type") in hf_clip.CLASSES
        if known and (not for_open_clip or _has_hf_weights(folder)):
            return hf_clip.load_folder(folder, **settings)
        if not for_open_clip:
            return hf_clip.load_folder(folder, **settings)  # says which types are known
    if for_open_clip:
        from toolkit.models.openclip import load_folder

        return load_folder(folder, offline=offline, **settings)
    raise ModelConfigError(
        f"{folder} is no model folder: it has neither config.json (transformers) nor open_clip_config.json (open_clip)",
        hint="give the folder that save_pretrained or push_to_hf_hub wrote",
    )


def _has_hf_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json"))
