"""What every method of the family "answer" keeps to, on tiny models of several families, patched onto them and through answerers."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny_mllm, tiny_mllm_folders
from toolkit.config import to_json
from toolkit.errors import Refused
from toolkit.images import as_source
from toolkit.methods import build_method, list_methods
from toolkit.models.mllm import Mllm, wrap_answerer
from toolkit.patching import patch
from toolkit.types import Answer, AnswerProblem, Question, Sample

FAMILIES = ("llava", "llava_next", "qwen2_vl", "smolvlm", "gemma3")
OPTIONS: dict[str, dict[str, Any]] = {
    # Six layers instead of the 32 that layers are published for; strong enough that tiny models notice.
    "contrastive-attention": {"layer_base": 0, "candidates": [0, 2], "late": 2, "review": 4, "rho": 0.5, "lam": 0.0},
    "dola": {"layers": [0, 2, 4]},
    "pai": {"alpha": 1.0, "gamma": 1.5},
    "plain": {},
    "vcd": {"noise_step": 999},
    "vicrop": {"layer": 2, "unit": "image"},
}
NEUTRAL: dict[str, dict[str, Any]] = {
    "contrastive-attention": {"rho": 0.0},
    "dola": {"layers": []},
    "pai": {"alpha": 0.0, "gamma": 1.0},
    "plain": {},
    "vcd": {"alpha": 0.0, "beta": 0.0},
}
NEEDS_IMAGES = ("vicrop",)  # methods that look at images again, and so need an answerer
PATCHABLE = [name for name in list_methods("answer") if name not in NEEDS_IMAGES]
# Gemma's sliding layers see 64 tokens only, and its even layers are the ones with full attention.
TOLERANCE = 1e-4  # of logits: padding changes the order of sums, a relative 1e-6, and contrasts add up two passes


def method(name: str, **options: Any) -> Any:
    if name == "contrastive-attention":
        options = {"candidates": [0], **options}
    return build_method(name, OPTIONS[name] | options)


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest) -> SimpleNamespace:
    model = tiny_mllm.build(request.param)
    inputs = tiny_mllm.inputs(request.param, model, batch=2)
    return SimpleNamespace(family=request.param, model=model, inputs=inputs, plain=generate(model, inputs))


@pytest.fixture(scope="module")
def llava() -> SimpleNamespace:
    model = tiny_mllm.build("llava")
    inputs = tiny_mllm.inputs("llava", model, batch=2)
    return SimpleNamespace(family="llava", model=model, inputs=inputs, plain=generate(model, inputs))


def generate(model: Any, inputs: dict[str, torch.Tensor], tokens: int = 3, **kwargs: Any) -> list[list[int]]:
    """The new tokens of each row."""
    made = model.generate(**inputs, max_new_tokens=tokens, do_sample=False, pad_token_id=0, eos_token_id=-1, **kwargs)
    return made[:, -tokens:].tolist()


def alone(family: str, inputs: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """Row ``row`` by itself, without padding."""
    real = inputs["attention_mask"][row].bool()
    made = {}
    for key, value in inputs.items():
        if key == "pixel_values" and family.startswith("qwen"):
            patches = inputs["image_grid_thw"].prod(-1).tolist()
            made[key] = value.split(patches)[row]
        else:
            made[key] = value[row : row + 1]
            if value.shape[:2] == inputs["input_ids"].shape:
                made[key] = made[key][:, real]
    return made


def state_of(model: Any) -> dict[str, Any]:
    """All that a method could leave behind."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    hooks = [(name, kind, id(hook)) for name, part in model.named_modules() for kind in kinds for hook in getattr(part, kind).values()]
    # What generate itself writes down is none of ours.
    own = {name: sorted(set(vars(part)) - {"_previous_max_cache_length", "_compiled_call"}) for name, part in model.named_modules()}
    configs = [model.config, *(getattr(model.config, name) for name in model.config.sub_configs)]
    return {
        "weights": digest.hexdigest(),
        "hooks": hooks,
        "attributes": own,
        "attention": [config._attn_implementation for config in configs],
        "generation": model.generation_config.to_dict(),
        "gradients": [weight.grad is None and not weight.requires_grad for weight in model.parameters()],
        "training": model.training,
    }


