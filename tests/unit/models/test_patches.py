"""Patch embeddings live in the joint space, on the image's grid, beside the image embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from tests.unit.models.test_agreement import ARCHITECTURES, timm_tower
from toolkit.errors import ImageError, UsageError
from toolkit.models import load_encoder

CLOSE = {"rtol": 0.0, "atol": 1e-5}


@pytest.mark.parametrize("kind", ["clip", "siglip", "vtde", "open_clip"])
def test_image_embedding_is_that_of_encode_images(kind: str, load: Any, images: list[np.ndarray]) -> None:
    encoder = load(kind)
    found = encoder.encode_patches(images[:5], batch_size=2)
    assert found.patches.shape == (5, 4, 4, encoder.dim)
    torch.testing.assert_close(found.patches.norm(dim=-1), torch.ones(5, 4, 4))
    torch.testing.assert_close(found.image, encoder.encode_images(images[:5]), **CLOSE)


def test_clip_patches_against_a_forward_pass_by_hand(load: Any, images: list[np.ndarray]) -> None:
    encoder = load("clip")
    pixels = encoder._inputs(next(encoder._iter_pixels(images[:3], 3, 0)))["pixel_values"]
    model = encoder.module
    with torch.no_grad():
        tokens = model.vision_model(pixels).last_hidden_state
        projected = model.visual_projection(model.vision_model.post_layernorm(tokens))
    by_hand = torch.nn.functional.normalize(projected, dim=-1)
    found = encoder.encode_patches(images[:3])
    torch.testing.assert_close(found.image, by_hand[:, 0], **CLOSE)
    torch.testing.assert_close(found.patches.flatten(1, 2), by_hand[:, 1:], **CLOSE)


def test_open_clip_patches_against_a_forward_pass_by_hand(load: Any, images: list[np.ndarray]) -> None:
    encoder = load("open_clip")
    pixels = encoder._inputs(next(encoder._iter_pixels(images[:3], 3, 0)))["pixels"]
    visual = encoder.module.visual
    with torch.no_grad():
        tokens = visual.forward_intermediates(pixels, indices=1, output_fmt="NLC")["image_intermediates"][0]
        by_hand = torch.nn.functional.normalize(visual.ln_post(tokens) @ visual.proj, dim=-1)
    torch.testing.assert_close(encoder.encode_patches(images[:3]).patches.flatten(1, 2), by_hand, **CLOSE)


def test_average_pooled_towers_are_the_mean_of_their_patches(tmp_path: Path, images: list[np.ndarray]) -> None:
    """Without a norm after pooling, the image embedding is the mean of the projected patches: direction must agree."""
    vision = {**tiny.open_clip_config()["vision_cfg"], "pool_type": "avg"}
    folder = tiny.tiny_open_clip(tmp_path, model_cfg={**tiny.open_clip_config(), "vision_cfg": vision})
    encoder: Any = load_encoder(f"local:{folder}", cache=False)
    inputs = encoder._inputs(next(encoder._iter_pixels(images[:4], 4, 0)))
    with torch.no_grad():
        patches, image = encoder._patch_features(inputs)
    torch.testing.assert_close(patches.mean(dim=(1, 2)), image, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["token", "avg", "map"])
def test_timm_towers(pool: str, tmp_path: Path, images: list[np.ndarray]) -> None:
    vision = timm_tower({"token": "test_vit", "avg": "test_vit2", "map": "test_vit3"}[pool], pool, image_size=160)
    folder = tiny.tiny_open_clip(tmp_path, model_cfg={**tiny.open_clip_config(), "vision_cfg": vision})
    encoder: Any = load_encoder(f"local:{folder}", cache=False)
    found = encoder.encode_patches(images[:2])
    assert found.patches.shape == (2, 10, 10, 24)
    torch.testing.assert_close(found.image, encoder.encode_images(images[:2]), **CLOSE)
    assert not torch.isnan(found.patches).any()


def test_the_patch_with_the_object_differs(load: Any) -> None:
    """A red square on grey: patches under it differ more from the plain image than those far from it, in the right place."""
    plain = np.full((32, 32, 3), 128, np.uint8)
    marked = plain.copy()
    marked[8:16, 24:32] = (255, 0, 0)
    for kind in ("clip", "open_clip", "siglip"):
        found = load(kind).encode_patches([plain, marked]).patches
        change = (found[0] - found[1]).norm(dim=-1)
        assert divmod(int(change.argmax()), 4) == (1, 3), kind


def test_native_aspect_ratio_keeps_its_own_grid(load: Any) -> None:
    encoder = load("siglip2")
    wide = Image.new("RGB", (64, 32), "red")
    assert encoder.encode_patches([wide]).patches.shape[1:3] == (3, 5)
    with pytest.raises(UsageError, match="different shapes"):
        encoder.encode_patches([wide, Image.new("RGB", (32, 64))])
    with pytest.raises(UsageError, match="different shapes"):
        encoder.encode_patches([wide, Image.new("RGB", (32, 64))], batch_size=1)


@pytest.mark.parametrize("kind", ["resnet", "timm convnext"])
def test_towers_without_patches_say_so(kind: str, tmp_path: Path, images: list[np.ndarray]) -> None:
    folder = tiny.tiny_open_clip(tmp_path, model_cfg=ARCHITECTURES[kind])
    with pytest.raises(UsageError, match="need a ViT image tower"):
        load_encoder(f"local:{folder}", cache=False).encode_patches(images[:1])


def test_broken_and_no_images(load: Any) -> None:
    with pytest.raises(ImageError):
        load("clip").encode_patches([b"no image"])
    with pytest.raises(UsageError, match="no images"):
        load("clip").encode_patches([])
