"""The inner loop of the selection: which descriptions a candidate wins, and the best few of them, ties in a fixed order."""

from __future__ import annotations

import torch
from torch import Tensor

HUGE = {torch.float32: 1e38, torch.float64: 1e300}
TINY = {torch.float32: 1e-25, torch.float64: 1e-200}


def is_plain(S: Tensor) -> bool:
    """Whether no value is so large or so small that the fast arithmetic of ``apart`` could let a loser through."""
    if not S.numel():
        return False
    return bool(S.abs().amax() < 10) and not bool(((S != 0) & (S.abs() < TINY[S.dtype])).any())


def apart(rows: Tensor, m: int, *, keep: str = "ge", rank: str = "mean", plain: bool = True) -> tuple[Tensor, Tensor]:
    """Per candidate the best m descriptions of those that it wins.

    A description is kept for the candidates at which S is largest, and its margin is the same for all of them: one maximum and one sum
    over the candidates serve them all. ``rows`` is overwritten.

    Args:
        rows: (u, k, P) of S. m: at most P. keep, rank: as in SelectionOptions. plain: ``is_plain`` of the values.
    Returns: (u, k, m) margins (mean: times k - 1; negative where a description is not kept) and columns.
    """
    k = rows.shape[1]
    best = rows.amax(dim=1)
    second = _second(rows) if rank == "min" or keep == "gt" else None
    margin = best - second if rank == "min" and second is not None else rows.sum(dim=1).neg_().add_(best, alpha=k)
    margin.clamp_(min=0)  # it is never negative but for rounding
    if keep == "gt" and second is not None:
        margin.masked_fill_(best == second, -torch.inf)
    if plain:  # losers, also by one bit, fall below any margin; winners get exactly their margin, as 0 * HUGE is 0
        rows.sub_(best[:, None])
        torch.add(margin[:, None], rows, alpha=HUGE[rows.dtype], out=rows)
    else:
        rows = torch.where(rows == best[:, None], margin[:, None], -torch.inf)
    values, columns = largest(rows.view(-1, rows.shape[2]), m)
    return values.view(-1, k, m), columns.view(-1, k, m)


def _second(rows: Tensor) -> Tensor:
    """The second largest over the candidates, which equals the largest where that comes twice."""
    best, second = rows[:, 0].clone(), torch.full_like(rows[:, 0], -torch.inf)
    for row in rows.unbind(dim=1)[1:]:
        torch.maximum(second, torch.minimum(best, row), out=second)
        torch.maximum(best, row, out=best)
    return second


def largest(values: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """The m largest of each row with their columns; of equal values the smaller column first. ``topk`` leaves that open."""
    n = values.shape[1]
    found, columns = values.topk(min(m + 1, n), dim=1)
    equal = found[:, 1:] == found[:, :-1]
    inside = equal[:, : m - 1].any(dim=1).nonzero()[:, 0]
    if len(inside):
        by_column, order = columns[inside, :m].sort(dim=1)
        ranked, order = found[inside, :m].gather(1, order).sort(dim=1, descending=True, stable=True)
        found[inside, :m], columns[inside, :m] = ranked, by_column.gather(1, order)
    if n > m:  # the last place is shared with columns that topk may have preferred
        border = (equal[:, m - 1] & (found[:, m - 1] != -torch.inf)).nonzero()[:, 0]
        for rows in border.split(64):
            ranked, order = values[rows].sort(dim=1, descending=True, stable=True)
            found[rows, :m], columns[rows, :m] = ranked[:, :m], order[:, :m]
    return found[:, :m], columns[:, :m]
