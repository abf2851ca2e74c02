"""Descriptions that set one class apart from its neighbours, chosen from labelled images: pure functions.

Source: arXiv 2412.11917, section 3. Differs from it: ties have an order, classes may have different numbers of images, and the
selection is made once for each set of neighbours. All of it is exact; nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from toolkit.errors import DataError, UsageError
from toolkit.methods.descriptions.margins import apart, largest

Lists = Sequence[Sequence[int]]

CHUNK_BYTES = 2 << 20  # of the chunk x k x P buffer: what stays in a core's cache
SCORE_ROWS = 256  # images that are scored at once

CHOICES: dict[str, tuple[str, ...]] = {
    "keep": ("ge", "gt"),
    "rank": ("mean", "min"),
    "fallback": ("assigned", "assigned_pool_order", "pool_mean", "error"),
    "neighbourhood": ("caption", "ncm", "all"),
    "row_norm": ("none", "unit"),
    "size_norm": ("none", "set"),
    "dtype": ("float32", "float64", "float16"),
}


@dataclass(frozen=True)
class SelectionOptions:
    """Every option that decides which descriptions are chosen.

    Attributes:
        k: classes in a neighbourhood; more than there are means all.
        m: descriptions for each candidate; fewer where fewer set it apart.
        keep: "ge" keeps a description for every class that no neighbour beats on it; "gt" only where it beats them all.
        rank: order by the margin over the "mean" neighbour, or over the strongest one ("min").
        fallback: what a candidate gets that keeps nothing: its own list ("assigned": in list order, "assigned_pool_order"), the mean
            of the pool, or an error.
        neighbourhood: neighbours by "caption", by class mean ("ncm"), or "all" classes.
        row_norm: "unit" divides each row of S by the norm of the class mean.
        size_norm: "set" divides a candidate's whole score by its number of descriptions.
        dtype: of embeddings and S. "float16" only rounds both to half precision, to see what that costs.
    """

    k: int = 3
    m: int = 5
    keep: str = "ge"
    rank: str = "mean"
    fallback: str = "assigned"
    neighbourhood: str = "caption"
    row_norm: str = "none"
    size_norm: str = "none"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("k", "m"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{name}={value!r} is not possible", hint=f"{name} is a whole number from 1 up")
        for name, choices in CHOICES.items():
            one_of(name, getattr(self, name), choices)

    def tensor(self, x: Tensor) -> Tensor:
        """``x`` in the precision of these options."""
        if self.dtype == "float16":
            return x.half().float()
        return x.to(torch.float64 if self.dtype == "float64" else torch.float32)


class Selected(NamedTuple):
    """What was chosen for U sets of k classes.

    Attributes:
        sets: (U, k) class indices, ascending in each row.
        chosen: (U, k, m) pool indices, best first, -1 where there are fewer. A fallback without any stands for the mean of the pool.
        found: (U, k) descriptions that the keep rule gave, at most m; 0 where the fallback is used.
        fallback: (U, k) bool.
        margin: (U, k, m) margin of each chosen description, NaN in fallbacks and where there is none.
    """

    sets: Tensor
    chosen: Tensor
    found: Tensor
    fallback: Tensor
    margin: Tensor


class Scored(NamedTuple):
    """Images and their candidates: all that a prediction needs at any weight.

    Attributes:
        L: (N, k) candidates, best caption (or class mean) first.
        A: (N, k) float64, cosine of image and caption.
        B: (N, k) float64, mean cosine of image and chosen descriptions.
        set_index: (N,) row of ``selected``; -1 where no selection was needed.
        selected: one row for each set of neighbours.
    """

    L: Tensor
    A: Tensor
    B: Tensor
    set_index: Tensor
    selected: Selected


def one_of(name: str, value: object, choices: Sequence[str]) -> None:
    """Raises: UsageError: unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise UsageError(f"{name}={value!r} is not possible", hint=f"{name} is one of: " + ", ".join(choices))


