"""The verdict's rules, one planted case each, at their borders; and the statistics against enumeration and hand values."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
import pytest

from toolkit.methods.descriptions.verdict import (
    Claim,
    Effect,
    Evidence,
    Permuted,
    beaten_share,
    changes,
    families,
    judge,
    paired_effect,
    rank_p,
    resolution,
)
from toolkit.stats import Difference, holm, mcnemar_exact


def effect(value: float, half: float = 0.01, p: float = 1e-6) -> Effect:
    return Effect(value, (value - half, value + half), p)


def case(
    gain: float, meaning: float, *, half: float = 0.01, p_gain: float = 1e-6, p_meaning: float = 1e-6, beaten: float = 1.0
) -> Evidence:
    claim = Claim(effect(gain, half, p_gain), effect(meaning, half, p_meaning), beaten)
    return Evidence(claim, effect(gain - meaning, half))


SEMANTIC = case(0.10, 0.08)


def ranked(p: float, given: Evidence = SEMANTIC, what: str = "labels") -> Evidence:
    """The same with a permutation test behind its gain."""
    return replace(given, claim=replace(given.claim, permuted=Permuted(p, 199, 0.0, (-0.02, 0.02), what)))


@pytest.mark.parametrize(
    ("evidence", "name"),
    [
        (SEMANTIC, "semantic"),
        (case(0.10, 0.05), "semantic"),  # exactly half
        (case(0.10, 0.049), "mixed"),
        (replace(SEMANTIC, clean=SEMANTIC.claim), "semantic"),
        (replace(SEMANTIC, clean=case(0.06, 0.02).claim), "mixed"),  # only with leaks kept
        (replace(SEMANTIC, clean=case(0.06, 0.05, p_meaning=0.2).claim), "mixed"),
        (case(0.10, 0.08, beaten=0.94), "inconclusive"),
        (case(0.055, -0.001, p_meaning=0.9), "few-shot leakage"),
        (case(0.055, 0.0276 - 0.01, p_meaning=0.2), "inconclusive"),  # the interval reaches half of the gain
        (case(-0.01, -0.02), "no gain"),
        (case(0.10, 0.08, p_gain=0.06), "no gain"),
        (ranked(0.01), "semantic"),
        (ranked(0.05), "no gain"),  # as large as shuffled labels make it, whatever McNemar's test says
        (replace(SEMANTIC, clean=ranked(0.3).claim), "mixed"),
        (ranked(0.3, case(-0.01, -0.02)), "no gain"),
        (replace(SEMANTIC, overlap=1), "invalid"),
        (replace(SEMANTIC, null=Difference(0.004, (0.001, 0.007), 0.005)), "invalid"),
        (replace(SEMANTIC, null=Difference(0.004, (-0.001, 0.007), 0.02)), "semantic"),
        (replace(SEMANTIC, null=Difference(-0.004, (-0.007, -0.001), 0.999)), "semantic"),
    ],
)
def test_the_first_rule_that_holds(evidence: Evidence, name: str) -> None:
    assert judge(evidence).name == name


def test_ensembling_is_a_gain_that_waffle_has_too() -> None:
    weak = case(0.04, 0.02, half=0.03, p_meaning=0.3)
    assert judge(weak).name == "inconclusive"
    assert judge(replace(weak, waffle=effect(0.008))).name == "ensembling"
    assert judge(replace(weak, waffle=effect(0.012))).name == "inconclusive"
    assert judge(replace(weak, waffle=effect(0.012)), delta=0.02).name == "ensembling"


def test_every_verdict_has_a_reason() -> None:
    assert judge(replace(SEMANTIC, overlap=3)).reason == "3 images are both in the support and in the test set"
    assert judge(SEMANTIC).reason


def test_holm_runs_over_gain_and_meaning_of_all_data_sets() -> None:
    one, two = case(0.1, 0.08, p_gain=0.01, p_meaning=0.04), case(0.1, 0.08, p_gain=0.03, p_meaning=0.005)
    first, second = families([one, two])
    assert [e.p_holm for e in (first.claim.gain, first.claim.meaning, second.claim.gain, second.claim.meaning)] == pytest.approx(
        [0.03, 0.06, 0.06, 0.02]
    )
    assert judge(one).name == "semantic"
    assert judge(first).name == "inconclusive"  # 0.04 alone would do; in its family it does not
    clean = families([replace(one, clean=one.claim)])[0]
    assert clean.clean is not None
    assert (clean.clean.gain.p_holm, clean.clean.meaning.p_holm) == (0.02, 0.04)
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_gain_is_repairs_minus_breaks() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.random(500) < 0.4, rng.random(500) < 0.6
    found = changes(before, after)
    assert found.gain == pytest.approx(after.mean() - before.mean(), abs=1e-12)
    assert found.repair_rate == pytest.approx((after & ~before).sum() / (~before).sum())
    assert found.break_rate == pytest.approx((before & ~after).sum() / before.sum())
    whole = paired_effect(before, after, resamples=2000)
    assert whole.value == pytest.approx(found.gain)
    assert whole.p == mcnemar_exact(found.broken, found.repaired)
    assert changes(np.ones(3, bool), np.ones(3, bool)).repair_rate is None


def test_mcnemar_is_enumeration_up_to_thirty() -> None:
    for total in range(31):
        for repaired in range(total + 1):
            least = min(repaired, total - repaired)
            expected = min(1.0, 2 * sum(comb(total, i) for i in range(least + 1)) / 2**total)
            assert mcnemar_exact(repaired, total - repaired) == pytest.approx(expected, rel=1e-9)


def test_several_draws_widen_the_interval_by_their_spread() -> None:
    before = np.zeros((5, 400), bool)
    after = np.zeros((5, 400), bool)
    for draw, count in enumerate((0, 40, 80, 120, 160)):
        after[draw, :count] = True
    two_levels = paired_effect(before, after, resamples=4000)
    one_level = paired_effect(before[2], after[2], resamples=4000)
    assert two_levels.value == pytest.approx(0.2)
    assert two_levels.ci[1] - two_levels.ci[0] > 2 * (one_level.ci[1] - one_level.ci[0])


def test_ranks_among_seeds() -> None:
    assert rank_p(0.5, [0.4] * 19) == 0.05
    assert rank_p(0.5, [0.5, 0.4, 0.4]) == 0.5
    assert beaten_share(0.5, [0.5, 0.4, 0.4, 0.6]) == 0.5


@pytest.mark.parametrize(("n", "points"), [(600, 2.5), (1662, 1.5), (3000, 1.1), (4000, 1.0)])
def test_the_resolution_of_usual_test_sets(n: int, points: float) -> None:
    assert round(100 * resolution(n, 0.1), 1) == points


def test_a_gain_that_shuffled_labels_reach_says_so() -> None:
    assert judge(ranked(0.3)).reason.startswith("shuffled labels gain as much")
    assert judge(ranked(0.3, what="lists")).reason.startswith("shuffled lists gain as much")
    assert "chance" in judge(ranked(0.3, case(0.10, 0.08, p_gain=0.2))).reason  # neither test sees a gain
