"""The semantic audit: does the gain of descriptions come from their meaning, or from the labelled images that choose among them?

Arms that take away one thing at a time are compared on the same test images, and fixed rules give a verdict (``verdict.judge``).
No test label is read before all answers of an arm are in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from toolkit.config import to_json
from toolkit.errors import DataError, UsageError
from toolkit.methods.descriptions.arms import Arm
from toolkit.methods.descriptions.audit_arms import (
    ARMS,
    VISION,
    Answer,
    AuditOptions,
    AuditProblem,
    Controls,
    Encode,
    count_answers,
    run_arms,
)
from toolkit.methods.descriptions.controls import common_words
from toolkit.methods.descriptions.lift import assignment_lift, misplaced
from toolkit.methods.descriptions.selection import class_means, similarity
from toolkit.methods.descriptions.verdict import (
    Changes,
    Claim,
    Effect,
    Evidence,
    Verdict,
    beaten_share,
    changes,
    families,
    holm_effects,
    judge,
    mean_effect,
    paired_effect,
    rank_p,
    resolution,
)
from toolkit.methods.descriptions.weight import accuracy_curve, positions
from toolkit.stats import mcnemar_exact, mean_bootstrap

if TYPE_CHECKING:
    from toolkit.methods.descriptions.estimator import ClassnameFree

Progress = Callable[[int, int], None]


@dataclass
class Measured:
    """One arm over draws and seeds.

    Attributes:
        predictions: (draws, seeds, N) class indices, draw by draw. w: weights used. oracle: accuracies at the best weight on test labels.
        at_zero: accuracies at weight 0. fallback, short: shares of candidates.
    """

    predictions: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    w: list[float] = field(default_factory=list)
    oracle: list[float] = field(default_factory=list)
    at_zero: list[float] = field(default_factory=list)
    fallback: list[float] = field(default_factory=list)
    short: list[float] = field(default_factory=list)

    def table(self, draws: int) -> np.ndarray:
        """(draws, seeds, N) class indices; an arm without support has the same ones in every draw."""
        seeds = 1 + max(seed for _, seed in self.predictions)
        rows = [[self.predictions.get((draw, seed), self.predictions[0, seed]) for seed in range(seeds)] for draw in range(draws)]
        return np.array(rows)


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
        progress: called with (answers done, answers in all).
    Raises: UsageError: without controls, since nothing can then be told apart. DataError: if labels and test images do not fit.
    """
    options = options or AuditOptions()
    if problem.controls is None:
        raise UsageError("an audit needs an encoder for its random texts", hint="pass encode=, a function from texts to embeddings")
    if len(labels) != len(problem.test) or not len(labels):
        raise DataError(f"there are {len(problem.test)} test images and {len(labels)} labels")
    measured: dict[str, Measured] = {}
    total = count_answers(problem, options)
    first: Answer | None = None
    for done, answer in enumerate(run_arms(problem, options), start=1):
        _measure(measured.setdefault(answer.arm, Measured()), answer, labels, options)
        if answer.arm == "selected" and first is None:
            first = answer
        if progress is not None:
            progress(done, total)
    draws = len(problem.draws())
    predictions = {name: measured[name].table(draws) for name in ARMS if name in measured}
    truth = labels.numpy()
    right = {name: table == truth for name, table in predictions.items()}
    [evidence] = families([_evidence(right, options, overlap)])
    verdict = judge(evidence, level=options.level, delta=options.delta)
    result = {
        "schema": 1,
        "verdict": verdict._asdict(),
        **_sizes(problem, options, labels, draws),
        **_effects(right, truth, evidence, options),
        "vision": (vision := _vision(right, options)),
        "flags": _flags(vision),
        "arms": [_row(name, measured[name], right, truth, options) for name in predictions],
        **_candidates(first, labels, problem, options),
    }
    return Audit(verdict, dict(to_json(result)), evidence, predictions)


def _measure(into: Measured, answer: Answer, labels: Tensor, options: AuditOptions) -> None:
    answers = answer.answers
    into.predictions[answer.draw, answer.seed] = answers.predictions.to(torch.int32).numpy()
    if answers.w is not None:
        into.w.append(answers.w)
    if answers.candidates is not None:
        L, A, B = answers.candidates
        curve = accuracy_curve(A, B, positions(L, labels))
        into.oracle.append(float(curve.accuracy.max()))
        into.at_zero.append(float((L.gather(1, B.argmax(dim=1, keepdim=True))[:, 0] == labels).double().mean()))
    if answer.detail is not None and answer.detail.L.shape[1] > 1:
        found, fell = (column[answer.detail.set_index] for column in (answer.detail.selected.found, answer.detail.selected.fallback))
        into.fallback.append(float(fell.double().mean()))
        into.short.append(float(((found < options.selection.m) & ~fell).double().mean()))


