"""Which files of a model folder may be loaded, and what they hash to. The one place that calls torch.load.

Policy: safetensors by default. Pickled weights only with ``allow_pickle``, then still with ``weights_only``, and never as a
fallback. Code that comes with a model is never run.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from toolkit.errors import ModelConfigError, ModelNotFound, UnsafeLoadError

PICKLED = (".bin", ".pt", ".pth", ".ckpt")
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt",
    "spiece.model", "sentencepiece.bpe.model", "tokenizer.model",
)  # fmt: skip
PICKLE_HINT = "convert them to safetensors, or pass --allow-pickle if you trust where they come from"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model. Raises: ModelNotFound, ModelConfigError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelNotFound(f"{path} is missing") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelConfigError(f"{path} is not readable as JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelConfigError(f"{path} holds a {type(value).__name__}; expected a JSON object")
    return value


def refuse_remote_code(folder: Path) -> None:
    """Raises: UnsafeLoadError: if a configuration in ``folder`` asks for code that comes with the model."""
    for path in sorted(folder.glob("*.json")):
        if path.name.endswith("config.json") and _find_key(read_json(path), "auto_map"):
            raise UnsafeLoadError(
                f"{path} asks to run code that comes with the model (auto_map), and such code is never run",
                hint="use a checkpoint in one of the built-in architectures",
            )


def _find_key(value: object, key: str) -> bool:
    if isinstance(value, dict):
        return bool(value.get(key)) or any(_find_key(item, key) for item in value.values())
    return isinstance(value, list) and any(_find_key(item, key) for item in value)


def find_weights(folder: Path, safe: Sequence[str], pickled: Sequence[str], *, allow_pickle: bool) -> list[Path]:
    """The weight files of a folder: one file, or all shards that an index lists.

    Args:
        safe: names of safetensors files, best first; for each, NAME.index.json stands for shards.
        pickled: names of pickled files, best first; looked at only if there is no safe file.
    Raises: UnsafeLoadError: only pickled weights are there, and they are not allowed. ModelNotFound: no weights, or a shard is missing.
    """
    for name in [*safe, *(pickled if allow_pickle else ())]:
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}.index.json").is_file():
            return _shards(folder, f"{name}.index.json")
    unsafe = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED) if folder.is_dir() else []
    if unsafe and not allow_pickle:
        raise UnsafeLoadError(f"{folder} has its weights only in pickled files ({', '.join(unsafe)}), which can run code", hint=PICKLE_HINT)
    raise ModelNotFound(f"{folder} holds no weights; expected {' or '.join(safe)}")


def _shards(folder: Path, index: str) -> list[Path]:
    listed = read_json(folder / index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise ModelConfigError(f"{folder / index} lists no shards")
    names = sorted(set(listed.values()))
    for name in names:
        if Path(name).name != name:
            raise UnsafeLoadError(f"{folder / index} points outside of its folder: {name!r}")
        if not (folder / name).is_file():
            raise ModelNotFound(f"{folder / name} is missing: {index} lists {len(names)} shards", hint="download the model again")
    return [folder / name for name in names]


def check_pickle(path: Path) -> None:
    """Load pickled weights once with ``weights_only``. Raises: UnsafeLoadError: if there is anything else than tensors in the file."""
    import torch

    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=zip_based(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, AttributeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UnsafeLoadError(
            f"{path} holds more than plain tensors, and is not loaded: {reason[0][:200]}",
            hint="save the state_dict alone, best as safetensors",
        ) from error


def zip_based(path: Path) -> bool:
    """Whether torch can map the file instead of reading it."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def hash_files(paths: Iterable[Path]) -> dict[str, str]:
    """File name -> sha256 (hex). Large files are hashed side by side."""
    paths = sorted(paths)
    with ThreadPoolExecutor(max_workers=4) as pool:
        return dict(zip([path.name for path in paths], pool.map(_hash_file, paths), strict=True))


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_tokenizer(folder: Path) -> dict[str, str]:
    """Hashes of the tokenizer's files in a model folder."""
    return hash_files(folder / name for name in TOKENIZER_FILES if (folder / name).is_file())
