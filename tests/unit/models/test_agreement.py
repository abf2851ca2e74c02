"""Our embeddings are those of the libraries themselves, for every architecture, batch size and number of workers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from tests.unit.models.conftest import HF, TEXTS
from toolkit.models import load_encoder

CLOSE = {"rtol": 0.0, "atol": 1e-5}
VIT = tiny.open_clip_config()["vision_cfg"]


def variant(vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **rest: Any) -> dict[str, Any]:
    config = tiny.open_clip_config(**(text or {}))
    return {**config, "vision_cfg": vision or VIT, **rest}


def timm_tower(name: str, pool: str, **rest: Any) -> dict[str, Any]:
    return {"timm_model_name": name, "timm_pool": pool, "timm_proj": "linear", "image_size": 224, **rest}


COCA_TEXT = {"context_length": 76, "embed_cls": True, "output_tokens": True}
COCA = {"context_length": 76, "vocab_size": tiny.open_clip_config()["text_cfg"]["vocab_size"], "width": 32, "heads": 2, "layers": 1}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "vit": variant(),
    "quick-gelu": variant(quick_gelu=True),
    "own tokenizer": variant(text={"hf_tokenizer_name": None, "vocab_size": 49408, "pool_type": "argmax"}),
    "resnet": variant({"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}),
    "average pooling": variant({**VIT, "pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True}),
    "not square": variant({**VIT, "image_size": [32, 48]}),
    "custom text, no projection": variant(text={"proj_type": "none", "width": 24}, custom_text=True),
    "custom text, biased projection": variant(text={"proj_bias": True}, custom_text=True),
    "siglip": variant(text={"no_causal_mask": True, "pool_type": "last", "proj_bias": True}, custom_text=True, init_logit_bias=-10.0),
    "coca": variant(
        {**VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}, COCA_TEXT, custom_text=True, multimodal_cfg=COCA
    ),
    "timm vit": variant(timm_tower("test_vit", "token", image_size=160)),
    "timm convnext": variant(timm_tower("test_convnext", "", image_size=160)),
}
CUT = {"vit", "quick-gelu", "own tokenizer", "resnet", "custom text, no projection", "custom text, biased projection", "timm vit"}


@pytest.fixture(scope="session")
def open_clip_folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = tiny.tiny_open_clip(tmp_path_factory.mktemp("oc"), model_cfg=ARCHITECTURES[kind])
        return made[kind]

    return folder


def unit(features: Any) -> torch.Tensor:
    tensor = features if isinstance(features, torch.Tensor) else features.pooler_output
    return torch.nn.functional.normalize(tensor.float(), dim=-1)


def hf_reference(folder: Path, images: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """What transformers' own classes say, one image and one text at a time, texts at full length."""
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder).eval()
    processor, tokenizer = AutoImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    width = model.config.text_config.max_position_embeddings
    with torch.no_grad():
        seen = [unit(model.get_image_features(**processor(images=Image.fromarray(image), return_tensors="pt"))) for image in images]
        texts = [tokenizer([text], padding="max_length", max_length=width, truncation=True, return_tensors="pt") for text in TEXTS]
        read = [unit(model.get_text_features(**tokens)) for tokens in texts]
    return torch.cat(seen), torch.cat(read)


