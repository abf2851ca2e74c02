"""Layer discovery: which layers of a model fuse image and text, and which one looks at the image again.

Two profiles in one run that can be interrupted: the masking study (what does it cost to hide the image in one layer?) and the
Hellinger profile (how does the attention to the image move from layer to layer?). Fixed rules make a calibration file of them,
which ``contrastive-attention`` reads: ``candidates=FILE``.

Source of both: Song, Li, Yu, arXiv 2601.08151. The rules and the reading of "masking" in three variants are ours: docs/discover.md.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.attention import AttentionSession, Prefill
from toolkit.errors import DataError, ImageError, UsageError, unknown_name
from toolkit.files import append_jsonl, atomic_write_json, read_json, read_jsonl
from toolkit.images import ArrayImage
from toolkit.methods.interventions.base import question_of
from toolkit.methods.interventions.contrast import distribution
from toolkit.methods.interventions.contrastive_attention_layers import CALIBRATION_SCHEMA, read_calibration
from toolkit.methods.interventions.discover_rules import VARIANTS, Rules, choose, drops, profile
from toolkit.patching import patch
from toolkit.stats import mean_ci
from toolkit.types import JSON, Answer, Question, Sample

if TYPE_CHECKING:
    from toolkit.models.base import Answerer

METHOD_VERSION = 1
"""Raised when the profiles or the rules change what they find."""
CALIBRATION, STUDY, RECORDS = "calibration.json", "study.json", "study.jsonl"
AHEAD = 4  # batches whose images are decoded once for all layers

__all__ = ["Masking", "StudyOptions", "Survey", "discover", "distances"]

Score = Callable[[Sample, str], float]
Progress = Callable[[int, int, int], None]


class StudyOptions(NamedTuple):
    """How to study.

    Attributes:
        variants: masking studies; block_at, which the rules need, is always one of them.
        batch_size: questions a forward pass. seed: of intervals and tests; the samples were drawn by the caller.
        max_new_tokens: length of an answer.
    """

    variants: tuple[str, ...] = ("block_at",)
    seed: int = 0
    max_new_tokens: int = 16
    batch_size: int = 8
    rules: Rules = Rules()

    def all_variants(self) -> tuple[str, ...]:
        """Raises: UsageError: for an unknown one."""
        for name in self.variants:
            if name not in VARIANTS:
                raise unknown_name("variant of the masking study", name, VARIANTS)
        return tuple(name for name in VARIANTS if name == "block_at" or name in self.variants)


class Masking:
    """The image hidden from the text at one layer, as something that can be patched onto a model.

    Args:
        variant: "block_at", "block_from" or "zero_from". layer: from 0.
    """

    def __init__(self, variant: str, layer: int) -> None:
        self.variant, self.layer = variant, layer

    def attach(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Raises: Refused: for a layer without self-attention, or a prompt longer than its window."""
        session = AttentionSession(module)
        if self.variant == "zero_from":
            session.scale_residual(self.layer, 0.0)
        else:
            session.block(range(self.layer, session.depth if self.variant == "block_from" else self.layer + 1))
        return session


class Survey:
    """Reads the attention of the last prompt token in all layers and changes nothing. Each decision is the triangle of ``distances``."""

    def attach(self, module: nn.Module) -> _Surveying:
        return _Surveying(module)


class _Surveying:
    def __init__(self, module: nn.Module) -> None:
        self.decisions: list[dict[str, JSON]] = []
        self._session = AttentionSession(module)
        self._rows = self._session.read(range(self._session.depth))
        self._session.on_prefill_end(self._finish)

    def __enter__(self) -> _Surveying:
        self._session.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        return self._session.__exit__(kind, error, trace)

    def _finish(self, prefill: Prefill) -> None:
        for row, mask in enumerate(prefill.image_mask):
            seen = mask.nonzero().flatten()
            heads = [self._rows[layer][row][:, seen.to(self._rows[layer].device)].mean(dim=0).cpu() for layer in self._rows.layers]
            self.decisions.append({"hellinger": distances(torch.stack(heads))})


def distances(attention: Tensor) -> list[float]:
    """H(P(i), P(j)) for all i < j, row by row: (0, 1), (0, 2), ... (n - 2, n - 1); seven digits.

    Args:
        attention: (n, V) float, the head-mean attention of each layer to the image tokens.
    Source: arXiv 2601.08151, Hellinger distance between layers.
    >>> distances(torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.0, 3.0]]))
    [0.5411961, 0.5411961, 1.0]
    """
    roots = distribution(attention.double()).sqrt()
    apart = torch.cdist(roots, roots, compute_mode="donot_use_mm_for_euclid_dist") / math.sqrt(2)
    first, second = torch.triu_indices(len(roots), len(roots), 1)
    return [float(f"{min(value, 1.0):.7g}") for value in apart[first, second].tolist()]


