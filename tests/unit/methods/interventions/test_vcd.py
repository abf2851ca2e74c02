"""VCD against a decoding loop without hooks and without a cache: two full forward passes for every token."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests import tiny_mllm
from toolkit.errors import Refused, UsageError
from toolkit.methods.interventions.decoding import contrasted
from toolkit.methods.interventions.diffusion import diffused, noise_like
from toolkit.methods.interventions.vcd import Vcd
from toolkit.patching import patch

STRONG = {"alpha": 1.0, "beta": 0.05, "noise_step": 999}


def model_of(family: str, images: int = 1) -> tuple[Any, dict[str, torch.Tensor]]:
    model = tiny_mllm.build(family)
    return model, tiny_mllm.inputs(family, model, batch=2, images=images)


def generate(model: Any, inputs: dict[str, torch.Tensor], tokens: int = 4, **kwargs: Any) -> list[list[int]]:
    made = model.generate(**inputs, max_new_tokens=tokens, do_sample=False, pad_token_id=0, eos_token_id=-1, **kwargs)
    return made[:, -tokens:].tolist()


def longer(inputs: dict[str, torch.Tensor], token: torch.Tensor) -> dict[str, torch.Tensor]:
    made = dict(inputs)
    for key, value in inputs.items():
        if value.shape == inputs["input_ids"].shape:
            more = {"input_ids": token, "attention_mask": torch.ones_like(token)}.get(key, torch.zeros_like(token))
            made[key] = torch.cat([value, more[:, None].to(value.dtype)], dim=1)
    return made


def by_hand(model: Any, inputs: dict[str, torch.Tensor], tokens: int = 4, frames: int = 1) -> list[list[int]]:
    noise = noise_like(inputs["pixel_values"], 42, grids=inputs.get("image_grid_thw"), frames=frames)
    noised = {**inputs, "pixel_values": diffused(inputs["pixel_values"], noise, 999)}
    found = []
    with torch.no_grad():
        for _ in range(tokens):
            clear, dark = (model(**each, use_cache=False).logits[:, -1] for each in (inputs, noised))
            token = contrasted(clear, dark, STRONG["alpha"], STRONG["beta"]).argmax(-1)
            found.append(token)
            inputs, noised = longer(inputs, token), longer(noised, token)
    return torch.stack(found, dim=1).tolist()


@pytest.mark.parametrize(("family", "frames"), [("llava", 1), ("llava_next", 1), ("qwen2_vl", 2), ("smolvlm", 1)])
def test_generate_is_the_loop_by_hand(family: str, frames: int) -> None:
    model, inputs = model_of(family)
    expected = by_hand(model, inputs, frames=frames)
    assert expected != generate(model, inputs)
    with patch(model, Vcd(**STRONG)):
        assert generate(model, inputs) == expected
        assert generate(model, inputs, use_cache=False) == expected
        assert generate(model, inputs, cache_implementation="static") == expected


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_beams_follow_their_rows(family: str) -> None:
    """With a cache beams swap rows; without one there is nothing to swap, and the answers are the same."""
    model, inputs = model_of(family, images=2)
    with patch(model, Vcd(**STRONG)) as handle:
        cached = generate(model, inputs, num_beams=3)
        assert len(handle.drain()) == 6
        assert cached == generate(model, inputs, num_beams=3, use_cache=False)
        several = model.generate(**inputs, max_new_tokens=2, do_sample=True, num_return_sequences=2, pad_token_id=0)
        assert several.shape[0] == 4


def test_the_second_cache_dies_with_the_call() -> None:
    model, inputs = model_of("llava")
    attachment = Vcd(**STRONG).attach(model)
    with attachment:
        generate(model, inputs, num_beams=2)
        assert len(attachment._seconds) == 0  # at once, not when the garbage collector comes by


def test_a_cache_of_the_model_itself_is_continued() -> None:
    """A forward pass that makes its own cache, and a step that goes on from it."""
    model, inputs = model_of("llava")
    with patch(model, Vcd(**STRONG)), torch.no_grad():
        expected = generate(model, inputs, 2)
        first = model(**inputs, position_ids=(inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0), use_cache=True)
        token = first.logits[:, -1].argmax(-1, keepdim=True)
        mask = torch.cat([inputs["attention_mask"], torch.ones_like(token)], dim=1)
        positions = (mask.cumsum(-1) - 1)[:, -1:]
        second = model(input_ids=token, attention_mask=mask, position_ids=positions, past_key_values=first.past_key_values)
        assert torch.cat([token, second.logits[:, -1].argmax(-1, keepdim=True)], dim=1).tolist() == expected


def test_neutral_options_run_the_model_once() -> None:
    model, inputs = model_of("llava")
    calls: list[int] = []
    handle = model.get_decoder().layers[0].register_forward_hook(lambda *args: calls.append(1))
    counts = []
    for options in ({"alpha": 0, "beta": 0}, STRONG):
        calls.clear()
        with patch(model, Vcd(**options)):
            generate(model, inputs)
        counts.append(len(calls))
    handle.remove()
    assert counts == [4, 8]


def test_noise_of_another_seed_gives_other_logits() -> None:
    model, inputs = model_of("llava")
    with torch.no_grad():
        found = []
        for seed in (1, 1, 2):
            with patch(model, Vcd(**STRONG, seed=seed)):
                found.append(model(**inputs).logits)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def without_images(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    ids = torch.where(inputs["input_ids"] == tiny_mllm.IMAGE, 50, inputs["input_ids"])
    return {"input_ids": ids, "attention_mask": inputs["attention_mask"]}


class TestRefusals:
    def test_no_image(self) -> None:
        model, inputs = model_of("llava")
        text = without_images(inputs)
        plain = generate(model, text)
        with patch(model, Vcd()), pytest.raises(Refused, match="has none") as refusal:
            generate(model, text)
        assert refusal.value.hint is not None
        assert "skip" in refusal.value.hint
        with patch(model, Vcd(on_no_image="skip")) as handle:
            assert generate(model, text) == plain
        assert handle.decisions == [{"skipped": "no image"}] * 2

    def test_features_from_elsewhere(self) -> None:
        model, inputs = model_of("llava")
        with torch.no_grad():
            features = model.base_model.get_image_features(inputs.pop("pixel_values"), return_dict=True)
        with patch(model, Vcd()), pytest.raises(Refused, match="encoded before"):
            generate(model, {**inputs, "mm_encoder_outputs": {"image": features}})

    def test_embeddings_alone(self) -> None:
        model, inputs = model_of("llava")
        embeds = model.get_input_embeddings()(inputs["input_ids"])
        with patch(model, Vcd()), pytest.raises(Refused, match="embeddings"):
            model.generate(inputs_embeds=embeds, attention_mask=inputs["attention_mask"], max_new_tokens=2)

    def test_a_cache_that_was_filled_before(self) -> None:
        model, inputs = model_of("llava")
        with torch.no_grad():
            cache = model(**inputs, use_cache=True).past_key_values
            with patch(model, Vcd()), pytest.raises(Refused, match="filled before"):
                model(input_ids=torch.tensor([[50], [50]]), past_key_values=cache)

    def test_several_tokens_at_once(self) -> None:
        model, inputs = model_of("llava")
        row = {key: value[:1] for key, value in inputs.items()}
        with patch(model, Vcd()), pytest.raises(Refused, match="token by token"):
            generate(model, row, 8, prompt_lookup_num_tokens=2)

    def test_losses_and_gradients(self) -> None:
        model, inputs = model_of("llava")
        with patch(model, Vcd()), pytest.raises(Refused, match="loss"):
            model(**inputs, labels=inputs["input_ids"])
        model.get_output_embeddings().weight.requires_grad_(True)
        with patch(model, Vcd()), pytest.raises(Refused, match="gradients"):
            model(**inputs)

    def test_options(self) -> None:
        for wrong in ({"beta": 2}, {"alpha": -1}, {"noise_step": 1000}, {"seed": -1}, {"on_no_image": "x"}):
            with pytest.raises(UsageError):
                Vcd(**wrong)
        with pytest.raises(UsageError, match="alfa"):
            Vcd(alfa=1)

    def test_instructblip(self) -> None:
        with pytest.raises(Refused, match="outside"):
            patch(tiny_mllm.build("instructblip"), Vcd())
