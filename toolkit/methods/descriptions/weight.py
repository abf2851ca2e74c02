"""The weight of the class name against the descriptions: its exact accuracy curve, and how to choose it without test labels.

An image is right on one closed interval of weights, so that the curve is known at every weight and not just on a grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from toolkit.errors import DataError
from toolkit.methods.descriptions.selection import (
    Lists,
    Scored,
    Selected,
    SelectionOptions,
    candidate_scores,
    class_sums,
    nearest,
    score,
    select,
    similarity,
)

W_MAX = 40.0
NEIGHBOUR_ROWS = 4096  # images whose scores for all classes are held at once


class Curve(NamedTuple):
    """Accuracy as a function of the weight w >= 0: constant between its edges.

    Attributes:
        edges: (E,) float64, ascending, the first one 0.
        accuracy: (E,) between an edge and the next one (after the last one: for all larger weights).
        at_edge: (E,) at the edges themselves, where a tie counts as right; never below either side.
        n: images behind it.
    """

    edges: Tensor
    accuracy: Tensor
    at_edge: Tensor
    n: int

    def at(self, weights: Tensor) -> Tensor:
        """Accuracies at any (W,) weights >= 0."""
        weights = weights.double()
        place = torch.searchsorted(self.edges, weights, right=True) - 1
        return torch.where(self.edges[place] == weights, self.at_edge[place], self.accuracy[place])

    @property
    def best(self) -> float:
        """The largest accuracy at any weight, edges included."""
        return float(torch.maximum(self.accuracy, self.at_edge).max())


class Weight(NamedTuple):
    """A chosen weight.

    Attributes:
        w: the middle of the plateau.
        plateau: (low, high), the weights with the same, largest accuracy.
        accuracy: on the plateau.
        touches_max: the plateau reaches the largest weight that is looked at: the descriptions then add little to the name.
    """

    w: float
    plateau: tuple[float, float]
    accuracy: float
    touches_max: bool


def right_between(A: Tensor, B: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The closed interval of weights at which each image is right.

    The true class t wins against l exactly where ``w * (A_t - A_l) >= B_l - B_t``.

    Args:
        A, B: (N, k) float64. target: (N,) position of the true class, -1 where it is not among the candidates.
    Returns: (N,) lowest and highest weight, within [0, inf]; lowest > highest where there is none.
    """
    A, B = A.double(), B.double()
    at = target.clamp(min=0)[:, None]
    steeper = A.gather(1, at) - A
    needed = B - B.gather(1, at)
    ratio = needed / steeper
    low = ratio.masked_fill(~(steeper > 0), 0.0).clamp(min=0).amax(dim=1)
    high = ratio.masked_fill(~(steeper < 0), torch.inf).amin(dim=1)
    never = (target < 0) | ((steeper == 0) & (needed > 0)).any(dim=1)
    return low, high.masked_fill(never, -1.0)


def curve_of(low: Tensor, high: Tensor) -> Curve:
    """The accuracy curve of images that are right on [low, high]."""
    n = len(low)
    if not n:
        raise DataError("there is no image to measure accuracy on")
    right = low <= high
    low, high = low[right].sort().values, high[right].sort().values
    edges = torch.cat([torch.zeros(1, dtype=torch.float64, device=low.device), low, high[high.isfinite()]]).unique()
    entered = torch.searchsorted(low, edges, right=True)
    left = torch.searchsorted(high, edges, right=True)
    leaving = torch.searchsorted(high, edges, right=False)
    return Curve(edges, (entered - left).double() / n, (entered - leaving).double() / n, n)


def accuracy_curve(A: Tensor, B: Tensor, target: Tensor) -> Curve:
    """The exact accuracy at every weight.

    Args:
        A, B: (N, k) float64 caption and description scores. target: (N,) position of the true class among the candidates, or -1.
    Raises: DataError: without images.
    """
    return curve_of(*right_between(A, B, target))


def choose(curve: Curve, w_max: float = W_MAX) -> Weight:
    """The middle of the widest plateau of largest accuracy within [0, w_max]; of equally wide ones, that with larger weights."""
    inside = curve.edges < w_max
    low = curve.edges[inside]
    high = torch.cat([low[1:], low.new_tensor([w_max])])
    counts = (curve.accuracy[inside] * curve.n).round()
    fits = (low + high) / 2 > low  # else no number lies between
    best = counts[fits].max() if bool(fits.any()) else counts.max()
    top = counts == best
    starts = top & ~torch.cat([top.new_zeros(1), top[:-1]])
    ends = top & ~torch.cat([top[1:], top.new_zeros(1)])
    plateaus = list(zip(low[starts].tolist(), high[ends].tolist(), strict=True))
    widest = max(plateaus, key=lambda span: (span[1] - span[0], span[0]))
    return Weight((widest[0] + widest[1]) / 2, widest, float(best) / curve.n, widest[1] >= w_max)


def positions(L: Tensor, y: Tensor) -> Tensor:
    """(N,) where the true class stands among the candidates (N, k); -1 where it does not."""
    match = y[:, None] == L
    return torch.where(match.any(dim=1), match.byte().argmax(dim=1), -1)