def discover(
    answerer: Answerer,
    samples: Sequence[Sample],
    score: Score,
    folder: Path,
    options: StudyOptions | None = None,
    *,
    about: Mapping[str, JSON],
    resume: bool = True,
    progress: Progress | None = None,
) -> dict[str, JSON]:
    """Study a model and write ``folder``/calibration.json. Run again after an interruption it goes on, and writes the same file.

    Args:
        answerer: with image tokens in its prompts. samples: questions; ``meta["prompt"]`` is what the model is told.
        score: what an answer is worth, in [0, 1].
        folder: also gets study.json (what is studied) and study.jsonl (every answer).
        about: facts for the file and what must agree to go on: task, data_fingerprint, scorer, prompt_hash, limit. "versions" need not.
        resume: go on with what is in ``folder``; otherwise it is removed.
        progress: called with (done, total, failed) answers.
    Returns: the content of the calibration file. Layers in it are counted from 0.
    Raises: UsageError: if the folder holds another study. DataError: if no question could be answered. Refused: if the model cannot be
        studied. SiteNotFound.
    """
    options = options or StudyOptions()
    study = _Study(answerer, list(samples), score, folder, options, about)
    study.begin(resume)
    study.run(progress)
    result = study.calibration()
    path = atomic_write_json(folder / CALIBRATION, result)
    read_calibration(path)  # what is written can be read: one form, checked in one place
    return result


