"""The forward process of a diffusion model on preprocessed pixels: how VCD takes the detail out of an image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from toolkit.errors import ShapeError, UsageError

__all__ = ["STEPS", "alpha_bar", "diffused", "noise_like"]

STEPS = 1000


def alpha_bar(step: int) -> float:
    """The share of variance that is left of the image after ``step`` + 1 of 1000 diffusion steps.

    beta_t rises as a sigmoid over t from 1e-5 to 5e-3; alpha_bar is the product of 1 - beta.

    Args:
        step: 0 (nearly the image) to 999 (nearly noise).
    Raises: UsageError: for another step.
    Source: Leng et al., 2023, arXiv 2311.16922, Eq. 2, with the schedule of the authors' code.

    >>> round(alpha_bar(0), 4), round(alpha_bar(500), 4), round(alpha_bar(999), 4)
    (1.0, 0.7448, 0.0812)
    """
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < STEPS:
        raise UsageError(f"the diffusion step is {step!r}; expected a whole number from 0 to {STEPS - 1}")
    betas = torch.linspace(-6, 6, STEPS, dtype=torch.float64).sigmoid() * (5e-3 - 1e-5) + 1e-5
    return float((1 - betas[: step + 1]).prod())


def diffused(pixels: Tensor, noise: Tensor, step: int) -> Tensor:
    """v_t = sqrt(alpha_bar_t) v_0 + sqrt(1 - alpha_bar_t) noise.

    Args:
        pixels: (...) float, after the image processor, as the model takes them.
        noise: (...) float, standard normal; broadcast to ``pixels``.
    Returns: shape, dtype and device of ``pixels``.
    Source: arXiv 2311.16922, Eq. 2.
    """
    left = alpha_bar(step)
    mixed = left**0.5 * pixels.float() + (1 - left) ** 0.5 * noise.to(pixels.device, torch.float32)
    noised: Tensor = mixed.to(pixels.dtype)
    return noised


def noise_like(pixels: Tensor, seed: int, *, grids: Tensor | None = None, frames: int = 1) -> Tensor:
    """Standard normal noise for a batch of images in the layout of a model. It depends on the seed and on one image's shape alone.

    So an image gets the same noise whatever stands beside it in the batch, on every device. Tiles of one image that have an axis
    of their own get noise of their own. The global random state is not touched.

    Args:
        pixels: (N, 3, H, W) images or tiles; (N, T, 3, H, W) images with T tiles, also with more leading dimensions; or, with
            ``grids``, (P, C * F * p * p) patches of all images one after the other, F frames of each.
        grids: (N, 3) patches of each image along time, height and width.
        frames: F; the frames of a still image are copies of each other and get the same noise.
    Returns: float32 on the CPU, broadcastable to ``pixels``.
    Raises: ShapeError: for another layout.
    """
    if grids is not None:
        counts = [int(count) for count in grids.prod(dim=-1)]
        if pixels.ndim != 2 or sum(counts) != pixels.shape[0] or pixels.shape[1] % (3 * frames):
            raise ShapeError(f"pixels of shape {tuple(pixels.shape)} do not fit the grids {grids.tolist()}")
        side = pixels.shape[1] // (3 * frames)
        drawn = [_normal((count, 3, 1, side), seed).expand(-1, -1, frames, -1).reshape(count, -1) for count in counts]
        return torch.cat(drawn) if drawn else pixels.float().cpu()
    if pixels.ndim < 4:
        raise ShapeError(f"pixels have the shape {tuple(pixels.shape)}; expected images of (..., channels, height, width)")
    tile = tuple(pixels.shape[-3:])
    if pixels.ndim == 4:
        return _normal(tile, seed)
    generator = torch.Generator().manual_seed(seed)
    # Tile by tile, so that what tile 1 gets does not depend on how many tiles the largest image of the batch has.
    tiles = [torch.randn(tile, generator=generator) for _ in range(math.prod(pixels.shape[1:-3]))]
    return torch.stack(tiles).view(pixels.shape[1:])


def _normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
