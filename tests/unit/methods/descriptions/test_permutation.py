"""Shuffled labels: the fast path against the whole arm, ranks that are exact, and gains by luck that are not taken for gains."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from toolkit.errors import UsageError
from toolkit.methods.descriptions.answers import assigned, relisted, swapped
from toolkit.methods.descriptions.arms import arm
from toolkit.methods.descriptions.audit import audit
from toolkit.methods.descriptions.audit_arms import AuditOptions, AuditProblem
from toolkit.methods.descriptions.controls import generator, shuffled
from toolkit.methods.descriptions.permutation import permutation_p, permuted, permuted_accuracies
from toolkit.methods.descriptions.relabel import relabel
from toolkit.methods.descriptions.selection import SelectionOptions
from toolkit.methods.descriptions.synthetic import RandomPools, Synthetic, directions, planted, synthetic

CLASSES, SHOTS, COPIES = 8, 8, 30


@pytest.mark.parametrize("w", ["loo", 0.0, 1.5])
@pytest.mark.parametrize(
    "option",
    [
        {},
        {"neighbourhood": "all"},
        {"neighbourhood": "ncm"},
        {"keep": "gt", "rank": "min", "m": 2},
        {"m": 40},
        {"fallback": "pool_mean"},
        {"k": 1},
        {"k": 50},
        {"size_norm": "set"},
        {"row_norm": "unit"},
        {"dtype": "float64"},
    ],
    ids=str,
)
def test_relabelling_is_the_whole_arm_with_other_labels(option: dict[str, Any], w: float | str) -> None:
    p = synthetic(3, 5, classes=12, n_texts=25, n_test=150, dim=24)
    kept = torch.arange(len(p.labels)) > 3  # class 0 has no image, class 1 has two
    support, labels = p.support[kept], p.labels[kept]
    own = [[c, 24 - c] for c in range(12)]
    order = torch.randperm(25, generator=torch.Generator().manual_seed(1))
    given: dict[str, Any] = {"options": SelectionOptions(**option), "own_lists": own, "tie_order": order, "w_cls": w}
    choose = relabel(p.test, support, labels, p.captions, p.descriptions, **given)
    for number in range(3):
        put = shuffled(labels, generator(3, number)) if number else labels
        whole = arm(p.test, support, labels, p.captions, p.descriptions, selection_labels=put, **given)
        assert torch.equal(choose(put), whole.predictions)


def test_relisting_is_assignment_with_the_lists_of_others() -> None:
    p = synthetic(3, 5, classes=12, n_texts=60, n_test=150, dim=24)
    own = [list(range(5 * c, 5 * c + 5)) if c else [] for c in range(12)]
    answer = relisted(p.test, p.support, p.labels, p.captions, p.descriptions, own, k=3)
    for number in range(4):
        order = generator(2, number).permutation(12)
        whole = assigned(p.test, p.support, p.labels, p.captions, p.descriptions, swapped(own, order.tolist()), k=3)
        assert torch.equal(answer(torch.from_numpy(order)), whole.predictions)


def test_each_of_forty_exchangeable_values_is_significant_once() -> None:
    values = np.random.default_rng(0).permutation(40) / 40
    found = [permutation_p(value, np.delete(values, place).tolist()) for place, value in enumerate(values)]
    assert sum(p <= 0.05 for p in found) == 1  # the largest: 2 / 40
    assert min(found) == pytest.approx(0.05)
    assert permutation_p(0.5, [0.5] * 199) == 1  # ties reach it
    assert permutation_p(0.2, [0.5] * 199) == 1


def test_draws_are_averaged_before_they_are_ranked() -> None:
    table = np.array([[0.6, *[0.5] * 50, *[0.3] * 50], [0.4, *[0.3] * 50, *[0.5] * 50]])
    found = permuted(table, 0.3, "lists")
    assert found.p == pytest.approx(2 / 101)
    assert found.mean == pytest.approx(0.1)
    assert found.span == pytest.approx((0.1, 0.1))
    assert (found.permutations, found.what) == (100, "lists")


@cache
def copies(seed: int) -> Synthetic:
    """Eight classes whose captions say nothing and whose images are near copies of each other."""
    rng = torch.Generator().manual_seed(seed)
    looks, captions = directions(CLASSES, 64, rng), directions(CLASSES, 64, rng)
    labels, test_labels = (torch.arange(CLASSES).repeat_interleave(n) for n in (SHOTS, COPIES))

    def photos(of: Tensor) -> Tensor:
        return torch.nn.functional.normalize(looks[of] + 0.15 * directions(len(of), 64, rng), dim=-1)

    return Synthetic(captions, looks, photos(labels), labels, photos(test_labels), test_labels, directions(40, 64, rng))


def test_gains_by_luck_on_near_copies_are_not_claimed() -> None:
    """McNemar's test takes 240 photos of eight looks for 240 trials; the rank among shuffled labels does not."""
    mcnemar = both = 0
    for seed in range(4):
        p = copies(seed)
        lists = [list(range(5 * c, 5 * c + 5)) for c in range(CLASSES)]
        names, texts = [f"class {c}" for c in range(CLASSES)], [f"text {i}" for i in range(40)]
        problem = AuditProblem(
            names, texts, p.captions, p.descriptions, p.test, [(p.support, p.labels)], own_lists=lists, controls=RandomPools(p.captions, 40)
        )
        options = AuditOptions(
            seeds=20, permutations=40, arms=("shuffled",), resamples=200, selection=SelectionOptions(neighbourhood="all"), w_cls=0.0
        )
        rows = {row["name"]: row for row in audit(problem, p.test_labels, options).result["arms"]}
        assert rows["random_characters"]["claims"] is None  # other texts have other ranks
        assert rows["shuffled"]["claims"] <= rows["shuffled"]["claims_mcnemar"]
        mcnemar += rows["shuffled"]["claims_mcnemar"]
        both += rows["shuffled"]["claims"]
    assert mcnemar > 8  # of 80, where two are to be expected
    assert both <= 4


