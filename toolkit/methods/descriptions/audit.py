"""The semantic audit: does the gain of descriptions come from their meaning, or from the labelled images that choose among them?

Arms that take away one thing at a time are compared on the same test images, and fixed rules give a verdict (``verdict.judge``).
No test label is read before all answers of an arm are in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from toolkit.config import to_json
from toolkit.errors import DataError, UsageError
from toolkit.methods.descriptions.audit_arms import (
    ARMS,
    Answer,
    AuditOptions,
    AuditProblem,
    Controls,
    Encode,
    clean_texts,
    count_answers,
    run_arms,
    wanted,
)
from toolkit.methods.descriptions.audit_result import (
    Measured,
    Right,
    arm_row,
    effects,
    flags,
    measure,
    shuffled_what,
    sizes,
    text_checks,
    vision_effects,
)
from toolkit.methods.descriptions.controls import common_words
from toolkit.methods.descriptions.permutation import permuted, permuted_accuracies
from toolkit.methods.descriptions.verdict import (
    Claim,
    Evidence,
    Verdict,
    beaten_share,
    families,
    judge,
    mean_effect,
    paired_effect,
)
from toolkit.stats import mean_bootstrap

if TYPE_CHECKING:
    from toolkit.methods.descriptions.estimator import ClassnameFree

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Audit:
    """A finished audit.

    Attributes:
        verdict: name and reason. result: every number, as JSON. evidence: what the rules saw.
        predictions: arm -> (draws, seeds, N) class indices.
    """

    verdict: Verdict
    result: dict[str, Any]
    evidence: Evidence
    predictions: dict[str, np.ndarray]


def audit(
    problem: AuditProblem,
    labels: Tensor,
    options: AuditOptions | None = None,
    *,
    overlap: int = 0,
    progress: Progress | None = None,
) -> Audit:
    """Run all arms and judge.

    Args:
        labels: (N,) classes of the test images; read after each arm has answered.
        overlap: images that are in support and test.
        progress: called with (answers done, answers in all), shuffled labels included.
    Raises: UsageError: without controls, since nothing can then be told apart. DataError: if labels and test images do not fit.
    """
    options = options or AuditOptions()
    if problem.controls is None:
        raise UsageError("an audit needs an encoder for its random texts", hint="pass encode=, a function from texts to embeddings")
    if len(labels) != len(problem.test) or not len(labels):
        raise DataError(f"there are {len(problem.test)} test images and {len(labels)} labels")
    measured: dict[str, Measured] = {}
    draws = len(problem.draws())
    total = count_answers(problem, options)
    steps = _Steps(progress, total + (2 if "selected_clean" in wanted(problem, options) else 1) * draws * options.permutations)
    first: Answer | None = None
    for answer in run_arms(problem, options):
        measure(measured.setdefault(answer.arm, Measured()), answer, labels, options)
        if answer.arm == "selected" and first is None:
            first = answer
        steps()
    predictions = {name: measured[name].table(draws) for name in ARMS if name in measured}
    truth = labels.numpy()
    right = {name: table == truth for name, table in predictions.items()}
    shuffled = _shuffled(problem, options, labels, "selected_clean" in right, steps)
    [evidence] = families([_evidence(right, shuffled, options, overlap)])
    verdict = judge(evidence, level=options.level, delta=options.delta)
    vision = vision_effects(right, options)
    result = {
        "schema": 1,
        "verdict": verdict._asdict(),
        **sizes(problem, options, labels, draws),
        **effects(right, truth, evidence, options),
        "vision": vision,
        "flags": flags(vision),
        "arms": [arm_row(name, measured[name], right, truth, options, _null_of(name, shuffled)) for name in predictions],
        **text_checks(first, labels, problem, options),
    }
    return Audit(verdict, dict(to_json(result)), evidence, predictions)


class _Steps:
    """Counts answers for a progress bar."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _shuffled(problem: AuditProblem, options: AuditOptions, labels: Tensor, clean: bool, steps: _Steps) -> dict[str, np.ndarray]:
    """(draws, 1 + K) accuracies by the labels as they are and by shuffled ones, with the whole pool and without leaks."""
    found = {"selected": permuted_accuracies(problem, options, labels, tick=steps)}
    if clean:
        found["selected_clean"] = permuted_accuracies(problem, options, labels, kept=clean_texts(problem), tick=steps)
    return found


def _null_of(name: str, shuffled: dict[str, np.ndarray]) -> np.ndarray | None:
    """The accuracies by shuffled labels that those of an arm are ranked among: those of the same texts."""
    table = shuffled.get("selected" if name == "shuffled" else name)
    return None if table is None else table[:, 1:]


