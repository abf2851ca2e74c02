"""Intervals and paired tests. Pure numpy and scipy; every random step takes a seed and gives the same on every machine.

N is a number of samples, R a number of bootstrap resamples. Intervals are (low, high) tuples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Array = NDArray[np.float64]
Interval = tuple[float, float]

RESAMPLES = 2000
LEVEL = 0.95
_CHUNK = 4_000_000  # numbers per resampling step: 32 MB


class Difference(NamedTuple):
    """A paired difference. ``p`` is the one-sided share of resamples at or below zero, with a half-step correction."""

    value: float
    ci: Interval
    p: float


def wilson(right: int, n: int, level: float = LEVEL) -> Interval:
    """Score interval of a proportion ``right / n``.

    Raises: ValueError: unless 0 <= right <= n and n >= 1.
    Source: Wilson, 1927, without continuity correction.
    >>> tuple(round(bound, 4) for bound in wilson(8, 10))
    (0.4902, 0.9433)
    """
    if not 0 <= right <= n or n < 1:
        raise ValueError(f"a proportion needs 0 <= right <= n and n >= 1, not {right} of {n}")
    z = float(ndtri(0.5 + level / 2))
    share, shrink = right / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z / shrink * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (0.0 if right == 0 else float(centre - half)), (1.0 if right == n else float(centre + half))


def bca(estimate: float, resampled: Array, influence: Array, level: float = LEVEL) -> Interval | None:
    """Bias-corrected and accelerated interval from resampled estimates.

    Args:
        estimate: the statistic on the data.
        resampled: (R,) the statistic on the resamples.
        influence: (N,) how much each sample pulls the statistic, up to a common positive factor; the jackknife's
            ``mean(left_out) - left_out`` or the analytic influence values.
    Returns: the interval, or None where the resamples do not spread (the bootstrap then knows nothing).
    Source: Efron, 1987. The share below the estimate counts ties by half and is kept half a step away from 0 and 1.
    """
    resampled = np.asarray(resampled, dtype=np.float64)
    if np.ptp(resampled) <= 1e-12 * max(1.0, abs(estimate)):
        return None
    below = (np.mean(resampled < estimate) + np.mean(resampled <= estimate)) / 2
    step = 0.5 / resampled.size
    bias = float(ndtri(np.clip(below, step, 1 - step)))
    squares = float(np.sum(influence**2))
    acceleration = float(np.sum(influence**3)) / (6 * squares**1.5) if squares > 0 else 0.0
    z = ndtri([(1 - level) / 2, (1 + level) / 2]) + bias
    low, high = np.quantile(resampled, ndtr(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def bootstrap_ci(
    statistic: Callable[..., Any],
    *data: Sequence[float] | NDArray[Any],
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval | None:
    """BCa interval of any statistic of N samples.

    Args:
        statistic: gets the arrays of ``data``, each (..., N), and gives (...): vectorised over the leading axes.
        data: (N,) arrays that are resampled together.
    Returns: the interval, or None where the resamples do not spread or N < 2.
    >>> low, high = bootstrap_ci(lambda x: x.mean(axis=-1), [1.0, 2.0, 3.0, 4.0, 10.0])
    >>> low < 4.0 < high
    True
    """
    arrays = [np.asarray(column) for column in data]
    n = arrays[0].size
    if n < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // n)
    parts = []
    for start in range(0, resamples, rows):
        draw = rng.integers(n, size=(min(rows, resamples - start), n))
        parts.append(np.asarray(statistic(*(column[draw] for column in arrays)), dtype=np.float64))
    left_out = []
    for start in range(0, n, rows):
        kept = np.array([np.delete(np.arange(n), i) for i in range(start, min(start + rows, n))])
        left_out.append(np.asarray(statistic(*(column[kept] for column in arrays)), dtype=np.float64))
    jackknife = np.concatenate(left_out)
    return bca(float(statistic(*arrays)), np.concatenate(parts), jackknife.mean() - jackknife, level)


def mean_ci(
    values: Sequence[float] | Array,
    clusters: Sequence[Any] | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval | None:
    """BCa interval of the mean of N scores, or None where they do not differ.

    A resample needs of each cluster only its sum and its size. Of these pairs few are distinct, so that it is one Multinomial draw over
    them: N does not matter.

    Args:
        values: (N,) scores. clusters: (N,) to which cluster each belongs, as questions do to images; clusters are resampled. None: no two
            scores belong together.
    Raises: ValueError: if the lengths differ.
    """
    scores = np.asarray(values, dtype=np.float64)
    sums: Array = scores
    sizes: Array = np.ones(scores.size)
    if clusters is not None:
        if len(clusters) != scores.size:
            raise ValueError(f"each score needs a cluster: {scores.size} scores, {len(clusters)} clusters")
        numbers: dict[Any, int] = {}
        place = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)
        sums, sizes = (np.bincount(place, weights=weights).astype(np.float64) for weights in (scores, sizes))
    if sums.size < 2:
        return None
    pairs, counts = np.unique(sums.round(12) + 1j * sizes, return_counts=True)  # complex numbers sort faster than columns of a table
    rng, rows = np.random.default_rng(seed), max(1, _CHUNK // counts.size)
    parts = []
    for start in range(0, resamples, rows):
        draws = rng.multinomial(sums.size, counts / counts.sum(), size=min(rows, resamples - start)) @ pairs
        parts.append(draws.real / draws.imag)
    mean = float(sums.sum() / sizes.sum())
    return bca(mean, np.concatenate(parts), sums - mean * sizes, level)


def mean_recall_ci(
    right: NDArray[Any], support: NDArray[Any], *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> Interval | None:
    """BCa interval of the mean per-class recall, stratified: each class keeps its number of samples.

    Resampling a class of n samples of which r are right is one Binomial(n, r / n) draw, so N does not matter.

    Args:
        right, support: (C,) counts; classes without samples are left out.
    """
    support, right = np.asarray(support)[np.asarray(support) > 0], np.asarray(right)[np.asarray(support) > 0]
    if support.size == 0:
        return None
    recall = right / support
    draws = np.random.default_rng(seed).binomial(support, recall, size=(resamples, support.size)) / support
    # Sample i of class c moves the mean by (x_ci - recall_c) / n_c (times 1 / C); right and wrong samples come in two values.
    pull = np.concatenate([np.repeat((1 - recall) / support, right), np.repeat(-recall / support, support - right)])
    return bca(float(recall.mean()), draws.mean(axis=1), pull, level)


def binned_gap_ci(bins: NDArray[Any], gaps: Array, *, resamples: int = 1000, level: float = LEVEL, seed: int = 0) -> Interval | None:
    """BCa interval of ``sum_b |sum_{i in b} gap_i| / N``, the calibration error, at N = 50,000 in about a second.

    Args:
        bins: (N,) bin of each sample. gaps: (N,) confidence minus correctness.
    """
    n, width = gaps.size, int(bins.max()) + 1 if bins.size else 0
    if n < 2:
        return None
    sums = np.bincount(bins, weights=gaps, minlength=width)
    rng = np.random.default_rng(seed)
    resampled = np.empty(resamples)
    for r in range(resamples):
        draw = rng.integers(n, size=n)
        resampled[r] = np.abs(np.bincount(bins[draw], weights=gaps[draw], minlength=width)).sum() / n
    total = np.abs(sums).sum()
    left_out = (total - np.abs(sums[bins]) + np.abs(sums[bins] - gaps)) / (n - 1)
    return bca(float(total / n), resampled, left_out.mean() - left_out, level)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact p of McNemar's test from the two discordant counts; 1.0 if there are none.

    Source: McNemar, 1947; p = min(1, 2 P(Bin(only_a + only_b, 1/2) <= min(only_a, only_b))).
    >>> mcnemar_exact(1, 9)
    0.021484375
    """
    from scipy.stats import binomtest  # a second of imports that runs without a comparison do not need

    total = only_a + only_b
    return float(binomtest(min(only_a, only_b), total, 0.5).pvalue) if total else 1.0


