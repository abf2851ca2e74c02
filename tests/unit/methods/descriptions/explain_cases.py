"""Fitted states of clustered random vectors, and photos to explain."""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.methods.descriptions.explain import Fitted
from toolkit.methods.descriptions.selection import Scored, SelectionOptions, class_means, nearest, predict, score, similarity, unit_rows

C, P, D = 6, 24, 16


def rows(generator: torch.Generator, n: int) -> Tensor:
    return unit_rows(torch.randn(n, D, generator=generator))


def make(seed: int, *, w: float = 1.0, counts: tuple[int, ...] = (4, 5, 3, 4, 6, 2), **options: object) -> tuple[Fitted, Tensor]:
    """A fitted state of clustered vectors, and 12 photos."""
    g = torch.Generator().manual_seed(seed)
    shared = torch.randn(D, generator=g)
    captions = unit_rows(torch.randn(C, D, generator=g) + 1.5 * shared)
    descriptions = unit_rows(torch.randn(P, D, generator=g) + shared)
    y = torch.repeat_interleave(torch.arange(C), torch.tensor(counts))
    means, n = class_means(unit_rows(captions[y] + 0.5 * torch.randn(len(y), D, generator=g)), y, C)
    chosen = SelectionOptions(**options)  # type: ignore[arg-type]
    own = [list(range(c * 4, c * 4 + 4))[:: 1 if c % 2 else -1] for c in range(C)]
    fitted = Fitted(
        classnames=[f"class {c}" for c in range(C)],
        texts=[f"text {p}" for p in range(P)],
        captions=captions,
        descriptions=descriptions,
        similarity=similarity(means, n, descriptions),
        counts=n,
        own=own,
        options=chosen,
        w=w,
    )
    return fitted, unit_rows(captions[torch.randint(C, (12,), generator=g)] + 0.4 * torch.randn(12, D, generator=g))


def scored(fitted: Fitted, x: Tensor) -> Scored:
    L = nearest(x @ fitted.captions.T, fitted.options.k)
    return score(x, fitted.captions, fitted.descriptions, L, fitted.similarity, fitted.counts, options=fitted.options, own_lists=fitted.own)


def answer(fitted: Fitted, x: Tensor, w: float) -> int:
    return int(predict(scored(fitted, x[None]), w))
