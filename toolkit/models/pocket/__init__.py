"""The models that are shipped with the package: ordinary folders in the format of transformers."""

from __future__ import annotations

from pathlib import Path

from toolkit.errors import ModelNotFound


def shipped_folder(name: str) -> Path:
    """The folder of a shipped model. Raises: ModelNotFound: if its weights were not installed."""
    folder = Path(__file__).parent / name
    if not (folder / "model.safetensors").is_file():
        raise ModelNotFound(
            f"the weights of {name} are not installed: {folder / 'model.safetensors'} is missing",
            hint="install the package again, or make them anew with the recipe in recipes/",
        )
    return folder