def test_support_whose_labels_are_shuffled_gets_no_gain_and_wider_intervals_over_classes() -> None:
    options = AuditOptions(
        seeds=2, permutations=99, arms=("null",), resamples=500, selection=SelectionOptions(neighbourhood="all"), w_cls=0.0
    )
    surprised, wider = 0, []
    for seed in range(6):
        p = copies(seed)
        mixed = shuffled(p.labels, generator(seed, 4))
        names, texts = [f"class {c}" for c in range(CLASSES)], [f"text {i}" for i in range(40)]
        problem = AuditProblem(
            names, texts, p.captions, p.descriptions, p.test, [(p.support, mixed)], controls=RandomPools(p.captions, 40)
        )
        done = audit(problem, p.test_labels, options)
        gain = done.result["gain"]
        assert done.verdict.name in ("no gain", "invalid")
        assert gain["permuted"]["permutations"] == 99
        if gain["value"] > 0 and gain["p_holm"] < 0.05:
            surprised += 1
            assert gain["permuted"]["p"] >= 0.05
        low, high = gain["ci"]
        if gain["ci_classes"] is not None:
            wider.append((gain["ci_classes"][1] - gain["ci_classes"][0]) / (high - low))
    assert np.mean(wider) > 2
    assert surprised >= 1  # McNemar's test alone would have claimed one


def test_real_labels_stand_out() -> None:
    p = synthetic(8, 2, classes=20, n_texts=100, n_test=400, dim=64)
    d, own = planted(p, 0.5)
    problem = AuditProblem([], [], p.captions, d, p.test, [(p.support, p.labels), (p.support, p.labels.flip(0))], own_lists=own)
    options = AuditOptions(permutations=40)
    calls: list[int] = []
    table = permuted_accuracies(problem, options, p.test_labels, tick=lambda: calls.append(1))
    assert table.shape == (2, 41)
    assert len(calls) == 80
    assert permuted(table[:1], 0.0).p == pytest.approx(2 / 41)
    assert permuted(table[1:], 0.0).p > 0.05  # labels in reverse order belong to other images
    lists = permuted_accuracies(problem, AuditOptions(permutations=40, mode="assigned"), p.test_labels)
    assert permuted(lists[:1], 0.0).p == pytest.approx(2 / 41)
    part = permuted_accuracies(problem, options, p.test_labels, kept=list(range(50)))
    assert not np.array_equal(part, table)


@pytest.mark.parametrize("number", [0, 39, True, 40.0])
def test_too_few_permutations_are_refused(number: Any) -> None:
    with pytest.raises(UsageError, match="permutations"):
        AuditOptions(permutations=number)
    AuditOptions(permutations=40)
