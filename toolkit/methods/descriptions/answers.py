"""The arms of an audit that select nothing, on embeddings: captions, assigned texts, class means.

Each gives one answer an image and no test label goes in; weights come from exact leave-one-out on the support.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from toolkit.methods.descriptions.nearest_mean import left_out_scores, neutral, unit_means
from toolkit.methods.descriptions.prototypes import Support
from toolkit.methods.descriptions.selection import Lists, nearest
from toolkit.methods.descriptions.tip_adapter import TipAdapter, keys
from toolkit.methods.descriptions.weight import accuracy_curve, choose, positions


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
    means = _list_means(d, own_lists)
    return weighted(_candidates(test, captions, means, k), _candidates(support, captions, means, k), labels)


def _list_means(d: Tensor, own_lists: Lists) -> Tensor:
    return torch.stack([d[list(own)].double().mean(dim=0) if len(own) else d.double().mean(dim=0) for own in own_lists])


def _candidates(x: Tensor, captions: Tensor, means: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    A = x @ captions.T
    L = nearest(A, k)
    return L, A.gather(1, L).double(), (x.double() @ means.T).gather(1, L)


def relisted(
    test: Tensor, support: Tensor, labels: Tensor, captions: Tensor, d: Tensor, own_lists: Lists, *, k: int
) -> Callable[[Tensor], Tensor]:
    """``assigned`` as a function of who owns which list: (C,) classes, the owners of the lists of each class -> (N,) predictions."""
    means = _list_means(d, own_lists)
    seen, held = ((x @ captions.T, x.double() @ means.T) for x in (test, support))
    L, L_held = nearest(seen[0], k), nearest(held[0], k)
    A, A_held = seen[0].gather(1, L).double(), held[0].gather(1, L_held).double()

    def answer(order: Tensor) -> Tensor:
        B, B_held = seen[1].gather(1, order[L]), held[1].gather(1, order[L_held])
        return weighted((L, A, B), (L_held, A_held, B_held), labels).predictions

    return answer


def swapped(own_lists: Lists, order: Sequence[int]) -> list[Sequence[int]]:
    """The lists of other classes: class c gets that of ``order[c]``."""
    return [own_lists[other] for other in order]


def class_mean_answers(test: Tensor, support: Tensor, labels: Tensor, captions: Tensor, *, k: int) -> dict[str, Answers]:
    """Nearest class mean in three forms: over all classes, among the candidates of the caption, and mixed with the caption.

    In the mixed form the cosine to the unit class mean stands where descriptions stand elsewhere: the direct control.
    """
    means = unit_means(support, labels, len(captions))
    everywhere = test.double() @ means.T
    A = test @ captions.T
    L = nearest(A, k)
    local = neutral(everywhere.gather(1, L))
    A_held = support @ captions.T
    L_held = nearest(A_held, k)
    B_held = neutral(left_out_scores(support, labels, len(captions)).gather(1, L_held))
    return {
        "ncm_global": Answers(neutral(everywhere).argmax(dim=1)),
        "ncm_local": Answers(L.gather(1, local.argmax(dim=1, keepdim=True))[:, 0]),
        "ncm_mixed": weighted((L, A.gather(1, L).double(), local), (L_held, A_held.gather(1, L_held).double(), B_held), labels),
    }


def tip_adapter_answers(test: Tensor, support: Tensor, labels: Tensor, captions: Tensor, scale: float) -> Answers:
    """Training-free Tip-Adapter, alpha and beta by leave-one-out on the support; ``scale`` is the model's factor on cosines."""
    fit = TipAdapter().fit(Support(support, labels, []), captions, scale)
    scores = scale * (test.double() @ captions.double().T) + fit.alpha * keys(test, support, labels, len(captions), fit.beta)
    return Answers(scores.argmax(dim=1))