class _Study:
    def __init__(
        self, answerer: Answerer, samples: list[Sample], score: Score, folder: Path, options: StudyOptions, about: Mapping[str, JSON]
    ) -> None:
        if not samples:
            raise DataError("there are no questions to study a model with")
        self.answerer, self.samples, self.score, self.folder = answerer, samples, score, folder
        self.options, self.about = options, dict(about)
        self.variants = options.all_variants()
        session = AttentionSession(answerer.module)
        session.read(range(session.depth))  # a model that has layers without self-attention is refused before the first answer
        self.depth = session.depth
        self.records: dict[tuple[str, str], Mapping[str, JSON]] = {}
        self.done = 0

    # --- What is on file

    def begin(self, resume: bool) -> None:
        """Agree with what is in the folder, or remove it."""
        ids = hashlib.sha256("\n".join(sample.id for sample in self.samples).encode("utf-8", "surrogatepass")).hexdigest()
        kept = {name: value for name, value in self.about.items() if name != "versions"}
        what = {"schema": CALIBRATION_SCHEMA, "method_version": METHOD_VERSION, "fingerprint": self.answerer.fingerprint, **kept}
        what |= {"samples": ids, "max_new_tokens": self.options.max_new_tokens}
        study, records = self.folder / STUDY, self.folder / RECORDS
        if not resume:
            for path in (study, records, self.folder / CALIBRATION):
                path.unlink(missing_ok=True)
        if study.exists():
            old = read_json(study)
            apart = sorted(name for name in what if not isinstance(old, dict) or old.get(name) != what[name])
            if apart:
                raise UsageError(
                    f"{self.folder} holds another study; it differs in {', '.join(apart)}",
                    hint="choose another --output, or start afresh with --no-resume",
                )
        elif records.exists():
            raise UsageError(f"{records} belongs to no {STUDY}", hint="choose another --output, or start afresh with --no-resume")
        else:
            atomic_write_json(study, what)
        for number, line in enumerate(read_jsonl(records) if records.exists() else (), start=1):
            if not isinstance(line, dict) or not {"condition", "id"} <= line.keys() or ("score" in line) == ("error" in line):
                raise DataError(f"{records}, line {number} is not a record of a study", hint="start afresh with --no-resume")
            self.records[line["condition"], line["id"]] = line

    def scores(self, condition: str) -> dict[str, float]:
        """The scores of one condition, in the order of the samples."""
        found = ((sample.id, self.records.get((condition, sample.id), {}).get("score")) for sample in self.samples)
        return {name: value for name, value in found if value is not None}

    # --- Asking

    def run(self, progress: Progress | None) -> None:
        """Ask whatever has not been asked."""
        conditions = self._conditions()
        total, size = len(self.samples) * len(conditions), AHEAD * self.options.batch_size
        for start in range(0, len(self.samples), size):
            chunk = self.samples[start : start + size]
            loaded: list[tuple[Sample, Question]] | None = None
            for condition, what in conditions:
                # Questions that the model cannot answer as it is are not asked again with layers masked.
                asked = chunk if condition == "base" else [one for one in chunk if "score" in self.records[("base", one.id)]]
                if any("score" not in self.records.get((condition, one.id), {}) for one in asked):
                    loaded = loaded or [(one, _loaded(question_of(one))) for one in chunk]
                    wanted = {one.id for one in asked}
                    # A group that is not whole is asked again as a whole, so that its batches are those of a run without interruption.
                    self._ask(condition, what, [pair for pair in loaded if pair[0].id in wanted])
                self.done += len(chunk)
                if progress is not None:
                    progress(self.done, total, sum("error" in line for line in self.records.values()))

    def _conditions(self) -> list[tuple[str, Any]]:
        masked = [(f"{variant}:{layer}", Masking(variant, layer)) for variant in self.variants for layer in range(self.depth)]
        return [("base", Survey()), *masked]

    def _ask(self, condition: str, what: Any, asked: list[tuple[Sample, Question]]) -> None:
        questions = [question for _, question in asked]
        how: dict[str, Any] = {"max_new_tokens": self.options.max_new_tokens, "batch_size": self.options.batch_size}
        with patch(self.answerer, what) as handle:
            answers = self.answerer.answer(questions, notes=handle.drain if condition == "base" else None, **how)
        lines = [self._line(condition, sample, answer) for (sample, _), answer in zip(asked, answers, strict=True)]
        append_jsonl(self.folder / RECORDS, lines, sync=True)
        self.records |= {(condition, line["id"]): line for line in lines}

    def _line(self, condition: str, sample: Sample, answer: Answer) -> dict[str, JSON]:
        line: dict[str, JSON] = {"condition": condition, "id": sample.id}
        if answer.text is None:
            return line | {"error": answer.error}
        line |= {"answer": answer.text, "score": float(self.score(sample, answer.text))}
        return line | dict(answer.info.get("decision") or {})

    # --- What comes of it

    def calibration(self) -> dict[str, JSON]:
        """The content of the calibration file: the same for the same samples, seed and model."""
        base = self.scores("base")
        if not base:
            first = next(line["error"] for line in self.records.values() if "error" in line)
            raise DataError(f"no question could be answered; the first one: {first}")
        images = {sample.id: sample.id if sample.image is None else sample.image.name for sample in self.samples}
        studied = {
            variant: drops(
                base, {layer: self.scores(f"{variant}:{layer}") for layer in range(self.depth)}, images, seed=self.options.seed
            )
            for variant in self.variants
        }  # fmt: skip
        triangles = np.array([self.records["base", name]["hellinger"] for name in base], dtype=np.float64)
        cube = np.zeros((len(base), self.depth, self.depth))
        cube[:, *np.triu_indices(self.depth, 1)] = triangles
        neighbours = [profile(cube[:, layer, layer + 1]) for layer in range(self.depth - 1)]
        chosen = choose(studied["block_at"], [row["mean"] for row in neighbours], self.options.rules)
        late = chosen.late
        config: Any = self.answerer.module.config
        interval = mean_ci(list(base.values()), [images[name] for name in base], seed=self.options.seed)
        return {
            "schema": CALIBRATION_SCHEMA,
            "method": "contrastive-attention",
            "method_version": METHOD_VERSION,
            "model": self.answerer.name,
            "fingerprint": self.answerer.fingerprint,
            "model_type": config.model_type,
            "text_type": config.get_text_config().model_type,
            "n_layers": self.depth,
            "layer_base": 0,
            "C": list(chosen.candidates),
            "k": late,
            "r": chosen.review,
            "status": chosen.status,
            "reasons": [*chosen.reasons, *_cautions(config, self.variants, base)],
            "rules": self.options.rules.to_json(),
            "masking": {
                "base": {"score": _digits(np.mean(list(base.values()))), "ci95": interval and [_digits(bound) for bound in interval]},
                "variants": studied,
                "meaning": {variant: VARIANTS[variant] for variant in self.variants},
            },
            "hellinger": {
                "query": "last_prompt",
                "heads": "mean",
                "neighbours": [{"layer": layer, "next": layer + 1, **row} for layer, row in enumerate(neighbours)],
                "to_late": [] if late is None else [{"layer": layer, **profile(cube[:, layer, late])} for layer in range(late)],
                "matrix": [[_digits(value) for value in row] for row in cube.mean(axis=0)],
            },
            **self.about,
            "n": len(base),
            "n_failed": len(self.samples) - len(base),
            "seed": self.options.seed,
            "max_new_tokens": self.options.max_new_tokens,
            "dtype": str(getattr(self.answerer.module, "dtype", "")).removeprefix("torch."),
            "quantised": self.answerer.info.get("quantised"),
        }


def _cautions(config: Any, variants: Sequence[str], base: Mapping[str, float]) -> Iterator[str]:
    if not any(base.values()):
        yield "the model answers no question right as it is, so that masking cannot cost anything"
    deep = getattr(getattr(config, "vision_config", None), "deepstack_visual_indexes", None)
    if deep and "zero_from" in variants:
        yield f"this model adds image features again after the first {len(deep)} layers: zero_from before them is undone"


def _loaded(question: Question) -> Question:
    """The question with its images decoded, once for all layers. One that cannot be read stays as it is: the answerer says why."""
    try:
        images = tuple(ArrayImage(image.load(), image.name) for image in question.images)
    except ImageError:
        return question
    return Question(question.text, images, question.id)


def _digits(value: Any) -> float:
    return float(f"{float(value):.7g}")
