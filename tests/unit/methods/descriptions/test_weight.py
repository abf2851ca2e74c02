"""The weight of the class name: the exact curve against a grid, leave-one-out against refitting, and what is chosen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.reference_selection import Vectors, make_vectors
from toolkit.errors import DataError
from toolkit.methods.descriptions.arms import arm, shuffled
from toolkit.methods.descriptions.selection import Scored, SelectionOptions, class_means, class_sums, decide, score, similarity
from toolkit.methods.descriptions.weight import (
    Curve,
    accuracy_curve,
    choose,
    leave_one_out,
    neighbours,
    positions,
    prequential,
)

GRID = torch.arange(160) * 0.25


def random_scores(n: int, k: int, seed: int, dyadic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    A, B = torch.randn(2, n, k, generator=generator, dtype=torch.float64)
    if dyadic:
        A, B = (A * 2).round() / 4, (B * 2).round() / 4
    return A, B, torch.randint(-1, k, (n,), generator=generator)


def by_hand(A: Tensor, B: Tensor, target: Tensor, w: float) -> float:
    """Accuracy with ties counted as right."""
    total = w * A + B
    right = (target >= 0) & (total.gather(1, target.clamp(min=0)[:, None])[:, 0] >= total.amax(dim=1))
    return float(right.double().mean())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_the_curve_equals_the_grid(k: int, seed: int) -> None:
    A, B, target = random_scores(120, k, seed)
    curve = accuracy_curve(A, B, target)
    weights = torch.cat([GRID.double(), torch.rand(200, generator=torch.Generator().manual_seed(seed)).double() * 40])
    far = (weights[:, None] - curve.edges).abs().amin(dim=1) > 1e-9 * (1 + weights)
    far[weights == 0] = True  # an edge by definition, not by an image
    found = curve.at(weights)
    expected = torch.tensor([by_hand(A, B, target, float(w)) for w in weights], dtype=torch.float64)
    assert torch.allclose(found[far], expected[far], rtol=0, atol=1e-12)
    assert curve.best >= float(expected.max()) - 1e-12
    assert (curve.at_edge >= curve.accuracy).all()
    assert bool((curve.edges.diff() > 0).all())
    assert float(curve.edges[0]) == 0


@pytest.mark.parametrize("seed", range(5))
def test_ties_at_dyadic_scores_are_exact(seed: int) -> None:
    A, B, target = random_scores(80, 3, seed, dyadic=True)
    curve = accuracy_curve(A, B, target)
    weights = torch.tensor([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0], dtype=torch.float64)
    assert curve.at(weights).tolist() == pytest.approx([by_hand(A, B, target, float(w)) for w in weights])


def test_never_right() -> None:
    A = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.1, 0.2]], dtype=torch.float64)
    B = torch.tensor([[0.1, 0.2], [0.2, 0.2], [0.1, 0.2]], dtype=torch.float64)
    curve = accuracy_curve(A, B, torch.tensor([0, 0, -1]))
    assert curve.at(torch.tensor([0.0, 1.0, 1e9])).tolist() == pytest.approx([1 / 3] * 3)
    with pytest.raises(DataError, match="no image"):
        accuracy_curve(A[:0], B[:0], torch.empty(0, dtype=torch.long))


def curve(edges: list[float], counts: list[int], n: int = 10) -> Curve:
    accuracy = torch.tensor(counts, dtype=torch.float64) / n
    return Curve(torch.tensor(edges, dtype=torch.float64), accuracy, accuracy, n)


@pytest.mark.parametrize(
    ("given", "plateau", "touches"),
    [
        (curve([0, 1, 3, 4], [5, 7, 6, 2]), (1, 3), False),
        (curve([0, 1, 3, 4, 7], [5, 7, 6, 7, 2]), (4, 7), False),  # the longer of two
        (curve([0, 1, 3, 4, 6], [5, 7, 6, 7, 2]), (4, 6), False),  # as long: the larger weights
        (curve([0, 1, 2, 5], [5, 7, 7, 2]), (1, 5), False),  # two pieces of one plateau
        (curve([0, 39], [5, 7]), (39, 40), True),
        (curve([0, 50], [5, 9]), (0, 40), True),  # beyond the largest weight
        (curve([0], [0]), (0, 40), True),
    ],
)
def test_the_widest_plateau_wins(given: Curve, plateau: tuple[float, float], touches: bool) -> None:
    weight = choose(given)
    assert weight.plateau == plateau
    assert weight.w == sum(plateau) / 2
    assert weight.touches_max == touches


def test_a_single_point_is_never_chosen() -> None:
    """Right at exactly w = 1 only: the curve knows it, and the choice stays away from it."""
    A = torch.tensor([[0.5, 0.25, 0.75]], dtype=torch.float64)
    B = torch.tensor([[0.5, 0.75, 0.25]], dtype=torch.float64)
    found = accuracy_curve(A, B, torch.tensor([0]))
    assert found.best == 1
    assert choose(found).accuracy == 0


@pytest.mark.parametrize("seed", range(6))
def test_what_is_chosen_is_right_when_predicted(seed: int) -> None:
    A, B, target = random_scores(200, 3, seed)
    weight = choose(accuracy_curve(A, B, target))
    L = torch.arange(3).expand(200, 3)
    for w in (weight.w, weight.plateau[0] * 0.999 + weight.plateau[1] * 0.001, weight.plateau[0] * 0.001 + weight.plateau[1] * 0.999):
        assert float((decide(L, A, B, w) == target).double().mean()) == pytest.approx(weight.accuracy)


def test_a_huge_weight_gives_the_caption() -> None:
    vectors = make_vectors("clustered", 40, 60, 300, 32, 4)
    found = arm(vectors.test, vectors.support, vectors.labels, vectors.captions, vectors.d, options=SelectionOptions(), w_cls=1e7)
    assert torch.equal(found.predictions, (vectors.test @ vectors.captions.T).argmax(dim=1))


def test_zero_weight_without_meaning_is_chance_among_candidates() -> None:
    rates = []
    for seed in range(8):
        vectors = make_vectors("clustered", 40, 200, 500, 32, 4, seed)
        shuffle = shuffled(vectors.labels, seed)
        found = arm(
            vectors.test, vectors.support, vectors.labels, vectors.captions, vectors.d,
            options=SelectionOptions(), selection_labels=shuffle, w_cls=0,
        )  # fmt: skip
        rates.append(float((found.predictions == vectors.truth).double().mean()) - found.recall_at_k(vectors.truth) / 3)
    rates = torch.tensor(rates)
    assert abs(float(rates.mean())) < 3 * float(rates.std()) / len(rates) ** 0.5


def uneven(kind: str) -> Vectors:
    """Classes with 1 to 4 images, one with none."""
    vectors = make_vectors(kind, 12, 30, 10, 16, 4)
    keep = [i for i in range(48) if i % 4 <= (i // 4) % 4 and i // 4 != 7]
    return vectors._replace(support=vectors.support[keep], labels=vectors.labels[keep])


def refit(vectors: Vectors, i: int, options: SelectionOptions, own: list[list[int]], put: Tensor) -> Scored:
    """Image i scored after fitting on all the others."""
    rest = torch.arange(len(put)) != i
    sums, counts = class_sums(vectors.support[rest], put[rest], 12)
    means, _ = class_means(vectors.support[rest], put[rest], 12)
    S = options.tensor(similarity(means, counts, vectors.d, options.row_norm))
    x = vectors.support[i : i + 1]
    L = neighbours(x, vectors.captions, sums, counts, options)
    return score(x, vectors.captions, vectors.d, L, S, counts, options=options, own_lists=own)


@pytest.mark.parametrize("neighbourhood", ["caption", "ncm", "all"])
@pytest.mark.parametrize("kind", ["random", "clustered"])
@pytest.mark.parametrize("row_norm", ["none", "unit"])
@pytest.mark.parametrize("mixed_up", [False, True])
def test_leave_one_out_equals_refitting(kind: str, neighbourhood: str, row_norm: str, mixed_up: bool) -> None:
    vectors = uneven(kind)
    vectors = vectors._replace(support=vectors.support.double(), captions=vectors.captions.double(), d=vectors.d.double())
    options = SelectionOptions(neighbourhood=neighbourhood, row_norm=row_norm, dtype="float64", m=3)
    own = [[c, c + 1] for c in range(12)]
    put = shuffled(vectors.labels, 1) if mixed_up else vectors.labels
    order = torch.arange(29, -1, -1)
    found = leave_one_out(
        vectors.support, vectors.labels, vectors.captions, vectors.d,
        options=options, own_lists=own, tie_order=order, selection_labels=put,
    )  # fmt: skip
    target = positions(found.L, vectors.labels)
    for i in range(len(put)):
        again = refit(vectors, i, options, own, put)
        if target[i] < 0:
            assert found.set_index[i] == -1
            assert positions(again.L, vectors.labels[i : i + 1])[0] == -1
            continue
        assert found.L[i].tolist() == again.L[0].tolist()
        assert torch.allclose(found.A[i], again.A[0], rtol=0, atol=1e-9)
        assert torch.allclose(found.B[i], again.B[0], rtol=0, atol=1e-9)
        assert torch.equal(found.selected.chosen[found.set_index[i]], again.selected.chosen[0])
        assert torch.equal(found.selected.fallback[found.set_index[i]], again.selected.fallback[0])


def test_prequential_scores_before_it_learns() -> None:
    vectors = make_vectors("clustered", 20, 40, 5, 16, 8)
    order = torch.randperm(160, generator=torch.Generator().manual_seed(0)).split(20)
    batches = [(vectors.support[part], vectors.labels[part]) for part in order]
    found = prequential(batches, vectors.captions, vectors.d, options=SelectionOptions())
    assert found.n == 140
    correct = []
    for number in range(1, 8):
        seen = torch.cat(order[:number])
        part = arm(
            batches[number][0], vectors.support[seen], vectors.labels[seen], vectors.captions, vectors.d,
            options=SelectionOptions(), w_cls=1.7,
        )  # fmt: skip
        correct.append(part.predictions == batches[number][1])
    assert float(found.at(torch.tensor([1.7]))[0]) == pytest.approx(float(torch.cat(correct).double().mean()))
    with pytest.raises(DataError, match="no batch"):
        prequential(batches[:1], vectors.captions, vectors.d, options=SelectionOptions())


def test_permutations_change_nothing_but_the_order() -> None:
    vectors = make_vectors("clustered", 20, 40, 60, 16, 4)
    generator = torch.Generator().manual_seed(0)
    classes, pool, support, test = (torch.randperm(n, generator=generator) for n in (20, 40, 80, 60))
    place = classes.argsort()
    plain = arm(vectors.test, vectors.support, vectors.labels, vectors.captions, vectors.d, options=SelectionOptions())
    moved = arm(
        vectors.test[test], vectors.support[support], place[vectors.labels[support]], vectors.captions[classes], vectors.d[pool],
        options=SelectionOptions(),
    )  # fmt: skip
    assert torch.equal(classes[moved.predictions], plain.predictions[test])
    assert moved.w == pytest.approx(plain.w, abs=1e-5)


def test_swapped_lists_change_nothing_without_fallback() -> None:
    vectors = make_vectors("clustered", 20, 200, 60, 16, 4)
    own = [list(range(10 * c, 10 * c + 10)) for c in range(20)]
    results = [
        arm(vectors.test, vectors.support, vectors.labels, vectors.captions, vectors.d, options=SelectionOptions(), own_lists=lists)
        for lists in (own, own[1:] + own[:1])
    ]
    assert not results[0].selected.fallback.any()
    assert torch.equal(results[0].B, results[1].B)