def _evidence(right: Right, shuffled: dict[str, np.ndarray], options: AuditOptions, overlap: int) -> Evidence:
    caption, what = right["caption"][:, 0], shuffled_what(options)
    claims = {
        name: replace(_claim(right, name, control, options), permuted=permuted(shuffled[name], float(caption.mean()), what))
        for name, control in (("selected", "random_characters"), ("selected_clean", "random_characters_clean"))
        if name in shuffled
    }
    fewshot = mean_effect(right["random_characters"].mean(axis=1) - caption, resamples=options.resamples, seed=options.seed)
    null = None
    if "null" in right:
        null = mean_bootstrap(right["null"].mean(axis=1) - caption, resamples=options.resamples, seed=options.seed)
    waffle = None
    if options.mode == "assigned" and "waffle" in right:
        ours, noisy = right["selected"][:, 0], right["waffle"].mean(axis=1)
        waffle = mean_effect(ours - noisy, resamples=options.resamples, seed=options.seed)
    return Evidence(claims["selected"], fewshot, claims.get("selected_clean"), null, overlap, waffle)


def _claim(right: Right, real: str, control: str, options: AuditOptions) -> Claim:
    ours, caption = right[real][:, 0], right["caption"][:, 0]
    theirs = right.get(control, right["random_characters"])
    gain = paired_effect(caption, ours, resamples=options.resamples, seed=options.seed)
    meaning = mean_effect(ours - theirs.mean(axis=1), resamples=options.resamples, seed=options.seed)
    beaten = [beaten_share(float(mine.mean()), others.mean(axis=1).tolist()) for mine, others in zip(ours, theirs, strict=True)]
    return Claim(gain, meaning, float(np.mean(beaten)))


def audit_estimator(
    estimator: ClassnameFree,
    test: Tensor,
    labels: Tensor,
    *,
    encode: Encode | None = None,
    words: Sequence[str] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Audit:
    """Audit a fitted estimator on labelled test images; see ``audit``.

    Args:
        test: (N, D) unit rows. labels: (N,). encode: texts -> (n, D) unit rows, for an estimator without an encoder.
        words: for random-word controls; the shipped list by default.
        options: the other fields of ``AuditOptions``.
    Raises: UsageError: if the estimator did not keep its support.
    """
    own = estimator.options
    if estimator.from_photos and not len(estimator.support[1]):
        raise UsageError("an audit needs the support images, and only their sums were kept", hint="fit with keep_support=True")
    w: float | str = own.w_cls if not isinstance(own.w_cls, str) else "loo" if estimator.from_photos else own.w_text
    settings = AuditOptions(selection=own.selection, w_cls=w, **options)
    problem = audit_problem(estimator, test, encode=encode, words=words, seed=settings.seed)
    return audit(problem, labels, settings, overlap=shared_rows(estimator.support[0], test), progress=progress)


def audit_problem(
    estimator: ClassnameFree, test: Tensor, *, encode: Encode | None = None, words: Sequence[str] | None = None, seed: int = 0
) -> AuditProblem:
    """What an estimator knows, as the problem of an audit; its support is the one draw."""
    encoder, own = estimator.encoder, estimator.options
    if encode is None and encoder is not None:
        encode = encoder.encode_texts
    controls = None
    if encode is not None:
        controls = Controls(
            estimator.pool.texts, estimator.classnames, encode, words=common_words() if words is None else words, seed=seed,
            caption=own.caption_templates[0], template=own.desc_template,
        )  # fmt: skip
    return AuditProblem(
        estimator.classnames, estimator.pool.texts, estimator.captions, estimator.d, test,
        [estimator.support] if estimator.from_photos else [],
        own_lists=estimator.pool.own_lists, leaks=leaks_of(estimator), controls=controls, tie_order=estimator.tie_order,
        scale=100.0 if encoder is None else encoder.logit_scale,
    )  # fmt: skip


def leaks_of(estimator: ClassnameFree) -> list[int]:
    """Indices of the texts of the pool that name a class."""
    named = set(estimator.lint().leaks)
    return [index for index, text in enumerate(estimator.pool.texts) if text in named]


def shared_rows(support: Tensor, test: Tensor) -> int:
    """How many test rows are also support rows, to the last bit."""
    seen = {row.tobytes() for row in support.float().numpy()}
    return sum(row.tobytes() in seen for row in test.float().numpy())