def open_clip_reference(folder: Path, images: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.no_grad():
        seen = model.eval().encode_image(torch.stack([transform(Image.fromarray(image)) for image in images]), normalize=True)
        return seen, model.encode_text(tokenizer(TEXTS), normalize=True)


@pytest.mark.parametrize("kind", HF)
def test_transformers_models_agree_with_their_library(kind: str, load: Any, folders: Any, images: list[np.ndarray]) -> None:
    encoder = load(kind)
    seen, read = hf_reference(folders(kind), images)
    torch.testing.assert_close(encoder.encode_texts(TEXTS), read, **CLOSE)
    for batch_size in (1, 7, 32):
        torch.testing.assert_close(encoder.encode_images(images, batch_size=batch_size), seen, **CLOSE)
        torch.testing.assert_close(encoder.encode_texts(TEXTS, batch_size=batch_size), read, **CLOSE)
    assert (seen @ seen.T).fill_diagonal_(0).max() < 0.99999  # the reference itself tells the images apart


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_open_clip_models_agree_with_their_library(kind: str, open_clip_folders: Any, images: list[np.ndarray]) -> None:
    folder = open_clip_folders(kind)
    encoder = load_encoder(f"local:{folder}", cache=False)
    some = images[:9]
    seen, read = open_clip_reference(folder, some)
    for batch_size in (1, 7, 32):
        torch.testing.assert_close(encoder.encode_images(some, batch_size=batch_size), seen, **CLOSE)
        torch.testing.assert_close(encoder.encode_texts(TEXTS, batch_size=batch_size), read, **CLOSE)
    if kind in CUT:
        assert encoder._text.trim is True
    elif kind in ("siglip", "coca"):
        assert encoder._text.trim is None


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_open_clip_preprocessing_is_bit_identical(mode: str, interpolation: str, tmp_path: Path, images: list[np.ndarray]) -> None:
    import open_clip

    settings = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "interpolation": interpolation, "resize_mode": mode, "fill_color": 7}
    folder = tiny.tiny_open_clip(tmp_path, preprocess=settings)
    encoder: Any = load_encoder(f"local:{folder}", cache=False)
    _, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    for image in images[:8]:
        ours = encoder.preprocess.finish({"pixels": torch.from_numpy(encoder.preprocess.prepare(Image.fromarray(image))["pixels"][None])})
        assert torch.equal(ours["pixels"][0], transform(Image.fromarray(image)))


@pytest.mark.parametrize(
    "options", [{}, {"do_center_crop": False, "size": {"height": 32, "width": 32}}, {"do_normalize": False}, {"resample": 2}]
)
def test_transformers_preprocessing_is_bit_identical(options: dict[str, Any], images: list[np.ndarray]) -> None:
    from transformers import CLIPImageProcessor

    from toolkit.models.hf_clip import SplitProcessor, choose_preprocess

    processor = CLIPImageProcessor(**{"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, **options})
    ours = choose_preprocess(processor)
    assert isinstance(ours, SplitProcessor) == ("do_normalize" not in options)
    for image in images:
        prepared = {key: torch.from_numpy(value[None].copy()) for key, value in ours.prepare(Image.fromarray(image)).items()}
        assert torch.equal(
            ours.finish(prepared)["pixel_values"], processor(images=Image.fromarray(image), return_tensors="pt")["pixel_values"]
        )


@pytest.mark.parametrize("kind", ["clip", "siglip2", "open_clip"])
def test_worker_processes_change_nothing(kind: str, load: Any, images: list[np.ndarray]) -> None:
    encoder = load(kind)
    before = torch.get_rng_state()
    alone, helped = (encoder.encode_images(images, batch_size=8, workers=workers) for workers in (0, 2))
    assert torch.equal(alone, helped)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("kind", ["clip", "vtde", "open_clip"])
def test_bfloat16_computes_and_gives_float32(kind: str, load: Any, images: list[np.ndarray]) -> None:
    exact, half = load(kind), load(kind, dtype="bfloat16")
    assert next(half.module.parameters()).dtype == torch.bfloat16
    assert half.logit_scale == exact.logit_scale
    for full, rough in (
        (exact.encode_images(images[:4]), half.encode_images(images[:4])),
        (exact.encode_texts(TEXTS), half.encode_texts(TEXTS)),
    ):
        assert rough.dtype == torch.float32
        torch.testing.assert_close(rough.norm(dim=-1), torch.ones(len(rough)))
        torch.testing.assert_close(full, rough, rtol=0, atol=0.05)
    assert half._text.trim is True


def test_a_loaded_model_is_frozen_and_its_embeddings_can_train_a_head(load: Any, images: list[np.ndarray]) -> None:
    encoder = load("clip")
    assert not encoder.module.training
    assert not any(weight.requires_grad for weight in encoder.module.parameters())
    head = torch.nn.Linear(encoder.dim, 2)
    for embeddings in (encoder.encode_images(images[:2]), encoder.encode_texts(TEXTS), encoder.encode_patches(images[:2]).patches):
        head(embeddings).sum().backward()


def test_nothing_to_encode(load: Any) -> None:
    encoder = load("clip")
    assert encoder.encode_images([]).shape == (0, 24)
    assert encoder.encode_texts([]).shape == (0, 24)
    assert list(encoder.iter_images([])) == []


def test_loading_is_silent(load: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.WARNING):
        for kind in (*HF, "open_clip"):
            load(kind)
    assert caplog.text == ""
    assert capfd.readouterr().err == ""