def leave_one_out(
    x: Tensor,
    y: Tensor,
    captions: Tensor,
    d: Tensor,
    *,
    options: SelectionOptions,
    own_lists: Lists | None = None,
    tie_order: Tensor | None = None,
    selection_labels: Tensor | None = None,
) -> Scored:
    """Each support image scored by a selection that has not seen it: exact, by taking it out of its class mean.

    Images whose class is not among their candidates are wrong at every weight; they get B = 0 and no selection.

    Args:
        x: (n, D) unit rows. y: (n,) classes. captions: (C, D). d: (P, D).
        selection_labels: (n,) the classes whose means the images are part of; ``y`` by default. ``y`` stays the target.
    """
    put = y if selection_labels is None else selection_labels
    sums, counts = class_sums(x, put, len(captions))
    L = neighbours(x, captions, sums, counts, options, left_out=put)
    target = positions(L, y)
    S = similarity(sums / counts.clamp(min=1)[:, None], counts, d, options.row_norm)
    S = options.tensor(S)
    index = (target >= 0).nonzero()[:, 0]
    sets = L[index].sort(dim=1).values
    at = positions(sets, put[index])
    rest = counts[put[index]] - 1

    def rows_without(which: Tensor) -> Tensor:
        image = index[which]
        mean = (sums[put[image]] - x[image].double()) / rest[which].clamp(min=1)[:, None]
        return options.tensor(similarity(mean, rest[which], d, options.row_norm))

    selected = select(S, counts, sets, options, own_lists, tie_order=tie_order, replace=(at, rest, rows_without))
    set_index = torch.full_like(y, -1)
    set_index[index] = torch.arange(len(index), device=y.device)
    A, B = candidate_scores(x, captions, d, L, set_index, selected, options)
    return Scored(L, A, B, set_index, selected)


def neighbours(
    x: Tensor, captions: Tensor, sums: Tensor, counts: Tensor, options: SelectionOptions, *, left_out: Tensor | None = None
) -> Tensor:
    """(N, k) the candidates of each image, best first.

    Args:
        sums: (C, D) float64, counts: (C,): for neighbours by class mean; a class without images comes last.
        left_out: (N,) the class mean that each image is to be taken out of.
    """
    k = len(captions) if options.neighbourhood == "all" else options.k
    means = torch.nn.functional.normalize(sums, dim=-1).to(x.dtype) if options.neighbourhood == "ncm" else captions
    found = []
    for part in torch.arange(len(x), device=x.device).split(NEIGHBOUR_ROWS):
        scores = x[part] @ means.T
        if options.neighbourhood == "ncm":
            scores.masked_fill_(counts == 0, -torch.inf)
            if left_out is not None:
                _take_out(scores, x[part], left_out[part], sums, counts)
        found.append(nearest(scores, k))
    return torch.cat(found) if found else torch.empty(0, min(k, len(captions)), dtype=torch.long, device=x.device)


def _take_out(scores: Tensor, x: Tensor, own: Tensor, sums: Tensor, counts: Tensor) -> None:
    """Give each image the cosine to its own class mean as it would be without it."""
    rest = torch.nn.functional.normalize(sums[own] - x.double(), dim=-1).to(x.dtype)
    cosine = (x * rest).sum(dim=1).masked_fill(counts[own] < 2, -torch.inf)
    scores[torch.arange(len(x), device=x.device), own] = cosine


def prequential(
    batches: Iterable[tuple[Tensor, Tensor]],
    captions: Tensor,
    d: Tensor,
    *,
    options: SelectionOptions,
    own_lists: Lists | None = None,
    tie_order: Tensor | None = None,
) -> Curve:
    """The accuracy curve of images that are scored before they are learnt from, batch by batch: for supports that are not kept.

    Batches that come before two classes have images are not counted. The curve depends on the order of the batches.

    Args:
        batches: (x (n, D) unit rows, y (n,)) pairs.
    Raises: DataError: if no batch could be scored.
    """
    sums = torch.zeros(len(captions), captions.shape[1], dtype=torch.float64)
    counts = torch.zeros(len(captions), dtype=torch.long)
    spans: list[tuple[Tensor, Tensor]] = []
    for x, y in batches:
        if int((counts > 0).sum()) >= 2:
            spans.append(spans_before(x, y, captions, d, sums, counts, options, own_lists, tie_order))
        more, number = class_sums(x, y, len(captions))
        sums, counts = sums + more, counts + number
    if not spans:
        raise DataError(
            "no batch came after two classes had images, so that no weight can be chosen from earlier ones", hint="use more batches"
        )
    return curve_of(torch.cat([low for low, _ in spans]), torch.cat([high for _, high in spans]))


def spans_before(
    x: Tensor,
    y: Tensor,
    captions: Tensor,
    d: Tensor,
    sums: Tensor,
    counts: Tensor,
    options: SelectionOptions,
    own_lists: Lists | None,
    tie_order: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The weights at which each image of a batch is right, by class sums that do not hold it yet."""
    S = options.tensor(similarity(sums / counts.clamp(min=1)[:, None], counts, d, options.row_norm))
    L = neighbours(x, captions, sums, counts, options)
    scored = score(x, captions, d, L, S, counts, options=options, own_lists=own_lists, tie_order=tie_order)
    return right_between(scored.A, scored.B, positions(L, y))


__all__ = [
    "W_MAX",
    "Curve",
    "Selected",
    "Weight",
    "accuracy_curve",
    "choose",
    "curve_of",
    "leave_one_out",
    "neighbours",
    "positions",
    "prequential",
    "right_between",
    "spans_before",
]
