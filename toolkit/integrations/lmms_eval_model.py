"""Any answerer with any answering method as a model of lmms-eval. Imported by lmms-eval only; see docs/lmms_eval.md."""

from __future__ import annotations

import copy
import itertools
import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms

from toolkit.config import parse_options
from toolkit.errors import DataError, PermafrostError, Refused, UsageError
from toolkit.files import append_jsonl
from toolkit.images import as_source
from toolkit.methods import build_method, family_of
from toolkit.models.registry import load_answerer
from toolkit.types import JSON, Answer, Question

__all__ = ["PermafrostLmm", "first_part", "generation_settings", "model_name", "question_text"]

_LOG = logging.getLogger(__name__)
_PASSED_ON = ("top_p", "top_k", "num_beams", "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "min_new_tokens")
_MOST_NEW_TOKENS = 1024  # what the models of lmms-eval take where a task names no limit
_PLACE = "<image>"
_HINT = "choose a task with output_type generate_until"


class PermafrostLmm(lmms):  # type: ignore[misc] # the class is Any where lmms-eval is not installed
    """A frozen multimodal language model with a method on it.

    Args:
        pretrained: a name as everywhere (local:DIR, hf:REPO, pocket-llava), a folder, or a repository of the hub without "hf:".
        method: of the family "answer".
        decisions: the JSON-lines file to which the decision about each sample is appended; without it, permafrost_decisions.jsonl in
            the folder of this model under ``--output_path``.
        quantise: 4 or 8.
        options: of the method.
    Raises: UsageError: for an unknown method or option. ModelNotFound and others: as ``load_answerer``.
    """

    is_simple = True

    def __init__(
        self, pretrained: str = "llava-hf/llava-1.5-7b-hf", method: str = "plain", device: str | None = None, dtype: str = "auto",
        batch_size: int | str = 1, max_batch_size: int | None = None, quantise: int | None = None, device_map: str | None = None,
        offline: bool = False, decisions: str | None = None, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        from accelerate import Accelerator

        if family_of(method) != "answer":
            raise UsageError(f"{method} answers no questions", hint="see: permafrost list methods")
        self.options = read_options(options)
        self.method = build_method(method, self.options)
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        if self._world_size > 1:
            device = str(self.accelerator.device)
        self.answerer: Any = load_answerer(
            model_name(pretrained), device=device or "auto", dtype=dtype, quantise=quantise, device_map=device_map, offline=offline
        )
        self.device: torch.device = next(self.answerer.module.parameters()).device
        self.batch_size = int(batch_size) if str(batch_size).isdigit() else 1
        self._record = decisions_file(pretrained, decisions, self._rank)
        if self._record is None:
            _LOG.warning("the decisions of %s are not written: give --output_path or decisions=FILE", method)

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """The answers, in order. Raises: DataError: after all have been tried, if any failed; an answer is never empty for that."""
        # The arguments belong to lmms-eval, which makes the key of its cache from them after this call: only copies are touched.
        jobs = [(request, copy.deepcopy(request.args[1])) for request in requests]
        groups: dict[str, list[int]] = {}
        for index, (_, settings) in enumerate(jobs):
            groups.setdefault(json.dumps(settings, sort_keys=True, default=str), []).append(index)
        texts: dict[int, str] = {}
        failed: list[str] = []
        for members in groups.values():
            limit, until, settings = generation_settings(jobs[members[0]][1])
            for start in range(0, len(members), 8 * self.batch_size):  # a few batches: so many pictures fit into memory
                part = members[start : start + 8 * self.batch_size]
                answers = self._answer([requests[index] for index in part], limit, settings)
                self._write([requests[index] for index in part], answers)
                for index, answer in zip(part, answers, strict=True):
                    if answer.text is None:
                        failed.append(f"{requests[index].task_name} {requests[index].doc_id}: {answer.error}")
                    texts[index] = first_part(answer.text or "", until)
        if failed:
            raise DataError(f"{len(failed)} of {len(requests)} questions could not be answered; the first: {failed[0]}")
        return [texts[index] for index in range(len(requests))]

    def _answer(self, requests: Sequence[Instance], limit: int, settings: Mapping[str, Any]) -> list[Answer]:
        answers: dict[int, Answer] = {}
        questions: dict[int, Question] = {}
        for index, request in enumerate(requests):
            try:
                questions[index] = self._question(request)
            except Exception as error:  # the task's own code reads the pictures and may raise anything
                answers[index] = Answer(error=f"{type(error).__name__}: {error}")
        try:
            given = self.method.answer(
                self.answerer, list(questions.values()), max_new_tokens=limit, batch_size=self.batch_size, **settings
            )  # fmt: skip
        except Exception as error:
            if isinstance(error, PermafrostError):
                raise  # this concerns all questions, and says how to go on
            given = [Answer(error=f"{type(error).__name__}: {error}")] * len(questions)
        answers |= dict(zip(questions, given, strict=True))
        return [answers[index] for index in range(len(requests))]

    def _question(self, request: Instance) -> Question:
        context, _, doc_to_visual, doc_id, task, split = request.args
        visuals = doc_to_visual(self.task_dict[task][split][doc_id]) or []
        return Question(question_text(context), tuple(as_source(visual) for visual in visuals), f"{task}/{doc_id}")

    def _write(self, requests: Sequence[Instance], answers: Sequence[Answer]) -> None:
        if self._record is None:
            return
        append_jsonl(self._record, [self._line(request, answer) for request, answer in zip(requests, answers, strict=True)])

    def _line(self, request: Instance, answer: Answer) -> dict[str, JSON]:
        options: dict[str, JSON] = dict(self.options)
        line: dict[str, JSON] = {"task": request.task_name, "split": request.args[5], "doc_id": request.doc_id}
        line |= {"model": self.answerer.name, "method": self.method.name, "options": options}
        return line | {"answer": answer.text, "error": answer.error, "decision": answer.info.get("decision")}

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Raises: Refused: a method works on prompts, and a prompt with the option behind it is another prompt."""
        raise Refused("this task compares log-likelihoods, which methods do not change", hint=_HINT)

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Raises: Refused."""
        raise Refused("this task asks in several rounds", hint=_HINT)

    def clean(self) -> None:
        """Let go of the model's memory, at the end of a run."""
        self.answerer = None
        super().clean()


def model_name(pretrained: str) -> str:
    """The name for ``load_answerer``.

    >>> model_name("llava-hf/llava-1.5-7b-hf"), model_name("pocket-llava"), model_name("local:x")
    ('hf:llava-hf/llava-1.5-7b-hf', 'pocket-llava', 'local:x')
    """
    if Path(pretrained).is_dir():
        return f"local:{pretrained}"
    return f"hf:{pretrained}" if "/" in pretrained and ":" not in pretrained else pretrained


def read_options(options: Mapping[str, Any]) -> dict[str, JSON]:
    """Options of a method as ``--model_args`` gives them: what is still text is read as on our own command line.

    >>> read_options({"rho": 0.2, "layers": "[3, 4]", "where": "logit_bias"})
    {'rho': 0.2, 'layers': [3, 4], 'where': 'logit_bias'}
    """
    return {
        key: parse_options([f"{key}={value}"])[key.replace("-", "_")] if isinstance(value, str) else value for key, value in options.items()
    }


def generation_settings(given: Mapping[str, Any]) -> tuple[int, list[str], dict[str, Any]]:
    """The generation arguments of a task as (most new tokens, strings at which an answer ends, arguments for ``generate``).

    >>> generation_settings({"until": ["\\n"], "max_new_tokens": 16, "temperature": 0, "top_p": None})
    (16, ['\\n'], {})
    """
    rest = dict(given)
    until = rest.pop("until", None) or []
    limit = rest.pop("max_new_tokens", None) or rest.pop("max_gen_toks", None) or _MOST_NEW_TOKENS
    temperature, sample = rest.pop("temperature", None) or 0, rest.pop("do_sample", None)
    settings: dict[str, Any] = {name: rest[name] for name in _PASSED_ON if rest.get(name) is not None}
    if sample or temperature > 0:
        settings |= {"do_sample": True, "temperature": temperature or 1.0}
    else:
        settings.pop("top_p", None)  # they shape sampling, and there is none
        settings.pop("top_k", None)
    if settings.get("num_beams") == 1:
        del settings["num_beams"]
    ignored = sorted(name for name in rest if name not in _PASSED_ON)
    if ignored:
        _LOG.warning("generation arguments of the task without effect here: %s", ", ".join(ignored))
    return int(limit), [until] if isinstance(until, str) else list(until), settings


def first_part(text: str, until: Iterable[str]) -> str:
    """An answer up to the first of the strings that end it. White space before it ends nothing.

    >>> first_part("\\n\\nred\\n\\nand", ["\\n\\n"])
    'red'
    """
    text = text.strip()
    return min((text.partition(end)[0] for end in until if end), key=len, default=text).strip()


def question_text(context: str) -> str:
    """A context without the image tokens before it, which the chat template sets. Raises: DataError: for tokens within the text.

    >>> question_text("<image>\\nWhat is this?")
    'What is this?'
    """
    text = context
    while text.lstrip().startswith(_PLACE):
        text = text.lstrip()[len(_PLACE) :]
    if _PLACE in text:
        raise DataError("the prompt has pictures between its words; here they stand before it")
    return text.lstrip("\n") if text != context else context


def decisions_file(pretrained: str, given: str | None, rank: int) -> Path | None:
    """Where decisions are written: ``given``, or beside the samples, if the command line says where those go."""
    if given is not None:
        path = Path(given)
    else:
        from lmms_eval.utils import sanitize_model_name

        words = sys.argv
        found = [after for word, after in itertools.pairwise(words) if word == "--output_path"]
        found += [word.partition("=")[2] for word in words if word.startswith("--output_path=")]
        if not found:
            return None
        path = Path(found[-1]) / str(sanitize_model_name(pretrained)) / "permafrost_decisions.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path if rank == 0 else path.with_name(f"{path.stem}_{rank}{path.suffix}")
