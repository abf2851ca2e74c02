"""Predictors that raise: the samples at fault are found, and faults that are not the samples' are let through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from evals.answering import GIVE_UP, UnaskedAnswer, ask
from tests.unit.evals.helpers import answer, make_task
from toolkit.errors import DataError, ImageError, ModelNotFound
from toolkit.types import Prediction, Sample

SAMPLES = list(make_task(n=600).samples())


def in_batches(
    bad: set[str], size: int = 32, error: Callable[[str], Exception] = ValueError, calls: list[int] | None = None
) -> Callable[..., Iterator[Prediction]]:
    """Raises for a whole batch if one of its samples is bad."""

    def predict(samples: Sequence[Sample]) -> Iterator[Prediction]:
        if calls is not None:
            calls.append(len(samples))
        for begin in range(0, len(samples), size):
            batch = samples[begin : begin + size]
            for sample in batch:
                if sample.id in bad:
                    raise error(f"cannot do {sample.id}")
            yield from map(answer, batch)

    return predict


@pytest.mark.parametrize("bad", [{"s0000"}, {"s0100", "s0101"}, {"s0599"}, {"s0040", "s0400"}])
def test_only_the_samples_at_fault_fail(bad: set[str]) -> None:
    calls: list[int] = []
    found = {p.id: p for p in ask(in_batches(bad, calls=calls), SAMPLES)}
    assert {name for name, prediction in found.items() if prediction.error} == bad
    assert len(found) == 600
    name = min(bad)
    assert found[name].error == f"image {int(name[1:])}: ValueError: cannot do {name}"
    assert sum(size > 1 for size in calls) <= 2 * len(bad) + 1, "after the bad ones it goes on in batches"


def test_a_broken_image_is_a_sample_at_fault() -> None:
    found = list(ask(in_batches({"s0007"}, error=ImageError), SAMPLES[:20]))
    assert [p.id for p in found if p.error] == ["s0007"]


def test_raise_lets_it_through() -> None:
    with pytest.raises(ValueError, match="cannot do s0007"):
        list(ask(in_batches({"s0007"}), SAMPLES[:20], on_error="raise"))


def test_missing_weights_are_nobodys_sample() -> None:
    with pytest.raises(ModelNotFound):
        list(ask(in_batches({"s0007"}, error=ModelNotFound), SAMPLES[:20]))


def test_a_fault_of_the_batch_is_not_hidden_by_going_one_by_one() -> None:
    """Out of memory at batch size 32 must not become a silent run at batch size 1."""

    def predict(samples: Sequence[Sample]) -> Iterator[Prediction]:
        if len(samples) > 1:
            raise RuntimeError("out of memory")
        yield answer(samples[0])

    with pytest.raises(RuntimeError, match="out of memory"):
        list(ask(predict, SAMPLES))


def test_a_bug_that_hits_every_sample_ends_the_run() -> None:
    predictions = ask(in_batches({s.id for s in SAMPLES}, error=ZeroDivisionError), SAMPLES)
    recorded = [next(predictions) for _ in range(GIVE_UP - 1)]
    assert all(prediction.error for prediction in recorded)
    with pytest.raises(ZeroDivisionError):
        next(predictions)


def test_samples_without_an_answer_are_failures() -> None:
    found = list(ask(lambda samples: (answer(s) for s in samples[:-2]), SAMPLES[:10]))
    assert [(p.id, p.error) for p in found[-2:]] == [(f"s{i:04d}", "the predictor gave no answer to this sample") for i in (8, 9)]


@pytest.mark.parametrize("wrong", ["s9999", "s0000"])
def test_an_answer_to_what_was_not_asked_is_a_bug(wrong: str) -> None:
    def predict(samples: Sequence[Sample]) -> Iterator[Prediction]:
        yield answer(samples[0])
        yield Prediction(wrong, {"label": 0})

    with pytest.raises(UnaskedAnswer, match=wrong):
        list(ask(predict, SAMPLES[:3]))


def test_nothing_to_ask_asks_nobody() -> None:
    def never(samples: Sequence[Sample]) -> Iterator[Prediction]:
        raise AssertionError

    assert list(ask(never, [])) == []


def test_data_errors_about_one_sample_are_recorded() -> None:
    found = list(ask(in_batches({"s0001"}, error=DataError), SAMPLES[:4]))
    assert [p.error is not None for p in found].count(True) == 1
