"""Metrics against scikit-learn and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, top_k_accuracy_score

from evals.metrics import classification as metric

SIZES = st.tuples(st.integers(1, 80), st.integers(2, 9), st.integers(0, 10_000))


def draw(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities."""
    rng = np.random.default_rng(seed)
    return rng.integers(classes, size=n), rng.dirichlet(np.full(classes, 0.5), size=n)


@given(SIZES)
def test_top1_and_confusion_matrix_are_scikit_learns(case: tuple[int, int, int]) -> None:
    n, classes, seed = case
    labels, probabilities = draw(n, classes, seed)
    predictions = probabilities.argmax(axis=1)
    assert metric.top1(labels, predictions) == pytest.approx(accuracy_score(labels, predictions))
    matrix = metric.confusion_matrix(labels, predictions, classes)
    assert np.array_equal(matrix, confusion_matrix(labels, predictions, labels=range(classes)))
    assert matrix.sum() == n


@given(SIZES.filter(lambda case: case[1] > 5))
def test_top5_is_scikit_learns(case: tuple[int, int, int]) -> None:
    n, classes, seed = case
    labels, probabilities = draw(n, classes, seed)
    ranked = np.argsort(-probabilities, axis=1)[:, :5]
    expected = top_k_accuracy_score(labels, probabilities, k=5, labels=range(classes))
    assert metric.topk(labels, ranked, 5) == pytest.approx(expected)


def test_topk_ignores_places_without_an_answer() -> None:
    assert metric.topk(np.array([0, 1]), np.array([[0, -1, -1], [0, -1, -1]]), k=3) == 0.5


@given(SIZES)
@pytest.mark.filterwarnings("ignore:y_pred contains classes", "ignore:A single label was found")
def test_mean_per_class_recall_is_balanced_accuracy(case: tuple[int, int, int]) -> None:
    n, classes, seed = case
    labels, probabilities = draw(n, classes, seed)
    predictions = probabilities.argmax(axis=1)
    assert metric.mean_per_class_recall(labels, predictions, classes) == pytest.approx(balanced_accuracy_score(labels, predictions))


@pytest.mark.parametrize("seed", range(5))
def test_ece_is_torchmetrics(seed: int) -> None:
    torch = pytest.importorskip("torch")
    from torchmetrics.functional.classification import multiclass_calibration_error

    labels, probabilities = draw(500, 7, seed)
    predictions, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    expected = multiclass_calibration_error(torch.tensor(probabilities), torch.tensor(labels), num_classes=7, n_bins=15, norm="l1")
    assert metric.ece(confidence, predictions == labels) == pytest.approx(float(expected), abs=1e-6)


def test_calibration_bins_have_closed_upper_edges() -> None:
    edges = np.linspace(0, 1, 16)
    assert metric.calibration_bins(edges).tolist() == [0, *range(15)]
    assert metric.calibration_bins(np.nextafter(edges[1:-1], 1)).tolist() == list(range(1, 15))


def test_a_calibrated_predictor_has_no_error_and_a_sure_wrong_one_has_all() -> None:
    assert metric.ece(np.full(4, 0.75), np.array([1, 1, 1, 0])) == 0.0
    assert metric.ece(np.ones(3), np.zeros(3)) == 1.0


def test_reliability_table_adds_up_to_the_calibration_error() -> None:
    labels, probabilities = draw(400, 4, 0)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    table = metric.reliability(confidence, correct)
    full = table[table[:, 0] > 0]
    assert table[:, 0].sum() == 400
    assert np.isnan(table[table[:, 0] == 0, 1:]).all()
    assert (full[:, 0] * np.abs(full[:, 1] - full[:, 2])).sum() / 400 == pytest.approx(metric.ece(confidence, correct))
