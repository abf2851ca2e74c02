"""Frozen multimodal language models that answer questions about pictures: any AutoModelForImageTextToText of transformers.

Answers are greedy unless the caller says otherwise. Batches are padded on the left and hold questions of like length; answers come
back in the order of the questions. Where memory runs out the batch is halved, and every answer says in which batch it was made.
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from toolkit.config import fingerprint
from toolkit.errors import ImageError, ModelConfigError, PermafrostError, UsageError
from toolkit.images import as_source
from toolkit.models import generative
from toolkit.models.features import PIXELS, SharedFeatures
from toolkit.models.library import first_line
from toolkit.models.preparing import Failure, Preparer
from toolkit.models.prompts import Prompter
from toolkit.models.rows import IDS, Row, batches, collate
from toolkit.models.scoring import plan_rows, read_scores, total
from toolkit.types import JSON, Answer, Question

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import BatchEncoding

KINDS = ("AutoModelForImageTextToText",)
HINT = "give a multimodal language model in the format of transformers: local:DIR, hf:REPO or pocket-llava"
AHEAD = 4  # batches that are prepared together: long enough to sort by length, short enough for the pixels to fit in memory
# The library's own values of the flags of sampling: greedy decoding with these is silent, whatever generation_config.json says.
GREEDY: Mapping[str, Any] = {
    "do_sample": False, "num_beams": 1, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "min_p": None, "top_h": None, "typical_p": 1.0,
    "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "max_length": None,
}  # fmt: skip
Notes = Callable[[], Sequence[Mapping[str, JSON]]]
T = TypeVar("T")


class Mllm:
    """An answerer (toolkit.models.base.Answerer) around a transformers model and its processor.

    Args:
        name: what messages and records call it.
        module: the model; put into eval mode, gradients off.
        processor: the model's processor, with tokenizer, image processor and, for most families, a chat template.
        identity: what the fingerprint is made of; None hashes the weights in memory when the fingerprint is first asked for.
        info: facts for records, such as dtype and devices.
    Raises: ModelConfigError: model or processor cannot answer questions about pictures.
    """

    def __init__(self, name: str, module: Any, processor: Any, *, identity: JSON = None, info: Mapping[str, JSON] | None = None) -> None:
        if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
            raise ModelConfigError(f"the processor of {name} is a {type(processor).__name__}, not one for text and pictures", hint=HINT)
        if module.config.is_encoder_decoder or not module.can_generate():
            raise ModelConfigError(f"{name} is a {type(module).__name__}; expected a model with a causal decoder that generates", hint=HINT)
        self.name, self.processor, self.tokenizer = name, processor, processor.tokenizer
        self.module: Any = module.eval().requires_grad_(False)
        self.info: Mapping[str, JSON] = dict(info or {})
        self._identity = identity
        template = getattr(processor, "chat_template", None)
        self._template = None if template is None else fingerprint(str(template))[:16]  # two prompts are one only under one template
        text = module.config.get_text_config()
        token = getattr(module.config, "image_token_id", None) or getattr(module.config, "image_token_index", None)
        limit = getattr(text, "max_position_embeddings", None)
        self._preparer = Preparer(processor, Prompter(processor, module.config, name), limit=limit, image_token_id=token)
        self._features = SharedFeatures(module, token)
        eos = module.generation_config.eos_token_id
        eos = self.tokenizer.eos_token_id if eos is None else eos
        self._eos = [] if eos is None else list(eos) if isinstance(eos, (list, tuple)) else [int(eos)]
        pad = self.tokenizer.pad_token_id
        self._pad = int(pad if pad is not None else self._eos[0] if self._eos else 0)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {type(self.module).__name__}, dtype={self.dtype})"

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over weights, processor, tokenizer, quantisation and dtype: equal ones give equal answers."""
        return fingerprint(self._identity if self._identity is not None else generative.identity_in_memory(self.module, self.processor))

    @property
    def dtype(self) -> torch.dtype:
        """Of the parts that are not quantised."""
        dtype: torch.dtype = self.module.dtype
        return dtype

    @property
    def image_size(self) -> int | None:
        """Input side of the vision tower in pixels; None for towers that take any size."""
        size = getattr(getattr(self.module.config, "vision_config", None), "image_size", None)
        return None if size is None else int(size if isinstance(size, int) else size[0])

    def answer(
        self, questions: Sequence[Question], *, max_new_tokens: int = 16, batch_size: int = 8, notes: Notes | None = None,
        share_pictures: bool = True, **generate_kwargs: Any,
    ) -> list[Answer]:  # fmt: skip
        """One answer for every question, in order.

        Args:
            notes: called once after every ``generate``; gives one mapping for every row of that batch, for ``info["decision"]``.
            share_pictures: encode a picture that several questions are about once. False gives every ``generate`` the pixels.
            generate_kwargs: for ``generate``; without any it is greedy, whatever the checkpoint's generation_config says.
        Returns: answers whose ``error`` is set where a picture cannot be read, a prompt is too long, or memory does not suffice for one
            question. ``info`` holds prompt_tokens, batch_size, stopped ("end" or "length"), chat_template (start of its hash), and
            batch_halved_from where it was.
        Raises: UsageError, ModelConfigError: what is wrong concerns all questions.
        """
        common: dict[str, Any] = {"max_new_tokens": max_new_tokens, "batch_size": batch_size, "share_pictures": share_pictures}
        answers = dict(self.iter_answers(questions, notes=notes, **common, **generate_kwargs))
        return [answers[index] for index in range(len(questions))]

    def iter_answers(
        self, questions: Sequence[Question], *, max_new_tokens: int = 16, batch_size: int = 8, notes: Notes | None = None,
        share_pictures: bool = True, **generate_kwargs: Any,
    ) -> Iterator[tuple[int, Answer]]:  # fmt: skip
        """The same as a stream of (index of the question, answer), batch by batch as they get ready."""
        if max_new_tokens < 1:
            raise UsageError(f"max_new_tokens is {max_new_tokens}; expected at least 1")
        if generate_kwargs.get("num_return_sequences", 1) != 1:
            raise UsageError("an answerer gives one answer to a question", hint="ask it several times with do_sample=True and other seeds")
        settings = self._settings(max_new_tokens, generate_kwargs)

        def generate(rows: list[Row]) -> list[Answer]:
            return self._generate(rows, settings, notes)

        def forget() -> None:
            if notes is not None:
                notes()

        work = self._work(questions, batch_size, lambda index: max_new_tokens, generate, forget, share=share_pictures)
        for row, outcome, size in work:
            answer = outcome if isinstance(outcome, Answer) else Answer(error=_sentence(outcome))
            yield row.index, answer if size == batch_size else replace(answer, info={**answer.info, "batch_halved_from": batch_size})

    def score(
        self, questions: Sequence[Question], continuations: Sequence[Sequence[str]], *, normalise: str = "sum", batch_size: int = 8
    ) -> list[Tensor]:
        """Log-probabilities of continuations behind the prompts, as options of multiple choice or for VQAScore.

        A continuation is tokenised as it stands, without special tokens, and appended to the prompt's tokens: where a model begins its
        words with a space, write one. One forward pass serves all continuations of a question that differ in their last token only.

        Args:
            continuations: for every question its options; none may be empty.
            normalise: "sum" of the tokens' log-probabilities, or their "mean".
        Returns: for every question a float32 tensor on the CPU with one number for each option.
        Raises: UsageError: for anything empty or of another length. ImageError: on the first picture that cannot be read.
        """
        if normalise not in ("sum", "mean"):
            raise UsageError(f"there is no normalisation called {normalise!r}", hint="sum or mean")
        if len(continuations) != len(questions):
            raise UsageError(f"there are {len(questions)} questions and continuations for {len(continuations)}")
        tokens = [[self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in options] for options in continuations]
        if any(not ids for options in tokens for ids in options) or any(not options for options in tokens):
            raise UsageError("a continuation is empty, or a question has none", hint="give every question at least one option with text")
        found: list[dict[int, float]] = [{} for _ in questions]

        def forward(rows: list[Row]) -> list[dict[int, float]]:
            return read_scores(self.module, self._inputs(rows, share=True), rows)

        longest = [max(map(len, options)) for options in tokens]
        work = self._work(questions, batch_size, longest.__getitem__, forward, expand=lambda row: plan_rows(row, tokens[row.index]))
        for row, outcome, _ in work:
            if isinstance(outcome, Exception):
                raise outcome
            found[row.index] |= outcome
        return [total(scores, options, mean=normalise == "mean") for scores, options in zip(found, tokens, strict=True)]

    def inputs(self, questions: Sequence[Question]) -> BatchEncoding:
        """What ``generate`` gets for these questions, as one left-padded batch on the model's device, pixels included.

        Raises: ImageError, UsageError: on the first question that cannot be prepared.
        """
        from transformers import BatchEncoding

        rows = []
        for stretch in self._preparer.stretches(_checked(questions), max(1, len(questions)), lambda index: 1):
            for row in stretch:
                if isinstance(row, Failure):
                    raise row.error
                rows.append(row)
        if len({tuple(sorted(row.data)) for row in rows}) != 1:
            raise UsageError("questions with and without pictures do not fit into one batch", hint="ask them apart")
        return BatchEncoding(self._inputs(rows, share=False))

    def _settings(self, max_new_tokens: int, given: Mapping[str, Any]) -> dict[str, Any]:
        settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "pad_token_id": self._pad}
        if self._eos:
            settings["eos_token_id"] = self._eos
        if "generation_config" in given:
            return {"pad_token_id": self._pad, **given} if "max_new_tokens" in given else settings | dict(given)
        neutral = {key: value for key, value in GREEDY.items() if hasattr(self.module.generation_config, key)}
        if given.get("do_sample"):  # the checkpoint's own temperature and the like are what the caller asks for
            neutral = {key: neutral[key] for key in ("num_beams", "max_length") if key in neutral}
        return {**neutral, **settings, **given}

    def _work(
        self, questions: Sequence[Question], batch_size: int, room: Callable[[int], int], call: Callable[[list[Row]], list[T]],
        forget: Callable[[], None] = lambda: None, expand: Callable[[Row], list[Row]] = lambda row: [row], share: bool = True,
    ) -> Iterator[tuple[Row, T | Exception, int]]:  # fmt: skip
        """Prepare, batch and call: (row, result, batch size in force). Where memory runs out the batch is halved for good.

        Args:
            room: index of a question -> tokens needed behind its prompt. expand: the rows to make of a prepared one.
            forget: follows every call that failed. share: whether pictures of several questions are encoded once.
        """
        if batch_size < 1:
            raise UsageError(f"the batch size is {batch_size}; expected at least 1")
        size = batch_size
        for stretch in self._preparer.stretches(_checked(questions), AHEAD * batch_size, room):
            yield from ((Row(failed.place, {}), failed.error, size) for failed in stretch if isinstance(failed, Failure))
            rows = [part for row in stretch if isinstance(row, Row) for part in expand(row)]
            self._features.expect(rows if share else [])
            queue = deque(batches(rows, size))
            while queue:
                batch = queue.popleft()
                if len(batch) > size:
                    queue.extendleft([batch[size:], batch[:size]])
                    continue
                results = self._attempt(call, batch, forget)
                if results is not None:
                    yield from ((row, result, size) for row, result in zip(batch, results, strict=True))
                elif len(batch) > 1:
                    size = len(batch) // 2
                    queue.appendleft(batch)
                else:
                    yield batch[0], UsageError("memory does not suffice for this question alone"), size
            self._features.clear()

    def _attempt(self, call: Callable[[list[Row]], list[T]], batch: list[Row], forget: Callable[[], None]) -> list[T] | None:
        """None where memory ran out."""
        try:
            return call(batch)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError, ValueError) as error:
            forget()
            if "do not match" in str(error) and "image" in str(error).lower():
                raise ModelConfigError(
                    f"the processor of {self.name} writes another number of image tokens than its vision tower makes: {first_line(error)}",
                    hint="patch_size, num_additional_image_tokens or vision_feature_select_strategy of the processor are wrong",
                ) from error
            if not _is_out_of_memory(error):
                raise
        except BaseException:
            forget()
            raise
        # here the traceback, and with it what the failed call held, is gone
        self._features.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

    def _inputs(self, rows: Sequence[Row], *, share: bool) -> dict[str, Any]:
        """One batch on the model's device. ``share``: pictures that several questions are about come encoded, not as pixels."""
        encoded = self._features.encoded(rows, self._batch) if share else None
        if encoded is None:
            return self._batch(rows, tuple(rows[0].data))
        return {**self._batch(rows, [key for key in rows[0].data if key not in PIXELS]), "mm_encoder_outputs": {"image": encoded}}

    def _batch(self, rows: Sequence[Row], keys: Sequence[str]) -> dict[str, Any]:
        pads = {IDS: self._pad}
        if hasattr(self.processor, "qformer_tokenizer"):
            pads["qformer_input_ids"] = self.processor.qformer_tokenizer.pad_token_id or 0
        made = collate(rows, keys, pads, self.module.config.model_type)
        place = generative.input_device(self.module)
        return {key: value.to(place, self.dtype if value.is_floating_point() else None, non_blocking=True) for key, value in made.items()}

    def _generate(self, rows: list[Row], settings: Mapping[str, Any], notes: Notes | None) -> list[Answer]:
        start = time.perf_counter()
        with torch.no_grad():
            inputs = self._inputs(rows, share=True)
            made = self.module.generate(**inputs, **settings)
        sequences = getattr(made, "sequences", made)
        prompt = inputs[IDS]
        if sequences.shape[1] >= prompt.shape[1] and torch.equal(sequences[:, : prompt.shape[1]], prompt.to(sequences.device)):
            sequences = sequences[:, prompt.shape[1] :]
        new = [self._cut(ids, settings) for ids in sequences.tolist()]
        decisions = _decisions(notes, len(rows))
        texts = self.tokenizer.batch_decode([ids for ids, _ in new], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        seconds = (time.perf_counter() - start) / len(rows)
        answers = []
        for number, (row, text, (ids, ended)) in enumerate(zip(rows, texts, new, strict=True)):
            info: dict[str, JSON] = {"prompt_tokens": row.length, "batch_size": len(rows), "stopped": "end" if ended else "length"}
            info["chat_template"] = self._template
            if decisions is not None:
                info["decision"] = dict(decisions[number])
            answers.append(Answer(text=text, tokens=tuple(ids), seconds=seconds, info=info))
        return answers

    def _cut(self, ids: list[int], settings: Mapping[str, Any]) -> tuple[list[int], bool]:
        """The tokens up to the end token, which is included, and whether there was one."""
        ends = settings.get("eos_token_id", self._eos)
        ends = {ends} if isinstance(ends, int) else set(ends or ())
        end = next((place for place, token in enumerate(ids) if token in ends), None)
        if end is not None:
            return ids[: end + 1], True
        while ids and ids[-1] == settings["pad_token_id"]:  # behind a stop string
            ids = ids[:-1]
        return ids, len(ids) < settings.get("max_new_tokens", 0)


def load_folder(
    folder: Path, *, name: str, device: str | torch.device, dtype: str | torch.dtype, quantise: int | None,
    device_map: generative.DeviceMap | None, allow_pickle: bool,
) -> Mllm:  # fmt: skip
    """An answerer from a folder as save_pretrained writes it.

    Raises: as ``generative.load_folder``, and ModelConfigError: there is no usable processor.
    """
    loaded = generative.load_folder(
        folder, KINDS, device=device, dtype=dtype, quantise=quantise, device_map=device_map, allow_pickle=allow_pickle, hint=HINT
    )
    return Mllm(name, loaded.module, generative.load_processor(folder), identity=loaded.identity, info=loaded.info)


def wrap_answerer(model: Any, processor: Any, name: str = "model in memory") -> Mllm:
    """An answerer around a transformers model and its processor as they are, on the devices where the model lies.

    Raises: ModelConfigError: they cannot answer questions about pictures, or have no chat template and no documented prompt.
    """
    return Mllm(name, model, processor)


def _checked(questions: Sequence[Question]) -> list[Question]:
    """Questions whose images are sources. Raises: UsageError: for anything that is no Question or no image."""
    for question in questions:
        if not isinstance(question, Question):
            raise UsageError(f"a {type(question).__name__} is no question", hint="give toolkit.Question(text, (image, ...))")
    return [replace(question, images=tuple(as_source(image) for image in question.images)) for question in questions]


def _decisions(notes: Notes | None, rows: int) -> list[Mapping[str, JSON]] | None:
    """One decision for each row; of the beams of a question, which are decided alike, the first one's."""
    found = list(notes()) if notes is not None else []
    if not found:
        return None
    if len(found) % rows:
        raise RuntimeError(f"there are {len(found)} decisions about a batch of {rows}")
    return found[:: len(found) // rows]


def _sentence(error: Exception) -> str:
    hint = error.hint if isinstance(error, PermafrostError) else None
    return f"{error} ({hint})" if hint and not isinstance(error, ImageError) else str(error)


def _is_out_of_memory(error: BaseException) -> bool:
    words = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "out of memory" in words or "can't allocate memory" in words
