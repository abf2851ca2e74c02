"""Two passes through an answerer: the region that gained attention is shown again, and what cannot be done is refused first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny_mllm as tiny
from toolkit.errors import DataError, ImageError, Refused
from toolkit.files import atomic_write_json
from toolkit.heatmaps import has_maps, maps_png
from toolkit.hooks import HookSession
from toolkit.images import ArrayImage, FileImage
from toolkit.methods.interventions import contrastive_attention_passes as passes
from toolkit.methods.interventions.contrastive_attention import ContrastiveAttention
from toolkit.methods.interventions.cropped import CroppedImage, placed, visible_box
from toolkit.models.registry import load_answerer
from toolkit.regions import bbox_region
from toolkit.types import Answer, AnswerProblem, Question, Sample

LAYERS: dict[str, Any] = {"candidates": [0, 1, 2], "late": 3, "review": 4, "layer_base": 0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: tiny.write(family, root / family) for family in ("llava", "llava_next", "qwen2_5_vl", "idefics3", "internvl")}


@pytest.fixture(scope="module")
def llava(folders: dict[str, Path]) -> Any:
    return load_answerer(f"local:{folders['llava']}", device="cpu")


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> ArrayImage:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return ArrayImage(pixels, f"picture {seed}")


def questions(count: int) -> list[Question]:
    words = ["what colour is the thing", "is the thing red", "how many are there", "yes or no"]
    return [Question(words[number % 4], (picture(number),), str(number)) for number in range(count)]


def method(**options: Any) -> ContrastiveAttention:
    return ContrastiveAttention(**{**LAYERS, **options})


class Spy:
    """An answerer that keeps what it is asked."""

    def __init__(self, answerer: Any) -> None:
        self._answerer = answerer
        self.asked: list[Question] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._answerer, name)

    def answer(self, questions: Sequence[Question], **settings: Any) -> list[Answer]:
        self.asked += questions
        return self._answerer.answer(questions, **settings)  # type: ignore[no-any-return]


def test_the_crop_stands_behind_its_image_and_shows_the_region_of_the_maps(llava: Any) -> None:
    spy, asked = Spy(llava), questions(3)
    answers = method(mode="crop", keep_maps=True).answer(spy, asked, max_new_tokens=4, batch_size=2)
    assert [answer.error for answer in answers] == [None] * 3
    for question, given, answer in zip(asked, spy.asked, answers, strict=True):
        decision = answer.info["decision"]
        json.dumps(decision)
        original, crop = given.images
        assert original is question.images[0]
        assert isinstance(crop, CroppedImage)
        assert list(crop.box) == pytest.approx(decision["crop"]["box"], abs=1e-6)
        (view,) = decision["maps"]
        heat = np.asarray(view["contrast"]).reshape(view["grid"])
        assert heat.min() < 0 < heat.max()
        expected = placed(bbox_region(heat), visible_box(llava.processor, (64, 48)))
        assert list(crop.box) == pytest.approx([min(max(side, 0), 1) for side in expected], abs=1e-5)
        assert maps_png(question.images[0].load(), decision)[:4] == b"\x89PNG"
    plain = llava.answer(asked, max_new_tokens=4)
    assert [answer.info["prompt_tokens"] for answer in answers] == [answer.info["prompt_tokens"] + 36 + 1 for answer in plain]


def test_the_first_pass_stops_behind_the_late_layer_and_computes_no_logits(llava: Any) -> None:
    called: list[int | str] = []
    with HookSession(llava.module) as hooks:
        for layer in range(tiny.LAYERS):
            hooks.before(f"lm.block:{layer}", lambda args, kwargs, layer=layer: called.append(layer))
        hooks.before("lm.head", lambda args, kwargs: called.append("head"))
        found = list(passes.look(method(mode="crop"), llava, questions(3), batch_size=2))
    assert called == [0, 1, 2, 3] * 2
    assert all(look.crop is not None for look in found)


def test_a_question_is_cropped_alone_as_in_a_batch(llava: Any) -> None:
    asked = questions(4)
    together = list(passes.look(method(mode="crop"), llava, asked, batch_size=4))
    for question, look in zip(asked, together, strict=True):
        (alone,) = passes.look(method(mode="crop"), llava, [question], batch_size=1)
        assert alone.crop == look.crop
        assert alone.record is not None
        assert look.record is not None
        assert alone.record["i_star"] == look.record["i_star"]


def test_of_several_images_the_one_that_gained_most_is_cropped(llava: Any) -> None:
    spy = Spy(llava)
    question = Question("what is the thing", (picture(1), picture(2, (40, 80))), "two")
    (answer,) = method(mode="crop", keep_maps=True).answer(spy, [question], max_new_tokens=2)
    decision = answer.info["decision"]
    gains = [np.clip(view["contrast"], 0, None).sum() for view in decision["maps"]]
    chosen = int(np.argmax(gains))
    assert decision["crop"]["image"] == chosen
    assert [isinstance(image, CroppedImage) for image in spy.asked[0].images] == (
        [False, True, False] if chosen == 0 else [False, False, True]
    )
    boxes = [view["box"] for view in decision["maps"]]
    assert boxes[0] == pytest.approx([0.125, 0, 0.875, 1])  # the middle square of 64 x 48
    assert boxes[1] == pytest.approx([0, 0.25, 1, 0.75])  # and of 40 x 80


def test_a_broken_image_and_an_endless_prompt_are_errors_and_the_others_go_on(llava: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n rest")
    asked = questions(4)
    asked[1] = Question("what is it", (FileImage(broken),), "broken")
    asked[2] = Question("word " * 5000, asked[2].images, "long")
    for options in ({"mode": "crop"}, {"query": "first_generated"}, {}):
        answers = method(**options).answer(llava, asked, max_new_tokens=2)
        assert [answer.error is None for answer in answers] == [True, False, False, True], options
        assert "broken" in (answers[1].error or "")
        assert "decision" in answers[0].info
    assert passes._loaded(asked[1]) is None
    with pytest.raises(ImageError):
        CroppedImage(FileImage(broken), (0, 0, 1, 1)).load()


def test_memory_that_runs_out_in_the_first_pass_halves_the_batch(llava: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, decisions = [], passes._decisions

    def narrow(method: Any, layers: Any, answerer: Any, questions: Sequence[Question]) -> Any:
        sizes.append(len(questions))
        if len(questions) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return decisions(method, layers, answerer, questions)

    monkeypatch.setattr(passes, "_decisions", narrow)
    found = list(passes.look(method(mode="crop"), llava, questions(3), batch_size=4))
    assert [look.crop is not None for look in found] == [True] * 3
    assert sizes == [3, 1, 1, 1]


def test_the_first_generated_token_asks_and_the_mask_is_that_of_its_row(llava: Any) -> None:
    asked = questions(2)
    answers = method(query="first_generated", rho=0.5, lam=0.0).answer(llava, asked, max_new_tokens=3)
    looked = method(query="first_generated", mode="maps", rho=0.5, contrast="abs").answer(llava, asked, max_new_tokens=3)
    prompted = method(rho=0.5, lam=0.0).answer(llava, asked, max_new_tokens=3)
    for question, masked, maps, prompt in zip(asked, answers, looked, prompted, strict=True):
        decision = masked.info["decision"]
        assert decision["hellinger"] == maps.info["decision"]["hellinger"]
        assert decision["hellinger"] != prompt.info["decision"]["hellinger"]
        assert decision["masked"] == 18
        first = llava.answer([question], max_new_tokens=1)[0].tokens[0]
        assert decision["hellinger"] == pytest.approx(by_hand(llava, question, first), abs=1e-5)
    assert [answer.text for answer in looked] == [answer.text for answer in llava.answer(asked, max_new_tokens=3, batch_size=1)]


def by_hand(answerer: Any, question: Question, token: int) -> dict[str, float]:
    """H of the row of a given token, from a pass over prompt and token with eager attention."""
    inputs = dict(answerer.inputs([question]))
    more = torch.tensor([[token]])
    ids = torch.cat([inputs.pop("input_ids"), more], 1)
    inputs["attention_mask"] = torch.ones_like(ids)
    module = answerer.module
    before = module.config.text_config._attn_implementation
    module.set_attn_implementation({"text_config": "eager"})
    try:
        attentions = module(input_ids=ids, **inputs, output_attentions=True).attentions
    finally:
        module.set_attn_implementation({"text_config": before})
    images = ids[0] == tiny.IMAGE
    p = [layer[0, :, -1].mean(0)[images] for layer in attentions]
    p = [row / row.sum() for row in p]
    return {str(layer): float((p[layer].sqrt() - p[3].sqrt()).norm() / 2**0.5) for layer in (0, 1, 2)}


def test_one_pass_through_an_answerer_is_the_patch_and_places_its_maps(llava: Any) -> None:
    asked = questions(3)
    answers = method(keep_maps=True, rho=0.5).answer(llava, asked, max_new_tokens=4, batch_size=2)
    from toolkit import patch

    for question, answer in zip(asked, answers, strict=True):
        with patch(llava, method(keep_maps=True, rho=0.5)) as handle, torch.no_grad():
            made = llava.module.generate(**llava.inputs([question]), max_new_tokens=4, do_sample=False, pad_token_id=tiny.PAD)
        assert tuple(made[0, -len(answer.tokens) :].tolist()) == answer.tokens
        decision = answer.info["decision"]
        assert has_maps(decision)
        assert decision["i_star"] == handle.decisions[0]["i_star"]
        assert decision["maps"][0]["box"] == pytest.approx([0.125, 0, 0.875, 1])
        assert handle.decisions[0]["maps"][0]["box"] == [0, 0, 1, 1]
    assert any(a.tokens != b.tokens for a, b in zip(answers, llava.answer(asked, max_new_tokens=4), strict=True))


@pytest.mark.parametrize("family", ["llava_next", "qwen2_5_vl"])
def test_any_resolution_grids_are_cropped(folders: dict[str, Path], family: str) -> None:
    answerer = load_answerer(f"local:{folders[family]}", device="cpu")
    spy = Spy(answerer)
    asked = [Question("what is the thing", (picture(5, (128, 64)),), "wide"), Question("what", (picture(6, (64, 64)),), "square")]
    answers = method(mode="crop", keep_maps=True).answer(spy, asked, max_new_tokens=2)
    for answer, given in zip(answers, spy.asked, strict=True):
        assert answer.error is None
        decision = answer.info["decision"]
        left, top, right, bottom = decision["crop"]["box"]
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert min(right - left, bottom - top) >= 0.25 - 1e-6
        assert isinstance(given.images[1], CroppedImage)
        rows, columns = decision["maps"][-1]["grid"]
        if given.id == "wide":
            assert columns > rows
    shared = method(keep_maps=True).answer(answerer, [asked[0], asked[0]], max_new_tokens=2)
    kinds = ["base", "detail"] if family == "llava_next" else ["whole"]
    assert [[view["kind"] for view in answer.info["decision"]["maps"]] for answer in shared] == [kinds] * 2


def test_tiles_lie_where_their_names_say_and_tiles_without_a_place_are_left_out(folders: dict[str, Path]) -> None:
    (asked,) = [Question("what is the thing", (picture(5, (256, 160)),), "wide")]
    for family, kinds, notes in (("idefics3", ["tile"] * 4 + ["base"], 0), ("internvl", ["base"], 1)):
        answerer = load_answerer(f"local:{folders[family]}", device="cpu")
        (answer,) = method(mode="crop", keep_maps=True).answer(answerer, [asked], max_new_tokens=2)
        decision = answer.info["decision"]
        assert [view["kind"] for view in decision["maps"]] == kinds
        assert len(decision["notes"]) == notes
        assert maps_png(asked.images[0].load(), decision)[:4] == b"\x89PNG"
        if family == "idefics3":
            boxes = [view["box"] for view in decision["maps"]]
            assert boxes == [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1], [0, 0, 1, 1]]


def test_models_that_take_one_image_or_have_no_grid_are_refused_before_anything_is_generated(llava: Any) -> None:
    class Single:
        """A processor that drops every image but the first."""

        def __getattr__(self, name: str) -> Any:
            return getattr(llava, name)

        def inputs(self, questions: Sequence[Question]) -> Any:
            return llava.inputs([Question(question.text, question.images[:1]) for question in questions])

        def answer(self, *args: Any, **settings: Any) -> Any:
            raise AssertionError("something was generated")

    with pytest.raises(Refused, match="no tokens of a second image") as caught:
        method(mode="crop").answer(Single(), questions(1))  # type: ignore[arg-type]
    assert "mode=mask" in (caught.value.hint or "")


def test_a_calibration_file_is_compared_with_the_fingerprint_of_the_answerer(llava: Any, tmp_path: Path) -> None:
    data = {
        "schema": 1, "method": "contrastive-attention", "fingerprint": llava.fingerprint, "model_type": "llava", "n_layers": 6, "C": [0, 2],
        "k": 3, "r": 4, "status": "ok",
    }  # fmt: skip
    atomic_write_json(tmp_path / "mine.json", data)
    atomic_write_json(tmp_path / "other.json", data | {"fingerprint": "0" * 64})
    (answer,) = ContrastiveAttention(candidates=tmp_path / "mine.json").answer(llava, questions(1), max_new_tokens=2)
    assert answer.info["decision"]["layers"]["candidates"] == [0, 2]
    assert answer.info["decision"]["notes"] == []
    with pytest.raises(DataError, match="other weights"):
        ContrastiveAttention(candidates=tmp_path / "other.json").answer(llava, questions(1), max_new_tokens=2)


def test_predictions_hold_answer_tokens_and_decision(llava: Any, tmp_path: Path) -> None:
    samples = [Sample(question.id, question.images[0], meta={"prompt": question.text}) for question in questions(3)]
    samples.append(Sample("none", FileImage(tmp_path / "missing.png"), meta={"prompt": "what"}))
    made = list(method(mode="crop").predictor(llava, AnswerProblem(max_new_tokens=2), batch_size=2)(samples))
    assert [prediction.id for prediction in made] == ["0", "1", "2", "none"]
    assert [prediction.error is None for prediction in made] == [True, True, True, False]
    for prediction in made[:3]:
        assert prediction.output is not None
        assert {"answer", "tokens", "decision"} <= set(prediction.output)
        json.dumps(prediction.output)


# --- What part of an image a model sees


def test_visible_parts_are_those_that_the_processor_makes(llava: Any) -> None:
    """A lit corner of the visible part is a lit corner of the pixels that the processor makes."""
    for size in ((120, 60), (48, 90), (50, 50)):
        left, top, right, bottom = visible_box(llava.processor, size)
        pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
        corner = (round(left * size[0]), round(top * size[1]), round((left + right) / 2 * size[0]), round((top + bottom) / 2 * size[1]))
        pixels[corner[1] : corner[3], corner[0] : corner[2]] = 255
        made = llava.processor.image_processor(ArrayImage(pixels).load(), return_tensors="pt")["pixel_values"][0].mean(0)
        lit = (made > made.mean()).float()
        half = tiny.SIDE // 2
        assert lit[: half - 3, : half - 3].mean() == 1
        assert lit[half + 3 :].sum() == 0
        assert lit[:, half + 3 :].sum() == 0


def test_padding_processors_see_more_than_the_image() -> None:
    class LlavaImageProcessor:
        do_pad, do_center_crop, image_grid_pinpoints = True, False, None

    assert visible_box(LlavaImageProcessor(), (200, 100)) == (0.0, -0.5, 1.0, 1.5)
    assert visible_box(SimpleNamespace(do_resize=True, size={"height": 9, "width": 9}), (200, 100)) == (0, 0, 1, 1)
    assert placed((0.5, 0.25, 1.0, 0.75), (0.0, -0.5, 1.0, 1.5)) == (0.5, 0.0, 1.0, 1.0)


def test_cropped_images_are_sources_of_their_own() -> None:
    source = picture(0, (40, 20))
    crop = CroppedImage(source, (0.25, 0.5, 0.5, 1.0))
    assert crop.load().size == (10, 10)
    np.testing.assert_array_equal(np.asarray(crop.load()), np.asarray(source.load())[10:20, 10:20])
    assert crop.content_id() != source.content_id()
    assert crop.content_id() == CroppedImage(picture(0, (40, 20)), (0.25, 0.5, 0.5, 1.0)).content_id()
    assert "picture 0 [0.250" in crop.name
