"""The cache gives the same answers as the model, decodes nothing twice, and never answers for another model or image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from tests.unit.models.conftest import TEXTS
from tests.unit.models.test_loading import edit_json
from toolkit.cache import FeatureStore
from toolkit.errors import ImageError, UsageError
from toolkit.models import cached as module
from toolkit.models import load_encoder
from toolkit.models.cached import CachedEncoder


class Counting:
    """An encoder that says what it was asked."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.images, self.texts, self.patches = inner, 0, [], 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def iter_images(self, images: Sequence[Any], **settings: Any) -> Any:
        self.images += len(images)
        return self.inner.iter_images(images, **settings)

    def encode_texts(self, texts: Sequence[str], **settings: Any) -> Any:
        self.texts += list(texts)
        return self.inner.encode_texts(texts, **settings)

    def encode_patches(self, images: Sequence[Any], **settings: Any) -> Any:
        self.patches += len(images)
        return self.inner.encode_patches(images, **settings)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "features.sqlite")


@pytest.fixture
def files(tmp_path: Path, images: list[np.ndarray]) -> list[Path]:
    paths = []
    for number, image in enumerate(images[:12]):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(image).save(paths[-1])
    return paths


def test_same_answers_and_nothing_twice(load: Any, store: FeatureStore, files: list[Path]) -> None:
    plain = load("clip")
    counting = Counting(plain)
    encoder = CachedEncoder(counting, store)
    wanted = [*files, files[3], files[0]]
    direct = plain.encode_images(wanted)
    for _ in range(2):
        torch.testing.assert_close(encoder.encode_images(wanted, batch_size=5), direct, rtol=0, atol=1e-6)
        assert torch.equal(encoder.encode_images(wanted, batch_size=5), encoder.encode_images(wanted, batch_size=1))
    assert counting.images == 12
    texts = encoder.encode_texts(TEXTS)
    torch.testing.assert_close(texts, plain.encode_texts(TEXTS), rtol=0, atol=1e-6)
    assert torch.equal(encoder.encode_texts([*TEXTS, "new"])[:-1], texts)
    assert sorted(counting.texts) == sorted({*TEXTS, "new"})


