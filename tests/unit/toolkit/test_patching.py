"""Methods go onto models and off again: always restored, in any order, one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.attention_cases import inputs_of, model_of, snapshot
from toolkit import patch
from toolkit.attention import AttentionSession, LayerEdit, Prefill
from toolkit.errors import Refused, UsageError
from toolkit.patching import PatchHandle


class Attached:
    def __init__(self, module: nn.Module, method: Dim) -> None:
        self.decisions: list[dict[str, Any]] = []
        self.session = AttentionSession(module)
        self.rows = self.session.read([1])
        self.session.at_layer(method.layer, self.decide)
        self.method = method

    def decide(self, prefill: Prefill) -> LayerEdit | None:
        self.method.during()
        mass = (self.rows[1] * prefill.image_mask[:, None]).sum(-1).mean(-1)
        self.decisions.extend({"mass": value} for value in mass.tolist())
        return LayerEdit(logit_bias=self.method.bias * prefill.image_mask)

    def __enter__(self) -> Attached:
        self.session.__enter__()
        return self

    def __exit__(self, *exception: Any) -> bool | None:
        return self.session.__exit__(*exception)


class Dim:
    """A method: image keys get a bias at one layer."""

    def __init__(self, bias: float = -3.0, layer: int = 3, during: Callable[[], None] = lambda: None) -> None:
        self.bias = bias
        self.layer = layer
        self.during = during

    def attach(self, module: nn.Module) -> Attached:
        return Attached(module, self)


def generate(model: Any, batch: int = 2, family: str = "llava", **options: Any) -> Any:
    return model.generate(**inputs_of(family, batch), max_new_tokens=4, min_new_tokens=4, output_logits=True, return_dict_in_generate=True)


def logits_of(model: Any, family: str = "llava", batch: int = 2) -> torch.Tensor:
    return torch.stack(generate(model, batch, family).logits, 1)


def test_a_patch_acts_and_leaving_it_restores_everything_bit_for_bit() -> None:
    model = model_of("llava")
    before, plain = snapshot(model), logits_of(model)
    with patch(model, Dim()) as handle:
        assert isinstance(handle, PatchHandle)
        patched = logits_of(model)
        assert not torch.equal(patched, plain)
        assert [sorted(decision) for decision in handle.decisions] == [["mass"], ["mass"]]
    assert snapshot(model) == before
    assert torch.equal(logits_of(model), plain)
    assert len(handle.decisions) == 2
    again = patch(model, Dim())
    assert torch.equal(logits_of(model), patched)
    again.remove()
    again.remove()
    assert snapshot(model) == before
    with pytest.raises(UsageError, match="has been removed"):
        again.__enter__()


def test_decisions_can_be_drained() -> None:
    model = model_of("llava")
    with patch(model, Dim()) as handle:
        generate(model)
        first = handle.drain()
        assert len(first) == 2
        assert handle.drain() == handle.decisions == []
        generate(model, batch=3)
        assert len(handle.drain()) == 3


class Holder:
    """What an answerer is to ``patch``."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module


