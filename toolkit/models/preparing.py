"""Questions become rows: images opened once, prompts written, the processor called, what is wrong with one question said about it alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from torch import Tensor

from toolkit.errors import ImageError, ModelConfigError, UsageError
from toolkit.models.library import first_line
from toolkit.models.prompts import Prompter
from toolkit.models.rows import IDS, Row
from toolkit.types import ImageSource, Question

WORKERS = min(8, os.cpu_count() or 1)
_NO_INPUT = ("labels",)  # what processors add for training


class Failure(NamedTuple):
    """A question that could not be prepared, and why."""

    place: int
    error: Exception


class _Opened(NamedTuple):
    content_id: str
    picture: Any


class Preparer:
    """Prepares questions in threads, one stretch of them ahead of whoever takes them.

    Args:
        processor: the model's processor; it is called by one thread at a time, because fast tokenizers are not safe otherwise.
        limit: tokens that the model's positions reach.
        image_token_id: the placeholder of image features; None where it is not known.
    """

    def __init__(self, processor: Any, prompter: Prompter, *, limit: int | None, image_token_id: int | None) -> None:
        self.processor, self.prompter, self.limit, self.image_token_id = processor, prompter, limit, image_token_id
        self._lock = threading.Lock()

    def stretches(self, questions: Sequence[Question], size: int, room: Callable[[int], int]) -> Iterator[list[Row | Failure]]:
        """Stretches of ``size`` questions, in order; the next one is prepared while the caller works on one.

        Args:
            room: index -> tokens that are needed behind the prompt.
        """
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="prepare") as pool:
            waiting: list[Future[Row | Failure]] = []
            try:
                for start in range(0, len(questions) + size, size):
                    ready, waiting = waiting, self._submit(pool, questions, range(start, min(start + size, len(questions))), room)
                    if ready:
                        yield [future.result() for future in ready]
            finally:
                for future in waiting:
                    future.cancel()

    def _submit(
        self, pool: ThreadPoolExecutor, questions: Sequence[Question], indices: range, room: Callable[[int], int]
    ) -> list[Future[Row | Failure]]:
        # an image that several questions are about is opened once; the openings stand before all that waits for them
        sources = {_key(image): image for index in indices for image in questions[index].images}
        opened = {key: pool.submit(_open, image) for key, image in sources.items()}
        return [pool.submit(self._prepare, index, questions[index], opened, room(index)) for index in indices]

    def _prepare(self, index: int, question: Question, opened: dict[Hashable, Future[_Opened]], room: int) -> Row | Failure:
        try:
            images = [opened[_key(image)].result() for image in question.images]
            prompt, settings = self.prompter.render(question)
            data = self._process(prompt, [image.picture for image in images], settings)
            row = Row(index, data, tuple(image.content_id for image in images))
            self._check(row, room)
        except (ImageError, UsageError) as error:
            return Failure(index, error)
        return row

    def _process(self, prompt: str, pictures: list[Any], settings: dict[str, Any]) -> dict[str, Tensor]:
        pixels = {"images": [pictures]} if pictures else {}
        with self._lock:
            try:
                made = self.processor(text=[prompt], **pixels, return_tensors="pt", **settings)
            except Exception as error:  # processors raise whatever comes: a picture of one pixel, a ratio of 200 to 1
                raise UsageError(f"the processor of {self.prompter.name} cannot prepare this question: {first_line(error)}") from error
        return {key: value for key, value in made.items() if isinstance(value, Tensor) and key not in _NO_INPUT}

    def _check(self, row: Row, room: int) -> None:
        if row.pictures and self.image_token_id is not None and not bool((row.data[IDS] == self.image_token_id).any()):
            raise ModelConfigError(
                f"the processor of {self.prompter.name} wrote no image token (id {self.image_token_id}) for a question with a picture",
                hint="processor and model belong to different checkpoints",
            )
        if self.limit is not None and row.length + room > self.limit:
            raise UsageError(
                f"the prompt has {row.length} tokens and {room} are to follow, but the model reads at most {self.limit}",
                hint="ask a shorter question, with fewer or smaller pictures",
            )


def _open(source: ImageSource) -> _Opened:
    return _Opened(source.content_id(), source.load())


def _key(source: ImageSource) -> Hashable:
    return source if isinstance(source, Hashable) else id(source)