def paired_bootstrap(repaired: int, broken: int, n: int, *, resamples: int = 10_000, level: float = LEVEL, seed: int = 0) -> Difference:
    """Difference of two accuracies on the same N samples, from what changed: it depends on nothing else.

    Resampling N pairs is one Multinomial(N; repaired / N, broken / N, rest) draw. Percentile interval.

    Args:
        repaired: samples that only the second is right on. broken: samples that only the first is right on.
    Raises: ValueError: unless n >= 1 and repaired + broken <= n.
    >>> paired_bootstrap(30, 10, 100).value
    0.2
    """
    if n < 1 or min(repaired, broken) < 0 or repaired + broken > n:
        raise ValueError(f"{repaired} repaired and {broken} broken do not fit into {n} samples")
    shares = np.array([repaired, broken, n - repaired - broken]) / n
    draws = np.random.default_rng(seed).multinomial(n, shares, size=resamples)
    return _difference((repaired - broken) / n, (draws[:, 0] - draws[:, 1]) / n, level)


def paired_bootstrap_values(
    first: Sequence[float] | Array, second: Sequence[float] | Array, *, resamples: int = 10_000, level: float = LEVEL, seed: int = 0
) -> Difference:
    """Mean of ``second - first`` over the same N samples, for any per-sample score. Percentile interval.

    Raises: ValueError: if the lengths differ or are zero.
    """
    gaps = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    if len(first) != len(second) or gaps.size == 0:
        raise ValueError(f"paired scores must be equally many, and at least one: {len(first)} and {len(second)}")
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // gaps.size)
    parts = [gaps[rng.integers(gaps.size, size=(min(rows, resamples - r), gaps.size))].mean(axis=1) for r in range(0, resamples, rows)]
    return _difference(float(gaps.mean()), np.concatenate(parts), level)


