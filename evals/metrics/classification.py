"""Metrics of single-label classification.

Shapes: N samples, C classes. Labels and predictions are integer arrays in [0, C); values are fractions in [0, 1].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]


def top1(labels: Ints, predictions: Ints) -> float:
    """Share of samples whose first answer is right.

    Args:
        labels, predictions: (N,) integers, N >= 1.
    >>> top1(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2]))
    0.75
    """
    return float(np.mean(np.asarray(labels) == np.asarray(predictions)))


def topk(labels: Ints, ranked: Ints, k: int = 5) -> float:
    """Share of samples whose label is among the first ``k`` answers.

    Args:
        labels: (N,) integers. ranked: (N, >= k) class indices, best first; -1 fills a place without an answer.
    >>> topk(np.array([0, 1]), np.array([[2, 0, 1], [2, 0, 1]]), k=2)
    0.5
    """
    return float(np.mean((np.asarray(ranked)[:, :k] == np.asarray(labels)[:, None]).any(axis=1)))


def confusion_matrix(labels: Ints, predictions: Ints, classes: int) -> NDArray[np.int64]:
    """(C, C) counts; row = true class, column = predicted class.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    cells = np.asarray(labels, dtype=np.int64) * classes + np.asarray(predictions, dtype=np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def per_class_recall(labels: Ints, predictions: Ints, classes: int) -> NDArray[np.float64]:
    """(C,) share of each class's samples that were recognised; NaN for a class without samples.

    >>> per_class_recall(np.array([0, 0, 1]), np.array([0, 1, 1]), 3).tolist()
    [0.5, 1.0, nan]
    """
    labels = np.asarray(labels, dtype=np.int64)
    support = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[labels == np.asarray(predictions)], minlength=classes)
    recall = np.full(classes, np.nan)
    np.divide(right, support, out=recall, where=support > 0)
    return recall


def mean_per_class_recall(labels: Ints, predictions: Ints, classes: int) -> float:
    """Mean of the recalls of the classes that have samples (balanced accuracy).

    >>> mean_per_class_recall(np.array([0, 0, 1]), np.array([0, 1, 1]), 3)
    0.75
    """
    return float(np.nanmean(per_class_recall(labels, predictions, classes)))


def calibration_bins(confidences: Floats, bins: int = 15) -> NDArray[np.int64]:
    """(N,) index of the equal-width bin ((b / bins, (b + 1) / bins]; 0 belongs to the first) of each confidence.

    >>> calibration_bins(np.array([0.0, 0.5, 0.51, 1.0]), bins=2).tolist()
    [0, 0, 1, 1]
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    return np.clip(np.searchsorted(edges, np.asarray(confidences, dtype=np.float64), side="left") - 1, 0, bins - 1)


def ece(confidences: Floats, correct: NDArray[Any], bins: int = 15) -> float:
    """Expected calibration error: mean over samples of |confidence - accuracy| of their bin.

    Args:
        confidences: (N,) probability of the answer that was given. correct: (N,) 1 where it was right.
        bins: number of equal-width bins.
    Source: Guo et al., 2017, arXiv 1706.04599, Eq. 5. Biased upward for small N, as every plug-in ECE.
    >>> round(ece(np.array([0.9, 0.9, 0.6, 0.6]), np.array([1, 1, 1, 0])), 6)
    0.1
    """
    gap = np.asarray(confidences, dtype=np.float64) - np.asarray(correct, dtype=np.float64)
    sums = np.bincount(calibration_bins(confidences, bins), weights=gap, minlength=bins)
    return float(np.abs(sums).sum() / gap.size)


def reliability(confidences: Floats, correct: NDArray[Any], bins: int = 15) -> NDArray[np.float64]:
    """(bins, 3) of the reliability diagram: count, mean confidence and accuracy of each bin; NaN where a bin is empty."""
    place = calibration_bins(confidences, bins)
    count = np.bincount(place, minlength=bins).astype(np.float64)
    table = np.full((bins, 3), np.nan)
    table[:, 0] = count
    for column, values in ((1, confidences), (2, correct)):
        sums = np.bincount(place, weights=np.asarray(values, dtype=np.float64), minlength=bins)
        np.divide(sums, count, out=table[:, column], where=count > 0)
    return table