def _evidence(right: dict[str, np.ndarray], options: AuditOptions, overlap: int) -> Evidence:
    caption = right["caption"][:, 0]
    claim = _claim(right, "selected", "random_characters", options)
    clean = _claim(right, "selected_clean", "random_characters_clean", options) if "selected_clean" in right else None
    fewshot = mean_effect(right["random_characters"].mean(axis=1) - caption, resamples=options.resamples, seed=options.seed)
    null = None
    if "null" in right:
        null = mean_bootstrap(right["null"].mean(axis=1) - caption, resamples=options.resamples, seed=options.seed)
    waffle = None
    if options.mode == "assigned" and "waffle" in right:
        ours, noisy = right["selected"][:, 0], right["waffle"].mean(axis=1)
        waffle = mean_effect(ours - noisy, resamples=options.resamples, seed=options.seed)
    return Evidence(claim, fewshot, clean, null, overlap, waffle)


def _claim(right: dict[str, np.ndarray], real: str, control: str, options: AuditOptions) -> Claim:
    ours, caption = right[real][:, 0], right["caption"][:, 0]
    theirs = right.get(control, right["random_characters"])
    gain = paired_effect(caption, ours, resamples=options.resamples, seed=options.seed)
    meaning = mean_effect(ours - theirs.mean(axis=1), resamples=options.resamples, seed=options.seed)
    beaten = [beaten_share(float(mine.mean()), others.mean(axis=1).tolist()) for mine, others in zip(ours, theirs, strict=True)]
    return Claim(gain, meaning, float(np.mean(beaten)))


def _sizes(problem: AuditProblem, options: AuditOptions, labels: Tensor, draws: int) -> dict[str, Any]:
    return {
        "n": len(labels),
        "classes": len(problem.classnames),
        "texts": len(problem.texts),
        "leaks": len(problem.leaks),
        "draws": draws,
        "support": [len(y) for _, y in problem.supports],
        "options": options,
        "declared": {
            "primary": ["gain of the selected descriptions over the class name (G)", "their lead over random letters (E)"],
            "primary_correction": f"Holm over these two, level {options.level}",
            "secondary": [f"{ARMS[name].title} against the selected descriptions" for name in VISION],
            "secondary_correction": "Holm over these",
        },
    }


def _effects(right: dict[str, np.ndarray], truth: np.ndarray, evidence: Evidence, options: AuditOptions) -> dict[str, Any]:
    claim = evidence.claim
    caption, ours = right["caption"][:, 0], right["selected"][:, 0]
    theirs = right["random_characters"].mean(axis=1)
    by_class = {
        name: mean_bootstrap(gaps, strata=truth, resamples=options.resamples, seed=options.seed).ci
        for name, gaps in (("gain", ours.astype(float) - caption), ("meaning", ours - theirs))
    }
    ratio = claim.meaning.value / claim.gain.value if claim.gain.value > 0 else None
    half = (claim.meaning.ci[1] - claim.meaning.ci[0]) / 2
    changed = float((ours != caption).mean())
    return {
        "gain": {**to_json(claim.gain), "ci_stratified": by_class["gain"]},
        "meaning": {**to_json(claim.meaning), "ci_stratified": by_class["meaning"], "share": ratio, "beaten": claim.beaten},
        "fewshot": evidence.fewshot,
        "clean": evidence.clean,
        "null": None if evidence.null is None else evidence.null._asdict(),
        "waffle": evidence.waffle,
        "overlap": evidence.overlap,
        "resolution": {
            "changed": changed,
            "half_width": resolution(len(truth), changed),
            "half_width_meaning": half,
            "delta": options.delta,
            "resolved": half <= options.delta,
        },
    }


def _vision(right: dict[str, np.ndarray], options: AuditOptions) -> dict[str, Effect]:
    """Each vision baseline minus the method; the family of its own."""
    ours = right["selected"][:, 0]
    there = [name for name in VISION if name in right]
    return holm_effects({name: paired_effect(ours, right[name][:, 0], resamples=options.resamples, seed=options.seed) for name in there})


def _flags(vision: dict[str, Effect]) -> list[str]:
    best = max(vision, key=lambda name: vision[name].value, default=None)
    return ["vision dominates"] if best is not None and vision[best].ci[0] > 0 else []