class _Raises:
    """A stopping criterion that raises at the second token."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error, self.calls = error, 0

    def __call__(self, ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self.calls += 1
        if self.calls == 2:
            raise self.error("in the middle")
        return torch.zeros(ids.shape[0], dtype=torch.bool)


def stopping(criterion: Callable[..., torch.Tensor]) -> Any:
    from transformers import StoppingCriteriaList

    return StoppingCriteriaList([criterion])


def refusal_of(function: Callable[[], object]) -> Refused | None:
    try:
        function()
    except Refused as refusal:
        return refusal
    return None


def test_every_method_has_options_here() -> None:
    assert set(OPTIONS) == set(list_methods("answer"))
    assert set(NEUTRAL) == set(PATCHABLE)


@pytest.mark.parametrize("name", list_methods("answer"))
class TestMethod:
    def test_config_is_json(self, name: str) -> None:
        for config in (build_method(name).config, method(name).config):
            assert type(config)(**json.loads(json.dumps(to_json(config)))) == config

    def test_names_its_source(self, name: str) -> None:
        made = build_method(name)
        assert made.name == name
        assert "arXiv" in made.source or name == "plain"

    def test_config_is_frozen(self, name: str) -> None:
        with pytest.raises(AttributeError):
            build_method(name).config.anything = 1


@pytest.mark.parametrize("name", PATCHABLE)
class TestPatched:
    def test_neutral_strength_changes_nothing(self, name: str, case: SimpleNamespace) -> None:
        before = case.model(**case.inputs).logits
        with patch(case.model, method(name, **NEUTRAL[name])):
            assert generate(case.model, case.inputs) == case.plain
            assert torch.equal(case.model(**case.inputs).logits, before)

    def test_it_does_something_and_leaves_no_trace(self, name: str, case: SimpleNamespace) -> None:
        before, random = state_of(case.model), torch.get_rng_state()
        logits = case.model(**case.inputs).logits
        with patch(case.model, method(name)):
            generate(case.model, case.inputs)
            changed = case.model(**case.inputs).logits
        assert state_of(case.model) == before
        assert torch.equal(torch.get_rng_state(), random)
        assert torch.equal(changed, logits) == (name == "plain")
        assert (changed.dtype, changed.device, changed.shape, changed.requires_grad) == (logits.dtype, logits.device, logits.shape, False)
        assert generate(case.model, case.inputs) == case.plain

    def test_deterministic_and_one_decision_a_row(self, name: str, case: SimpleNamespace) -> None:
        runs = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            with patch(case.model, method(name)) as handle:
                runs.append((generate(case.model, case.inputs), handle.drain()))
                assert handle.decisions == []
        assert runs[0] == runs[1]
        assert len(runs[0][1]) == (0 if name == "plain" else 2)
        assert json.loads(json.dumps(runs[0][1])) == runs[0][1]

    def test_batch_is_single(self, name: str, case: SimpleNamespace) -> None:
        rows = range(2)
        with patch(case.model, method(name)):
            together = case.model(**case.inputs, logits_to_keep=1).logits[:, -1]
            apart = [case.model(**alone(case.family, case.inputs, row), logits_to_keep=1).logits[0, -1] for row in rows]
            tokens = generate(case.model, case.inputs)
            single = [generate(case.model, alone(case.family, case.inputs, row))[0] for row in rows]
        for row in rows:
            scale = together[row][together[row].isfinite()].abs().max().clamp(min=1)
            # What is barely plausible in one may be barely not in the other: these few are left out.
            both = together[row].isfinite() & apart[row].isfinite()
            assert (together[row].isfinite() ^ apart[row].isfinite()).sum() <= 1
            assert ((together[row] - apart[row])[both].abs() / scale).max() < TOLERANCE
        assert tokens == single

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_an_error_within_generate_restores_the_model(self, name: str, error: type[BaseException], llava: SimpleNamespace) -> None:
        before = state_of(llava.model)
        with pytest.raises(error, match="in the middle"), patch(llava.model, method(name)):
            generate(llava.model, llava.inputs, stopping_criteria=stopping(_Raises(error)))
        assert state_of(llava.model) == before
        assert generate(llava.model, llava.inputs) == llava.plain

    def test_a_patch_goes_on_after_an_error(self, name: str, llava: SimpleNamespace) -> None:
        with patch(llava.model, method(name)):
            expected = generate(llava.model, llava.inputs)
            with pytest.raises(RuntimeError, match="in the middle"):
                generate(llava.model, llava.inputs, stopping_criteria=stopping(_Raises(RuntimeError)))
            assert generate(llava.model, llava.inputs) == expected

    def test_half_precision_is_kept(self, name: str, llava: SimpleNamespace) -> None:
        model = tiny_mllm.build("llava").to(torch.bfloat16)
        inputs = {key: value.to(torch.bfloat16) if value.is_floating_point() else value for key, value in llava.inputs.items()}
        with patch(model, method(name)):
            assert model(**inputs).logits.dtype == torch.bfloat16
            assert generate(model, inputs) == generate(model, inputs)
        assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}

    def test_weights_on_the_disk(self, name: str, llava: SimpleNamespace, tmp_path: Path) -> None:
        from accelerate import disk_offload

        model = tiny_mllm.build("llava")
        disk_offload(model, str(tmp_path), execution_device=torch.device("cpu"))
        with patch(llava.model, method(name)), patch(model, method(name)):
            assert generate(model, llava.inputs) == generate(llava.model, llava.inputs)

    def test_beams_and_returned_sequences(self, name: str, case: SimpleNamespace) -> None:
        with patch(case.model, method(name)) as handle:
            beams = generate(case.model, case.inputs, num_beams=3)
            assert len(handle.drain()) == (0 if name == "plain" else 6)
            single = generate(case.model, alone(case.family, case.inputs, 1), num_beams=3)
            assert beams[1] == single[0]

    def test_another_thread_may_use_it_and_not_at_once(self, name: str, llava: SimpleNamespace) -> None:
        with patch(llava.model, method(name)):
            expected = generate(llava.model, llava.inputs)
            elsewhere = in_thread(lambda: generate(llava.model, llava.inputs))
            assert elsewhere.result == expected
            inside, go_on = threading.Event(), threading.Event()

            def wait(args: Any, kwargs: Any) -> None:
                inside.set()
                assert go_on.wait(60)

            from toolkit.hooks import HookSession

            with HookSession(llava.model) as slow:
                slow.before("lm.block:3", wait)
                first = start(lambda: generate(llava.model, llava.inputs))
                assert inside.wait(60)
                try:
                    second = in_thread(lambda: llava.model(**llava.inputs))
                finally:
                    slow.close()
                    go_on.set()
                first.join(60)
            assert isinstance(second.error, Refused)
            assert "another thread" in str(second.error)
            assert first.result == expected


class _Thread(threading.Thread):
    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.function = function
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with torch.no_grad():
                self.result = self.function()
        except BaseException as error:
            self.error = error


def start(function: Callable[[], Any]) -> _Thread:
    thread = _Thread(function)
    thread.start()
    return thread


def in_thread(function: Callable[[], Any]) -> _Thread:
    thread = start(function)
    thread.join(120)
    return thread


@pytest.mark.parametrize(("first", "second"), list(permutations(PATCHABLE, 2)))
def test_two_patches_go_in_any_order(first: str, second: str, llava: SimpleNamespace) -> None:
    """The one that came first goes first, the second one is then alone; or the other way round."""
    before, first_leaves = state_of(llava.model), PATCHABLE.index(first) < PATCHABLE.index(second)
    one, two = patch(llava.model, method(first)), patch(llava.model, method(second))
    generate(llava.model, llava.inputs, 2)
    leaves, stays = (one, two) if first_leaves else (two, one)
    leaves.remove()
    left = generate(llava.model, llava.inputs, 2)
    stays.remove()
    with patch(llava.model, method(second if first_leaves else first)):
        assert generate(llava.model, llava.inputs, 2) == left
    assert state_of(llava.model) == before
    assert generate(llava.model, llava.inputs) == llava.plain


@pytest.mark.parametrize("name", NEEDS_IMAGES)
def test_methods_that_need_images_say_so(name: str, llava: SimpleNamespace) -> None:
    before = state_of(llava.model)
    with pytest.raises(Refused, match="image") as refusal:
        patch(llava.model, method(name))
    assert refusal.value.hint is not None
    assert "answerer" in refusal.value.hint
    assert state_of(llava.model) == before


@pytest.mark.parametrize("family", ["mllama", "instructblip"])
@pytest.mark.parametrize("name", PATCHABLE)
def test_odd_families_are_served_or_refused_before_anything_is_written(name: str, family: str) -> None:
    model = tiny_mllm.build(family)
    inputs = tiny_mllm.inputs(family, model, batch=2)
    before = state_of(model)
    plain = generate(model, inputs, 2)

    def serve() -> None:
        with patch(model, method(name)):
            generate(model, inputs, 2)

    refusal = refusal_of(serve)
    assert refusal is None or refusal.hint
    assert state_of(model) == before
    assert generate(model, inputs, 2) == plain


# --- Through answerers


def picture(seed: int, size: tuple[int, int] = (64, 64)) -> Any:
    return as_source(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


WORDS = ("what colour is the thing", "how many are there", "is the thing red", "what is the answer")
QUESTIONS = [Question(WORDS[number % 4] + " two" * (number % 3), (picture(number // 2),), f"q{number}") for number in range(6)]
QUESTIONS.insert(3, Question("what is it", (as_source(b"no image"),), "broken"))


@pytest.fixture(scope="module", params=("llava", "idefics3"))
def answerer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mllm:
    model = tiny_mllm.build(request.param)
    processor = tiny_mllm_folders.processor(request.param)
    if request.param == "idefics3":
        processor.image_processor.do_image_splitting = False
    made = wrap_answerer(model, processor, request.param)
    made.answer(QUESTIONS[:1], max_new_tokens=1)  # transformers puts hooks of its own onto a model when it runs for the first time
    return made


def essence(answers: list[Answer]) -> list[Any]:
    """What must not depend on the batch."""
    return [(answer.text, answer.tokens, answer.error) for answer in answers]


@pytest.mark.parametrize("name", list_methods("answer"))
class TestAnswers:
    def test_in_order_with_decisions_and_failures(self, name: str, answerer: Mllm) -> None:
        before = state_of(answerer.module)
        made = method(name)
        answers = made.answer(answerer, QUESTIONS, max_new_tokens=3, batch_size=3)
        assert [answer.error is None for answer in answers] == [question.id != "broken" for question in QUESTIONS]
        for answer in answers:
            if answer.error is None and name != "plain":
                decision = answer.info["decision"]
                assert decision
                assert json.loads(json.dumps(decision)) == decision
        assert state_of(answerer.module) == before
        assert essence(made.answer(answerer, QUESTIONS, max_new_tokens=3, batch_size=1)) == essence(answers)
        backwards = made.answer(answerer, QUESTIONS[::-1], max_new_tokens=3, batch_size=4)
        assert essence(backwards[::-1]) == essence(answers)

    def test_predictor(self, name: str, answerer: Mllm) -> None:
        samples = [Sample(question.id, question.images[0], None, {"prompt": question.text}) for question in QUESTIONS[:4]]
        made = method(name)
        found = list(made.predictor(answerer, AnswerProblem(max_new_tokens=2), batch_size=2)(samples))
        assert [prediction.id for prediction in found] == [sample.id for sample in samples]
        direct = made.answer(answerer, QUESTIONS[:4], max_new_tokens=2)
        for prediction, answer in zip(found, direct, strict=True):
            assert prediction.error == answer.error
            if prediction.output is not None:
                assert (prediction.output["answer"], tuple(prediction.output["tokens"])) == (answer.text, answer.tokens)
                assert json.loads(json.dumps(prediction.output)) == prediction.output
