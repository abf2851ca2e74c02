"""The inner loop of the selection: which descriptions a candidate wins, and the best few of them, ties in a fixed order."""

from __future__ import annotations

import torch
from torch import Tensor

HUGE = 1e38  # what a loser's margin is lowered by: any margin is far smaller
FEW = 6  # candidates for which going one by one is faster than a reduction


def apart(rows: Tensor, m: int, *, keep: str = "ge", rank: str = "mean") -> tuple[Tensor, Tensor]:
    """Per candidate the best m descriptions of those that it wins.

    A description is kept for the candidates at which S is largest, and its margin is the same for all of them: one maximum and one sum
    over the candidates serve them all. ``rows`` is overwritten.

    Args:
        rows: (u, k, P) of S, k >= 2. m: at most P. keep, rank: as in SelectionOptions.
    Returns: (u, k, m) margins (mean: times k - 1; negative where a description is not kept) and columns.
    """
    k = rows.shape[1]
    best, total = _best_and_total(rows)
    second = _second(rows) if rank == "min" or keep == "gt" else None
    margin = best - second if rank == "min" and second is not None else total.neg_().add_(best, alpha=k)
    margin.clamp_(min=0)  # it is never negative but for rounding
    if keep == "gt" and second is not None:
        margin.masked_fill_(best == second, -torch.inf)
    rows.ne_(best[:, None])  # losers, also by one bit, become 1 and winners 0, which leaves their margin exactly as it is
    torch.add(margin[:, None], rows, alpha=-HUGE, out=rows)
    values, columns = largest(rows.view(-1, rows.shape[2]), m)
    return values.view(-1, k, m), columns.view(-1, k, m)


def _best_and_total(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum and sum over the candidates."""
    if rows.shape[1] > FEW:
        return rows.amax(dim=1), rows.sum(dim=1)
    best, total = torch.maximum(rows[:, 0], rows[:, 1]), rows[:, 0] + rows[:, 1]
    for row in rows.unbind(dim=1)[2:]:
        torch.maximum(best, row, out=best)
        total.add_(row)
    return best, total


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
    found, columns = _some_largest(values, min(m + 1, n))
    equal = found[:, 1:] == found[:, :-1]
    if not equal.any():
        return found[:, :m], columns[:, :m]
    inside = equal[:, : m - 1].any(dim=1).nonzero()[:, 0]
    if len(inside):
        by_column, order = columns[inside, :m].sort(dim=1)
        ranked, order = found[inside, :m].gather(1, order).sort(dim=1, descending=True, stable=True)
        found[inside, :m], columns[inside, :m] = ranked, by_column.gather(1, order)
    if n > m:  # the last place is shared with columns that topk may have preferred
        border = (equal[:, m - 1] & (found[:, m - 1] > -HUGE / 2)).nonzero()[:, 0]
        for rows in border.split(64):
            ranked, order = values[rows].sort(dim=1, descending=True, stable=True)
            found[rows, :m], columns[rows, :m] = ranked[:, :m], order[:, :m]
    return found[:, :m], columns[:, :m]


def _some_largest(values: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """The m largest of each row, largest first, with any of their columns where values are equal.

    The m largest lie in the m blocks with the largest maxima, and maxima of interleaved blocks are a plain vector operation.
    """
    rows, n = values.shape
    size = int((n / m) ** 0.5)
    if size < 8:
        return values.topk(m, dim=1)
    size = next((other for other in range(size, size // 2, -1) if n % other == 0), size)
    blocks = n // size
    inside = values[:, : blocks * size]
    best = inside.unflatten(1, (size, blocks)).amax(dim=1).topk(m, dim=1, sorted=False).indices
    columns = (best[:, None] + torch.arange(0, blocks * size, blocks, device=values.device)[:, None]).flatten(1)
    if blocks * size < n:
        columns = torch.cat([columns, torch.arange(blocks * size, n, device=values.device).expand(rows, -1)], dim=1)
    found, places = values.gather(1, columns).topk(m, dim=1)
    return found, columns.gather(1, places)
