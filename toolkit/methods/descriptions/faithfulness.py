"""Do the texts that an explanation points at decide? Flip rates over many photos, and which photos are worth explaining.

A score is the mean of cosines, so it must fall when a text with a high cosine goes; that proves nothing. What counts is how often the
*answer* changes when the text that stands out most is taken away, against a random one of the same list, and when texts are replaced by
random strings of the same shape. Both are counted on the same photos and compared by McNemar's exact test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from toolkit.methods.descriptions.selection import Scored, decide, nearest
from toolkit.stats import mcnemar_exact, wilson

if TYPE_CHECKING:
    from toolkit.methods.descriptions.explain import Fitted

BLOCK = 1024  # photos that are looked at once
KINDS = {
    "repaired": "The descriptions repair what the class name gets wrong",
    "broken": "The descriptions break what the class name gets right",
    "one text": "One description decides",
    "close": "A little more or less weight of the name would change the answer",
}


@dataclass(frozen=True)
class Rate:
    """A share of photos with its 95 % Wilson interval."""

    flips: int
    n: int
    share: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Contrast:
    """How often the answer changes when the text with the largest excess is changed, and when a random one of its list is.

    Attributes:
        only_strongest, only_random: photos where only that change flips the answer. mcnemar_p: exact, two-sided.
    """

    strongest: Rate
    random: Rate
    only_strongest: int
    only_random: int
    mcnemar_p: float


@dataclass(frozen=True)
class Replaced:
    """What remains when every selected text of every candidate becomes a random string of the same shape.

    Attributes:
        flips: answers that change. repaired, broken: photos that become right and wrong; None without labels.
    """

    flips: Rate
    repaired: int | None
    broken: int | None
    mcnemar_p: float | None


@dataclass(frozen=True)
class FlipRates:
    """Corpus-level evidence. ``n`` photos have a winner with at least two selected texts, among which there is a choice."""

    n: int
    seed: int
    delete: Contrast | None
    swap: Contrast | None
    replace_all: Replaced | None


class _Winners(NamedTuple):
    """The winner's list of each photo: (N, m) cosines and excesses, -inf where the list is shorter; (N,) its length and position."""

    texts: Tensor
    cosines: Tensor
    excess: Tensor
    size: Tensor
    place: Tensor


