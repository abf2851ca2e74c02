"""The shared pure functions of contrastive decoding, against their definitions written down token by token."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import ShapeError, UsageError
from toolkit.methods.interventions.decoding import check_fraction, contrasted, plausible
from toolkit.methods.interventions.diffusion import STEPS, alpha_bar, diffused, noise_like


def logits(seed: int, rows: int = 3, words: int = 11) -> torch.Tensor:
    return torch.randn(rows, words, generator=torch.Generator().manual_seed(seed)) * 3


@given(st.integers(0, 999), st.floats(0.001, 1.0))
@settings(max_examples=40, deadline=None)
def test_plausible_tokens_are_near_the_best_in_probability(seed: int, beta: float) -> None:
    values = logits(seed)
    probabilities = values.double().softmax(-1)
    for row, kept in zip(probabilities.tolist(), plausible(values, beta).tolist(), strict=True):
        for probability, keep in zip(row, kept, strict=True):
            if abs(probability / (beta * max(row)) - 1) > 1e-4:  # at the border rounding decides
                assert keep == (probability >= beta * max(row))


def test_borders_of_plausibility() -> None:
    values = logits(0)
    assert plausible(values, 0).all()
    assert plausible(values, 1).sum(-1).tolist() == [1, 1, 1]
    assert torch.equal(plausible(values, 1).int().argmax(-1), values.argmax(-1))


@given(st.integers(0, 999), st.floats(0, 3), st.floats(0.0, 1.0))
@settings(max_examples=40, deadline=None)
def test_contrast_is_its_formula(seed: int, alpha: float, beta: float) -> None:
    one, other = logits(seed), logits(seed + 1000)
    found, kept = contrasted(one, other, alpha, beta), plausible(one, beta)
    for row in range(one.shape[0]):
        for word in range(one.shape[1]):
            expected = (1 + alpha) * float(one[row, word]) - alpha * float(other[row, word]) if kept[row, word] else -math.inf
            assert float(found[row, word]) == pytest.approx(expected, abs=1e-4)
    assert found.isfinite().any(-1).all()


def test_what_the_model_excludes_stays_excluded() -> None:
    one, other = torch.tensor([1.0, -math.inf]), torch.tensor([1.0, -math.inf])
    assert contrasted(one, other, 1.0, 0.0).tolist() == [1.0, -math.inf]


def test_shapes_and_numbers_are_checked() -> None:
    with pytest.raises(ShapeError, match="contrast"):
        contrasted(torch.zeros(2, 3), torch.zeros(2, 4), 1, 0)
    assert check_fraction("beta", 1) == 1.0
    for wrong in (20, -0.1, "x", True, None, math.nan):
        with pytest.raises(UsageError, match="beta"):
            check_fraction("beta", wrong)  # type: ignore[arg-type]


def test_closed_form_of_diffusion_is_step_by_step_diffusion() -> None:
    """v_t = sqrt(1 - b_t) v_(t-1) + sqrt(b_t) e_t: the share of the image and the variance of the noise, one step after the other."""
    kept, variance = 1.0, 0.0
    for step in range(STEPS):
        beta = (5e-3 - 1e-5) / (1 + math.exp(-(-6 + 12 * step / (STEPS - 1)))) + 1e-5
        kept, variance = kept * math.sqrt(1 - beta), variance * (1 - beta) + beta
        if step in (0, 1, 250, 500, 999):
            assert alpha_bar(step) == pytest.approx(kept**2, rel=1e-6)
            assert 1 - alpha_bar(step) == pytest.approx(variance, rel=1e-5)


def test_diffused_pixels() -> None:
    pixels, noise = torch.full((2, 3, 4, 4), 2.0), torch.ones(3, 4, 4)
    left = alpha_bar(500)
    expected = 2 * math.sqrt(left) + math.sqrt(1 - left)
    assert torch.allclose(diffused(pixels, noise, 500), torch.full_like(pixels, expected), atol=1e-6)
    assert diffused(pixels.bfloat16(), noise, 500).dtype == torch.bfloat16
    for wrong in (-1, STEPS, 1.5, True):
        with pytest.raises(UsageError, match="diffusion step"):
            alpha_bar(wrong)  # type: ignore[arg-type]


def test_noise_depends_on_one_image_alone() -> None:
    state = torch.get_rng_state()
    one, many = noise_like(torch.zeros(1, 3, 8, 8), 7), noise_like(torch.zeros(5, 3, 8, 8), 7)
    assert torch.equal(one.expand(5, -1, -1, -1), many.expand(5, -1, -1, -1))
    few, more = noise_like(torch.zeros(1, 2, 3, 8, 8), 7), noise_like(torch.zeros(4, 6, 3, 8, 8), 7)
    assert few.shape == (2, 3, 8, 8)
    assert torch.equal(more[:2], few)
    assert not torch.equal(few[0], few[1])
    assert not torch.equal(noise_like(torch.zeros(1, 3, 8, 8), 8), one)
    assert noise_like(torch.zeros(2, 1, 4, 3, 8, 8), 7).shape == (1, 4, 3, 8, 8)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_of_flat_patches() -> None:
    """Qwen's layout: the patches of all images in one list, each of channels x frames x pixels."""
    grids = torch.tensor([[1, 2, 2], [1, 2, 4]])
    noise = noise_like(torch.zeros(12, 3 * 2 * 25), 7, grids=grids, frames=2)
    assert noise.shape == (12, 150)
    frames = noise.view(12, 3, 2, 25)
    assert torch.equal(frames[:, :, 0], frames[:, :, 1])
    assert torch.equal(noise_like(torch.zeros(8, 150), 7, grids=grids[1:], frames=2), noise[4:])
    assert abs(float(noise_like(torch.zeros(4000, 150), 1, grids=torch.tensor([[1, 40, 100]]), frames=2).std()) - 1) < 0.01
    with pytest.raises(ShapeError, match="grids"):
        noise_like(torch.zeros(11, 150), 7, grids=grids, frames=2)
    with pytest.raises(ShapeError, match="height, width"):
        noise_like(torch.zeros(3, 8), 7)
