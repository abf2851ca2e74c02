"""A classification problem drawn from random vectors, where it is known what descriptions mean: nothing, or as much as was planted.

With it an audit is tested before it judges anything real: random descriptions must never look semantic, planted ones must.
Expected values are in docs/classname_free.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize


class Synthetic(NamedTuple):
    """Embeddings of a made-up problem, unit rows.

    Attributes:
        captions, centres: (C, D). support: (n, D), labels: (n,). test: (N, D), test_labels: (N,).
        descriptions: (P, D) random vectors: texts without any meaning.
    """

    captions: Tensor
    centres: Tensor
    support: Tensor
    labels: Tensor
    test: Tensor
    test_labels: Tensor
    descriptions: Tensor


def directions(n: int, dim: int, rng: torch.Generator) -> Tensor:
    """(n, dim) random unit vectors."""
    return normalize(torch.randn(n, dim, generator=rng), dim=-1)


def synthetic(
    shots: int, seed: int = 0, *, classes: int = 200, each: int = 5, n_texts: int = 1000, n_test: int = 4000, dim: int = 512
) -> Synthetic:
    """Classes in groups of ``each``: centre = unit(group + 0.6 u), caption = unit(centre + 2 u), image = unit(centre + 3 u),
    with a fresh random unit vector u every time.

    Args:
        shots: support images a class. n_test: test images, spread evenly over the classes.
    """
    rng = torch.Generator().manual_seed(seed)
    groups = directions(-(-classes // each), dim, rng).repeat_interleave(each, dim=0)[:classes]
    centres = normalize(groups + 0.6 * directions(classes, dim, rng), dim=-1)
    captions = normalize(centres + 2 * directions(classes, dim, rng), dim=-1)
    test_labels = torch.arange(n_test) % classes
    labels = torch.arange(classes).repeat_interleave(shots)
    test = normalize(centres[test_labels] + 3 * directions(n_test, dim, rng), dim=-1)
    descriptions = directions(n_texts, dim, rng)
    support = normalize(centres[labels] + 3 * directions(len(labels), dim, rng), dim=-1)
    return Synthetic(captions, centres, support, labels, test, test_labels, descriptions)


def planted(problem: Synthetic, noise: float, *, each: int = 5, seed: int = 0) -> tuple[Tensor, list[list[int]]]:
    """Descriptions that mean something: ``each`` per class, unit(centre + noise * u); less noise is more meaning.

    Returns: (C * each, D) unit rows, and the indices of each class's own.
    """
    rng = torch.Generator().manual_seed(seed + 1_000_003)
    classes, dim = problem.centres.shape
    texts = normalize(problem.centres.repeat_interleave(each, dim=0) + noise * directions(classes * each, dim, rng), dim=-1)
    return texts, [list(range(c * each, (c + 1) * each)) for c in range(classes)]


class RandomPools:
    """Controls for a made-up problem: every pool is random vectors, every noisy caption the caption itself."""

    def __init__(self, captions: Tensor, n_texts: int, seed: int = 0) -> None:
        self.captions, self.n_texts, self.seed = captions, n_texts, seed

    def pools(self, kind: str, seeds: int) -> Iterator[Tensor]:
        for number in range(seeds):
            rng = torch.Generator().manual_seed(hash_of(kind, self.seed, number))
            yield directions(self.n_texts, self.captions.shape[1], rng)

    def waffle(self, number: int) -> Tensor:
        rng = torch.Generator().manual_seed(hash_of("waffle", self.seed, number))
        return normalize(self.captions + 0.1 * directions(len(self.captions), self.captions.shape[1], rng), dim=-1)


def hash_of(*parts: object) -> int:
    """A seed that depends on nothing but the parts."""
    import hashlib

    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")
