"""The verdict of a semantic audit: fixed rules over paired effects, pure and the same for every pool.

The effects, in fractions: G (gain) = the method minus the caption; E (meaning) = the method minus random characters under the same
selection; F (few shots) = random characters minus the caption. G = E + F.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolkit.stats import Difference, holm, mcnemar_exact, mean_bootstrap, paired_bootstrap, two_sided

LEVEL = 0.05
DELTA = 0.01  # of accuracy: differences below it count as none (the ensembling rule)
NULL_LEVEL = 0.01
LEAST_BEATEN = 0.95
LEAST_SHARE = 0.5

Right = NDArray[np.bool_]


@dataclass(frozen=True)
class Effect:
    """A paired difference of accuracies.

    Attributes:
        value, ci: fractions, the 95 % interval. p: two-sided. p_holm: adjusted within its family, or None if it is in none.
    """

    value: float
    ci: tuple[float, float]
    p: float
    p_holm: float | None = None

    @property
    def adjusted(self) -> float:
        return self.p if self.p_holm is None else self.p_holm


class Permuted(NamedTuple):
    """A gain against those of shuffled labels, whatever the test images have to do with each other.

    Attributes:
        p: two-sided, exact. permutations: shufflings. mean, span: gains by shuffled labels, their mean and middle 95 %.
        what: that was shuffled: "labels" of the support, or "lists" of texts where no label chooses.
    """

    p: float
    permutations: int
    mean: float
    span: tuple[float, float]
    what: str = "labels"


@dataclass(frozen=True)
class Claim:
    """The method with one pool, against the caption and against its controls.

    Attributes:
        gain: G. meaning: E. beaten: share of control seeds that the method beats.
        permuted: the gain against shuffled labels, or None where none were shuffled.
    """

    gain: Effect
    meaning: Effect
    beaten: float
    permuted: Permuted | None = None

    def gains(self, level: float) -> bool:
        """Whether there is a gain: by the test over images, and by the one that does not take them for independent."""
        return self.gain.value > 0 and self.gain.adjusted < level and not self.by_chance(level)

    def by_chance(self, level: float) -> bool:
        """Whether shuffled labels reach the gain too."""
        return self.permuted is not None and self.permuted.p >= level


@dataclass(frozen=True)
class Evidence:
    """All that the rules look at.

    Attributes:
        claim: with the whole pool. clean: with leaks dropped, or None if there are none.
        fewshot: F.
        null: mean gain of random characters with shuffled labels, one-sided p; or None where that arm did not run.
        overlap: images that are both in the support and in the test set.
        waffle: the method minus WaffleCLIP, in assigned and conventional modes only.
    """

    claim: Claim
    fewshot: Effect
    clean: Claim | None = None
    null: Difference | None = None
    overlap: int = 0
    waffle: Effect | None = None


class Verdict(NamedTuple):
    """``name`` is one of VERDICTS; ``reason`` says in one sentence which rule decided."""

    name: str
    reason: str


VERDICTS = ("invalid", "no gain", "semantic", "mixed", "few-shot leakage", "ensembling", "inconclusive")


class Changes(NamedTuple):
    """What a method changes against the caption, on N images.

    Attributes:
        n: images. repaired: caption wrong, method right. broken: the reverse. right: how many the caption has right.
    """

    n: int
    repaired: int
    broken: int
    right: int

    @property
    def gain(self) -> float:
        return (self.repaired - self.broken) / self.n

    @property
    def repair_rate(self) -> float | None:
        """Share of the caption's mistakes that are repaired."""
        return self.repaired / (self.n - self.right) if self.n > self.right else None

    @property
    def break_rate(self) -> float | None:
        """Share of the caption's right answers that are broken."""
        return self.broken / self.right if self.right else None


def changes(before: Right, after: Right) -> Changes:
    """Repairs and breaks between two (N,) columns of right answers."""
    return Changes(before.size, int((~before & after).sum()), int((before & ~after).sum()), int(before.sum()))


def paired_effect(before: Right, after: Right, *, resamples: int, seed: int = 0) -> Effect:
    """Difference of two classifiers: exact McNemar p and bootstrap interval; over several draws both from two-level resampling.

    Args:
        before, after: (N,) or (draws, N) right answers.
    """
    if after.ndim == 2 and len(after) > 1:
        found = mean_bootstrap(after.astype(float) - before, resamples=resamples, seed=seed)
        return Effect(found.value, found.ci, two_sided(found.p))
    counts = changes(before.reshape(-1), after.reshape(-1))
    found = paired_bootstrap(counts.repaired, counts.broken, counts.n, resamples=resamples, seed=seed)
    return Effect(found.value, found.ci, mcnemar_exact(counts.broken, counts.repaired))