def _row(name: str, measured: Measured, right: dict[str, np.ndarray], truth: np.ndarray, options: AuditOptions) -> dict[str, Any]:
    """One line of the table of arms: accuracies over draws and seeds, and what changes against the caption."""
    ours, caption = right[name], right["caption"][:, 0]
    accuracies = ours.mean(axis=2)
    gaps = ours.mean(axis=1) - caption
    difference = mean_bootstrap(gaps, resamples=options.resamples, seed=options.seed)
    changed = [changes(caption[draw], row) for draw, rows in enumerate(ours) for row in rows]
    single = accuracies.size == 1
    kind = ARMS[name]
    if options.mode == "assigned" and kind.number in ("2", "3a", "3b", "3c"):
        kind = kind._replace(title=kind.title.replace("Selected descriptions", "Descriptions as written").replace("selected", "assigned"))
    recall = [ours.mean(axis=(0, 1))[truth == label].mean() for label in np.unique(truth)]
    oracle = np.mean(measured.oracle) if measured.oracle else None
    return {
        "name": name,
        **kind._asdict(),
        "draws": len(ours),
        "seeds": ours.shape[1],
        "accuracy": accuracies.mean(),
        "sd": accuracies.std(ddof=1) if not single else None,
        "mean_per_class": np.mean(recall),
        "accuracies": accuracies.tolist(),
        "gain": {"value": difference.value, "ci": difference.ci},
        **_mean_changes(changed),
        "p": paired_effect(caption, ours[:, 0], resamples=options.resamples).p if ours.shape[1] == 1 and name != "caption" else None,
        "claims": _claims(changed, options.level) if name != "caption" else None,
        "rank_p": _rank(right, options) if name == "selected" else None,
        "w": measured.w or None,
        "oracle": oracle,
        "optimism": None if oracle is None else oracle - accuracies.mean(),
        "at_zero": np.mean(measured.at_zero) if measured.at_zero else None,
        "fallback": np.mean(measured.fallback) if measured.fallback else None,
        "short": np.mean(measured.short) if measured.short else None,
    }


def _mean_changes(found: Sequence[Changes]) -> dict[str, Any]:
    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    return {
        "repaired": mean([one.repaired for one in found]),
        "broken": mean([one.broken for one in found]),
        "repair_rate": mean([one.repair_rate for one in found]),
        "break_rate": mean([one.break_rate for one in found]),
    }


def _claims(found: Sequence[Changes], level: float) -> int:
    """How many draws and seeds, each looked at alone, would claim a gain: more repaired than broken, exact McNemar below ``level``."""
    return sum(one.repaired > one.broken and mcnemar_exact(one.repaired, one.broken) < level for one in found)


def _rank(right: dict[str, np.ndarray], options: AuditOptions) -> float:
    """The rank p among control seeds, averaged over draws."""
    pairs = zip(right["selected"][:, 0].mean(axis=1), right["random_characters"].mean(axis=2), strict=True)
    return float(np.mean([rank_p(float(mine), others.tolist()) for mine, others in pairs]))


def _candidates(first: Answer | None, labels: Tensor, problem: AuditProblem, options: AuditOptions) -> dict[str, Any]:
    """Ceiling, floor, and what the first draw's selection says about assignment and about misplaced texts."""
    if first is None or first.detail is None:  # nothing was selected
        return {"recall_at_k": None, "lift": None, "true_texts": None, "misplaced": []}
    found = first.detail
    recall = found.recall_at_k(labels)
    caption = float((problem.test @ problem.captions.T).argmax(dim=1).eq(labels).double().mean())
    mine = float((found.predictions == labels).double().mean())
    x, y = problem.draws()[0]
    S = similarity(*class_means(x, y, len(problem.captions)), problem.d)
    own = problem.own_lists
    return {
        "recall_at_k": recall,
        "floor": recall / found.L.shape[1],
        "share_of_ceiling": (mine - caption) / (recall - caption) if recall > caption else None,
        "lift": None if own is None else assignment_lift(found, own, len(problem.texts), seed=options.seed)._asdict(),
        "true_texts": None if problem.true_lists is None else _true_share(found, problem, options),
        "misplaced": [] if own is None else misplaced(S, own, problem.texts, problem.classnames),
    }


def _true_share(found: Arm, problem: AuditProblem, options: AuditOptions) -> dict[str, float]:
    """Share of selected texts that are known to be true of the class that they were selected for, and of a text picked blindly."""
    lift = assignment_lift(found, problem.true_lists or (), len(problem.texts), permutations=0, seed=options.seed)
    return {"share": lift.share, "expected": lift.expected, "texts": lift.texts}


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
