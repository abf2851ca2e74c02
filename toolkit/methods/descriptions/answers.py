"""The arms of an audit that select nothing, on embeddings: captions, assigned texts, class means.

Each gives one answer an image and no test label goes in; weights come from exact leave-one-out on the support.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from toolkit.methods.descriptions.selection import Lists, class_sums, nearest
from toolkit.methods.descriptions.weight import accuracy_curve, choose, positions

ALPHAS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
BETAS = (0.5, 1.0, 2.0, 3.5, 5.5, 8.0, 12.0, 20.0)
ROWS = 2048


class Answers(NamedTuple):
    """What one arm says.

    Attributes:
        predictions: (N,) class indices.
        w: the weight of the caption, where there is one. candidates: (L, A, B), each (N, k), where the weight can be varied.
    """

    predictions: Tensor
    w: float | None = None
    candidates: tuple[Tensor, Tensor, Tensor] | None = None


def by_prototypes(test: Tensor, prototypes: Tensor) -> Answers:
    """The class with the nearest prototype; of equal ones the first."""
    return Answers(nearest(test @ prototypes.T, 1)[:, 0])


def weighted(test: tuple[Tensor, Tensor, Tensor], held_out: tuple[Tensor, Tensor, Tensor], labels: Tensor) -> Answers:
    """``argmax w * A + B`` with the weight that is best on the support.

    Args:
        test, held_out: L, A and B of the test images, and of support images that were scored without themselves.
        labels: (n,) of the support images.
    """
    L, A, B = test
    w = choose(accuracy_curve(held_out[1], held_out[2], positions(held_out[0], labels))).w
    place = (w * A + B).argmax(dim=1, keepdim=True)
    return Answers(L.gather(1, place)[:, 0], w, test)


def assigned(
    test: Tensor, support: Tensor, labels: Tensor, captions: Tensor, d: Tensor, own_lists: Lists, *, k: int
) -> Answers:
    """Each class described by the texts that were written for it; a class without any gets the mean of the pool.

    Args:
        k: candidates by caption ("local"); at least C means all classes ("global").
    """
    means = torch.stack([d[list(own)].double().mean(dim=0) if len(own) else d.double().mean(dim=0) for own in own_lists])
    return weighted(_candidates(test, captions, means, k), _candidates(support, captions, means, k), labels)


def _candidates(x: Tensor, captions: Tensor, means: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    A = x @ captions.T
    L = nearest(A, k)
    return L, A.gather(1, L).double(), (x.double() @ means.T).gather(1, L)


def swapped(own_lists: Lists, order: Sequence[int]) -> list[Sequence[int]]:
    """The lists of other classes: class c gets that of ``order[c]``."""
    return [own_lists[other] for other in order]


def class_mean_answers(test: Tensor, support: Tensor, labels: Tensor, captions: Tensor, *, k: int) -> dict[str, Answers]:
    """Nearest class mean in three forms: over all classes, among the candidates of the caption, and mixed with the caption.

    In the mixed form the cosine to the unit class mean stands where descriptions stand elsewhere: the direct control.
    """
    sums, counts = class_sums(support, labels, len(captions))
    means = normalize(sums, dim=-1)
    pixels = (test.double() @ means.T).masked_fill(counts == 0, -1.0)
    A = test @ captions.T
    L = nearest(A, k)
    local = pixels.gather(1, L)
    own = A.gather(1, L).double()
    held_out = _without_itself(support, labels, captions, sums, counts, means, k)
    return {
        "ncm_global": Answers(pixels.argmax(dim=1)),
        "ncm_local": Answers(L.gather(1, local.argmax(dim=1, keepdim=True))[:, 0]),
        "ncm_mixed": weighted((L, own, local), held_out, labels),
    }


def _without_itself(
    x: Tensor, y: Tensor, captions: Tensor, sums: Tensor, counts: Tensor, means: Tensor, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Candidates of support images, each image taken out of its class mean; a class that is then empty gets -1, below any cosine."""
    A = x @ captions.T
    L = nearest(A, k)
    B = (x.double() @ means.T).masked_fill(counts == 0, -1.0).gather(1, L)
    rest = normalize(sums[y] - x.double(), dim=-1)
    own = (x.double() * rest).sum(dim=1).masked_fill(counts[y] < 2, -1.0)
    return L, A.gather(1, L).double(), torch.where(y[:, None] == L, own[:, None], B)


def tip_adapter_answers(test: Tensor, support: Tensor, labels: Tensor, captions: Tensor) -> Answers:
    """Training-free Tip-Adapter: ``100 A + alpha * sum_i exp(-beta * (1 - <x, x_i>))`` over the support images of a class.

    alpha and beta have the best leave-one-out accuracy on the support (an image's own key is taken out of its cache); of equally
    good ones the smallest alpha, then the smallest beta. Source: arXiv 2207.09519.
    """
    best = (-1, 0.0, BETAS[0])
    rows = torch.arange(len(support))
    for beta in BETAS:
        cache = _cache(support, support, labels, len(captions), beta)
        own = torch.exp(-beta * (1 - (support.double() ** 2).sum(dim=1)))
        cache[rows, labels] -= own
        names = 100 * (support @ captions.T).double()
        for alpha in ALPHAS:
            right = int(((names + alpha * cache).argmax(dim=1) == labels).sum())
            if (right, -alpha, -beta) > (best[0], -best[1], -best[2]):
                best = (right, alpha, beta)
    scores = 100 * (test @ captions.T).double() + best[1] * _cache(test, support, labels, len(captions), best[2])
    return Answers(scores.argmax(dim=1))


def _cache(x: Tensor, support: Tensor, labels: Tensor, classes: int, beta: float) -> Tensor:
    """(N, C) float64: the summed affinities to the support images of each class."""
    parts = []
    for rows in x.split(ROWS):
        affinity = torch.exp(-beta * (1 - rows @ support.T)).double()
        parts.append(torch.zeros(len(rows), classes, dtype=torch.float64).index_add_(1, labels, affinity))
    return torch.cat(parts)
