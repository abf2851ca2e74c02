"""PAI against the published arithmetic in eager attention, and its contrast against a decoding loop with two prompts."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny_mllm
from tests.unit.methods.interventions.test_vcd import generate, longer, model_of, without_images
from toolkit.errors import Refused, UsageError
from toolkit.methods.interventions.decoding import contrasted
from toolkit.methods.interventions.pai import Pai, amplification, text_only
from toolkit.patching import patch

IMAGE, PAD = tiny_mllm.IMAGE, tiny_mllm.PAD


def test_amplification_is_never_negative() -> None:
    logits = torch.tensor([2.0, -1.0, 0.0])
    assert amplification(logits, 0.5).tolist() == [1.0, 0.5, 0.0]
    assert (logits + amplification(logits, 0.5)).tolist() == [3.0, -0.5, 0.0]


@given(st.lists(st.lists(st.sampled_from([5, 6, 7, IMAGE]), min_size=1, max_size=8), min_size=1, max_size=4), st.booleans())
@settings(max_examples=80, deadline=None)
def test_text_only_is_the_prompt_without_its_image(rows: list[list[int]], left: bool) -> None:
    longest = max(map(len, rows))
    ids, mask = torch.full((len(rows), longest), PAD), torch.zeros(len(rows), longest, dtype=torch.bool)
    for number, row in enumerate(rows):
        place = slice(longest - len(row), None) if left else slice(0, len(row))
        ids[number, place], mask[number, place] = torch.tensor(row), True
    texts, real, places = text_only(ids, mask & (ids != IMAGE))
    for number, row in enumerate(rows):
        kept = [token for token in row if token != IMAGE]
        assert texts[number][real[number]].tolist() == kept
        assert real[number].tolist() == [False] * (texts.shape[1] - len(kept)) + [True] * len(kept)
        for position in range(longest):
            place = int(places[number, position])
            assert (place >= 0) == bool(mask[number, position] and ids[number, position] != IMAGE)
            assert place < 0 or texts[number, place] == ids[number, position]


def published(monkeypatch: pytest.MonkeyPatch, model: Any, span: slice, alpha: float, layers: range) -> None:
    """The rule of the source within the eager attention of Llama: one contiguous span, the last query row, all layers of a range."""
    modelling = sys.modules[type(model.get_decoder().layers[0].self_attn).__module__]

    def attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, **kwargs: Any) -> Any:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        weights = query @ key.transpose(2, 3) * scaling
        if attention_mask is not None:
            weights = weights + attention_mask[..., : key.shape[-2]]
        if module.layer_idx in layers:
            weights[:, :, -1, span] = weights[:, :, -1, span].abs() * alpha + weights[:, :, -1, span]
        return (weights.softmax(-1) @ value).transpose(1, 2).contiguous(), None

    monkeypatch.setattr(modelling, "eager_attention_forward", attend)


def test_generate_is_the_published_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = model_of("llava")
    row = {key: value[:1] for key, value in inputs.items()}
    image = (row["input_ids"][0] == IMAGE).nonzero().flatten()
    span = slice(int(image[0]), int(image[-1]) + 1)
    plain = generate(model, row)
    with patch(model, Pai(alpha=1.0, start_layer=1, end_layer=5)), torch.no_grad():
        ours, tokens = model(**row, logits_to_keep=1).logits, generate(model, row)
    assert tokens != plain
    model.set_attn_implementation("eager")
    published(monkeypatch, model, span, 1.0, range(1, 5))
    with torch.no_grad():
        assert torch.allclose(ours, model(**row, logits_to_keep=1).logits, atol=1e-4)
    assert generate(model, row) == tokens


def by_hand(model: Any, inputs: dict[str, torch.Tensor], gamma: float, beta: float, tokens: int = 3) -> list[list[int]]:
    """Without amplification: the model with the image against the model with a prompt of which the image was never a part."""
    texts, mask, _ = text_only(inputs["input_ids"], inputs["attention_mask"].bool() & (inputs["input_ids"] != IMAGE))
    bare, found = {"input_ids": texts, "attention_mask": mask.long()}, []
    with torch.no_grad():
        for _ in range(tokens):
            seen = model(**inputs, use_cache=False).logits[:, -1].log_softmax(-1)
            positions = (bare["attention_mask"].cumsum(-1) - 1).clamp(min=0)
            blind = model(**bare, position_ids=positions, use_cache=False).logits[:, -1].log_softmax(-1)
            token = contrasted(seen, blind, gamma - 1, beta).argmax(-1)
            found.append(token)
            inputs, bare = longer(inputs, token), longer(bare, token)
    return torch.stack(found, dim=1).tolist()


@pytest.mark.parametrize("family", ["llava", "llava_next", "qwen2_vl"])
def test_contrast_with_the_text_is_the_loop_by_hand(family: str) -> None:
    model, inputs = model_of(family)
    expected = by_hand(model, inputs, 2.5, 0.05)
    with patch(model, Pai(alpha=0, gamma=2.5, beta=0.05)):
        assert generate(model, inputs, 3) == expected
        assert generate(model, inputs, 3, cache_implementation="static") == expected
    assert expected != generate(model, inputs, 3)


def test_beams_of_the_contrast() -> None:
    model, inputs = model_of("llava")
    method = Pai(alpha=0, gamma=2.5, beta=0.05)
    with patch(model, method):
        both = generate(model, inputs, 3, num_beams=3)
        one = generate(model, {key: value[:1] for key, value in inputs.items()}, 3, num_beams=3)
    assert both[0] == one[0]


def test_every_text_token_of_a_prompt_has_its_contrast() -> None:
    model, inputs = model_of("llava")
    row = {key: value[:1] for key, value in inputs.items()}
    length = row["input_ids"].shape[1]
    with patch(model, Pai(alpha=0, gamma=2.0, beta=0.0)), torch.no_grad():
        whole = model(**row).logits
        for end in (length - 2, length):
            part = {key: value[:, :end] if key != "pixel_values" else value for key, value in row.items()}
            assert torch.allclose(model(**part, logits_to_keep=1).logits[:, -1], whole[:, end - 1], atol=1e-4)
    with torch.no_grad():
        plain = model(**row).logits
    is_image = row["input_ids"][0] == IMAGE
    assert torch.equal(whole[0, is_image], plain[0, is_image])
    assert not torch.allclose(whole[0, ~is_image], plain[0, ~is_image])


class TestRefusals:
    def test_no_image(self) -> None:
        model, inputs = model_of("llava")
        text = without_images(inputs)
        plain = generate(model, text)
        with patch(model, Pai()), pytest.raises(Refused, match="no image"):
            generate(model, text)
        with patch(model, Pai(on_no_image="skip")) as handle:
            assert generate(model, text) == plain
        assert handle.decisions == [{"skipped": "no image"}] * 2

    def test_cross_attention(self) -> None:
        for options in ({}, {"alpha": 0, "gamma": 2}):
            with pytest.raises(Refused, match="cross-attention"):
                patch(tiny_mllm.build("mllama"), Pai(**options))

    def test_layers_and_options(self) -> None:
        model = tiny_mllm.build("llava")
        for wrong in ({"start_layer": 6}, {"end_layer": 7}):
            with pytest.raises(UsageError, match="6"):
                patch(model, Pai(**wrong))
        for wrong in (
            {"alpha": -1},
            {"gamma": 0.5},
            {"beta": 2},
            {"start_layer": -1},
            {"start_layer": 3, "end_layer": 3},
            {"on_no_image": 1},
        ):
            with pytest.raises(UsageError):
                Pai(**wrong)