def test_a_second_run_decodes_nothing(load: Any, store: FeatureStore, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = load("clip", cache=store).encode_images(files)
    again = load("clip", cache=FeatureStore(store.path))
    monkeypatch.setattr("toolkit.images.open_image", lambda *args, **settings: pytest.fail("an image was decoded"))
    assert torch.equal(again.encode_images(files), first)


def test_content_counts_and_not_the_name(load: Any, store: FeatureStore, files: list[Path], tmp_path: Path) -> None:
    counting = Counting(load("clip"))
    encoder = CachedEncoder(counting, store)
    encoder.encode_images(files[:1])
    copy = tmp_path / "copy.png"
    copy.write_bytes(files[0].read_bytes())
    encoder.encode_images([copy, copy.read_bytes()])
    assert counting.images == 1
    before = encoder.encode_images(files[:1])
    files[0].write_bytes(files[1].read_bytes())
    assert not torch.allclose(encoder.encode_images(files[:1]), before, atol=1e-3)


def test_never_for_another_model_dtype_or_preprocessing(store: FeatureStore, files: list[Path], tmp_path: Path) -> None:
    folder = tiny.tiny_hf_clip(tmp_path / "one")
    load_encoder(f"local:{folder}", cache=store).encode_images(files)
    load_encoder(f"local:{folder}", cache=store).encode_texts(TEXTS)
    load_encoder(f"local:{folder}", cache=store).encode_patches(files[:2])
    other_weights = tiny.tiny_hf_clip(tmp_path / "two", seed=1)
    other_pixels = tiny.tiny_hf_clip(tmp_path / "three")
    edit_json(other_pixels / "preprocessor_config.json", lambda config: config.update(image_mean=[0.1, 0.1, 0.1]))
    rivals: list[tuple[Path, dict[str, Any]]] = [(other_weights, {}), (other_pixels, {}), (folder, {"dtype": "bfloat16"})]
    for place, settings in rivals:
        plain = load_encoder(f"local:{place}", cache=False, **settings)
        remembering = load_encoder(f"local:{place}", cache=store, **settings)
        torch.testing.assert_close(remembering.encode_images(files), plain.encode_images(files), rtol=0, atol=1e-6)
        torch.testing.assert_close(remembering.encode_texts(TEXTS), plain.encode_texts(TEXTS), rtol=0, atol=1e-6)
        torch.testing.assert_close(
            remembering.encode_patches(files[:2]).patches, plain.encode_patches(files[:2]).patches, rtol=0, atol=1e-6
        )


def test_an_image_is_not_a_text_is_not_a_patch(load: Any, store: FeatureStore, files: list[Path]) -> None:
    """A text that spells the content id of an image has a key of its own."""
    encoder = load("clip", cache=store)
    image = encoder.encode_images(files[:1])
    from toolkit.images import FileImage

    assert not torch.allclose(encoder.encode_texts([FileImage(files[0]).content_id()]), image, atol=1e-3)
    assert encoder.encode_patches(files[:1]).patches.shape == (1, 4, 4, 24)


def test_order_and_failures_in_a_stream(load: Any, store: FeatureStore, files: list[Path], tmp_path: Path) -> None:
    plain = load("clip")
    (tmp_path / "text.jpg").write_text("no image")
    encoder = CachedEncoder(plain, store)
    encoder.encode_images([files[1], files[4]])
    mixed = [files[0], tmp_path / "gone.png", files[1], tmp_path / "text.jpg", files[0], files[2], files[4], files[5]]
    batches = list(encoder.iter_images(mixed, batch_size=3))
    positions = [sorted([*batch.indices, *(position for position, _ in batch.failures)]) for batch in batches]
    assert [position for batch in positions for position in batch] == list(range(8))
    failures = dict(failure for batch in batches for failure in batch.failures)
    assert set(failures) == {1, 3}
    assert "gone.png" in failures[1]
    assert "text.jpg" in failures[3]
    for batch in batches:
        for index, row in zip(batch.indices, batch.embeddings, strict=True):
            torch.testing.assert_close(row, plain.encode_images([mixed[index]])[0], rtol=0, atol=1e-5)
    with pytest.raises(ImageError, match=r"gone\.png"):
        encoder.encode_images(mixed)


def test_windows_join_without_a_seam(load: Any, store: FeatureStore, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW", 5)
    plain = load("clip")
    encoder = CachedEncoder(plain, store)
    wanted = [*files, *files[:4]]
    for _ in range(2):
        torch.testing.assert_close(encoder.encode_images(wanted, batch_size=2), plain.encode_images(wanted), rtol=0, atol=1e-5)


def test_patches_are_remembered_with_their_image_embedding(load: Any, store: FeatureStore, files: list[Path]) -> None:
    counting = Counting(load("clip"))
    encoder = CachedEncoder(counting, store)
    first = encoder.encode_patches([files[0], files[1], files[0]], batch_size=2)
    again = encoder.encode_patches([files[0], files[1], files[0]])
    assert torch.equal(first.patches, again.patches)
    assert torch.equal(first.image, again.image)
    assert counting.patches == 2
    torch.testing.assert_close(encoder.encode_images(files[:1]), first.image[:1], rtol=0, atol=1e-6)
    with pytest.raises(ImageError):
        encoder.encode_patches([b"no image"])
    with pytest.raises(UsageError, match="no images"):
        encoder.encode_patches([])


def test_an_interrupted_run_keeps_what_was_encoded(load: Any, store: FeatureStore, files: list[Path]) -> None:
    counting = Counting(load("clip"))
    encoder = CachedEncoder(counting, store)
    stream = encoder.iter_images(files, batch_size=4)
    next(stream)
    stream.close()
    fresh = Counting(load("clip"))
    CachedEncoder(fresh, FeatureStore(store.path)).encode_images(files)
    assert fresh.images == 8


def test_it_is_the_encoder_that_it_wraps(load: Any, store: FeatureStore) -> None:
    plain, encoder = load("clip"), load("clip", cache=store)
    for name in ("name", "fingerprint", "dim", "logit_scale", "image_size"):
        assert getattr(encoder, name) == getattr(plain, name)
    assert encoder.encode_texts([]).shape == (0, 24)
    assert encoder.encode_images([]).shape == (0, 24)
    with pytest.raises(UsageError):
        encoder.encode_texts("a dog")
    with pytest.raises(UsageError):
        encoder.encode_images([b""], batch_size=0)


def test_the_default_store_is_used_by_default(load: Any, files: list[Path]) -> None:
    from toolkit.cache import default_store

    load("clip", cache=True).encode_images(files[:3])
    assert default_store().info()["entries"] == 3
