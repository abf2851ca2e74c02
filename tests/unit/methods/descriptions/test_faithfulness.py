"""Flip rates are counts of answers that really change, and the photos that are picked are what they are called."""

from __future__ import annotations

import pytest
import torch

from tests.unit.methods.descriptions import explain_cases as cases
from toolkit.methods.descriptions.explain import explain
from toolkit.methods.descriptions.faithfulness import KINDS, flip_rates, instructive, rates_json
from toolkit.methods.descriptions.selection import predict, unit_rows
from toolkit.stats import mcnemar_exact, wilson


@pytest.mark.parametrize("options", [{}, {"k": 5, "m": 2}, {"size_norm": "set"}, {"fallback": "pool_mean", "keep": "gt"}], ids=str)
def test_deleting_the_strongest_text_is_counted_as_the_explanations_say(options: dict[str, object]) -> None:
    fitted, photos = cases.make(5, w=0.5, **options)
    rates = flip_rates(fitted, photos, cases.scored(fitted, photos))
    flips = n = 0
    for x in photos:
        told = explain(fitted, x)
        if len(told.winner.texts) > 1:
            n += 1
            strongest = max(told.winner.texts, key=lambda part: (part.excess, -part.rank))
            flips += strongest.without.drop_to != told.label
    assert rates.n == n
    assert rates.delete is not None
    assert (rates.delete.strongest.flips, rates.delete.strongest.n) == (flips, n)
    assert rates.delete.strongest.ci95 == wilson(flips, n)
    assert rates.delete.mcnemar_p == mcnemar_exact(rates.delete.only_strongest, rates.delete.only_random)
    both = rates.delete.strongest.flips - rates.delete.only_strongest
    assert both == rates.delete.random.flips - rates.delete.only_random
    assert rates.swap is None


def test_random_texts_depend_on_the_seed_alone() -> None:
    fitted, photos = cases.make(5, w=0.3)
    whole = cases.scored(fitted, photos)
    assert flip_rates(fitted, photos, whole, seed=3) == flip_rates(fitted, photos, whole, seed=3)


def test_replacing_texts_by_themselves_changes_nothing_and_by_strings_what_prediction_says() -> None:
    fitted, photos = cases.make(6, w=0.5)
    whole = cases.scored(fitted, photos)
    labels = predict(whole, 0.5)
    same = flip_rates(fitted, photos, whole, labels=labels, strings=fitted.descriptions)
    assert same.swap is not None
    assert same.replace_all is not None
    assert (same.swap.strongest.flips, same.swap.random.flips, same.replace_all.flips.flips) == (0, 0, 0)
    strings = unit_rows(torch.randn(fitted.descriptions.shape, generator=torch.Generator().manual_seed(1)))
    rates = flip_rates(fitted, photos, whole, labels=labels, strings=strings)
    changed = 0
    for number, x in enumerate(photos):
        totals = []
        for row in explain(fitted, x).candidates:
            b = sum(float(strings[part.index].double() @ x.double()) for part in row.texts) / len(row.texts)
            totals.append((0.5 * row.a + b, row.a, -row.label))
        changed += -max(totals)[2] != int(labels[number])
    assert rates.replace_all is not None
    assert rates.replace_all.flips.flips == changed == rates.replace_all.broken
    assert changed > 0
    assert rates.replace_all.repaired == 0


def test_without_a_choice_there_is_nothing_to_count() -> None:
    for options in ({"k": 1}, {"m": 1}):
        fitted, photos = cases.make(0, **options)
        assert flip_rates(fitted, photos, cases.scored(fitted, photos)).n == 0
    assert rates_json(flip_rates(fitted, photos, cases.scored(fitted, photos)))["delete"] is None


def test_the_picked_photos_are_what_they_are_called() -> None:
    fitted, _ = cases.make(2, w=0.3)
    g = torch.Generator().manual_seed(9)
    labels = torch.randint(cases.C, (150,), generator=g)
    photos = unit_rows(fitted.captions[labels] + 0.4 * torch.randn(150, cases.D, generator=g))
    picked = instructive(fitted, photos, cases.scored(fitted, photos), labels)
    assert len(picked) == 20 == len({index for index, _ in picked})
    kinds = [kind for _, kind in picked]
    assert kinds == sorted(kinds, key=list(KINDS).index)
    assert {kinds.count(kind) for kind in KINDS} == {5}
    for index, kind in picked:
        told = explain(fitted, photos[index])
        truth = int(labels[index])
        if kind == "repaired":
            assert told.label == truth != told.caption_label
        elif kind == "broken":
            assert told.caption_label == truth != told.label
        elif kind == "one text":
            assert any(part.without.drop_to != told.label for part in told.winner.texts)
    leads = [explain(fitted, photos[index]).rivals[0].lead for index, kind in picked if kind == "close"]
    assert leads == sorted(leads)
    assert {kind for _, kind in instructive(fitted, photos, cases.scored(fitted, photos), None)} <= {"one text", "close"}