def mean_bootstrap(
    values: Sequence[float] | Array,
    *,
    strata: Sequence[int] | NDArray[Any] | None = None,
    resamples: int = 10_000,
    level: float = LEVEL,
    seed: int = 0,
) -> Difference:
    """Mean of paired differences over N samples, and over draws if there are several. Percentile interval.

    Resampling N samples changes only how often each distinct value comes, so that it is one Multinomial draw over the distinct values:
    N does not matter, and the differences of two classifiers have but three of them.

    Args:
        values: (N,) differences, or (draws, N): the same samples under each of several support draws; draws are then resampled too.
        strata: (N,) class of each sample; each class then keeps its number of samples.
    Raises: ValueError: without samples.
    >>> mean_bootstrap([1.0] * 30 + [-1.0] * 10 + [0.0] * 60).value
    0.2
    """
    gaps = np.atleast_2d(np.asarray(values, dtype=np.float64))
    draws, n = gaps.shape
    if not n or not draws:
        raise ValueError("a mean needs at least one sample")
    rng = np.random.default_rng(seed)
    sums = np.zeros((resamples, draws))
    groups = np.zeros(n, dtype=np.int64) if strata is None else np.asarray(strata)
    for group in np.unique(groups):
        inside = gaps[:, groups == group]
        distinct, counts = np.unique(inside, axis=1, return_counts=True)
        rows = max(1, _CHUNK // counts.size)
        for start in range(0, resamples, rows):
            size = min(rows, resamples - start)
            sums[start : start + size] += rng.multinomial(inside.shape[1], counts / counts.sum(), size=size) @ distinct.T
    if draws > 1:
        sums *= rng.multinomial(draws, np.full(draws, 1 / draws), size=resamples)
    return _difference(float(gaps.mean()), sums.sum(axis=1) / (draws * n), level)


def clustered_bootstrap(
    values: Sequence[float] | Array, clusters: Sequence[Any], *, resamples: int = 10_000, level: float = LEVEL, seed: int = 0
) -> Difference:
    """Mean of N paired differences that come in clusters, as questions about one image do. Percentile interval; clusters are resampled.

    A resample needs of each cluster only its sum and its size. Of these pairs few are distinct, so that it is one Multinomial draw over
    them. With clusters of one it is the bootstrap over samples.

    Args:
        values: (N,) differences. clusters: (N,) to which cluster each belongs, anything hashable.
    Raises: ValueError: without samples, or if the lengths differ.
    >>> clustered_bootstrap([1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"]).ci
    (0.0, 1.0)
    """
    gaps = np.asarray(values, dtype=np.float64)
    if gaps.size == 0 or len(clusters) != gaps.size:
        raise ValueError(f"each of at least one difference needs a cluster: {gaps.size} differences, {len(clusters)} clusters")
    numbers: dict[Any, int] = {}
    place = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
    sums, sizes = np.bincount(place, weights=gaps), np.bincount(place)
    pairs, counts = np.unique(np.stack([sums.round(12), sizes]), axis=1, return_counts=True)
    rng, rows = np.random.default_rng(seed), max(1, _CHUNK // counts.size)
    parts = []
    for start in range(0, resamples, rows):
        draws = rng.multinomial(len(numbers), counts / counts.sum(), size=min(rows, resamples - start)) @ pairs.T
        parts.append(draws[:, 0] / draws[:, 1])
    return _difference(float(gaps.mean()), np.concatenate(parts), level)


def sign_flip_test(values: Sequence[float] | Array, clusters: Sequence[Any], *, flips: int = 10_000, seed: int = 0) -> float:
    """One-sided p of a mean above zero, for N paired differences that come in clusters: whole clusters change their sign at random.

    Exact for up to 12 clusters that differ from zero, else from random flips with the usual correction, so that it is never zero. With
    differences of -1, 0 and 1 in clusters of one it is the one-sided exact test of McNemar.

    Args:
        values: (N,) differences. clusters: (N,) to which cluster each belongs, as questions do to images.
    Raises: ValueError: if the lengths differ.
    Source: Fisher, 1935, the randomisation test.
    >>> sign_flip_test([1.0, 1.0, 1.0, 0.0], ["a", "b", "c", "d"])
    0.125
    """
    gaps = np.asarray(values, dtype=np.float64)
    if len(clusters) != gaps.size:
        raise ValueError(f"each difference needs a cluster: {gaps.size} differences, {len(clusters)} clusters")
    numbers: dict[Any, int] = {}
    place = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)
    sums = np.bincount(place, weights=gaps) if gaps.size else gaps
    sums = sums[np.abs(sums) > 1e-12]
    if not sums.size:
        return 1.0
    reached = sums.sum() - 1e-9
    if sums.size <= 12:
        signs = 1 - 2.0 * (np.arange(2**sums.size)[:, None] >> np.arange(sums.size) & 1)
        return float(np.mean(signs @ sums >= reached))
    rng, rows, above = np.random.default_rng(seed), max(1, _CHUNK // sums.size), 0
    for start in range(0, flips, rows):
        signs = 1 - 2.0 * rng.integers(2, size=(min(rows, flips - start), sums.size))
        above += int(np.sum(signs @ sums >= reached))
    return (above + 1) / (flips + 1)


def two_sided(p: float) -> float:
    """Two-sided p from the one-sided share of resamples at or below zero.

    >>> two_sided(0.01), two_sided(0.75)
    (0.02, 0.5)
    """
    return min(1.0, 2 * min(p, 1 - p))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order of the input.

    Source: Holm, 1979.
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def _difference(value: float, resampled: Array, level: float) -> Difference:
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    p = (np.sum(resampled <= 0) + 0.5) / (resampled.size + 1)
    return Difference(float(value), (float(low), float(high)), float(p))
