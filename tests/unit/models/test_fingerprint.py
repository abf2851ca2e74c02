"""Equal fingerprints mean equal embeddings: whatever changes an embedding changes the fingerprint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.unit.models.test_loading import edit_json, edit_weights
from toolkit.models import load_encoder

BUILDERS = {"clip": tiny.tiny_hf_clip, "open_clip": tiny.tiny_open_clip}


def fingerprint(folder: Path, **settings: Any) -> str:
    return load_encoder(f"local:{folder}", cache=False, **settings).fingerprint


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_same_model_has_the_same_fingerprint_anywhere(kind: str, tmp_path: Path) -> None:
    folder = BUILDERS[kind](tmp_path / "a")
    first = fingerprint(folder)
    assert len(first) == 64
    assert fingerprint(folder) == first
    shutil.copytree(folder, tmp_path / "b")
    assert fingerprint(tmp_path / "b") == first
    assert fingerprint(BUILDERS[kind](tmp_path / "c")) == first
    assert fingerprint(folder, dtype="bfloat16") != first
    assert fingerprint(BUILDERS[kind](tmp_path / "d", seed=1)) != first


HF_CHANGES: dict[str, Callable[[Path], None]] = {
    "one bit of one weight": lambda folder: edit_weights(folder / "model.safetensors", lambda w: w["logit_scale"].add_(1e-6)),
    "mean": lambda folder: edit_json(folder / "preprocessor_config.json", lambda c: c.update(image_mean=[0.5, 0.5, 0.5])),
    "resampling": lambda folder: edit_json(folder / "preprocessor_config.json", lambda c: c.update(resample=2)),
    "activation": lambda folder: edit_json(folder / "config.json", lambda c: c["text_config"].update(hidden_act="gelu")),
    "pooling": lambda folder: edit_json(folder / "config.json", lambda c: c["text_config"].update(eos_token_id=2)),
    "tokenizer": lambda folder: edit_json(folder / "tokenizer.json", lambda c: c.update(normalizer=None)),
    "context": lambda folder: edit_json(folder / "tokenizer_config.json", lambda c: c.update(model_max_length=16)),
}
OPEN_CLIP_CHANGES: dict[str, Callable[[Path], None]] = {
    "one bit of one weight": lambda folder: edit_weights(folder / "open_clip_model.safetensors", lambda w: w["logit_scale"].add_(1e-6)),
    "mean": lambda folder: edit_json(folder / "open_clip_config.json", lambda c: c["preprocess_cfg"].update(mean=[0.1, 0.5, 0.5])),
    "resizing": lambda folder: edit_json(folder / "open_clip_config.json", lambda c: c["preprocess_cfg"].update(resize_mode="squash")),
    "activation": lambda folder: edit_json(folder / "open_clip_config.json", lambda c: c["model_cfg"].update(quick_gelu=True)),
    "cleaning": lambda folder: edit_json(
        folder / "open_clip_config.json", lambda c: c["model_cfg"]["text_cfg"].update(tokenizer_kwargs={"clean": "canonicalize"})
    ),
    "tokenizer": lambda folder: edit_json(folder / "tokenizer.json", lambda c: c.update(normalizer=None)),
}


@pytest.mark.parametrize("change", HF_CHANGES)
def test_any_change_of_a_transformers_model_shows(change: str, tmp_path: Path) -> None:
    folder = tiny.tiny_hf_clip(tmp_path)
    before = fingerprint(folder)
    HF_CHANGES[change](folder)
    assert fingerprint(folder) != before


@pytest.mark.parametrize("change", OPEN_CLIP_CHANGES)
def test_any_change_of_an_open_clip_model_shows(change: str, tmp_path: Path) -> None:
    folder = tiny.tiny_open_clip(tmp_path)
    before = fingerprint(folder)
    OPEN_CLIP_CHANGES[change](folder)
    assert fingerprint(folder) != before


def test_what_does_not_matter_does_not_show(tmp_path: Path) -> None:
    folder = tiny.tiny_hf_clip(tmp_path)
    before = fingerprint(folder)
    edit_json(folder / "config.json", lambda config: config.update(transformers_version="5.17.0", dtype="float16"))
    (folder / "README.md").write_text("another card")
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()), indent=7))
    assert fingerprint(folder) == before
