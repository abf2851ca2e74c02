"""Does the selection agree with the writer? Checks of language that use no accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from toolkit.methods.descriptions.arms import Arm

PERMUTATIONS = 10_000


class Lift(NamedTuple):
    """How often selected texts were written for the class that they were selected for.

    Attributes:
        share: of selected texts. expected: their share of the pool. lift: share / expected.
        p: of the lift when the lists are given to random classes. texts: selected (image, candidate, text) slots.
    """

    share: float
    expected: float
    lift: float | None
    p: float
    texts: int


def assignment_lift(
    found: Arm, own_lists: Sequence[Sequence[int]], n_texts: int, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Lift:
    """Share of the texts in sel(c|L) that were written for c, over their share of the pool. Fallbacks do not count.

    Args:
        own_lists: (C,) lists of pool indices. n_texts: P.
    """
    classes = len(own_lists)
    times = torch.bincount(found.set_index.clamp(min=0), minlength=len(found.selected.sets)).double()
    chosen = found.selected.chosen.masked_fill(found.selected.fallback[..., None], -1)
    kept = chosen >= 0
    rows = found.selected.sets[..., None].expand_as(chosen)[kept]
    weight = times[:, None, None].expand(chosen.shape)[kept]
    picked = torch.zeros(classes, n_texts, dtype=torch.float64)
    picked.index_put_((rows, chosen[kept]), weight, accumulate=True)
    owned = torch.zeros(classes, n_texts, dtype=torch.float64)
    for number, texts in enumerate(own_lists):
        owned[number, list(texts)] = 1
    agreed = (picked @ owned.T).numpy()  # [c, o]: texts selected for c that were written for o
    slots = picked.sum(dim=1).numpy()
    if not slots.sum():
        return Lift(0.0, 0.0, None, 1.0, 0)
    sizes = owned.sum(dim=1).numpy() / n_texts
    rng = np.random.default_rng(seed)
    every = np.arange(classes)

    def measure(order: np.ndarray) -> tuple[float, float]:
        return float(agreed[every, order].sum() / slots.sum()), float((slots * sizes[order]).sum() / slots.sum())

    share, expected = measure(every)
    real = share / expected if expected else 0.0
    others = [measure(rng.permutation(classes)) for _ in range(permutations)]
    reach = sum((a / b if b else 0.0) >= real - 1e-12 for a, b in others)
    return Lift(share, expected, real if expected else None, (1 + reach) / (1 + permutations), int(slots.sum()))


def misplaced(
    S: Tensor, own_lists: Sequence[Sequence[int]], texts: Sequence[str], classnames: Sequence[str], most: int = 20
) -> list[dict[str, Any]]:
    """The texts that fit the images of their own class worst, among all classes: often another sense of the class name.

    Args:
        S: (C, P). Returns: one row each, the worst first: class, text, rank of the class (1 is best) and its z-score among classes.
    """
    spread = S.std(dim=0).clamp(min=1e-12)
    z = (S - S.mean(dim=0)) / spread
    rows: list[dict[str, Any]] = []
    for number, own in enumerate(own_lists):
        for index in own:
            rank = 1 + int((S[:, index] > S[number, index]).sum())
            if rank > (len(S) + 1) // 2:
                rows.append({"class": classnames[number], "text": texts[index], "rank": rank, "z": float(z[number, index])})
    return sorted(rows, key=lambda row: row["z"])[:most]
