"""The second stage of pocket-clip: regions lie where damage lies, texts are true of their rows, losses are what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evals.bazaar.captions import DAMAGE_WORDS, DAMAGED, PERFECT
from evals.bazaar.streams import Stream
from recipes.pocket_clip import model, regions


def test_cover_is_the_share_of_each_patch() -> None:
    mask = np.zeros((96, 96), dtype=bool)
    mask[8:16, 16:20] = True  # half of patch (1, 2)
    mask[0, 0] = True  # a 64th of patch (0, 0): too little
    assert {int(k): int(v) for k, v in enumerate(regions.cover(mask)) if v} == {14: 127}


def test_twins_differ_in_the_damaged_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "BLOCK", 6)
    photos, rows = regions.twin_block(0)
    assert len(photos) == len(rows) == 12
    for damaged, sound, rows_damaged, rows_sound in zip(photos[::2], photos[1::2], rows[::2], rows[1::2], strict=True):
        change = np.abs(damaged.astype(int) - sound).sum(axis=2).reshape(12, 8, 12, 8).mean(axis=(1, 3)).ravel()
        places = [row.weights for row in rows_damaged if row.weights is not None]
        assert len(places) == len(rows_sound) - 1 >= 1
        inside = np.max(places, axis=0) > 0
        assert change[inside].mean() > 3 * change[~inside].mean()
        for row in (*rows_damaged, *rows_sound):
            assert all(claims <= row.facts for _, claims in row.texts)
        assert all("undamaged" in row.facts for row in rows_sound)
        assert all("damaged" in row.facts and "undamaged" not in row.facts for row in rows_damaged)


def test_probe_texts_name_every_condition_once() -> None:
    for noun in (None, "mug"):
        texts = regions.probe_texts(noun, Stream(0, 1))
        assert len(texts) == len(DAMAGE_WORDS) + 2
        assert any(word in texts[0] for word in PERFECT)
        assert any(word in texts[-1] for word in DAMAGED)
        for text, words in zip(texts[1:-1], DAMAGE_WORDS.values(), strict=True):
            assert any(word in text for word in words)
            assert noun is None or noun in text


def test_row_embeddings_are_photos_or_weighted_patches() -> None:
    tokens = torch.randn(3, 1 + 4, 8)
    weights = torch.tensor([[0.0, 0, 0, 0], [0, 1, 0, 3], [0.5, 0, 0, 0]])
    rows = model.row_embeddings(tokens, torch.tensor([2, 0, 1]), weights)
    unit = torch.nn.functional.normalize(tokens[:, 1:], dim=-1)
    torch.testing.assert_close(rows, torch.stack([tokens[2, 0], 0.25 * unit[0, 1] + 0.75 * unit[0, 3], unit[1, 0]]))


def test_probe_loss_is_small_for_a_perfect_probe_and_counts_rare_errors() -> None:
    texts = torch.nn.functional.normalize(torch.eye(5)[None].repeat(3, 1, 1), dim=-1)  # undamaged, three kinds, damaged
    kind = torch.tensor([[0, 0, 2, 0], [0, 0, 0, 0]])
    tokens = torch.zeros(2, 5, 5)
    damaged = texts[0, 2] + texts[0, 4] - texts[0, 1] - texts[0, 3]
    tokens[:, 1:] = torch.where(kind[..., None] == 2, damaged, texts[0, 0])
    tokens[:, 0] = torch.stack([damaged, texts[0, 0]])
    perfect = model.probe_loss(tokens, kind, torch.tensor([0, 1]), texts, torch.tensor(50.0))
    missed = tokens.clone()
    missed[0, 3] = texts[0, 0]
    assert perfect < 1e-3
    assert model.probe_loss(missed, kind, torch.tensor([0, 1]), texts, torch.tensor(50.0)) > 10


def test_multi_positive_loss_is_zero_at_the_uniform_truth_and_skips_rows_without_truth() -> None:
    images, texts = torch.eye(3), torch.eye(3)
    positive = torch.eye(3, dtype=torch.bool)
    assert model.multi_positive_loss(images, texts, positive, torch.tensor(100.0)) < 1e-6
    positive[2] = False
    assert torch.isfinite(model.multi_positive_loss(images, texts, positive, torch.tensor(100.0)))
