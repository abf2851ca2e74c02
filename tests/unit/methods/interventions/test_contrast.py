"""The pure functions against the worked values of the method, closed forms and brute force."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import euclidean

from toolkit.errors import ShapeError, UsageError
from toolkit.methods.interventions import contrast as c

weights = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=40).filter(lambda values: sum(values) > 1e-3)


def test_doctests() -> None:
    assert doctest.testmod(c).failed == 0


@pytest.mark.parametrize(("p", "q", "expected"), [([1, 0], [0, 1], 1.0), ([0.3, 0.7], [0.3, 0.7], 0.0), ([0.5, 0.5], [1, 0], 0.541196)])
def test_hellinger_worked_values(p: list[float], q: list[float], expected: float) -> None:
    assert c.hellinger(torch.tensor(p).float(), torch.tensor(q).float()).item() == pytest.approx(expected, abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(weights, weights)
def test_hellinger_is_the_distance_of_roots_and_bounded(first: list[float], second: list[float]) -> None:
    size = min(len(first), len(second))
    if sum(first[:size]) == 0 or sum(second[:size]) == 0:
        return
    p, q = (c.distribution(torch.tensor(values[:size], dtype=torch.float64)) for values in (first, second))
    distance = c.hellinger(p, q).item()
    assert distance == pytest.approx(euclidean(p.sqrt().tolist(), q.sqrt().tolist()) / math.sqrt(2), abs=1e-9)
    assert 0 <= distance <= 1
    # H^2 = 1 - BC(P, Q): the other closed form, through the Bhattacharyya coefficient
    assert distance**2 == pytest.approx(1 - (p * q).sqrt().sum().item(), abs=1e-9)
    assert distance == pytest.approx(c.hellinger(q, p).item(), abs=1e-12)


def test_an_image_without_any_attention_has_a_uniform_distribution_and_no_nan() -> None:
    p = c.distribution(torch.zeros(2, 4))
    assert p.tolist() == [[0.25] * 4] * 2
    assert c.hellinger(p[0], torch.tensor([1.0, 0, 0, 0])).isfinite()


@pytest.mark.parametrize("heads", ["mean", "max", [2, 0]])
@pytest.mark.parametrize("normalise", ["none", "image_after_mean", "image_per_head"])
def test_value_map_by_hand(heads: object, normalise: str) -> None:
    attention = torch.rand(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 10
    rows = attention.numpy()
    if normalise == "image_per_head":
        rows = rows / rows.sum(1, keepdims=True)
    merged = {"mean": rows.mean(0), "max": rows.max(0)}.get(str(heads), rows[[2, 0]].mean(0))
    expected = merged / merged.sum() if normalise == "image_after_mean" else merged
    np.testing.assert_allclose(c.value_map(attention, normalise, heads).numpy(), expected, atol=1e-15)  # type: ignore[arg-type]


def test_heads_that_a_layer_does_not_have_are_refused() -> None:
    with pytest.raises(UsageError, match="4 heads"):
        c.merge_heads(torch.ones(4, 2), [4])


def test_quantile_mask_worked_values() -> None:
    importance = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert c.masked_tokens(importance, 0.5).nonzero().flatten().tolist() == [0, 1]
    assert not c.masked_tokens(importance, 0.0).any()
    assert not c.masked_tokens(torch.full((7,), 0.1), 0.5).any()
    assert not c.masked_tokens(torch.empty(0), 0.5).any()


@settings(deadline=None, max_examples=50)
@given(weights, st.floats(0, 0.999))
def test_quantile_mask_is_that_of_numpy_and_of_sorting(values: list[float], rho: float) -> None:
    importance = torch.tensor(values, dtype=torch.float32)
    mask = c.masked_tokens(importance, rho)
    limit = np.quantile(importance.numpy().astype(np.float64), rho)
    close = np.abs(importance.numpy() - limit) < 1e-6  # where both sides round differently
    expected = importance.numpy() < limit
    assert (mask.numpy() == expected)[~close].all()
    assert mask.sum() <= math.ceil(rho * (len(values) - 1))
    kept, gone = importance[~mask], importance[mask]
    assert kept.numel() > 0
    assert gone.numel() == 0 or gone.max() < kept.min()


def test_contrast_kinds() -> None:
    late, pre = torch.tensor([0.5, 0.1, 0.4]), torch.tensor([0.25, 0.5, 0.25])
    assert torch.equal(c.contrast(late, pre, "signed"), late - pre)
    assert torch.equal(c.contrast(late, pre, "abs"), (late - pre).abs())
    assert c.contrast(late, pre, "relu").tolist() == pytest.approx([0.25, 0, 0.15])
    with pytest.raises(ShapeError):
        c.contrast(late, pre[:2])


def test_the_pre_integrated_layer_is_the_farthest_and_of_equal_ones_the_smallest() -> None:
    assert c.pre_integrated_layer({12: 0.3, 1: 0.7, 3: 0.7, 7: 0.69}) == 1
    with pytest.raises(UsageError):
        c.pre_integrated_layer({})


@pytest.mark.parametrize(("lam", "gain"), [(0.1, 0.9995), (0.01, 0.9535), (0.001, 0.3015)])
def test_norm_gain_is_what_an_rms_norm_does(lam: float, gain: float) -> None:
    assert c.norm_gain(lam) == pytest.approx(gain, abs=1e-4)
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    norm = LlamaRMSNorm(64, eps=1e-5).double()
    x = torch.randn(64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    measured = (norm(lam * x) / norm(x)).mean().item()
    # The library's norm computes in float32: seven digits.
    assert measured == pytest.approx(c.norm_gain(lam, x.square().mean().item(), 1e-5), rel=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1), st.floats(0, 1))
def test_closed_form_mass_is_the_softmax_with_a_bias(share: float, lam: float) -> None:
    expected = share if lam * share + 1 - share == 0 else lam * share / (lam * share + 1 - share)
    assert c.closed_form_mass(torch.tensor(share, dtype=torch.float64), lam).item() == pytest.approx(expected, abs=1e-12)
    if 0.001 < share < 0.999 and lam > 1e-6:
        biased = torch.softmax(torch.tensor([math.log(share) + math.log(lam), math.log(1 - share)], dtype=torch.float64), 0)
        assert biased[0].item() == pytest.approx(expected, abs=1e-12)
