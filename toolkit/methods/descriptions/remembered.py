"""Selections that were made already: the same neighbours come again and again."""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.errors import UsageError
from toolkit.methods.descriptions.selection import Lists, Selected, SelectionOptions, label_sets, select

MOST_SETS = 50_000  # bounds the memory: 8 MB at k = 3, m = 5


class Remembered:
    """Selections by set of classes, over batches. Forgets everything when it would grow too large."""

    def __init__(self, most: int = MOST_SETS) -> None:
        self.most = most
        self.clear()

    def clear(self) -> None:
        """Forget all sets."""
        self._rows: dict[tuple[int, ...], int] = {}
        self._parts: list[Selected] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def selected(self) -> Selected:
        """All sets that are remembered. Raises: UsageError: if there are none."""
        if not self._parts:
            raise UsageError("no set of classes was selected for yet")
        if len(self._parts) > 1:
            self._parts = [Selected(*(torch.cat(columns) for columns in zip(*self._parts, strict=True)))]
        return self._parts[0]

    def find(self, L: Tensor, S: Tensor, counts: Tensor, options: SelectionOptions, own: Lists | None, tie_order: Tensor | None) -> Tensor:
        """(N,) rows of ``selected`` for candidates (N, k); sets that are new are selected for."""
        sets, index = label_sets(L, len(counts))
        keys = list(map(tuple, sets.tolist()))
        if len(self._rows) + len(keys) > self.most:
            self.clear()
        new = [row for row, key in enumerate(keys) if key not in self._rows]
        if new or not self._parts:
            self._parts.append(select(S, counts, sets[new], options, own, tie_order=tie_order))
            first = len(self._rows)
            self._rows.update((keys[row], first + place) for place, row in enumerate(new))
        return torch.tensor([self._rows[key] for key in keys], dtype=torch.long)[index]
