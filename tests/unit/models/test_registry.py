"""Model names: one grammar, and near matches for what is not in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from toolkit.errors import EXIT_MISSING, ModelConfigError, ModelNotFound, PermafrostError, UnsafeLoadError, UsageError
from toolkit.models import list_models, load_encoder, openclip, pocket
from toolkit.models.registry import ModelName, parse_name


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("pocket-clip", ModelName("shipped", "pocket-clip")),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", ModelName("open_clip", "ViT-B-32", "laion2b_s34b_b79k")),
        ("open_clip:ViT-B-32//weights/mine.safetensors", ModelName("open_clip", "ViT-B-32", "/weights/mine.safetensors")),
        ("hf:openai/clip-vit-base-patch32", ModelName("hf", "openai/clip-vit-base-patch32")),
        ("hf:openai/clip-vit-base-patch32@refs/pr/66", ModelName("hf", "openai/clip-vit-base-patch32", "refs/pr/66")),
        ("local:models/mine: the second", ModelName("local", "models/mine: the second")),
    ],
)
def test_grammar(name: str, parsed: ModelName) -> None:
    assert parse_name(name) == parsed


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("pocket-clap", ModelNotFound, "'pocket-clip'"),
        ("clip", ModelNotFound, "pocket-clip"),
        ("xyz", ModelNotFound, "hf:REPO"),
        ("open-clip:ViT-B-32/openai", ModelNotFound, "open_clip:ARCH"),
        ("hf:clip", UsageError, "hf:openai/"),
        ("hf:", UsageError, "local:DIR"),
        ("local:", UsageError, "local:DIR"),
        ("open_clip:", UsageError, "ARCH/PRETRAINED"),
        ("open_clip:ViT-B32/openai", ModelNotFound, "'ViT-B-32'"),
        ("open_clip:ViT-B-32/opnai", ModelNotFound, "'openai'"),
        ("open_clip:ViT-B-32/laion2b", ModelNotFound, "'laion2b_e16'"),
        ("open_clip:ViT-B-32", ModelConfigError, "laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32/", ModelConfigError, "laion2b_s34b_b79k"),
        ("open_clip:ViT-S-32/openai", ModelConfigError, "no weights"),
    ],
)
def test_names_that_lead_nowhere(name: str, error: type[PermafrostError], says: str) -> None:
    if name.startswith("open_clip:ViT-S-32"):
        name = "open_clip:ViT-S-32"  # an architecture without any weights
    with pytest.raises(error) as caught:
        load_encoder(name, offline=True)
    assert says in f"{caught.value} {caught.value.hint}"


def test_a_folder_without_its_scheme(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_encoder(str(tmp_path))
    assert caught.value.hint == f"write local:{tmp_path}"


def test_list_models() -> None:
    names = list_models()
    assert names[0] == "pocket-clip"
    assert "open_clip:ViT-B-32/laion2b_s34b_b79k" in names
    assert "open_clip:ViT-B-32-quickgelu/openai" in names
    assert "open_clip:ViT-B-32/openai" not in names
    assert len(names) > 100
    assert all(parse_name(name) for name in names)


@pytest.mark.parametrize(
    ("architecture", "tag", "right"),
    [
        ("ViT-B-32", "openai", "ViT-B-32-quickgelu"),
        ("ViT-B-16", "dfn2b", "ViT-B-16-quickgelu"),
        ("ViT-L-14", "metaclip_fullcc", "ViT-L-14-quickgelu"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "ViT-B-32"),
    ],
)
def test_quick_gelu_mismatch_names_the_right_architecture(architecture: str, tag: str, right: str) -> None:
    with pytest.raises(ModelConfigError) as caught:
        load_encoder(f"open_clip:{architecture}/{tag}", offline=True)
    assert caught.value.hint == f"use open_clip:{right}/{tag}"
    assert openclip.find_record(right, tag)


def test_every_listed_pair_is_either_loadable_or_has_a_right_sibling() -> None:
    import open_clip

    refused = {}
    for architecture, tag in open_clip.list_pretrained():
        try:
            openclip.find_record(architecture, tag)
        except ModelConfigError as error:
            refused[(architecture, tag)] = str(error.hint)
    assert 20 < len(refused) < 40
    for (_, tag), hint in refused.items():
        sibling = hint.removeprefix("use open_clip:").removesuffix(f"/{tag}")
        assert openclip.find_record(sibling, tag)


def test_missing_weights_offline() -> None:
    for name in ("open_clip:ViT-B-32/laion2b_s34b_b79k", "hf:openai/clip-vit-base-patch32", "hf:some/model@main"):
        with pytest.raises(ModelNotFound) as caught:
            load_encoder(name, offline=True)
        assert caught.value.exit_code == EXIT_MISSING
        assert "nothing is downloaded offline" in str(caught.value)
        assert "hf download" in str(caught.value.hint)


def test_an_unreachable_hub() -> None:
    """Tests have no network: that is what a user behind a broken connection gets."""
    with pytest.raises(ModelNotFound, match="cannot be had from the Hugging Face Hub"):
        load_encoder("hf:some/model")


def test_shipped_model_without_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pocket, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(ModelNotFound, match="pocket-clip are not installed"):
        load_encoder("pocket-clip")
    tiny.tiny_hf_clip(tmp_path / "pocket-clip")
    encoder: Any = load_encoder("pocket-clip")
    assert encoder.name == "pocket-clip"
    assert encoder.encode_texts(["a dog"]).shape == (1, 24)


def test_own_weights_for_a_built_in_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    config = tiny.open_clip_config(hf_tokenizer_name=None, vocab_size=49408, pool_type="argmax")
    folder = tiny.tiny_open_clip(tmp_path / "safe", model_cfg=config)
    monkeypatch.setattr(open_clip, "list_models", lambda: ["tiny"])
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: config)
    encoder = load_encoder(f"open_clip:tiny/{folder / 'open_clip_model.safetensors'}", cache=False)
    twin = load_encoder(f"local:{folder}", cache=False)
    assert encoder.encode_texts(["a dog"]).equal(twin.encode_texts(["a dog"]))
    pickled = tiny.tiny_open_clip(tmp_path / "pickled", model_cfg=config, pickled=True) / "open_clip_pytorch_model.bin"
    with pytest.raises(UnsafeLoadError):
        load_encoder(f"open_clip:tiny/{pickled}", cache=False)
    loaded = load_encoder(f"open_clip:tiny/{pickled}", cache=False, allow_pickle=True)
    assert loaded.encode_texts(["a dog"]).equal(encoder.encode_texts(["a dog"]))


def test_importing_the_registry_loads_no_library() -> None:
    import subprocess
    import sys

    code = "import sys, toolkit.models, toolkit.methods; print(sorted({'torch', 'transformers', 'open_clip', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
