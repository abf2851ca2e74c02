"""Files of models from the Hugging Face Hub or from its cache on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.errors import ModelNotFound, UnsafeLoadError
from toolkit.models import weights

CONFIGURATION = ["*.json", "*.txt", "*.model", "*.jinja"]
QFORMER = "qformer_tokenizer/*"  # InstructBLIP's second tokenizer
NESTED = ["*/*"]  # other formats and training states live in subfolders


def fetch_repository(repo: str, revision: str | None, *, offline: bool, allow_pickle: bool) -> Path:
    """The local folder of a repository with a model: configurations, tokenizer, and one format of the weights.

    Raises: ModelNotFound: it is not in the cache (offline), does not exist, or cannot be reached. UnsafeLoadError: only pickled weights.
    """
    folder = fetch_configuration(repo, revision, offline=offline)
    commit = folder.name  # all further files from the same state of the repository
    if (folder / "config.json").is_file() and weights.read_json(folder / "config.json").get("model_type") == "instructblip":
        _snapshot(repo, commit, [QFORMER], offline=offline, ignore=[])
    names = ["model*.safetensors", "open_clip_model*.safetensors"]
    if not (folder / "config.json").is_file():
        names.reverse()
    if allow_pickle:
        names += ["pytorch_model*.bin", "open_clip_pytorch_model*.bin"]
    for pattern in names:
        if not any(folder.glob(pattern)):
            _snapshot(repo, commit, [pattern], offline=offline)
        if any(folder.glob(pattern)):
            return folder
    if not offline and _has_pickled(repo, commit):
        raise UnsafeLoadError(f"hf:{repo} has its weights only in pickled files, which can run code", hint=weights.PICKLE_HINT)
    return folder  # the loader of the folder says what is missing


def fetch_configuration(repo: str, revision: str | None = None, *, offline: bool) -> Path:
    """The local folder with a repository's configurations and tokenizer, without its weights. Raises: ModelNotFound."""
    folder = _snapshot(repo, revision, CONFIGURATION, offline=offline)
    if not folder.is_dir():
        raise _not_found(repo, revision, offline, "its cache entry is empty")
    weights.refuse_remote_code(folder)
    return folder


def fetch_weights(repo: str, safe: Sequence[str], pickled: Sequence[str], *, offline: bool, allow_pickle: bool) -> Path:
    """One file of weights, the first of ``safe`` that exists, else of ``pickled`` if that is allowed.

    Raises: ModelNotFound, UnsafeLoadError.
    """
    folder = _snapshot(repo, None, [*safe, *(pickled if allow_pickle else ())], offline=offline)
    for name in [*safe, *(pickled if allow_pickle else ())]:
        if (folder / name).is_file():
            return folder / name
    if any((folder / name).is_file() for name in pickled) or (not offline and _has_pickled(repo, folder.name)):
        raise UnsafeLoadError(f"{repo} has its weights only in pickled files, which can run code", hint=weights.PICKLE_HINT)
    raise _not_found(repo, None, offline, f"none of its files is called {' or '.join(safe)}")


def _snapshot(repo: str, revision: str | None, patterns: list[str], *, offline: bool, ignore: list[str] = NESTED) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, ignore_patterns=ignore, local_files_only=offline))
    except Exception as error:  # the client raises errors of several libraries: no network, no such repository, no access, no such revision
        raise _not_found(repo, revision, offline, _reason(error)) from error


def _not_found(repo: str, revision: str | None, offline: bool, reason: str) -> ModelNotFound:
    at = f" at revision {revision}" if revision else ""
    flag = f" --revision {revision}" if revision else ""
    missing = f"{repo}{at} is not whole in the local cache of the Hugging Face Hub, and nothing is downloaded offline"
    return ModelNotFound(
        missing if offline else f"{repo}{at} cannot be had from the Hugging Face Hub: {reason}",
        hint=f"on a machine with network: hf download {repo}{flag}; then copy its cache, or give the folder as local:DIR",
    )


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _has_pickled(repo: str, commit: str) -> bool:
    from huggingface_hub import HfApi

    try:
        return any(Path(name).suffix in weights.PICKLED for name in HfApi().list_repo_files(repo, revision=commit))
    except Exception as error:  # as above
        raise _not_found(repo, commit, False, _reason(error)) from error
