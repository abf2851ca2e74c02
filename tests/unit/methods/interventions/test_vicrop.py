"""ViCrop against eager attention of a model that is run prompt by prompt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny_mllm, tiny_mllm_folders
from toolkit.errors import Refused, UsageError
from toolkit.images import as_source
from toolkit.methods.interventions.cropped import CroppedImage
from toolkit.methods.interventions.vicrop import GENERIC, Vicrop, _check_two_images, relative_attention
from toolkit.methods.interventions.windows import best_window
from toolkit.models.mllm import Mllm, wrap_answerer
from toolkit.types import Question

LAYER = 3


def picture(seed: int, width: int = 96, height: int = 96) -> Any:
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return as_source(np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST)))


@pytest.fixture(scope="module")
def answerer() -> Mllm:
    return wrap_answerer(tiny_mllm.build("llava"), tiny_mllm_folders.processor("llava"), "tiny")


QUESTIONS = [
    Question("what colour is the thing", (picture(1),), "a"),
    Question("how many are there", (picture(1),), "b"),
    Question("is the thing red", (picture(2, 144, 96),), "c"),
]


def eager_map(answerer: Mllm, question: Question) -> np.ndarray:
    model: Any = answerer.module
    inputs = answerer.inputs([question])
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attention = model(**inputs, output_attentions=True).attentions[LAYER]
    model.set_attn_implementation("sdpa")
    row: np.ndarray = attention[0, :, -1, inputs["input_ids"][0] == tiny_mllm.IMAGE].mean(0).reshape(6, 6).numpy()
    return row


def test_boxes_are_those_of_eager_attention(answerer: Mllm) -> None:
    method = Vicrop(layer=LAYER, window_px=24)
    answers = method.answer(answerer, QUESTIONS, max_new_tokens=3, batch_size=3)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        image = question.images[0].load()
        heat = eager_map(answerer, question) / eager_map(answerer, Question(GENERIC, question.images))
        # The processor shows the middle square of a wide picture, here 96 of 144 pixels.
        window = best_window(torch.from_numpy(heat), (96, 96), 24)
        offset = (image.width - 96) // 2
        left, top, right, bottom = window.box
        expected = ((left + offset) / image.width, top / 96, (right + offset) / image.width, bottom / 96)
        decision = answer.info["decision"]
        assert decision["box"] == pytest.approx(expected, abs=1e-5)
        assert decision["size"] == window.size
        assert decision["layer"] == LAYER
        crop = CroppedImage(question.images[0], tuple(decision["box"]))
        assert crop.load().size == (round(right - left), bottom - top)
        direct = answerer.answer([Question(question.text, (question.images[0], crop))], max_new_tokens=3)[0]
        assert (answer.text, answer.tokens) == (direct.text, direct.tokens)


def test_the_first_passes_stop_behind_the_layer_and_share_pictures(answerer: Mllm) -> None:
    """Two questions about one picture need one generic map; nothing behind the layer is computed for maps."""
    calls: dict[int, list[int]] = {LAYER: [], LAYER + 1: []}
    blocks: Any = answerer.module.get_decoder().layers  # type: ignore[operator]
    handles = [
        blocks[layer].register_forward_pre_hook(lambda module, args, layer=layer: calls[layer].append(args[0].shape[0])) for layer in calls
    ]
    method = Vicrop(layer=LAYER, unit="image")
    list(method._look(answerer, QUESTIONS, LAYER, 8))
    for handle in handles:
        handle.remove()
    assert calls == {LAYER: [2, 3], LAYER + 1: []}


def test_maps_are_kept_in_the_form_that_is_drawn(answerer: Mllm) -> None:
    from toolkit.heatmaps import has_maps, maps_png

    answer = Vicrop(layer=LAYER, unit="image", keep_maps=True).answer(answerer, QUESTIONS[:1], max_new_tokens=2)[0]
    decision = answer.info["decision"]
    (view,) = decision["maps"]
    np.testing.assert_allclose(view["late"], eager_map(answerer, QUESTIONS[0]).reshape(-1), rtol=1e-4)
    assert has_maps(decision)
    assert maps_png(QUESTIONS[0].images[0].load(), decision).startswith(b"\x89PNG")


def test_a_small_picture_is_fed_whole_and_the_record_says_so(answerer: Mllm) -> None:
    answer = Vicrop(layer=LAYER).answer(answerer, [Question("what is it", (picture(3, 48, 48),))], max_new_tokens=2)[0]
    decision = answer.info["decision"]
    assert decision["box"] == [0, 0, 1, 1]
    assert decision["size"] is None
    assert "covers the image" in decision["notes"][0]


def test_relative_attention() -> None:
    np.testing.assert_allclose(relative_attention(np.array([[0.2, 0.1]]), np.array([[0.1, 0.2]])), [[2, 0.5]])
    assert relative_attention(np.zeros((1, 1)), np.zeros((1, 1))) == 1
    assert np.isfinite(relative_attention(np.ones((1, 1)), np.zeros((1, 1)))).all()


class TestRefusals:
    def test_a_plain_model(self) -> None:
        with pytest.raises(Refused, match="twice"):
            Vicrop(layer=1).attach(tiny_mllm.build("llava"))

    def test_no_published_layer(self, answerer: Mllm) -> None:
        with pytest.raises(Refused, match="no layer is published for vicrop on a llava of 6 layers"):
            Vicrop().answer(answerer, QUESTIONS)
        assert Vicrop(layer="scaled").layer_of(answerer.module) == 3
        seven_b = SimpleNamespace(config=SimpleNamespace(model_type="llava"))
        with pytest.raises(UsageError, match="no layer 6"):
            Vicrop(layer=6).layer_of(answerer.module)
        assert seven_b is not None

    @pytest.mark.parametrize("images", [0, 2])
    def test_one_image_a_question(self, images: int, answerer: Mllm) -> None:
        with pytest.raises(Refused, match=f"'x' has {images}"):
            Vicrop(layer=1).answer(answerer, [Question("what is it", (picture(1),) * images, "x")])

    def test_a_model_of_any_size_needs_a_window(self) -> None:
        model = tiny_mllm.build("qwen2_vl")
        any_size = wrap_answerer(model, tiny_mllm_folders.processor("qwen2_vl"), "qwen")
        assert any_size.image_size is None
        with pytest.raises(Refused, match="input side") as refusal:
            Vicrop(layer=2).answer(any_size, QUESTIONS[:1])
        assert "window_px" in str(refusal.value.hint)
        answer = Vicrop(layer=2, window_px=32).answer(any_size, QUESTIONS[:1], max_new_tokens=2)[0]
        assert answer.error is None
        assert answer.info["decision"]["size"] is not None

    def test_processors_for_one_image(self) -> None:
        config = SimpleNamespace(image_token_id=tiny_mllm.IMAGE)

        def first_only(questions: Any) -> Any:
            return {"input_ids": torch.tensor([[5, tiny_mllm.IMAGE]])}

        def fails(questions: Any) -> Any:
            if len(questions[0].images) > 1:
                raise ValueError("one image only")
            return first_only(questions)

        for inputs, words in ((first_only, "would be lost"), (fails, "one image only")):
            answerer: Any = SimpleNamespace(inputs=inputs, module=SimpleNamespace(config=config))
            with pytest.raises(Refused, match=words):
                _check_two_images(answerer, QUESTIONS[:1])

    def test_options(self) -> None:
        wrongs: list[dict[str, Any]] = [
            {"layer": "deep"}, {"generic_prompt": " "}, {"unit": "px"}, {"sizes": []}, {"unit": "image", "sizes": [2]}, {"window_px": 0},
        ]  # fmt: skip
        for wrong in wrongs:
            with pytest.raises(UsageError):
                Vicrop(**wrong)
