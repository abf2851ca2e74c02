"""Texts are encoded once, at their own length, and only where that changes nothing."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from tests import tiny
from tests.unit.models.conftest import TEXTS
from toolkit.errors import UsageError
from toolkit.models import load_encoder

CLOSE = {"rtol": 0.0, "atol": 1e-5}
PROMPTS = [f"a photo of a {word} and {number} {'good ' * (number % 17)}" for number, word in enumerate(tiny.WORDS * 4)]


def record(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(texts, positions) of every forward pass of the text tower from now on."""
    shapes: list[tuple[int, int]] = []
    tower = encoder._text.tower
    forward = tower.features

    def spied(tokens: Any) -> Any:
        shapes.append(tuple(next(iter(tokens.values())).shape))
        return forward(tokens)

    monkeypatch.setattr(tower, "features", spied)
    return shapes


@pytest.mark.parametrize("kind", ["clip", "vtde", "open_clip"])
def test_cut_and_full_length_agree(kind: str, load: Any) -> None:
    cut, full = load(kind), load(kind)
    full._text.trim = False
    torch.testing.assert_close(cut.encode_texts(PROMPTS, batch_size=16), full.encode_texts(PROMPTS, batch_size=16), **CLOSE)
    assert cut._text.trim is True


@pytest.mark.parametrize("kind", ["clip", "open_clip"])
def test_buckets_run_at_their_own_longest_length(kind: str, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load(kind)
    encoder.encode_texts(PROMPTS[:9])  # the guard has looked
    shapes = record(encoder, monkeypatch)
    encoder.encode_texts(PROMPTS, batch_size=16)
    unique = len(set(PROMPTS))
    assert sum(count for count, _ in shapes) == unique
    lengths = [length for _, length in shapes]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1] < 77
    assert sum(count * length for count, length in shapes) < 0.4 * 77 * unique


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_towers_that_read_padding_run_at_full_length(kind: str, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load(kind)
    shapes = record(encoder, monkeypatch)
    encoder.encode_texts(PROMPTS[:20], batch_size=8)
    assert {length for _, length in shapes} == {64}


def test_equal_texts_are_encoded_once_and_the_order_is_kept(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load("clip")
    alone = torch.cat([encoder.encode_texts([text]) for text in TEXTS])
    shapes = record(encoder, monkeypatch)
    torch.testing.assert_close(encoder.encode_texts(TEXTS * 3), alone.repeat(3, 1), **CLOSE)
    assert sum(count for count, _ in shapes) == len(set(TEXTS))


def test_the_guard_falls_back_to_full_length(load: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A tower that claims to be causal and is not: its cut embeddings would be wrong."""
    encoder, honest = load("siglip"), load("siglip")
    tower = encoder._text.tower
    monkeypatch.setattr(tower, "lengths", lambda tokens: (tokens["input_ids"] != 0).sum(dim=-1))
    with caplog.at_level(logging.WARNING):
        ours = encoder.encode_texts(PROMPTS[:12])
    assert encoder._text.trim is False
    assert caplog.text.count("full length") == 1
    torch.testing.assert_close(ours, honest.encode_texts(PROMPTS[:12]), **CLOSE)


@pytest.mark.parametrize("kind", ["clip", "siglip", "vtde", "open_clip", "simple"])
def test_too_long_texts_are_counted_in_one_warning(kind: str, load: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    if kind == "simple":
        config = tiny.open_clip_config(hf_tokenizer_name=None, vocab_size=49408, pool_type="argmax")
        encoder: Any = load_encoder(f"local:{tiny.tiny_open_clip(tmp_path, model_cfg=config)}", cache=False)
    else:
        encoder = load(kind)
    context, extra = encoder._text.tower.context, 1 if kind == "siglip" else 2
    fits, too_long = "dog " * (context - extra), "dog " * (context - extra + 1)
    with caplog.at_level(logging.WARNING):
        encoder.encode_texts(["a dog", fits, ""])
        assert caplog.text == ""
        cut = encoder.encode_texts(["a dog", too_long, too_long, "cat " * 500])
    assert [entry.getMessage() for entry in caplog.records] == ["2 of 3 texts are longer than the model's context and lost their end"]
    torch.testing.assert_close(cut[1], encoder.encode_texts([fits])[0], **CLOSE)


def test_old_configurations_pool_at_the_largest_id(tmp_path: Any) -> None:
    """eos_token_id 2 is what CLIP's configurations said before 2023; the library then takes the largest id of a text."""
    import json

    folder = tiny.tiny_hf_clip(tmp_path)
    new: Any = load_encoder(f"local:{folder}", cache=False)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    old: Any = load_encoder(f"local:{folder}", cache=False)
    torch.testing.assert_close(old.encode_texts(PROMPTS), new.encode_texts(PROMPTS), **CLOSE)
    assert old._text.trim is True


def test_calls_that_make_no_sense(load: Any) -> None:
    encoder = load("clip")
    with pytest.raises(UsageError, match="one string"):
        encoder.encode_texts("a dog")
    with pytest.raises(UsageError, match="int"):
        encoder.encode_texts(["a dog", 3])
    with pytest.raises(UsageError, match="batch_size=0"):
        encoder.encode_texts(["a dog"], batch_size=0)
    with pytest.raises(UsageError, match="not valid Unicode"):
        encoder.encode_texts(["half a \ud83d"])
