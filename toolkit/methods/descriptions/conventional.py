"""The conventional setting, for comparison only: the same selection, but every text also says the class name.

Source: arXiv 2412.11917, section 4 (after arXiv 2210.07183). Differs from it: short lists are averaged as they are and not padded, and a
candidate without texts is scored by its caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from toolkit.methods.descriptions.selection import SCORE_ROWS, Scored

if TYPE_CHECKING:
    from toolkit.models.base import DualEncoder


class NamedTexts:
    """Embeddings of "A photo of a {class}, {description}.", each pair encoded once.

    Args:
        template: sentence with one slot for the class name; the description follows after a comma.
    """

    def __init__(self, encoder: DualEncoder, classnames: Sequence[str], texts: Sequence[str], template: str) -> None:
        self.encoder, self.classnames, self.texts = encoder, classnames, texts
        self.template = template.rstrip(". ") + ", {text}."
        self.row: dict[tuple[int, int], int] = {}
        self.rows = torch.empty(0, encoder.dim)

    def sentence(self, label: int, text: int) -> str:
        """The text that is encoded for a pair."""
        return self.template.replace("{}", self.classnames[label]).replace("{text}", self.texts[text])

    def find(self, labels: Tensor, chosen: Tensor) -> Tensor:
        """(R, m) rows of ``rows`` for (R,) classes and their (R, m) descriptions, -1 where there is none."""
        pairs = [[(label, p) for p in own if p >= 0] for label, own in zip(labels.tolist(), chosen.tolist(), strict=True)]
        new = list(dict.fromkeys(pair for own in pairs for pair in own if pair not in self.row))
        if new:
            fresh = self.encoder.encode_texts([self.sentence(*pair) for pair in new])
            self.row.update((pair, len(self.rows) + place) for place, pair in enumerate(new))
            self.rows = torch.cat([self.rows, fresh])
        found = torch.full(chosen.shape, -1, dtype=torch.long)
        for number, own in enumerate(pairs):
            found[number, : len(own)] = torch.tensor([self.row[pair] for pair in own], dtype=torch.long)
        return found

    def scores(self, x: Tensor, scored: Scored, how: str) -> Tensor:
        """(N, k) float64: the mean or the largest cosine of each image and the texts of each candidate.

        Args:
            x: (N, D). scored: its candidates and their descriptions. how: "mean" or "max".
        """
        sets, index = scored.set_index.unique(return_inverse=True)
        k = scored.L.shape[1]
        selected = scored.selected.chosen[sets]
        bags = self.find(scored.selected.sets[sets].flatten(), selected.flatten(0, 1)).view(selected.shape)
        result = scored.A.clone()
        for part in torch.arange(len(x)).split(SCORE_ROWS):
            places = torch.searchsorted(scored.selected.sets[sets][index[part]], scored.L[part])
            bag = bags[index[part][:, None], places]
            there = bag >= 0
            texts = self.rows[bag.clamp(min=0)].double() if len(self.rows) else torch.zeros(*bag.shape, x.shape[1], dtype=torch.float64)
            cosines = torch.einsum("nkmd,nd->nkm", texts, x[part].double())
            if how == "max":
                value = cosines.masked_fill(~there, -torch.inf).amax(dim=-1)
            else:
                value = cosines.masked_fill(~there, 0).sum(dim=-1) / there.sum(dim=-1).clamp(min=1)
            result[part] = torch.where(there.any(dim=-1), value, result[part])
        return result.view(-1, k)
