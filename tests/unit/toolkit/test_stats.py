"""Intervals and paired tests against scipy, brute force and their defining properties."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from evals.metrics import classification as metric
from toolkit import stats


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys(case: tuple[int, int], level: float) -> None:
    right, n = case
    expected = reference.binomtest(right, n).proportion_ci(confidence_level=level, method="wilson")
    low, high = stats.wilson(right, n, level)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0.0 <= low <= right / n <= high <= 1.0


@pytest.mark.parametrize("case", [(-1, 5), (6, 5), (0, 0)])
def test_wilson_refuses_what_is_no_proportion(case: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="a proportion needs"):
        stats.wilson(*case)


@pytest.mark.parametrize("statistic", [np.mean, np.std, lambda x, axis: np.quantile(x, 0.7, axis=axis)])
@pytest.mark.parametrize("seed", range(3))
def test_bca_is_scipys(statistic: Callable[..., Any], seed: int) -> None:
    """Same method, other random numbers: the ends, far out in a skewed tail, agree within resampling error."""
    data = np.random.default_rng(seed).exponential(size=60)
    ours = stats.bootstrap_ci(lambda x: statistic(x, axis=-1), data, resamples=20_000, seed=seed)
    theirs = reference.bootstrap(
        (data,), statistic, n_resamples=20_000, method="BCa", rng=np.random.default_rng(seed + 100), vectorized=True
    )
    spread = theirs.standard_error
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.25 * spread)


@pytest.mark.parametrize("statistic", [np.mean, np.std, np.ptp])
def test_bca_formula_is_scipys_on_the_same_resamples(statistic: Callable[..., Any]) -> None:
    data = np.random.default_rng(5).lognormal(size=40)
    theirs = reference.bootstrap((data,), statistic, n_resamples=999, method="BCa", rng=np.random.default_rng(0), vectorized=True)
    left_out = np.array([statistic(np.delete(data, i)) for i in range(data.size)])
    ours = stats.bca(float(statistic(data)), theirs.bootstrap_distribution, left_out.mean() - left_out)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), rel=1e-12)


def test_bootstrap_is_deterministic_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(1).normal(size=50)
    whole = stats.bootstrap_ci(lambda x: x.mean(axis=-1), data, seed=3)
    assert whole == stats.bootstrap_ci(lambda x: x.mean(axis=-1), data, seed=3)
    assert whole != stats.bootstrap_ci(lambda x: x.mean(axis=-1), data, seed=4)
    monkeypatch.setattr(stats, "_CHUNK", 170)  # three rows at a time
    assert whole == stats.bootstrap_ci(lambda x: x.mean(axis=-1), data, seed=3)


def test_no_interval_where_the_resamples_do_not_spread() -> None:
    assert stats.bootstrap_ci(lambda x: x.mean(axis=-1), [2.0, 2.0, 2.0]) is None
    assert stats.bootstrap_ci(lambda x: x.mean(axis=-1), [2.0]) is None
    assert stats.mean_recall_ci(np.array([3, 4]), np.array([3, 4])) is None
    assert stats.mean_recall_ci(np.array([0]), np.array([0])) is None
    assert stats.binned_gap_ci(np.array([0]), np.array([0.1])) is None


def test_mean_recall_interval_is_the_stratified_bootstrap_of_the_samples() -> None:
    """Against resampling the samples themselves, class by class."""
    rng = np.random.default_rng(0)
    support, share = np.array([30, 60, 15]), np.array([0.9, 0.5, 0.3])
    answers = [rng.random(n) < p for n, p in zip(support, share, strict=True)]
    right = np.array([a.sum() for a in answers])
    draws = [np.mean([rng.choice(a, a.size).mean() for a in answers]) for _ in range(20_000)]
    low, high = stats.mean_recall_ci(right, support, resamples=20_000)  # type: ignore[misc]
    assert np.quantile(draws, [0.025, 0.975]) == pytest.approx([low, high], abs=0.012)  # percentile against BCa: nearly symmetric here
    padded = stats.mean_recall_ci(np.append(right, 0), np.append(support, 0), resamples=20_000)
    assert padded == (low, high), "a class without samples changes nothing"


def test_calibration_error_interval_is_the_generic_bca() -> None:
    rng = np.random.default_rng(2)
    confidence = rng.beta(4, 2, size=300)
    correct = (rng.random(300) < confidence**1.5).astype(float)
    bins, gaps = metric.calibration_bins(confidence), confidence - correct

    def statistic(b: np.ndarray, g: np.ndarray) -> np.ndarray:
        hot = np.arange(15) == b[..., None]
        return np.abs((hot * g[..., None]).sum(axis=-2)).sum(axis=-1) / b.shape[-1]

    generic = stats.bootstrap_ci(statistic, bins, gaps, resamples=4000, seed=1)
    fast = stats.binned_gap_ci(bins, gaps, resamples=4000, seed=1)
    assert generic is not None
    assert fast == pytest.approx(generic, abs=1e-12)


def test_intervals_are_fast_at_fifty_thousand_samples() -> None:
    rng = np.random.default_rng(0)
    n, classes = 50_000, 1000
    confidence = rng.random(n)
    correct = rng.random(n) < confidence
    support = np.full(classes, n // classes)
    start = time.process_time()
    assert stats.binned_gap_ci(metric.calibration_bins(confidence), confidence - correct) is not None
    assert stats.mean_recall_ci(rng.binomial(support, 0.6), support) is not None
    assert time.process_time() - start < 8.0


@given(st.integers(0, 15), st.integers(0, 15))
def test_mcnemar_is_exact(only_a: int, only_b: int) -> None:
    """Against the enumeration of all ways in which the discordant samples could have fallen."""
    n = only_a + only_b
    tail = sum(comb(n, k) for k in range(min(only_a, only_b) + 1)) / 2**n
    assert stats.mcnemar_exact(only_a, only_b) == pytest.approx(min(1.0, 2 * tail), rel=1e-9)
    assert stats.mcnemar_exact(only_a, only_b) == stats.mcnemar_exact(only_b, only_a)


def test_mcnemar_by_enumeration_of_every_outcome() -> None:
    only_a, only_b = 2, 7
    n = only_a + only_b
    extreme = sum(min(sum(bits), n - sum(bits)) <= min(only_a, only_b) for bits in itertools.product((0, 1), repeat=n))
    assert stats.mcnemar_exact(only_a, only_b) == pytest.approx(extreme / 2**n, rel=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.integers(20, 400), st.data())
def test_multinomial_bootstrap_is_the_image_bootstrap(n: int, data: st.DataObject) -> None:
    repaired = data.draw(st.integers(0, n // 2))
    broken = data.draw(st.integers(0, n // 2))
    fast = stats.paired_bootstrap(repaired, broken, n, resamples=20_000)
    gaps = np.repeat([1.0, -1.0, 0.0], [repaired, broken, n - repaired - broken])
    slow = stats.paired_bootstrap_values(np.zeros(n), gaps, resamples=20_000)
    assert fast.value == pytest.approx((repaired - broken) / n)
    spread = np.sqrt((repaired + broken) / n**2) + 1 / n
    assert fast.ci == pytest.approx(slow.ci, abs=0.1 * spread + 1 / n), "the ends may differ by one sample, the grain of both"
    assert fast.p == pytest.approx(slow.p, abs=0.02)


def test_multinomial_bootstrap_agrees_within_a_tenth_of_a_point_at_evaluation_size() -> None:
    n, repaired, broken = 3000, 240, 120
    fast = stats.paired_bootstrap(repaired, broken, n, resamples=20_000)
    gaps = np.repeat([1.0, -1.0, 0.0], [repaired, broken, n - repaired - broken])
    slow = stats.paired_bootstrap_values(np.zeros(n), gaps, resamples=20_000, seed=9)
    assert fast.ci == pytest.approx(slow.ci, abs=0.001)
    assert fast.ci[0] > 0
    assert fast.p < 0.001


def test_paired_difference_swaps_sign_with_its_arguments() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(200), rng.random(200) + 0.1
    forth, back = stats.paired_bootstrap_values(a, b), stats.paired_bootstrap_values(b, a)
    assert forth.value == -back.value
    assert forth.ci == pytest.approx((-back.ci[1], -back.ci[0]))
    assert forth.p + back.p == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("case", [(5, 6, 10), (-1, 0, 10), (0, 0, 0)])
def test_paired_bootstrap_refuses_impossible_counts(case: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        stats.paired_bootstrap(*case)


def test_paired_values_must_be_pairs() -> None:
    with pytest.raises(ValueError):
        stats.paired_bootstrap_values([1.0], [1.0, 2.0])
    with pytest.raises(ValueError):
        stats.paired_bootstrap_values([], [])


def test_holm_by_hand() -> None:
    """Four tests: 0.005 * 4, then 0.01 * 3, then 0.03 * 2, then 0.04 raised to the one before."""
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]) == []
    assert stats.holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.01, 0.2))
def test_holm_rejects_as_the_step_down_procedure_does(p_values: list[float], level: float) -> None:
    adjusted = stats.holm(p_values)
    rejected = set()
    for step, i in enumerate(sorted(range(len(p_values)), key=lambda i: (p_values[i], i))):
        if p_values[i] * (len(p_values) - step) > level:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(adjusted) if p <= level} == rejected
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))


@pytest.mark.parametrize("seed", range(2))
def test_mean_bootstrap_is_resampling_images(seed: int) -> None:
    """Drawing how often each distinct value comes is drawing images: the same interval within 0.1 point."""
    rng = np.random.default_rng(seed)
    gaps = rng.choice([-1.0, -0.25, 0.0, 0.5, 1.0], p=[0.03, 0.03, 0.86, 0.03, 0.05], size=3000)
    fast, slow = stats.mean_bootstrap(gaps), stats.paired_bootstrap_values(np.zeros(3000), gaps, resamples=4000)
    assert fast.value == pytest.approx(gaps.mean())
    assert fast.ci == pytest.approx(slow.ci, abs=1e-3)


def test_mean_bootstrap_of_three_values_is_the_paired_one() -> None:
    gaps = np.repeat([1.0, -1.0, 0.0], [30, 10, 160])
    assert stats.mean_bootstrap(gaps).ci == pytest.approx(stats.paired_bootstrap(30, 10, 200).ci, abs=0.005)
    with pytest.raises(ValueError, match="at least one sample"):
        stats.mean_bootstrap([])


def test_strata_take_the_spread_between_classes_away() -> None:
    gaps, classes = np.repeat([1.0, 0.0], [50, 50]), np.repeat([0, 1], [50, 50])
    free, fixed = stats.mean_bootstrap(gaps), stats.mean_bootstrap(gaps, strata=classes)
    assert free.ci[0] < 0.45
    assert fixed.ci == (0.5, 0.5)


def test_draws_are_resampled_as_well() -> None:
    gaps = np.stack([np.full(50, value) for value in (0.0, 0.2, 0.4)])
    low, high = stats.mean_bootstrap(gaps).ci
    assert (low, high) == pytest.approx((0.0, 0.4), abs=0.07)
    assert stats.mean_bootstrap(gaps).value == pytest.approx(0.2)
