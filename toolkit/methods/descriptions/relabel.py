"""The same labelled images under other labels: predictions of one arm for many relabellings of its support.

Whatever does not depend on the labels is computed once: candidates, captions, the products of images and descriptions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from toolkit.methods.descriptions.arms import arm
from toolkit.methods.descriptions.selection import Lists, Scored, Selected, SelectionOptions, label_sets, predict, select
from toolkit.methods.descriptions.weight import accuracy_curve, choose, neighbours, positions

Relabel = Callable[[Tensor], Tensor]

PRODUCT_BYTES = 512 << 20  # of products of images and descriptions that are kept


class Images(NamedTuple):
    """Images whose candidates are known.

    Attributes:
        L: (N, k) candidates. A: (N, k) cosines of their captions. products: (N, P) cosines of the descriptions. All float64 but L.
        sets: (U, k) different sets of candidates, ascending. set_index: (N,) row of ``sets``. places: (N, k) where ``L`` stands in it.
    """

    L: Tensor
    A: Tensor
    products: Tensor
    sets: Tensor
    set_index: Tensor
    places: Tensor

    @classmethod
    def of(cls, x: Tensor, captions: Tensor, d: Tensor, options: SelectionOptions) -> Images:
        """Args: x: (N, D), captions: (C, D), d: (P, D), all unit rows."""
        L = neighbours(x, captions, captions, torch.ones(len(captions), dtype=torch.long), options)
        A = (x.double() @ captions.double().T).gather(1, L)
        sets, index = label_sets(L, len(captions))
        return cls(L, A, x.double() @ d.double().T, sets, index, torch.searchsorted(sets[index], L))

    def scored(self, selected: Selected, rows: Tensor) -> Scored:
        """Scores by a selection with one row for each image in ``rows`` (N,) of it."""
        products, chosen = self.products, selected.chosen[rows[:, None], self.places]
        used = (chosen >= 0).sum(dim=-1)
        B = products.gather(1, chosen.clamp(min=0).flatten(1)).view(chosen.shape).masked_fill(chosen < 0, 0).sum(dim=-1)
        whole = (used == 0) & selected.fallback[rows[:, None], self.places]
        B = torch.where(whole, products.mean(dim=1, keepdim=True), B / used.clamp(min=1))
        return Scored(self.L, self.A, B, rows, selected)


def relabel(
    test: Tensor,
    support: Tensor,
    labels: Tensor,
    captions: Tensor,
    d: Tensor,
    *,
    options: SelectionOptions,
    own_lists: Lists | None = None,
    tie_order: Tensor | None = None,
    w_cls: float | str = "loo",
) -> Relabel:
    """``arm`` as a function of ``selection_labels``: (n,) labels with as many images of each class -> (N,) predicted class indices.

    Equal to it but for rounding; the arguments are its own. Several times faster where the products fit into memory.
    """

    def slow(put: Tensor) -> Tensor:
        given = {"options": options, "own_lists": own_lists, "tie_order": tie_order, "w_cls": w_cls}
        return arm(test, support, labels, captions, d, selection_labels=put, **given).predictions  # type: ignore[arg-type]

    plain = options.neighbourhood != "ncm" and options.row_norm == options.size_norm == "none" and options.dtype != "float16"
    if not plain or 8 * len(d) * (len(test) + len(support)) > PRODUCT_BYTES or min(options.k, len(captions)) < 2:
        return slow
    seen, learnt = (Images.of(options.tensor(x), options.tensor(captions), options.tensor(d), options) for x in (test, support))
    counts = torch.bincount(labels, minlength=len(captions))
    target = positions(learnt.L, labels)
    index = (target >= 0).nonzero()[:, 0]  # images whose class is no candidate are wrong at every weight
    sets = learnt.sets[learnt.set_index[index]]
    held = learnt._replace(L=learnt.L[index], A=learnt.A[index], products=learnt.products[index], places=learnt.places[index])

    def weight(S: Tensor, put: Tensor) -> float:
        if not isinstance(w_cls, str):
            return float(w_cls)
        own = put[index]
        rest = counts[own] - 1

        def rows_without(which: Tensor) -> Tensor:
            sums = S[own[which]] * counts[own[which]][:, None] - held.products[which]
            return options.tensor((sums / rest[which].clamp(min=1)[:, None]) * (rest[which] > 0)[:, None])

        replaced = (positions(sets, own), rest, rows_without)
        chosen = select(options.tensor(S), counts, sets, options, own_lists, tie_order=tie_order, replace=replaced)
        scored = held.scored(chosen, torch.arange(len(index)))
        A, B = learnt.A.clone(), torch.zeros_like(learnt.A)
        B[index] = scored.B
        return choose(accuracy_curve(A, B, target)).w

    def fast(put: Tensor) -> Tensor:
        S = torch.zeros(len(captions), len(d), dtype=torch.float64).index_add_(0, put, learnt.products)
        S /= counts.clamp(min=1)[:, None]
        selected = select(options.tensor(S), counts, seen.sets, options, own_lists, tie_order=tie_order)
        return predict(seen.scored(selected, seen.set_index), weight(S, put))

    return fast