def unit_rows(x: Tensor, what: str = "embeddings") -> Tensor:
    """Rows scaled to norm 1, float32 (float64 stays); rows of norm 1 stay as they are.

    Args:
        x: (N, D). what: what a message calls it.
    Raises: DataError: if ``x`` is not a matrix of numbers, or a row is zero or has a NaN or infinity in it; the row is named.
    """
    if x.ndim != 2 or x.is_complex() or x.dtype == torch.bool:
        raise DataError(f"{what} are {x.dtype} of shape {tuple(x.shape)}; expected a matrix of numbers, one row each")
    x = x if x.dtype == torch.float64 else x.float()
    norms = torch.linalg.vector_norm(x.double(), dim=1)
    bad = (~norms.isfinite() | (norms == 0)).nonzero()
    if len(bad):
        row = int(bad[0])
        kind = "is zero" if float(norms[row]) == 0 else "has a NaN or an infinity in it"
        raise DataError(f"row {row} of the {what} {kind}", hint="leave it out, or encode it again")
    norms = norms.masked_fill((norms - 1).abs() < 1e-6, 1.0)  # of norm 1 already: scaling would only change the last bit
    unit: Tensor = x / norms[:, None]
    return unit.to(x.dtype)


def class_sums(x: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Sums of the rows of each class.

    Args:
        x: (n, D). y: (n,) class indices. classes: C.
    Returns: (C, D) float64 and (C,) int64 counts.
    """
    sums = torch.zeros(classes, x.shape[1], dtype=torch.float64, device=x.device)
    for rows, labels in zip(x.split(SCORE_ROWS), y.split(SCORE_ROWS), strict=True):
        sums.index_add_(0, labels, rows.double())
    return sums, torch.bincount(y, minlength=classes)


def class_means(x: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean of the rows of each class, not renormalised; zero for a class without rows.

    Args:
        x: (n, D) unit rows. y: (n,) class indices. classes: C.
    Returns: (C, D) float64 and (C,) int64 counts.
    """
    sums, counts = class_sums(x, y, classes)
    return sums / counts.clamp(min=1)[:, None], counts


def similarity(means: Tensor, counts: Tensor, d: Tensor, row_norm: str = "none") -> Tensor:
    """S[c, p]: mean cosine of the images of class c and description p, from class means.

    Args:
        means: (C, D) float64. counts: (C,); rows of classes without images are zero. d: (P, D) unit rows. row_norm: "none" or "unit".
    Returns: (C, P) in the dtype of ``d``.
    """
    one_of("row_norm", row_norm, CHOICES["row_norm"])
    if row_norm == "unit":
        means = torch.nn.functional.normalize(means, dim=-1)
    return (means * (counts > 0)[:, None]).to(d.dtype) @ d.T


def nearest(scores: Tensor, k: int) -> Tensor:
    """The k columns with the largest scores, largest first; of equal ones the smaller index comes first.

    Args:
        scores: (N, C). k: more than C means C.
    Returns: (N, k) int64.
    """
    return largest(scores, min(k, scores.shape[1]))[1].contiguous()


def label_sets(L: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The different sets of candidates.

    Args:
        L: (N, k) candidates in any order. classes: C.
    Returns: (U, k) rows in ascending order, and (N,) the row of each image.
    """
    ordered = L.sort(dim=1).values
    if ordered.shape[1] * max(1, (classes - 1).bit_length()) > 62:
        sets, index = torch.unique(ordered, dim=0, return_inverse=True)
        return sets, index
    keys = ordered[:, 0].clone()
    for column in ordered.T[1:]:
        keys.mul_(classes).add_(column)
    unique, index = torch.unique(keys, return_inverse=True)
    first = torch.empty_like(unique).scatter_(0, index, torch.arange(len(keys), device=L.device))
    return ordered[first], index


def select(
    S: Tensor,
    counts: Tensor,
    sets: Tensor,
    options: SelectionOptions,
    own_lists: Lists | None = None,
    *,
    tie_order: Tensor | None = None,
    replace: tuple[Tensor, Tensor, Callable[[Tensor], Tensor]] | None = None,
) -> Selected:
    """For each set of classes, the descriptions that set each of them apart from the others.

    Args:
        S: (C, P). counts: (C,) images of each class; a class without any takes no part in maxima and means and gets the fallback.
        sets: (U, k) class indices.
        own_lists: for each class the pool indices of its own descriptions, for the fallback.
        tie_order: (P,) pool indices in the order that breaks ties; the order of the pool by default.
        replace: (positions (U,), images (U,), rows): in set u the candidate at that position (-1: none) has so many images and row u of
            ``rows(u_indices) -> (u, P)`` instead of its row of S.
    Raises: DataError: if a candidate keeps nothing and the fallback is "error".
    """
    count, k = sets.shape
    width = min(options.m, S.shape[1])
    result = Selected(
        sets,
        torch.full((count, k, options.m), -1, dtype=torch.long, device=S.device),
        torch.zeros(count, k, dtype=torch.long, device=S.device),
        torch.zeros(count, k, dtype=torch.bool, device=S.device),
        torch.full((count, k, options.m), torch.nan, dtype=S.dtype, device=S.device),
    )
    if k < 2:
        return result
    if tie_order is not None:
        S = S[:, tie_order]
    images = counts[sets]
    if replace is not None:
        changed = (replace[0] >= 0).nonzero()[:, 0]
        images[changed, replace[0][changed]] = replace[1][changed]
    live = images > 0
    for number in range(2, k + 1):
        group = (live.sum(dim=1) == number).nonzero()[:, 0]
        chunk = max(8, min(64, CHUNK_BYTES // max(1, number * S.shape[1] * S.element_size())))
        buffer = torch.empty(min(chunk, len(group)) * number, S.shape[1], dtype=S.dtype, device=S.device)
        for part in group.split(chunk):
            places = (~live[part]).byte().argsort(dim=1, stable=True)[:, :number] if number < k else None
            ids = sets[part] if places is None else sets[part].gather(1, places)
            rows = torch.index_select(S, 0, ids.flatten(), out=buffer[: ids.numel()]).view(*ids.shape, S.shape[1])
            if replace is not None:
                _put_rows(rows, part, places, replace, tie_order)
            values, columns = apart(rows, width, keep=options.keep, rank=options.rank)
            kept = values >= 0
            columns = (columns if tie_order is None else tie_order[columns]).masked_fill_(~kept, -1)
            scale = number - 1 if options.rank == "mean" else 1
            values = values.masked_fill_(~kept, torch.nan).div_(scale)
            where = torch.arange(k, device=S.device).expand(len(part), k) if places is None else places
            result.chosen[part[:, None], where, :width] = columns
            result.margin[part[:, None], where, :width] = values
            result.found[part[:, None], where] = kept.sum(dim=-1)
    _fall_back(result, options, own_lists)
    return result


def _put_rows(
    rows: Tensor,
    part: Tensor,
    places: Tensor | None,
    replace: tuple[Tensor, Tensor, Callable[[Tensor], Tensor]],
    tie_order: Tensor | None,
) -> None:
    """Overwrite, in a chunk of gathered rows, the ones that the caller replaces."""
    at = replace[0][part]
    if places is None:
        hit = at >= 0
        column = at
    else:  # the columns were thinned out: where is the replaced one now, if it is still there
        match = places == at[:, None]
        hit, column = match.any(dim=1), match.byte().argmax(dim=1)
    index = hit.nonzero()[:, 0]
    if len(index):
        fresh = replace[2](part[index])
        rows[index, column[index]] = fresh if tie_order is None else fresh[:, tie_order]


def _fall_back(result: Selected, options: SelectionOptions, own_lists: Lists | None) -> None:
    """Give the candidates that kept nothing their fallback."""
    empty = result.found == 0
    result.fallback.copy_(empty)
    if not empty.any():
        return
    if options.fallback == "error":
        raise DataError(
            f"no description sets class number {int(result.sets[empty][0])} apart from its neighbours",
            hint='choose another fallback ("assigned" or "pool_mean"), a larger pool or a smaller k',
        )
    if options.fallback == "pool_mean" or own_lists is None:
        return
    table = torch.full((len(own_lists), options.m), -1, dtype=torch.long, device=result.chosen.device)
    for number, own in enumerate(own_lists):
        first = (sorted(own) if options.fallback == "assigned_pool_order" else list(own))[: options.m]
        table[number, : len(first)] = torch.tensor(first, dtype=torch.long)
    result.chosen[empty] = table[result.sets[empty]]


def score(
    x: Tensor,
    captions: Tensor,
    d: Tensor,
    L: Tensor,
    S: Tensor,
    counts: Tensor,
    *,
    options: SelectionOptions,
    own_lists: Lists | None = None,
    tie_order: Tensor | None = None,
) -> Scored:
    """Caption and description scores of the candidates of each image.

    Args:
        x: (N, D), captions: (C, D), d: (P, D), all unit rows. L: (N, k) candidates. S: (C, P). counts: (C,).
    """
    sets, set_index = label_sets(L, len(captions))
    selected = select(S, counts, sets, options, own_lists, tie_order=tie_order)
    A, B = candidate_scores(x, captions, d, L, set_index, selected, options)
    return Scored(L, A, B, set_index, selected)


def candidate_scores(
    x: Tensor, captions: Tensor, d: Tensor, L: Tensor, set_index: Tensor, selected: Selected, options: SelectionOptions
) -> tuple[Tensor, Tensor]:
    """(N, k) float64 A and B of images whose sets are selected; B is 0 for a lone candidate and where ``set_index`` is -1."""
    n, k = L.shape
    A, B = torch.zeros(2, n, k, dtype=torch.float64, device=x.device)
    used = (selected.chosen >= 0).sum(dim=-1)
    whole = selected.fallback & (used == 0)
    mean = d.mean(dim=0, dtype=torch.float64)[None].to(d.dtype) if whole.any() else d[:0]
    table = torch.cat([d, d.new_zeros(1, d.shape[1]), mean])
    bags = selected.chosen.masked_fill(selected.chosen < 0, len(d))
    bags[..., 0].masked_fill_(whole, len(d) + 1)
    again = len(bags) * 2 <= n and k > 1  # sets that come often: their sums are worth keeping
    kept = _sums(bags, table).double().flatten(0, 1) if again else None
    captions = captions.double() if n > len(captions) else captions  # before or after they are picked, whichever is less work
    for part in torch.arange(n, device=x.device).split(SCORE_ROWS):
        rows = x[part].double().unsqueeze(-1)
        A[part] = (_pick(captions, L[part]).double() @ rows).squeeze(-1)
        if k < 2 or not len(bags):
            continue
        chosen = set_index[part].clamp(min=0)
        places = torch.searchsorted(selected.sets[chosen], L[part]).clamp(max=k - 1)  # of images without a selection: any
        own = chosen[:, None], places
        sums = _pick(kept, own[0] * k + places) if kept is not None else _sums(bags[own], table)
        B[part] = (sums.double() @ rows).squeeze(-1) / used[own].clamp(min=1)
        B[part[set_index[part] < 0]] = 0
        if options.size_norm == "set":
            size = torch.where(used[own] == 0, len(d), used[own])
            A[part], B[part] = A[part] / size, B[part] / size
    return A, B


def _pick(table: Tensor, index: Tensor) -> Tensor:
    """(R, D) table and (N, k) rows of it -> (N, k, D)."""
    return table.index_select(0, index.flatten()).view(*index.shape, table.shape[1])


def _sums(bags: Tensor, table: Tensor) -> Tensor:
    """(..., m) rows of a (R, D) table -> (..., D) their sums."""
    return torch.nn.functional.embedding_bag(bags.flatten(0, -2), table, mode="sum").view(*bags.shape[:-1], table.shape[1])


def decide(L: Tensor, A: Tensor, B: Tensor, w: float) -> Tensor:
    """(N,) the position in L of the largest ``w * A + B``; of equal ones the larger A, then the smaller class index."""
    total = w * A + B
    first = total == total.amax(dim=1, keepdim=True)
    name = A.masked_fill(~first, -torch.inf)
    first &= name == name.amax(dim=1, keepdim=True)
    return L.masked_fill(~first, torch.iinfo(L.dtype).max).argmin(dim=1)


def predict(scored: Scored, w: float) -> Tensor:
    """(N,) predicted class indices."""
    return scored.L.gather(1, decide(scored.L, scored.A, scored.B, w)[:, None])[:, 0]
