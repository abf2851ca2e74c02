"""Rivals that learn from a few images, each against brute force: leave-one-out is refitting without the image."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from tests.unit.methods.descriptions.known import Known, direction, labels, predict, rows_of, sample, samples, unit
from toolkit.errors import DataError, UsageError
from toolkit.methods import build_method
from toolkit.methods.descriptions.assigned import Assigned
from toolkit.methods.descriptions.nearest_mean import NearestMean, NearestMeanConfig, left_out_scores, neutral, unit_means
from toolkit.methods.descriptions.prototypes import Support, encode_support
from toolkit.methods.descriptions.tip_adapter import BETAS, TipAdapter, TipAdapterConfig, left_out_keys
from toolkit.types import ClassifyProblem, Sample

C = 6
NAMES = tuple(f"name {number}" for number in range(C))
LISTS = {name: tuple(f"{name} looks {number}" for number in range(2 + i % 3)) for i, name in enumerate(NAMES)}
TEST = samples(C, 20)
UNEQUAL = [sample(f"{label}/s{number}", label) for label in range(C) for number in range(1 + label % 4)]
CAPTIONS = torch.stack([direction(f"{name}!") for name in NAMES]).double()


def problem(support: Sequence[Sample] = UNEQUAL) -> ClassifyProblem:
    return ClassifyProblem(NAMES, ("{}!",), LISTS, tuple(support))


def by_hand(x: torch.Tensor, support: torch.Tensor, y: list[int], form: str, w: float, k: int = 3) -> tuple[list[int], list[float]]:
    """Candidates of one image and their scores."""
    names = (CAPTIONS @ x).tolist()
    among = sorted(range(C), key=lambda c: (-names[c], c))[: C if form == "global" else k]
    looks: list[float | None] = []
    for c in among:
        rows = [support[i] for i in range(len(y)) if y[i] == c]
        looks.append(float(x @ unit(torch.stack(rows).sum(0))) if rows else None)
    there = [look for look in looks if look is not None]
    rest = sum(there) / len(there) if there else 0.0
    return among, [w * names[c] + (rest if look is None else look) for c, look in zip(among, looks, strict=True)]


def winner(among: list[int], scores: list[float]) -> int:
    return among[max(range(len(among)), key=scores.__getitem__)]


@pytest.mark.parametrize(("form", "w"), [("global", 0.0), ("local", 0.0), ("mixed", 0.7)])
@pytest.mark.parametrize("support", [UNEQUAL, UNEQUAL[4:], samples(C, 3, "s")])
def test_nearest_means_against_a_loop(form: str, w: float, support: list[Sample]) -> None:
    encoder = Known()
    rows, y = rows_of(encoder, support), [s.label or 0 for s in support]
    found = predict("nearest-mean", problem(support), TEST, form=form, w_cls=w)
    for x, prediction in zip(rows_of(encoder, TEST), found, strict=True):
        among, scores = by_hand(x, rows, y, form, w)
        assert prediction.output is not None
        assert prediction.output["label"] == winner(among, scores)
        shares = (20.0 / (1 + w) * torch.tensor(scores)).softmax(0)
        assert math.isclose(prediction.output["confidence"], float(shares.max()), rel_tol=1e-4)


def test_leave_one_out_of_class_means_is_refitting() -> None:
    encoder = Known()
    rows, y = rows_of(encoder, UNEQUAL), torch.tensor([s.label or 0 for s in UNEQUAL])
    left_out = left_out_scores(rows, y, C)
    for i in range(len(y)):
        keep = torch.arange(len(y)) != i
        again = rows[i] @ unit_means(rows[keep], y[keep], C).T
        torch.testing.assert_close(left_out[i], again, equal_nan=True)


def test_the_weight_of_the_mixed_form_is_the_best_by_refitting() -> None:
    encoder: Any = Known(spread=1.5)
    support = samples(C, 4, "s")
    rows, y = rows_of(encoder, support), [s.label or 0 for s in support]
    method = NearestMean(NearestMeanConfig(form="mixed"))
    w = method.weight(encode_support(encoder, problem(support)), CAPTIONS.float())

    def right(weight: float) -> int:
        total = 0
        for i, label in enumerate(y):
            others = [j for j in range(len(y)) if j != i]
            total += winner(*by_hand(rows[i], rows[others], [y[j] for j in others], "mixed", weight)) == label
        return total

    assert right(w) == max(right(value) for value in (w, *torch.linspace(0.01, 39.9, 120).tolist()))


def test_empty_classes_are_neutral() -> None:
    nan = math.nan
    found = neutral(torch.tensor([[1.0, nan, 3.0], [nan, nan, nan], [1.0, 2.0, 3.0]]))
    assert found.tolist() == [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]


def keys_by_hand(x: torch.Tensor, support: torch.Tensor, y: list[int], beta: float) -> list[float]:
    found = [0.0] * C
    for row, label in zip(support, y, strict=True):
        found[label] += math.exp(-beta * (1 - float(x @ row)))
    return found


def test_tip_adapter_against_a_loop() -> None:
    encoder = Known()
    rows, y = rows_of(encoder, UNEQUAL), [s.label or 0 for s in UNEQUAL]
    found = predict("tip-adapter", problem(), TEST, alpha=1.5, beta=5.5)
    for x, prediction in zip(rows_of(encoder, TEST), found, strict=True):
        logits = 20.0 * CAPTIONS @ x + 1.5 * torch.tensor(keys_by_hand(x, rows, y, 5.5), dtype=torch.float64)
        assert prediction.output is not None
        assert prediction.output["label"] == int(logits.argmax())
        assert math.isclose(prediction.output["confidence"], float(logits.softmax(0).max()), rel_tol=1e-4)


@pytest.mark.parametrize("beta", [0.5, 5.5, 40.0])
def test_leave_one_out_of_keys_is_refitting(beta: float) -> None:
    encoder = Known()
    rows, y = rows_of(encoder, UNEQUAL), [s.label or 0 for s in UNEQUAL]
    left_out = left_out_keys(rows, torch.tensor(y), C, beta)
    for i in range(len(y)):
        others = [j for j in range(len(y)) if j != i]
        expected = torch.tensor(keys_by_hand(rows[i], rows[others], [y[j] for j in others], beta), dtype=torch.float64)
        torch.testing.assert_close(left_out[i], expected, atol=1e-9, rtol=1e-6)


def test_alpha_and_beta_are_the_best_by_refitting() -> None:
    encoder: Any = Known(spread=1.5)
    support = encode_support(encoder, problem(samples(C, 4, "s")))
    x, y = support.x.double(), support.y.tolist()
    fit = TipAdapter().fit(support, CAPTIONS.float(), 20.0)

    def right(alpha: float, beta: float) -> int:
        total = 0
        for i in range(len(y)):
            others = [j for j in range(len(y)) if j != i]
            keys = torch.tensor(keys_by_hand(x[i], x[others], [y[j] for j in others], beta), dtype=torch.float64)
            total += int((20.0 * CAPTIONS @ x[i] + alpha * keys).argmax()) == y[i]
        return total

    best = right(fit.alpha, fit.beta)
    assert fit.accuracy is not None
    assert best == round(fit.accuracy * len(y))
    assert best == max(right(alpha, beta) for beta in (fit.beta, *BETAS[::3]) for alpha in (fit.alpha, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0))
    only_beta = TipAdapter(TipAdapterConfig(beta=2.0)).fit(support, CAPTIONS.float(), 20.0)
    assert only_beta.beta == 2.0


def test_keys_can_be_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predict("tip-adapter", problem(), TEST)
    monkeypatch.setattr("toolkit.methods.descriptions.tip_adapter.ROWS", 2)
    assert labels(predict("tip-adapter", problem(), TEST)) == labels(whole)


def assigned_by_hand(x: torch.Tensor, w: float, scope: str, lists: dict[str, tuple[str, ...]]) -> int:
    pool = [text for texts in lists.values() for text in texts]
    names = (CAPTIONS @ x).tolist()
    among = sorted(range(C), key=lambda c: (-names[c], c))[: 3 if scope == "local" else C]
    means = [sum(float(direction(t).double() @ x) for t in (lists[NAMES[c]] or pool)) / len(lists[NAMES[c]] or pool) for c in among]
    return winner(among, [w * names[c] + mean for c, mean in zip(among, means, strict=True)])


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("w", [0, 0.5, 8.0])
def test_assigned_against_a_loop(scope: str, w: float) -> None:
    lists = {**LISTS, NAMES[2]: ()}
    asked = ClassifyProblem(NAMES, ("{}!",), lists)
    found = labels(predict("assigned", asked, TEST, scope=scope, w_cls=w))
    assert found == [assigned_by_hand(x, w, scope, lists) for x in rows_of(Known(), TEST)]


def test_the_weight_of_assigned_texts_comes_from_the_support() -> None:
    encoder: Any = Known()
    support = samples(C, 5, "s")
    *_, w = Assigned().fit(encoder, problem(support), 32)
    y = [s.label for s in support]

    def right(weight: float) -> int:
        return sum(assigned_by_hand(x, weight, "local", LISTS) == label for x, label in zip(rows_of(encoder, support), y, strict=True))

    assert right(w) == max(right(value) for value in torch.linspace(0.0, 40.0, 161).tolist())
    assert Assigned().fit(encoder, problem([]), 32)[2] == 1.0


def test_a_large_weight_is_the_caption() -> None:
    captions = labels(predict("zero-shot", problem(), TEST))
    assert labels(predict("assigned", problem(), TEST, w_cls=1e7)) == captions
    assert labels(predict("nearest-mean", problem(), TEST, form="mixed", w_cls=1e7)) == captions
    assert labels(predict("tip-adapter", problem(), TEST, alpha=0, beta=1)) == captions


@pytest.mark.parametrize("method", ["nearest-mean", "tip-adapter"])
def test_no_support_is_an_error_and_broken_images_are_left_out(method: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UsageError, match="given none"):
        predict(method, problem([]), TEST)
    support = samples(C, 2, "s")
    clean = labels(predict(method, problem(support), TEST))
    with caplog.at_level(logging.WARNING):
        assert labels(predict(method, problem([sample("broken", 0), *support]), TEST)) == clean
    assert "broken is broken" in caplog.text
    with pytest.raises(DataError, match="none of the 1 support images"):
        predict(method, problem([sample("broken", 0)]), TEST)
    with pytest.raises(DataError, match="label 6"):
        predict(method, problem([sample("0/x", 6)]), TEST)


def test_the_support_keeps_its_order() -> None:
    encoder: Any = Known()
    found: Support = encode_support(encoder, problem([*UNEQUAL[:3], sample("broken", 1), *UNEQUAL[3:]]), batch_size=2)
    assert found.y.tolist() == [s.label for s in UNEQUAL]
    torch.testing.assert_close(found.x.double(), rows_of(Known(), UNEQUAL))
    assert found.failures == ["broken is broken"]


def test_candidates_come_first_and_the_others_by_caption() -> None:
    for prediction, x in zip(predict("nearest-mean", problem(), TEST, form="local"), rows_of(Known(), TEST), strict=True):
        order = (CAPTIONS @ x).argsort(descending=True).tolist()
        assert prediction.output is not None
        top = [index for index, _ in prediction.output["top"]]
        assert sorted(top[:3]) == sorted(order[:3])
        assert top[3:] == order[3:5]
        assert [p for _, p in prediction.output["top"][3:]] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("nearest-mean", {"form": "other"}), ("nearest-mean", {"k": 0}), ("nearest-mean", {"w_cls": "oracle"}), ("assigned", {"w_cls": -1}),
        ("assigned", {"scope": "none"}), ("assigned", {"w_text": "loo"}), ("tip-adapter", {"alpha": 1}), ("tip-adapter", {"beta": -1}),
        ("tip-adapter", {"alpha": float("nan"), "beta": 1}),
    ],
)  # fmt: skip
def test_impossible_options(method: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        build_method(method, options)
