"""Manners towards the transformers library: its bars hidden while it loads, its errors in one line, its configurations without noise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from toolkit.types import JSON

NOISE = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "_attn_implementation_autoset")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of the library while it loads; as before afterwards."""
    from transformers.utils import logging as library

    shown = library.is_progress_bar_enabled()
    library.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            library.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 300 characters; its class where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def without_versions(config: JSON) -> JSON:
    """A configuration without what says where and by whom it was written."""
    if isinstance(config, dict):
        return {key: without_versions(value) for key, value in config.items() if key not in NOISE}
    if isinstance(config, (list, tuple)):
        return [without_versions(value) for value in config]
    return str(config) if isinstance(config, torch.dtype) else config
