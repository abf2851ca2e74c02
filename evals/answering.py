"""Asking a predictor, and finding the samples at fault when it raises.

A predictor gets all samples at once, because it decodes ahead and batches as it likes. Bad samples normally come back as
predictions with an error. If it raises instead, the next samples are asked one by one: those that raise again are recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack

from toolkit.errors import DataError, PermafrostError
from toolkit.types import Prediction, Predictor, Sample

WINDOW = 256  # samples asked one by one after a raise; at least a large batch, so that the bad sample is among them
GIVE_UP = 16  # failures in a row, of the same kind, that are no longer blamed on the samples


class UnaskedAnswer(RuntimeError):
    """The predictor breaks its contract: a bug, not a fault of the data."""


def ask(predict: Predictor, samples: Sequence[Sample], on_error: str = "record") -> Iterator[Prediction]:
    """One prediction for each sample, in the predictor's order.

    Args:
        on_error: "record" turns an exception into failed predictions, "raise" lets it through.
    Raises: whatever the predictor raises if ``on_error`` is "raise", if no single sample is at fault, if sample after
        sample raises the same, or if it is an error that is not about data (missing weights, wrong use).
        UnaskedAnswer: if the predictor answers what was not asked.
    """
    waiting = {sample.id: sample for sample in samples}
    while waiting:
        try:
            yield from _stream(predict, list(waiting.values()), waiting.pop)
            yield from (Prediction(name, error="the predictor gave no answer to this sample") for name in list(waiting))
            return
        except Exception as error:
            if on_error == "raise" or not _about_data(error):
                raise
            failed = 0
            for prediction in _one_by_one(predict, list(waiting.values())[:WINDOW]):
                waiting.pop(prediction.id)
                failed += prediction.error is not None
                yield prediction
            if not failed:  # each of them is fine alone: the fault lies in the batch or in the machine
                raise


def _about_data(error: Exception) -> bool:
    return isinstance(error, DataError) or not isinstance(error, (PermafrostError, UnaskedAnswer))


def _stream(predict: Predictor, samples: Sequence[Sample], take: Callable[[str], object]) -> Iterator[Prediction]:
    answers = iter(predict(samples))
    with ExitStack() as stack:
        if hasattr(answers, "close"):
            stack.callback(answers.close)  # a generator then ends its worker processes, also on Ctrl-C
        for prediction in answers:
            try:
                take(prediction.id)
            except KeyError:
                raise UnaskedAnswer(f"the predictor answered {prediction.id!r}, which was not asked or was answered before") from None
            yield prediction


def _one_by_one(predict: Predictor, samples: Iterable[Sample]) -> Iterator[Prediction]:
    last, row = None, 0
    for sample in samples:
        try:
            answers = list(predict([sample]))
        except Exception as error:
            if not _about_data(error):
                raise
            row = row + 1 if type(error) is last else 1
            last = type(error)
            if row >= GIVE_UP:
                raise
            name = sample.image.name if sample.image is not None else sample.id
            yield Prediction(sample.id, error=f"{name}: {type(error).__name__}: {error}")
            continue
        row = 0
        if [answer.id for answer in answers] != [sample.id]:
            raise UnaskedAnswer(f"the predictor answered {[answer.id for answer in answers]} to the one sample {sample.id!r}")
        yield answers[0]
