"""One complete fit and prediction on embeddings: what an audit repeats with other pools and other labels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from toolkit.errors import UsageError
from toolkit.methods.descriptions.selection import Lists, Selected, SelectionOptions, class_sums, predict, score, similarity
from toolkit.methods.descriptions.weight import Weight, accuracy_curve, choose, leave_one_out, neighbours, positions


class Arm(NamedTuple):
    """What one arm predicts.

    Attributes:
        predictions: (N,) class indices. w: the weight used. L, A, B: (N, k) candidates and their scores.
        selected: the descriptions behind them; set_index: (N,) its rows.
        weight: plateau and leave-one-out accuracy where ``w`` was chosen, else None.
    """

    predictions: Tensor
    w: float
    L: Tensor
    A: Tensor
    B: Tensor
    set_index: Tensor
    selected: Selected
    weight: Weight | None

    def recall_at_k(self, y: Tensor) -> float:
        """Share of images whose true class (N,) is among the candidates: the ceiling; divided by k it is the floor."""
        return float((y[:, None] == self.L).any(dim=1).double().mean())

    def oracle(self, y: Tensor) -> Weight:
        """The weight that is best on these very images. An optimist's number: to be labelled "oracle" wherever it is shown."""
        return choose(accuracy_curve(self.A, self.B, positions(self.L, y)))


def arm(
    test: Tensor,
    support: Tensor,
    labels: Tensor,
    captions: Tensor,
    d: Tensor,
    *,
    options: SelectionOptions,
    own_lists: Lists | None = None,
    tie_order: Tensor | None = None,
    selection_labels: Tensor | None = None,
    w_cls: float | str = "loo",
) -> Arm:
    """Fit on the support and predict the test images. No test label goes in.

    Args:
        test: (N, D), support: (n, D), captions: (C, D), d: (P, D), all unit rows. labels: (n,) true classes of the support.
        own_lists: for each class the indices of its own descriptions. tie_order: (P,) see ``select``.
        selection_labels: (n,) the labels that S is made with, for arms that shuffle them; ``labels`` stay the target of w.
        w_cls: "loo" or a number.
    Raises: UsageError: for any other ``w_cls``.
    """
    test, support, captions, d = (options.tensor(x) for x in (test, support, captions, d))
    put = labels if selection_labels is None else selection_labels
    weight = None
    if w_cls == "loo":
        held_out = leave_one_out(
            support, labels, captions, d, options=options, own_lists=own_lists, tie_order=tie_order, selection_labels=selection_labels
        )
        weight = choose(accuracy_curve(held_out.A, held_out.B, positions(held_out.L, labels)))
    elif isinstance(w_cls, str) or not w_cls >= 0:
        raise UsageError(f"w_cls={w_cls!r} is not possible here", hint='w_cls is "loo" or a number from 0 up')
    w = weight.w if weight is not None else float(w_cls)
    sums, counts = class_sums(support, put, len(captions))
    S = options.tensor(similarity(sums / counts.clamp(min=1)[:, None], counts, d, options.row_norm))
    L = neighbours(test, captions, sums, counts, options)
    scored = score(test, captions, d, L, S, counts, options=options, own_lists=own_lists, tie_order=tie_order)
    return Arm(predict(scored, w), w, scored.L, scored.A, scored.B, scored.set_index, scored.selected, weight)


def shuffled(labels: Tensor, seed: int) -> Tensor:
    """The labels in another order: every class keeps its number of images."""
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
