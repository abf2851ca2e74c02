"""Answerers on real-format folders of every family: equal to the library used by hand, and the same alone, in batches and in any order."""

from __future__ import annotations

import functools
import inspect
import logging
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny_mllm_folders as folders
from toolkit.config import fingerprint
from toolkit.errors import ImageError, ModelConfigError, UsageError
from toolkit.images import as_source
from toolkit.models import load_answerer
from toolkit.models.base import Answerer
from toolkit.models.mllm import Mllm, wrap_answerer
from toolkit.types import Question

NO_TEMPLATE = ("paligemma", "instructblip")
ONE_PICTURE = ("instructblip", "paligemma")
OPTIONS = [["red", "green", "the red", "the green"], ["two three"], ["a", "b", "a b"]]
# a batch adds in another order than a single row does; sums of log-probabilities of up to a few hundred in size
ROUNDING = 2e-4


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def write(family: str) -> Path:
        if family not in made:
            made[family] = folders.write(family, tmp_path_factory.mktemp(family))
        return made[family]

    return write


@pytest.fixture
def load(folder: Callable[[str], Path]) -> Callable[..., Mllm]:
    def loaded(family: str = "llava", **settings: Any) -> Any:
        return load_answerer(f"local:{folder(family)}", **{"device": "cpu", **settings})

    return loaded


