"""What every method for multimodal language models is: a frozen config, a reversible attachment, and answers.

A method that works within one ``generate`` call only writes ``attach``. A method that looks at the images more than once writes
``answer`` as well, and refuses in ``attach`` on a plain model, because only an answerer has a processor and the images.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from toolkit.config import build_config
from toolkit.errors import DataError, UsageError
from toolkit.types import JSON, Answer, AnswerProblem, Prediction, Predictor, Question, Sample

if TYPE_CHECKING:
    from torch import nn

    from toolkit.models.base import Answerer

Notes = Callable[[], Sequence[Mapping[str, JSON]]]

__all__ = ["Attachment", "Intervention", "question_of"]


class Attachment(Protocol):
    """What ``attach`` returns: entering it changes the model, leaving it restores it, however the block ends.

    Attributes:
        decisions: one JSON mapping for every row of every prefill since it was entered, oldest first. Whoever reads them may
            remove them from the list.
    """

    decisions: list[dict[str, JSON]]

    def __enter__(self) -> Any: ...

    def __exit__(self, *exception: Any) -> bool | None: ...


class Intervention(ABC):
    """A method of the family "answer".

    Args:
        config: an instance of ``Config``; None takes the defaults.
        options: fields of ``Config`` by name, in place of, or on top of, ``config``.
    Raises: UsageError: for an unknown option, with near matches, or an impossible value.
    """

    name: ClassVar[str]
    """On the command line."""
    source: ClassVar[str]
    """Authors, year, arXiv id; and what differs from it."""
    Config: ClassVar[type[Any]]

    def __init__(self, config: Any = None, **options: Any) -> None:
        if config is not None and not isinstance(config, self.Config):
            raise UsageError(f"{self.name} takes a {self.Config.__name__} and got a {type(config).__name__}")
        if config is None:
            config = build_config(self.Config, options)
        elif options:
            given = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
            config = build_config(self.Config, given | options)
        self.config: Any = config

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config!r})"

    @abstractmethod
    def attach(self, module: nn.Module) -> AbstractContextManager[Any]:
        """A reversible change of ``module``, a transformers model. Nothing changes before the result is entered; see ``Attachment``.

        Use ``toolkit.patch``, which adds the rules for threads and nesting.
        Raises: Refused: if the method cannot keep its promise on this model.
        """

    def answer(
        self, answerer: Answerer, questions: Sequence[Question], *, max_new_tokens: int = 16, batch_size: int = 8, **generate_kwargs: Any
    ) -> list[Answer]:
        """The answers to ``questions``, in order, with what was decided about each in ``info["decision"]``. Raises: Refused."""
        from toolkit.patching import patch

        with patch(answerer, self) as handle:
            return answerer.answer(questions, max_new_tokens=max_new_tokens, batch_size=batch_size, notes=handle.drain, **generate_kwargs)

    def predictor(self, answerer: Answerer, problem: AnswerProblem, *, batch_size: int = 8) -> Predictor:
        """A function from samples to predictions, in order, one batch at a time.

        A prediction's output is ``{"answer": text, "tokens": [ids], ...}`` with the facts of ``Answer.info``; what could not be
        answered becomes a failed prediction.
        """

        def predict(samples: Sequence[Sample]) -> Iterator[Prediction]:
            for start in range(0, len(samples), batch_size):
                batch = samples[start : start + batch_size]
                questions = [question_of(sample) for sample in batch]
                answers = self.answer(answerer, questions, max_new_tokens=problem.max_new_tokens, batch_size=batch_size)
                yield from (_prediction(sample, answer) for sample, answer in zip(batch, answers, strict=True))

        return predict


def question_of(sample: Sample) -> Question:
    """The question of a VQA sample: its ``meta["prompt"]`` about its image. Raises: DataError: if it has no prompt.

    >>> question_of(Sample("7", meta={"prompt": "What is this?"}))
    Question(text='What is this?', images=(), id='7')
    """
    prompt = sample.meta.get("prompt")
    if not isinstance(prompt, str):
        raise DataError(f"sample {sample.id!r} has no prompt: it is no question", hint="choose a VQA task")
    return Question(prompt, () if sample.image is None else (sample.image,), sample.id)


def _prediction(sample: Sample, answer: Answer) -> Prediction:
    if answer.error is not None:
        return Prediction(sample.id, error=answer.error, seconds=answer.seconds)
    output = {**answer.info, "answer": answer.text, "tokens": list(answer.tokens)}
    return Prediction(sample.id, output=output, seconds=answer.seconds)