def mean_effect(differences: NDArray[np.float64], *, resamples: int, seed: int = 0) -> Effect:
    """An effect from per-image differences, (N,) or (draws, N), of which at least one side is a mean over seeds."""
    found = mean_bootstrap(differences, resamples=resamples, seed=seed)
    return Effect(found.value, found.ci, two_sided(found.p))


def beaten_share(value: float, controls: Sequence[float]) -> float:
    """Share of the control seeds with a smaller accuracy."""
    return sum(value > control for control in controls) / len(controls)


def rank_p(value: float, controls: Sequence[float]) -> float:
    """p of the rank among R control seeds: (1 + how many reach the value) / (R + 1)."""
    return (1 + sum(control >= value for control in controls)) / (len(controls) + 1)


def families(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Holm over the primary tests {G, E} of all data sets of one audit; the clean pools form a family of their own."""
    whole = holm_claims([one.claim for one in evidence])
    clean = iter(holm_claims([one.clean for one in evidence if one.clean is not None]))
    return [
        replace(one, claim=claim, clean=next(clean) if one.clean is not None else None) for one, claim in zip(evidence, whole, strict=True)
    ]


def holm_claims(claims: Sequence[Claim]) -> list[Claim]:
    """The claims with Holm-adjusted p values over all their tests."""
    adjusted = iter(holm([effect.p for claim in claims for effect in (claim.gain, claim.meaning)]))
    return [
        replace(claim, gain=replace(claim.gain, p_holm=next(adjusted)), meaning=replace(claim.meaning, p_holm=next(adjusted)))
        for claim in claims
    ]


def holm_effects(effects: dict[str, Effect]) -> dict[str, Effect]:
    """A family of named effects, adjusted together."""
    adjusted = holm([effect.p for effect in effects.values()])
    return {name: replace(effect, p_holm=p) for (name, effect), p in zip(effects.items(), adjusted, strict=True)}


def judge(evidence: Evidence, *, level: float = LEVEL, delta: float = DELTA) -> Verdict:
    """The first rule that holds. The p values of the claims must be adjusted (``families``)."""
    claim = evidence.claim
    gain, meaning, fewshot = claim.gain, claim.meaning, evidence.fewshot
    if evidence.overlap:
        images = "1 image is" if evidence.overlap == 1 else f"{evidence.overlap} images are"
        return Verdict("invalid", f"{images} both in the support and in the test set")
    if evidence.null is not None and evidence.null.value > 0 and evidence.null.p < NULL_LEVEL:
        return Verdict("invalid", "random letters with shuffled labels gain something, which cannot be: the set-up leaks")
    if not claim.gains(level):
        if gain.value > 0 and gain.adjusted < level and claim.permuted is not None:
            what = claim.permuted.what
            return Verdict("no gain", f"shuffled {what} gain as much: the test images are too much alike to count one by one")
        return Verdict("no gain", "the descriptions do not beat the caption beyond chance")
    means = _means_something(claim, level)
    if means and meaning.value >= LEAST_SHARE * gain.value:
        if evidence.clean is None or _all_semantic(evidence.clean, level):
            return Verdict("semantic", "at least half of the gain is gone with random letters in place of the descriptions")
        return Verdict("mixed", "the gain comes from meaning only as long as texts that name a class are in the pool")
    if means:
        return Verdict("mixed", "meaning adds to the gain, and more than half of it comes with random letters too")
    if fewshot.value > 0 and fewshot.adjusted < level and meaning.ci[1] < gain.value / 2:
        return Verdict("few-shot leakage", "random letters gain as much: it is the labelled images that choose among them")
    if evidence.waffle is not None and evidence.waffle.value <= delta:
        return Verdict("ensembling", "WaffleCLIP, which appends random words and characters, does as well")
    return Verdict("inconclusive", "there is a gain, and this many images cannot tell where it comes from")


def _means_something(claim: Claim, level: float) -> bool:
    return claim.meaning.adjusted < level and claim.meaning.ci[0] > 0 and claim.beaten >= LEAST_BEATEN


def _all_semantic(claim: Claim, level: float) -> bool:
    return claim.gains(level) and _means_something(claim, level) and claim.meaning.value >= LEAST_SHARE * claim.gain.value


def resolution(n: int, discordant: float) -> float:
    """Half width of the 95 % interval of a difference with this share of changed answers, in fractions.

    >>> round(resolution(3000, 0.1), 3)
    0.011
    """
    return float(1.96 * np.sqrt(discordant / n))
