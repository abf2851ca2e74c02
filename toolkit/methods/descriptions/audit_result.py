"""What an audit writes down: one line for each arm, effects with their intervals, and checks that use no accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolkit.config import to_json
from toolkit.methods.descriptions.arms import Arm
from toolkit.methods.descriptions.audit_arms import ARMS, VISION, Answer, AuditOptions, AuditProblem
from toolkit.methods.descriptions.lift import assignment_lift, misplaced
from toolkit.methods.descriptions.permutation import permutation_p
from toolkit.methods.descriptions.selection import class_means, similarity
from toolkit.methods.descriptions.verdict import Changes, Claim, Effect, Evidence, changes, holm_effects, paired_effect, rank_p, resolution
from toolkit.methods.descriptions.weight import accuracy_curve, positions
from toolkit.stats import mcnemar_exact, mean_bootstrap, mean_ci

Right = Mapping[str, NDArray[np.bool_]]


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


def measure(into: Measured, answer: Answer, labels: Tensor, options: AuditOptions) -> None:
    """Take one answer of an arm in."""
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


def sizes(problem: AuditProblem, options: AuditOptions, labels: Tensor, draws: int) -> dict[str, Any]:
    """What was audited, and which tests were declared."""
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
            "gain_also": f"the rank of G among {options.permutations} shufflings of the {shuffled_what(options)}, p below {options.level}",
            "secondary": [f"{ARMS[name].title} against the selected descriptions" for name in VISION],
            "secondary_correction": "Holm over these",
        },
    }


def shuffled_what(options: AuditOptions) -> str:
    """What the permutation test shuffles: labels choose descriptions, or else each class has its list."""
    return "lists" if options.mode == "assigned" else "labels"


def effects(right: Right, truth: np.ndarray, evidence: Evidence, options: AuditOptions) -> dict[str, Any]:
    """G, E and F with their tests and intervals: over images, and over classes, whose images may be near copies of each other."""
    claim = evidence.claim
    caption, ours = right["caption"][:, 0], right["selected"][:, 0]
    theirs = right["random_characters"].mean(axis=1)
    gaps = {"gain": ours.astype(float) - caption, "meaning": ours - theirs, "fewshot": theirs - caption}
    more: dict[str, dict[str, Any]] = {
        name: {
            "ci_stratified": mean_bootstrap(values, strata=truth, resamples=options.resamples, seed=options.seed).ci,
            "ci_classes": mean_ci(values.mean(axis=0), truth.tolist(), resamples=options.resamples, seed=options.seed),
        }
        for name, values in gaps.items()
    }
    ratio = claim.meaning.value / claim.gain.value if claim.gain.value > 0 else None
    half = (claim.meaning.ci[1] - claim.meaning.ci[0]) / 2
    changed = float((ours != caption).mean())
    return {
        "gain": {**to_json(claim.gain), **more["gain"], "permuted": _permuted(claim)},
        "meaning": {**to_json(claim.meaning), **more["meaning"], "share": ratio, "beaten": claim.beaten},
        "fewshot": {**to_json(evidence.fewshot), **more["fewshot"]},
        "clean": None if evidence.clean is None else {**to_json(evidence.clean), "permuted": _permuted(evidence.clean)},
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


def _permuted(claim: Claim) -> dict[str, Any] | None:
    return None if claim.permuted is None else claim.permuted._asdict()


def vision_effects(right: Right, options: AuditOptions) -> dict[str, Effect]:
    """Each vision baseline minus the method; the family of its own."""
    ours = right["selected"][:, 0]
    there = [name for name in VISION if name in right]
    return holm_effects({name: paired_effect(ours, right[name][:, 0], resamples=options.resamples, seed=options.seed) for name in there})


def flags(vision: dict[str, Effect]) -> list[str]:
    """What must be said beside the verdict."""
    best = max(vision, key=lambda name: vision[name].value, default=None)
    return ["vision dominates"] if best is not None and vision[best].ci[0] > 0 else []


def arm_row(
    name: str, measured: Measured, right: Right, truth: np.ndarray, options: AuditOptions, shuffled: NDArray[np.float64] | None = None
) -> dict[str, Any]:
    """One line of the table of arms: accuracies over draws and seeds, and what changes against the caption.

    Args:
        shuffled: (draws, K) accuracies of the same texts by shuffled labels, for the arms that choose from the real pool.
    """
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
        "claims": None if shuffled is None else _claims(changed, options.level, accuracies, shuffled),
        "claims_mcnemar": _claims(changed, options.level) if name != "caption" else None,
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


def _claims(
    found: Sequence[Changes], level: float, accuracies: NDArray[np.float64] | None = None, shuffled: NDArray[np.float64] | None = None
) -> int:
    """How many draws and seeds, each looked at alone, would claim a gain: more repaired than broken, exact McNemar below ``level``, and
    (with ``accuracies`` (draws, seeds) and those by ``shuffled`` labels (draws, K)) so the rank among these.
    """
    claims = np.array([one.repaired > one.broken and mcnemar_exact(one.repaired, one.broken) < level for one in found])
    if accuracies is not None and shuffled is not None:
        ranks = [permutation_p(value, others.tolist()) for row, others in zip(accuracies, shuffled, strict=True) for value in row]
        claims &= np.array(ranks) < level
    return int(claims.sum())


def _rank(right: Right, options: AuditOptions) -> float:
    """The rank p among control seeds, averaged over draws."""
    pairs = zip(right["selected"][:, 0].mean(axis=1), right["random_characters"].mean(axis=2), strict=True)
    return float(np.mean([rank_p(float(mine), others.tolist()) for mine, others in pairs]))


def text_checks(first: Answer | None, labels: Tensor, problem: AuditProblem, options: AuditOptions) -> dict[str, Any]:
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
