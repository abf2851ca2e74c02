"""A semantic audit from images to result: encode everything once, lint the pool, run the arms, judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.errors import DataError, UsageError
from toolkit.methods.descriptions.audit import Audit, Progress, audit, audit_problem, shared_rows
from toolkit.methods.descriptions.audit_arms import AuditOptions, AuditProblem
from toolkit.methods.descriptions.prototypes import Support, encode_support, text_classifier
from toolkit.types import ClassifyProblem, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.methods.descriptions.classname_free import ClassnameFreeMethod
    from toolkit.methods.descriptions.estimator import ClassnameFree
    from toolkit.models.base import DualEncoder

QUICK, FULL = 20, 100  # control seeds


def audit_samples(
    method: ClassnameFreeMethod,
    encoder: DualEncoder,
    problem: ClassifyProblem,
    samples: Sequence[Sample],
    supports: Sequence[Sequence[Sample]],
    *,
    settings: dict[str, Any] | None = None,
    overlap: int | None = None,
    truth: Mapping[str, Sequence[str]] | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> tuple[Audit, list[str], list[str]]:
    """Audit the pool of a problem on labelled test samples.

    Args:
        method: ``classname-free`` with its options. samples: the test set. supports: one list of samples a draw, or none.
        settings: fields of ``AuditOptions``, without ``selection`` and ``w_cls``, which are those of the method.
        overlap: images in both; None compares embeddings.
        truth: class name -> texts that are known to be true of it; only counted afterwards, never used to answer.
    Returns: the audit, the ids of the test images that were answered, and one sentence for each that could not be read.
    """
    ready = prepare_audit(method, encoder, problem, samples, supports, settings=settings, truth=truth, batch_size=batch_size)
    if overlap is None:
        overlap = max((shared_rows(x, ready.problem.test) for x, _ in ready.problem.supports), default=0)
    done = audit(ready.problem, ready.labels, ready.options, overlap=overlap, progress=progress)
    found = ready.model.lint()
    rules = [[rule, count] for rule, count in found.counts.items() if count and "_" not in rule]
    done.result["lint"] = {"leaks": len(found.leaks), "leaks_strict": len(found.leaks_strict), "rules": rules, "clean": found.clean}
    return done, ready.ids, ready.failures


class Prepared(NamedTuple):
    """An audit that only has to run: embeddings, options, the labels of the test images, the estimator behind it."""

    problem: AuditProblem
    options: AuditOptions
    labels: Tensor
    model: ClassnameFree
    ids: list[str]
    failures: list[str]


def prepare_audit(
    method: ClassnameFreeMethod,
    encoder: DualEncoder,
    problem: ClassifyProblem,
    samples: Sequence[Sample],
    supports: Sequence[Sequence[Sample]],
    *,
    settings: dict[str, Any] | None = None,
    truth: Mapping[str, Sequence[str]] | None = None,
    batch_size: int = 32,
) -> Prepared:
    """Encode everything once; the arguments are those of ``audit_samples``."""
    ids, x, labels, failures = encode_test(encoder, samples, batch_size)
    draws = [_encode(encoder, problem, support, batch_size) for support in supports]
    model = method.estimator(encoder, replace(problem, support=()), batch_size=batch_size)
    if draws:
        model.fit(draws[0].x, draws[0].y)
    given = dict(settings or {})
    chosen = AuditOptions(**given, selection=model.options.selection, w_cls=_weight(model.options.w_cls, model.options.w_text, draws))
    templates = text_classifier(encoder, problem.classnames, problem.templates) if len(problem.templates) > 1 else None
    setting = replace(
        audit_problem(model, x.to(model.captions.dtype), seed=chosen.seed),
        supports=[(draw.x.to(model.captions.dtype), draw.y) for draw in draws],
        templates=templates,
        true_lists=None if truth is None else _true_lists(model.pool.texts, problem.classnames, truth),
    )
    return Prepared(setting, chosen, labels, model, ids, failures)


def _true_lists(texts: Sequence[str], classnames: Sequence[str], truth: Mapping[str, Sequence[str]]) -> list[list[int]]:
    """For each class the indices of the texts that are known to be true of it."""
    known = [set(truth.get(name, ())) for name in classnames]
    return [[index for index, text in enumerate(texts) if text in own] for own in known]


def _weight(given: float | str, w_text: float, draws: Sequence[Support]) -> float | str:
    """Every arm chooses its weight by leave-one-out, unless a number was asked for or there is nothing to choose it on."""
    if not isinstance(given, str):
        return given
    if given not in ("loo", "prequential"):
        raise UsageError(f"w_cls={given} is no fair weight for an audit", hint="use w_cls=loo or a number; the audit shows the oracle too")
    return "loo" if draws else w_text


def _encode(encoder: DualEncoder, problem: ClassifyProblem, samples: Sequence[Sample], batch_size: int) -> Support:
    return encode_support(encoder, replace(problem, support=samples), batch_size=batch_size)


def encode_test(encoder: DualEncoder, samples: Sequence[Sample], batch_size: int) -> tuple[list[str], Tensor, Tensor, list[str]]:
    """Ids, (N, D) embeddings and (N,) labels of the test images that can be read, in their order; a sentence for each that cannot.

    Raises: DataError: if there is none.
    """
    import torch

    there = [sample for sample in samples if sample.image is not None and sample.label is not None]
    failures = [f"{sample.id} has no image or no label" for sample in samples if sample.image is None or sample.label is None]
    rows: dict[int, Tensor] = {}
    for batch in encoder.iter_images([sample.image for sample in there], batch_size=batch_size):
        rows.update(zip(batch.indices, batch.embeddings, strict=True))
        failures += [sentence for _, sentence in batch.failures]
    if not rows:
        raise DataError("no test image can be read" if samples else "there are no test images", hint=failures[0] if failures else None)
    kept = sorted(rows)
    labels = torch.tensor([there[index].label for index in kept], dtype=torch.int64)
    return [there[index].id for index in kept], torch.stack([rows[index] for index in kept]), labels, failures