def test_an_answerer_stands_for_its_model() -> None:
    model = model_of("llava")
    with patch(Holder(model), Dim()) as handle:
        assert handle.module is model
        generate(model)
    assert len(handle.decisions) == 2


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("when", ["in the method", "in a layer behind it", "in decoding"])
def test_errors_and_interrupts_inside_generate_restore_the_model(error: BaseException, when: str) -> None:
    model = model_of("llava")
    before, plain = snapshot(model), logits_of(model)

    def fail(*_: Any) -> None:
        raise error

    calls: list[int] = []

    def fail_later(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise error

    layer = model.get_decoder().layers[4]
    foreign = None if when == "in the method" else layer.register_forward_hook(fail if when == "in a layer behind it" else fail_later)
    with pytest.raises(type(error)), patch(model, Dim(during=fail if when == "in the method" else lambda: None)):
        generate(model)
    if foreign is not None:
        foreign.remove()
    assert snapshot(model) == before
    assert torch.equal(logits_of(model), plain)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_after_an_error_the_same_patch_goes_on(error: BaseException) -> None:
    """As when a batch is too large: the failed call is forgotten, the next one counts."""
    model = model_of("llava")
    state: dict[str, Any] = {"fail": False}

    def during() -> None:
        if state["fail"]:
            raise error

    with patch(model, Dim(during=during)) as handle:
        expected = logits_of(model)
        handle.drain()
        state["fail"] = True
        with pytest.raises(type(error)):
            generate(model)
        handle.drain()
        state["fail"] = False
        assert torch.equal(logits_of(model), expected)
        assert len(handle.drain()) == 2


@pytest.mark.parametrize("first_out", [0, 1])
def test_two_patches_go_in_any_order(first_out: int) -> None:
    model = model_of("llava")
    before, plain = snapshot(model), logits_of(model)
    one, two = Dim(-3.0, 3), Dim(2.0, 4)
    alone = []
    for method in (one, two):
        with patch(model, method):
            alone.append(logits_of(model))
    handles = [patch(model, one), patch(model, two)]
    both = logits_of(model)
    assert not any(torch.equal(both, other) for other in (plain, *alone))
    handles[first_out].remove()
    assert torch.equal(logits_of(model), alone[1 - first_out])
    handles[1 - first_out].remove()
    assert snapshot(model) == before
    assert torch.equal(logits_of(model), plain)


def test_closing_twice_and_another_back_end_take_nothing_from_a_session_that_is_open() -> None:
    model, inputs = model_of("llava"), inputs_of("llava")
    before = snapshot(model)
    with AttentionSession(model) as session:
        rows = session.read([2])
        first, beside = AttentionSession(model), AttentionSession(model, backend="hook")
        for other in (first, beside):
            with other:
                pass
            other.close()
            other.close()
        AttentionSession(model).close()
        with torch.no_grad():
            model(**inputs)
        assert list(rows) == [2]
    assert snapshot(model) == before


def test_two_patches_on_one_layer_add_up() -> None:
    model = model_of("llava")
    with patch(model, Dim(-3.0)):
        once = logits_of(model)
    with patch(model, Dim(-1.0)), patch(model, Dim(-2.0)):
        assert torch.allclose(logits_of(model), once, atol=1e-5)


def test_two_models_at_once_do_not_mix() -> None:
    llava, qwen = model_of("llava"), model_of("qwen2_vl")
    with patch(llava, Dim(-3.0)):
        only_llava = logits_of(llava)
    with patch(qwen, Dim(2.0)):
        only_qwen = logits_of(qwen, "qwen2_vl")
    results: dict[str, list[torch.Tensor]] = {"llava": [], "qwen2_vl": []}
    with patch(llava, Dim(-3.0)) as first, patch(qwen, Dim(2.0)) as second:
        work = [
            threading.Thread(target=lambda m=model, f=family: results[f].extend(logits_of(m, f) for _ in range(3)))
            for model, family in ((llava, "llava"), (qwen, "qwen2_vl"))
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    assert all(torch.equal(result, only_llava) for result in results["llava"])
    assert all(torch.equal(result, only_qwen) for result in results["qwen2_vl"])
    assert (len(results["llava"]), len(first.decisions), len(second.decisions)) == (3, 6, 6)


def test_a_handle_made_in_one_thread_works_in_another() -> None:
    """As with a streamer, which generates in a thread of its own."""
    model = model_of("llava")
    handle = patch(model, Dim())
    expected = logits_of(model)
    found: list[torch.Tensor] = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: found.append(logits_of(model)))
        thread.start()
        thread.join()
    assert torch.equal(logits_of(model), expected)
    handle.remove()
    assert all(torch.equal(result, expected) for result in found)
    assert len(handle.decisions) == 8


def in_two_threads(method: Any, wait_in: str) -> tuple[list[Any], list[BaseException]]:
    """A second thread generates while the first one is in its prompt, or between two steps."""
    model = model_of("llava")
    reached, go_on = threading.Event(), threading.Event()
    done: list[Any] = []
    errors: list[BaseException] = []

    def pause(*_: Any) -> None:
        if threading.current_thread().name == "first" and not reached.is_set():
            reached.set()
            go_on.wait(60)

    class Pausing:
        """Between two steps ``generate`` asks its logits processors."""

        def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            pause()
            return scores

    def work(**options: Any) -> None:
        try:
            done.append(model.generate(**inputs_of("llava", 2), max_new_tokens=4, min_new_tokens=4, **options))
        except Refused as error:
            errors.append(error)

    foreign = model.get_decoder().layers[2].register_forward_hook(pause) if wait_in == "the prompt" else None
    options = {} if wait_in == "the prompt" else {"logits_processor": [Pausing()]}
    with patch(model, method):
        first = threading.Thread(target=work, name="first", kwargs=options)
        first.start()
        assert reached.wait(60)
        second = threading.Thread(target=work)
        second.start()
        second.join()
        go_on.set()
        first.join()
    if foreign is not None:
        foreign.remove()
    return done, errors


class Nothing:
    """A method that does not look at attention at all."""

    def attach(self, module: nn.Module) -> Any:
        from contextlib import nullcontext

        return nullcontext()


@pytest.mark.parametrize("wait_in", ["the prompt", "a step"])
@pytest.mark.parametrize("method", [Dim(), Nothing()], ids=["with attention", "without"])
def test_two_threads_at_once_give_one_clear_error(method: Any, wait_in: str) -> None:
    before = snapshot(model_of("llava"))
    done, errors = in_two_threads(method, wait_in)
    assert (len(done), len(errors)) == (1, 1)
    assert "thread" in str(errors[0])
    assert "one model per thread" in str(errors[0].hint)  # type: ignore[attr-defined]
    assert snapshot(model_of("llava")) == before


def test_what_is_no_method_and_what_is_no_model() -> None:
    model = model_of("llava")
    before = snapshot(model)
    for wrong in (Dim, "contrastive-attention", object()):
        with pytest.raises(UsageError, match="is not a method that can be put onto a model"):
            patch(model, wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is not a model"):
        patch("llava", Dim())
    assert snapshot(model) == before


def test_a_method_that_refuses_leaves_no_trace() -> None:
    model = model_of("llava")
    before = snapshot(model)

    class Refusing:
        def attach(self, module: nn.Module) -> Any:
            raise Refused("not on this model", hint="another one")

    class RefusingLater(Dim):
        def attach(self, module: nn.Module) -> Any:
            attached = super().attach(module)
            attached.session.image_mask = None
            module.config.get_text_config()._attn_implementation_internal = "flex_attention"
            return attached

    with pytest.raises(Refused, match="not on this model"):
        patch(model, Refusing())
    try:
        with pytest.raises(Refused, match="flex"):
            patch(model, RefusingLater())
    finally:
        model.config.get_text_config()._attn_implementation_internal = "sdpa"
    assert snapshot(model) == before