def picture(seed: int, width: int = 60, height: int = 40) -> Any:
    return as_source(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    """Of several lengths, about pictures of several shapes."""
    return [
        Question("what colour is the thing?", (picture(0),), "a"),
        Question("how many?", (picture(1, 60, 90),), "b"),
        Question("is there a red thing in the picture, yes or no? answer in a word", (picture(2, 100, 40),), "c"),
    ]


def by_hand(answerer: Mllm, questions: list[Question]) -> Any:
    """The inputs as the documentation of the library makes them: one call of the processor for the whole batch."""
    processor = answerer.processor
    if processor.chat_template:
        chats = [[{"role": "user", "content": [*[{"type": "image"}] * len(q.images), {"type": "text", "text": q.text}]}] for q in questions]
        prompts = processor.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
    else:
        token = "<image>" if answerer.module.config.model_type == "paligemma" else ""
        prompts = [token * len(q.images) + q.text for q in questions]
    extra = {"add_special_tokens": False} if prompts[0].startswith(processor.tokenizer.bos_token) else {}
    images = [[image.load() for image in q.images] for q in questions]
    made = processor(text=prompts, images=images, padding=True, return_tensors="pt", **extra)
    made.pop("labels", None)
    return made


@pytest.mark.parametrize("family", folders.FOLDERS)
def test_answers_and_scores_are_those_of_the_library(family: str, load: Callable[..., Mllm], questions: list[Question]) -> None:
    answerer = load(family)
    # InstructBLIP's processor puts the padding between picture and words, so a question in its batches is not the question alone
    for asked in [[question] for question in questions] if family == "instructblip" else [questions]:
        expected = by_hand(answerer, asked)
        inputs = answerer.inputs(asked)
        assert set(inputs) == set(expected)
        for key, value in expected.items():
            assert torch.equal(inputs[key], value), key
        length = inputs["input_ids"].shape[1]
        tokens = answerer.module.generate(**expected, max_new_tokens=4, min_new_tokens=4, do_sample=False)[:, length:]
        answers = answerer.answer(asked, max_new_tokens=4, min_new_tokens=4)
        assert [answer.tokens for answer in answers] == [tuple(row) for row in tokens.tolist()]
        assert [answer.text for answer in answers] == answerer.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        assert [answer.info["prompt_tokens"] for answer in answers] == expected["attention_mask"].sum(-1).tolist()
    scores = answerer.score(questions, OPTIONS)
    for number, options in enumerate(OPTIONS):
        alone = by_hand(answerer, [questions[number]])
        wanted = [forced(answerer, alone, option) for option in options]
        assert scores[number].tolist() == pytest.approx(wanted, abs=ROUNDING, rel=1e-5)


def forced(answerer: Mllm, inputs: Any, text: str) -> float:
    """Log-probability of a continuation, step by step out of ``generate`` that may write nothing else."""
    ids = answerer.tokenizer(text, add_special_tokens=False)["input_ids"]
    length = inputs["input_ids"].shape[1]
    made = answerer.module.generate(
        **{key: value.clone() for key, value in inputs.items()}, max_new_tokens=len(ids), do_sample=False, output_logits=True,
        return_dict_in_generate=True, eos_token_id=None, prefix_allowed_tokens_fn=lambda _, seen: [ids[len(seen) - length]],
    )  # fmt: skip
    return sum(float(logits.float().log_softmax(-1)[0, token]) for logits, token in zip(made.logits, ids, strict=True))


@pytest.mark.parametrize("family", folders.FOLDERS)
def test_alone_in_a_batch_and_in_any_order(family: str, load: Callable[..., Mllm], questions: list[Question]) -> None:
    answerer = load(family)
    together = answerer.answer(questions, max_new_tokens=4)
    assert [answer.info["batch_size"] for answer in together] == [3, 3, 3]
    template = answerer.processor.chat_template
    assert {answer.info["chat_template"] for answer in together} == {None if template is None else fingerprint(template)[:16]}
    for size in (1, 2):
        assert [a.tokens for a in answerer.answer(questions, max_new_tokens=4, batch_size=size)] == [a.tokens for a in together]
    turned = answerer.answer(questions[::-1], max_new_tokens=4)
    assert [answer.tokens for answer in turned] == [answer.tokens for answer in together[::-1]]
    means = answerer.score(questions, OPTIONS, normalise="mean", batch_size=2)
    sums = answerer.score(questions[::-1], OPTIONS[::-1])[::-1]
    counts = [[len(ids) for ids in answerer.tokenizer(options, add_special_tokens=False)["input_ids"]] for options in OPTIONS]
    for mean, total, count in zip(means, sums, counts, strict=True):
        assert mean.tolist() == pytest.approx((total / torch.tensor(count)).tolist(), abs=ROUNDING, rel=1e-5)


@pytest.mark.parametrize("family", [family for family in folders.FOLDERS if family not in ONE_PICTURE])
def test_several_pictures_and_none(family: str, load: Callable[..., Mllm], questions: list[Question]) -> None:
    answerer = load(family)
    first, second = questions[0].images[0], questions[1].images[0]
    asked = [replace(questions[0], images=(first, second)), replace(questions[0], images=(second, first)), Question("how many?")]
    expected = by_hand(answerer, asked[:1])
    for key, value in answerer.inputs(asked[:1]).items():
        assert torch.equal(value, expected[key]), key
    answers = answerer.answer([*asked, questions[0]], max_new_tokens=6)
    assert all(answer.error is None for answer in answers)
    one, other = answerer.score(asked[:2], [["a", "b"]] * 2)
    assert not torch.allclose(one, other, atol=10 * ROUNDING), "the order of the pictures must matter"
    assert [a.tokens for a in answers] == [answerer.answer([q], max_new_tokens=6)[0].tokens for q in [*asked, questions[0]]]
    with pytest.raises(UsageError, match="one batch"):
        answerer.inputs([asked[0], asked[2]])


def test_what_is_wrong_with_one_question_is_said_about_it_alone(
    load: Callable[..., Mllm], questions: list[Question], tmp_path: Path
) -> None:
    answerer = load()
    good = answerer.answer(questions, max_new_tokens=4)
    bad = [
        Question("what?", (as_source(b"GIF89a..."),)),
        Question("what?", (as_source(tmp_path / "none.png"),)),
        Question("what is <image> here?", questions[0].images),
        Question("how many? " * 3000, questions[0].images),
    ]
    mixed = [bad[0], questions[0], bad[1], questions[1], bad[2], bad[3], questions[2]]
    answers = answerer.answer(mixed, max_new_tokens=4, batch_size=2)
    assert [answer.tokens for answer in answers if answer.error is None] == [answer.tokens for answer in good]
    errors = [answer.error for answer in answers if answer.error is not None]
    assert all(answer.text is None for answer in answers if answer.error is not None)
    expected = ["GIF", "none.png", "stands for a picture", "reads at most 4096"]
    assert all(words in str(error) for words, error in zip(expected, errors, strict=True))
    for question, words in zip(bad, expected, strict=True):
        for call in (lambda q: answerer.score([q], [["a"]]), lambda q: answerer.inputs([q])):
            with pytest.raises((ImageError, UsageError), match=words):
                call(question)


def test_calls_that_are_wrong_as_a_whole(load: Callable[..., Mllm], questions: list[Question]) -> None:
    answerer = load()
    with pytest.raises(UsageError, match="max_new_tokens"):
        answerer.answer(questions, max_new_tokens=0)
    with pytest.raises(UsageError, match="batch size"):
        answerer.answer(questions, batch_size=0)
    with pytest.raises(UsageError, match="one answer"):
        answerer.answer(questions, num_return_sequences=2)
    with pytest.raises(UsageError, match="no question"):
        answerer.answer(["what?"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="not an image"):
        answerer.answer([Question("what?", (3,))])  # type: ignore[arg-type]
    for continuations, words in (([["a"]], "for 1"), ([["a"], [], ["b"]], "empty"), ([["a"], [""], ["b"]], "empty")):
        with pytest.raises(UsageError, match=words):
            answerer.score(questions, continuations)
    with pytest.raises(UsageError, match="normalisation"):
        answerer.score(questions, OPTIONS, normalise="max")
    assert answerer.answer([]) == []
    assert answerer.score([], []) == []


def test_a_processor_of_another_checkpoint_is_told_apart(load: Callable[..., Mllm], questions: list[Question]) -> None:
    answerer = load()
    answerer.processor.patch_size = 16
    with pytest.raises(ModelConfigError, match="another number of image tokens"):
        answerer.answer(questions)
    with pytest.raises(ModelConfigError, match="another number of image tokens"):  # the way of pictures that questions share
        answerer.answer([questions[0]] * 2)
    answerer = load("qwen2_vl")
    answerer.processor.chat_template = answerer.processor.chat_template.replace("<|image_pad|>", "")
    with pytest.raises(ModelConfigError, match="places 0 image tokens for 1"):
        load("qwen2_vl").__class__("x", answerer.module, answerer.processor).answer(questions)


def test_prompts_without_a_chat_template(load: Callable[..., Mllm], questions: list[Question]) -> None:
    for family in ("llava", "vipllava"):
        answerer = load(family)
        answerer.processor.chat_template = answerer.tokenizer.chat_template = None
        plain = wrap_answerer(answerer.module, answerer.processor)
        prompt = plain.tokenizer.decode(plain.inputs([questions[1]])["input_ids"][0])
        assert prompt.count("<image>") == 36
        end = {"llava": "\nhow many? ASSISTANT:", "vipllava": "\nhow many?###Assistant:"}[family]
        assert prompt.endswith(end)
        assert plain.answer(questions[:1], max_new_tokens=2)[0].text is not None
    answerer = load("qwen2_vl")
    answerer.processor.chat_template = answerer.tokenizer.chat_template = None
    with pytest.raises(ModelConfigError, match="no chat template"):
        wrap_answerer(answerer.module, answerer.processor)
    broken = load("qwen2_vl")
    broken.processor.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(ModelConfigError, match="roles must alternate"):
        wrap_answerer(broken.module, broken.processor).answer(questions)


def test_one_start_token(load: Callable[..., Mllm], questions: list[Question]) -> None:
    for family in ("gemma3", "mllama", "llava", "idefics3"):
        answerer = load(family)
        ids = answerer.inputs([questions[0]])["input_ids"][0]
        assert int(ids[0]) == answerer.tokenizer.bos_token_id
        assert int((ids == answerer.tokenizer.bos_token_id).sum()) == 1


def test_greedy_whatever_the_checkpoint_says(
    load: Callable[..., Mllm], questions: list[Question], caplog: pytest.LogCaptureFixture
) -> None:
    answerer = load()
    greedy = [answer.tokens for answer in answerer.answer(questions, max_new_tokens=6)]
    config = answerer.module.generation_config
    config.do_sample, config.temperature, config.top_p, config.top_k, config.max_length, config.num_beams = True, 5.0, 0.9, 3, 30, 2
    config.min_p, config.typical_p = 0.1, 0.5
    before = config.to_dict()
    caplog.set_level(logging.WARNING)
    logging.getLogger("transformers").propagate, was = True, logging.getLogger("transformers").propagate
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert [answer.tokens for answer in answerer.answer(questions, max_new_tokens=6)] == greedy
    finally:
        logging.getLogger("transformers").propagate = was
    assert caplog.records == []
    assert answerer.module.generation_config.to_dict() == before
    sampled = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        sampled.append([answer.tokens for answer in answerer.answer(questions, max_new_tokens=6, do_sample=True, top_k=0)])
    assert sampled[0] == sampled[1] != sampled[2]
    assert all(answer.text is not None for answer in answerer.answer(questions, num_beams=3, max_new_tokens=3))


def test_where_answers_end(load: Callable[..., Mllm], questions: list[Question]) -> None:
    answerer = load()
    free = answerer.answer(questions, max_new_tokens=6)
    assert {answer.info["stopped"] for answer in free} == {"length"}
    end = free[0].tokens[2]
    answerer.module.generation_config.eos_token_id = [end, 2]
    answers = wrap_answerer(answerer.module, answerer.processor).answer(questions, max_new_tokens=6)
    assert answers[0].tokens == free[0].tokens[: free[0].tokens.index(end) + 1]
    assert answers[0].info["stopped"] == "end"
    assert [a.tokens for a, b in zip(answers, free, strict=True) if end not in b.tokens] == [b.tokens for b in free if end not in b.tokens]


def test_decisions_are_merged_row_by_row(load: Callable[..., Mllm], questions: list[Question]) -> None:
    answerer = load()
    lengths = {answer.info["prompt_tokens"] for answer in answerer.answer(questions)}
    assert len(lengths) == 3
    seen: list[dict[str, int]] = []
    inner = answerer.module.generate

    def generate(**inputs: Any) -> Any:
        beams = inputs.get("num_beams", 1)
        seen.extend({"tokens": int(row.sum())} for row in inputs["attention_mask"] for _ in range(beams))
        return inner(**inputs)

    def notes() -> list[dict[str, int]]:
        found = seen[:]
        seen.clear()
        return found

    answerer.module.generate = generate
    for settings in ({"batch_size": 3}, {"batch_size": 2}, {"num_beams": 2}):
        answers = answerer.answer(questions, notes=notes, max_new_tokens=2, **settings)  # type: ignore[arg-type]
        assert [answer.info["decision"]["tokens"] for answer in answers] == [answer.info["prompt_tokens"] for answer in answers]
    assert "decision" not in answerer.answer(questions, notes=list, max_new_tokens=2)[0].info


def test_batches_are_halved_where_memory_runs_out(load: Callable[..., Mllm], questions: list[Question]) -> None:
    answerer = load()
    many = [replace(question, id=str(number)) for number in range(3) for question in questions]
    expected = [answer.tokens for answer in answerer.answer(many, max_new_tokens=3)]
    inner, calls, notes = answerer.module.generate, [], []

    def generate(most: int) -> Callable[..., Any]:
        def limited(**inputs: Any) -> Any:
            calls.append(len(inputs["input_ids"]))
            notes.extend({"call": len(calls)} for _ in range(calls[-1]))
            if calls[-1] > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.")
            return inner(**inputs)

        return limited

    def drain() -> list[dict[str, int]]:
        found = notes[:]
        notes.clear()
        return found

    answerer.module.generate = generate(2)
    answers = answerer.answer(many, max_new_tokens=3, batch_size=8, notes=drain)
    assert [answer.tokens for answer in answers] == expected
    assert calls == [8, 4, 2, 2, 2, 2, 1]
    assert {answer.info["batch_halved_from"] for answer in answers} == {8}
    assert {answer.info["batch_size"] for answer in answers} == {1, 2}
    assert {answer.info["decision"]["call"] for answer in answers} == {3, 4, 5, 6, 7}, "what failed calls decided is discarded"
    answerer.module.generate = generate(0)
    answers = answerer.answer(many[:2], max_new_tokens=3)
    assert all("memory" in str(answer.error) for answer in answers)
    answerer.module.generate = lambda **inputs: (_ for _ in ()).throw(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        answerer.answer(many, max_new_tokens=3)


def test_an_interrupt_ends_it_and_the_next_call_works(load: Callable[..., Mllm], questions: list[Question]) -> None:
    answerer = load()
    inner, drained = answerer.module.generate, []

    def generate(**inputs: Any) -> Any:
        raise KeyboardInterrupt

    answerer.module.generate = generate
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        answerer.answer(questions, notes=lambda: drained.append(1) or [])  # type: ignore[func-returns-value]
    assert drained == [1]
    assert threading.active_count() == threads
    answerer.module.generate = inner
    stream = answerer.iter_answers(questions, batch_size=1)
    index, answer = next(stream)
    stream.close()
    assert answer.tokens == answerer.answer(questions)[index].tokens
    assert threading.active_count() == threads


@dataclass(frozen=True)
class Counted:
    """An image that counts how often it is opened."""

    name: str
    opened: list[int]

    def __hash__(self) -> int:
        return hash(self.name)

    def content_id(self) -> str:
        return self.name

    def load(self) -> Any:
        self.opened.append(1)
        return picture(len(self.name)).load()


@pytest.mark.parametrize("family", ["llava", "llava_next", "qwen3_vl", "idefics3", "internvl", "gemma3", "instructblip"])
def test_pictures_of_several_questions_are_opened_and_encoded_once(family: str, load: Callable[..., Mllm]) -> None:
    answerer = load(family)
    first, second = Counted("one", []), Counted("another", [])
    texts = ["what?", "how many?", "is it red?", "is the thing there blue or green?"]
    asked = [Question(text, (image,)) for text in texts for image in (first, second)] + [Question("once?", (picture(9),))]
    alone = [answerer.answer([question], max_new_tokens=4)[0].tokens for question in asked]
    scores = [answerer.score([question], [["a", "b a"]])[0].tolist() for question in asked]
    first.opened.clear()
    second.opened.clear()
    encoded = encodings(answerer.module)
    assert [answer.tokens for answer in answerer.answer(asked, max_new_tokens=4, batch_size=9)] == alone
    assert (len(first.opened), len(second.opened)) == (1, 1)
    if family != "instructblip" and "mm_encoder_outputs" in inspect.signature(type(answerer.module).forward).parameters:
        one = answerer.inputs([asked[0]])["pixel_values"].numel()
        assert encoded == [3 * one], "three pictures and not nine"
    found = answerer.score(asked, [["a", "b a"]] * len(asked), batch_size=4)
    flat = [value for row in found for value in row.tolist()]
    assert flat == pytest.approx([value for row in scores for value in row], abs=ROUNDING, rel=1e-5)


def encodings(module: Any) -> list[int]:
    """Grows by the number of values in the pixels at every call of the vision tower."""
    encode, calls = module.base_model.get_image_features, []

    @functools.wraps(encode)
    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs.get("pixel_values", *args[:1]).numel())
        return encode(*args, **kwargs)

    module.base_model.get_image_features = counted
    return calls


def test_wrapped_and_loaded_are_the_same(load: Callable[..., Mllm], folder: Callable[[str], Path], questions: list[Question]) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(folder("llava"))
    wrapped = wrap_answerer(model, AutoProcessor.from_pretrained(folder("llava")), name="mine")
    assert isinstance(wrapped, Answerer)
    assert wrapped.name == "mine"
    assert wrapped.module is model
    assert not any(weight.requires_grad for weight in model.parameters())
    assert [a.tokens for a in wrapped.answer(questions)] == [a.tokens for a in load().answer(questions)]
    assert wrapped.image_size == 48
    first = wrapped.fingerprint
    assert wrap_answerer(model, wrapped.processor).fingerprint == first
    with torch.no_grad():
        next(model.parameters())[0] += 1
    assert wrap_answerer(model, wrapped.processor).fingerprint != first
    with pytest.raises(ModelConfigError, match="processor"):
        wrap_answerer(model, wrapped.tokenizer)


def test_fingerprints(load: Callable[..., Mllm], tmp_path: Path) -> None:
    first = load().fingerprint
    assert load().fingerprint == first
    other = load_answerer(f"local:{folders.write('llava', tmp_path, seed=1)}", device="cpu")
    marks = {first, other.fingerprint, load(dtype="bfloat16").fingerprint, load(quantise=8).fingerprint, load("qwen2_vl").fingerprint}
    assert len(marks) == 5


def test_number_format(load: Callable[..., Mllm], questions: list[Question]) -> None:
    half = load(dtype="bfloat16")
    assert half.info == {"dtype": "bfloat16", "devices": ["cpu"]}
    assert half.inputs(questions)["pixel_values"].dtype == torch.bfloat16
    assert {weight.dtype for weight in half.module.parameters()} == {torch.bfloat16}
    assert all(answer.error is None for answer in half.answer(questions, max_new_tokens=2))
