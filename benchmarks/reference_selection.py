"""Class-name-free selection as plain loops: what the fast code is compared with, in tests and in the benchmark.

``literal_*`` follow the definitions word by word, one description after the other. ``published_*`` work as the authors' public code is
described to do: vectorised over the pool, a loop over images and candidates, a dense mask, and one contraction for each weight.
Nothing in here is slow on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from toolkit.methods.descriptions.selection import SelectionOptions

Lists = Sequence[Sequence[int]] | None


class Literal(NamedTuple):
    """One candidate: its descriptions (None: the mean of the pool), how many were found, whether it fell back, the margins."""

    chosen: list[int] | None
    found: int
    fallback: bool
    margins: list[float]


def literal_select(
    S: Mapping[int, Sequence[float]],
    L: Sequence[int],
    P: int,
    options: SelectionOptions,
    own: Lists = None,
    order: Sequence[int] | None = None,
) -> dict[int, Literal]:
    """Class -> its selection among L. ``S`` has no row for classes without images. ``order`` breaks ties."""
    rank_of = {p: place for place, p in enumerate(order if order is not None else range(P))}
    live = [c for c in L if c in S]
    result: dict[int, Literal] = {}
    for c in L:
        kept: list[tuple[float, int, int]] = []
        if c in S and len(live) >= 2:
            for p in range(P):
                differences = [S[c][p] - S[other][p] for other in live if other != c]
                fits = all(value >= 0 for value in differences) if options.keep == "ge" else all(value > 0 for value in differences)
                if fits:
                    margin = sum(differences) / len(differences) if options.rank == "mean" else min(differences)
                    kept.append((-margin, rank_of[p], p))
        kept.sort()
        if kept:
            best = kept[: options.m]
            result[c] = Literal([p for _, _, p in best], len(best), False, [-margin for margin, _, _ in best])
        else:
            mine = [] if own is None or options.fallback == "pool_mean" else list(own[c])
            mine = sorted(mine) if options.fallback == "assigned_pool_order" else mine
            result[c] = Literal(mine[: options.m] or None, 0, True, [])
    return result


def literal_neighbours(x: Tensor, captions: Tensor, k: int) -> list[int]:
    """The k classes with the largest cosine; of equal ones the smaller index first."""
    scores = [float(x.double() @ t.double()) for t in captions]
    return sorted(range(len(scores)), key=lambda c: (-scores[c], c))[:k]


def literal_scores(x: Tensor, captions: Tensor, d: Tensor, chosen: dict[int, Literal]) -> dict[int, tuple[float, float]]:
    """Class -> (A, B) in float64."""
    cosines = [float(x.double() @ row.double()) for row in d]
    result = {}
    for c, part in chosen.items():
        used = part.chosen if part.chosen is not None else range(len(cosines))
        result[c] = (float(x.double() @ captions[c].double()), sum(cosines[p] for p in used) / len(used))
    return result


def literal_decide(scores: Mapping[int, tuple[float, float]], w: float) -> int:
    """The class with the largest w * A + B; of equal ones the larger A, then the smaller index."""
    return min(scores, key=lambda c: (-(w * scores[c][0] + scores[c][1]), -scores[c][0], c))


def literal_rows(x: Tensor, y: Tensor, d: Tensor, classes: int) -> dict[int, list[float]]:
    """Class -> its row of S, image by image; classes without images have none."""
    rows = {}
    for c in range(classes):
        mine = x[y == c]
        if len(mine):
            rows[c] = [sum(float(image.double() @ text.double()) for image in mine) / len(mine) for text in d]
    return rows


def published_similarity(x: Tensor, d: Tensor, classes: int) -> Tensor:
    """(C, P) from the product of all n * C support images, sorted by class, with the pool."""
    return (x @ d.T).view(classes, -1, len(d)).mean(dim=1)


def published_select(S: Tensor, L: Tensor, m: int, own: Lists = None) -> Tensor:
    """(N, k, C + P) mask of 0 and 1: the candidate's class, and its descriptions."""
    classes, pool = S.shape
    n, k = L.shape
    mask = torch.zeros(n, k, classes + pool)
    for i in range(n):
        rows = S[L[i]]
        for j in range(k):
            difference = rows[j] - rows
            keep = (difference >= 0).all(dim=0)
            margin = difference.mean(dim=0)
            order = margin.sort(descending=True).indices
            best = order[keep[order]][:m]
            if not len(best) and own is not None:
                best = torch.tensor(sorted(own[int(L[i, j])])[:m], dtype=torch.long)
            mask[i, j, L[i, j]] = 1
            mask[i, j, classes + best] = 1
    return mask


def published_predict(x: Tensor, captions: Tensor, d: Tensor, L: Tensor, mask: Tensor, weights: Sequence[float]) -> Tensor:
    """(W, N) predicted classes: for each weight the class part is cloned and set, and the whole is contracted with all cosines."""
    classes = len(captions)
    cosines = torch.cat([x @ captions.T, x @ d.T], dim=1)
    texts = mask[:, :, classes:]
    texts = texts / texts.sum(dim=2, keepdim=True).clamp(min=1)
    found = []
    for w in weights:
        names = mask[:, :, :classes].clone()
        names[names > 0] = w
        scores = torch.einsum("nkf,nf->nk", torch.cat([names, texts], dim=2), cosines)
        found.append(L.gather(1, scores.argmax(dim=1, keepdim=True))[:, 0])
    return torch.stack(found)


def unit(*shape: int, generator: torch.Generator) -> Tensor:
    """Fresh random unit vectors."""
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


class Vectors(NamedTuple):
    """Captions (C, D), descriptions (P, D), support (n * C, D) sorted by class with labels, test images (N, D) with labels."""

    captions: Tensor
    d: Tensor
    support: Tensor
    labels: Tensor
    test: Tensor
    truth: Tensor


def make_vectors(kind: str, classes: int, pool: int, test: int, dim: int, shots: int, seed: int = 0) -> Vectors:
    """Embeddings of two kinds: "random" (everything random) and "clustered" (five classes to a superclass, images near their class)."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(shots)
    truth = torch.randint(classes, (test,), generator=g)
    if kind == "random":
        parts = [unit(count, dim, generator=g) for count in (classes, pool, len(labels), test)]
        return Vectors(parts[0], parts[1], parts[2], labels, parts[3], truth)
    normalise = torch.nn.functional.normalize
    groups = unit(-(-classes // 5), dim, generator=g)
    centre = normalise(groups[torch.arange(classes) // 5] + 0.5 * unit(classes, dim, generator=g), dim=-1)
    captions = normalise(centre + 0.35 * unit(classes, dim, generator=g), dim=-1)
    support = normalise(centre[labels] + 0.8 * unit(len(labels), dim, generator=g), dim=-1)
    images = normalise(centre[truth] + 0.8 * unit(test, dim, generator=g), dim=-1)
    return Vectors(captions, unit(pool, dim, generator=g), support, labels, images, truth)