def flip_rates(
    fitted: Fitted, x: Tensor, scored: Scored, *, labels: Tensor | None = None, strings: Tensor | None = None, seed: int = 0
) -> FlipRates:
    """Count how often answers change when selected texts are deleted or replaced.

    Args:
        x: (N, D) photos, L2 norm 1. scored: their candidates and scores, with a row of ``selected`` for each.
        labels: (N,) true classes, for what replacing all texts costs.
        strings: (P, D) embeddings of random strings, one in the shape of each text of the pool, L2 norm 1. None: texts are only deleted.
        seed: of the choice of the random text.
    """
    if scored.L.shape[1] < 2 or not len(x):
        return FlipRates(0, seed, None, None, None)
    lists = _winners(fitted, x, scored)
    some = (lists.size > 1).nonzero()[:, 0]
    if not len(some):
        return FlipRates(0, seed, None, None, None)
    strongest = lists.excess[some].argmax(dim=1)
    drawn = torch.rand(len(some), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    random = (drawn * lists.size[some]).long().clamp(max=lists.size[some] - 1)
    before = scored.L.gather(1, decide(scored.L, scored.A, scored.B, fitted.w)[:, None])[:, 0]

    def changed(column: Tensor, new: Tensor | None) -> Tensor:
        return _answers(fitted, scored, lists, some, column, new) != before[some]

    delete = _contrast(changed(strongest, None), changed(random, None))
    if strings is None:
        return FlipRates(len(some), seed, delete, None, None)
    rows = [(x[some].double() * strings[lists.texts[some, column]].double()).sum(dim=1) for column in (strongest, random)]
    swap = _contrast(changed(strongest, rows[0]), changed(random, rows[1]))
    return FlipRates(len(some), seed, delete, swap, _replace_all(fitted, x, scored, strings, before, labels))


def _blocks(n: int) -> Iterator[Tensor]:
    return (torch.arange(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))


def _rate(flipped: Tensor) -> Rate:
    n, flips = len(flipped), int(flipped.sum())
    return Rate(flips, n, flips / n, wilson(flips, n))


def _contrast(strongest: Tensor, random: Tensor) -> Contrast:
    a, b = int((strongest & ~random).sum()), int((random & ~strongest).sum())
    return Contrast(_rate(strongest), _rate(random), a, b, mcnemar_exact(a, b))


def _lists(scored: Scored, part: Tensor) -> tuple[Tensor, Tensor]:
    """(n, k, m) texts of the candidates in the order of L, and (n, k) where each stands in its set."""
    rows = scored.set_index[part]
    places = torch.searchsorted(scored.selected.sets[rows], scored.L[part])
    return scored.selected.chosen[rows[:, None], places], places


def _winners(fitted: Fitted, x: Tensor, scored: Scored) -> _Winners:
    """The lists of the winners. The excess of a text is its cosine minus the mean of S over the candidates that have photos."""
    place = decide(scored.L, scored.A, scored.B, fitted.w)
    texts, cosines, excess = [], [], []
    for part in _blocks(len(x)):
        chosen = _lists(scored, part)[0][torch.arange(len(part)), place[part]]
        there, index = chosen >= 0, chosen.clamp(min=0)
        cosine = (fitted.descriptions[index].double() @ x[part].double()[:, :, None])[..., 0]
        live = (fitted.counts[scored.L[part]] > 0).double()[..., None]
        usual = (fitted.similarity[scored.L[part][:, :, None], index[:, None]].double() * live).sum(dim=1) / live.sum(dim=1).clamp(min=1)
        texts.append(index)
        cosines.append(cosine.masked_fill(~there, 0.0))
        excess.append((cosine - usual).masked_fill(~there, -torch.inf))
    stacked = torch.cat(excess)
    return _Winners(torch.cat(texts), torch.cat(cosines), stacked, stacked.isfinite().sum(dim=1), place)


def _answers(fitted: Fitted, scored: Scored, lists: _Winners, some: Tensor, column: Tensor, new: Tensor | None) -> Tensor:
    """The labels after the text in ``column`` of each winner's list is gone, or has the cosine ``new``."""
    L, A, B = scored.L[some], scored.A[some].clone(), scored.B[some].clone()
    at = (torch.arange(len(some)), lists.place[some])
    cosine, size = lists.cosines[some].gather(1, column[:, None])[:, 0], lists.size[some].double()
    whole = lists.cosines[some].sum(dim=1)
    value = (whole - cosine) / (size - 1) if new is None else (whole - cosine + new) / size
    if fitted.options.size_norm == "set":  # the whole score is divided by the length of the list
        left = size - 1 if new is None else size
        A[at], value = A[at] * size / left, value / left
    B[at] = value
    return L.gather(1, decide(L, A, B, fitted.w)[:, None])[:, 0]


def _replace_all(fitted: Fitted, x: Tensor, scored: Scored, strings: Tensor, before: Tensor, labels: Tensor | None) -> Replaced:
    after = []
    for part in _blocks(len(x)):
        chosen, _ = _lists(scored, part)
        there = chosen >= 0
        size = there.sum(dim=-1)
        cosine = torch.einsum("nkmd,nd->nkm", strings[chosen.clamp(min=0)].double(), x[part].double()) * there
        pool = (x[part].double() @ strings.double().mean(dim=0))[:, None]  # a candidate without a list has the mean of the pool
        B = torch.where(size > 0, cosine.sum(dim=-1) / size.clamp(min=1), pool)
        if fitted.options.size_norm == "set":
            B = B / torch.where(size > 0, size, len(strings))
        after.append(scored.L[part].gather(1, decide(scored.L[part], scored.A[part], B, fitted.w)[:, None])[:, 0])
    now = torch.cat(after)
    if labels is None:
        return Replaced(_rate(now != before), None, None, None)
    right, stays = before == labels, now == labels
    broken, repaired = int((right & ~stays).sum()), int((stays & ~right).sum())
    return Replaced(_rate(now != before), repaired, broken, mcnemar_exact(broken, repaired))


def instructive(fitted: Fitted, x: Tensor, scored: Scored, labels: Tensor | None, *, most: int = 20) -> list[tuple[int, str]]:
    """Photos from which most can be learnt: (position, kind), each photo once, evenly over the kinds and the clearest first.

    Args:
        labels: (N,) true classes; without them no photo is repaired or broken.
    Returns: at most ``most`` pairs; kinds are the keys of KINDS.
    """
    if scored.L.shape[1] < 2 or not len(x):
        return []
    place = decide(scored.L, scored.A, scored.B, fitted.w)
    answer = scored.L.gather(1, place[:, None])[:, 0]
    by_name = scored.L.gather(1, decide(scored.L, scored.A, torch.zeros_like(scored.B), 1.0)[:, None])[:, 0]
    total = fitted.w * scored.A + scored.B
    lead = (total.topk(2, dim=1).values * torch.tensor([1.0, -1.0], dtype=torch.float64)).sum(dim=1)
    lists = _winners(fitted, x, scored)
    some = (lists.size > 1).nonzero()[:, 0]
    flipped = torch.zeros(len(x), dtype=torch.bool)
    if len(some):
        flipped[some] = _answers(fitted, scored, lists, some, lists.excess[some].argmax(dim=1), None) != answer[some]
    wanted: dict[str, list[int]] = {}
    if labels is not None:
        wanted["repaired"] = _spread(_ordered((answer == labels) & (by_name != labels), -lead), answer)
        wanted["broken"] = _spread(_ordered((answer != labels) & (by_name == labels), -lead), answer)
    wanted["one text"] = _spread(_ordered(flipped, -lead), answer)
    wanted["close"] = _ordered(torch.ones_like(flipped), lead).tolist()
    return _in_turn(wanted, most)


def _ordered(fits: Tensor, value: Tensor) -> Tensor:
    index = fits.nonzero()[:, 0]
    return index[nearest(-value[index][None], len(index))[0]] if len(index) else index


def _spread(order: Tensor, answer: Tensor) -> list[int]:
    """The same photos, those with an answer that was not seen yet first, then the second of each answer, and so on."""
    seen: Counter[int] = Counter()
    ranked = []
    for place, index in enumerate(order.tolist()):
        label = int(answer[index])
        ranked.append((seen[label], place, index))
        seen[label] += 1
    return [index for _, _, index in sorted(ranked)]


def _in_turn(queues: Mapping[str, Sequence[int]], most: int) -> list[tuple[int, str]]:
    """One of each kind in turn until there are enough; then sorted by kind."""
    taken: dict[int, str] = {}
    waiting = {kind: iter(queue) for kind, queue in queues.items()}
    while waiting and len(taken) < most:
        for kind in list(waiting):
            found = next((index for index in waiting[kind] if index not in taken), None)
            if found is None:
                del waiting[kind]
            elif len(taken) < most:
                taken[found] = kind
    return [(index, kind) for wanted in queues for index, kind in taken.items() if kind == wanted]


def rates_json(rates: FlipRates) -> dict[str, Any]:
    """For files and reports."""
    from toolkit.config import to_json

    return dict(to_json(rates))
