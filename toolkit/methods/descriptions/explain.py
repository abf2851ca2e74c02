"""Why one photo got its class: what the name and what the descriptions say against every rival, and what would change the answer.

The score of class c is ``s(c) = w * A(c) + B(c)``: A is the cosine of photo and caption, B the mean cosine of photo and the texts
that were selected for c among the candidates L. So every difference of two scores is a name part plus a description part,

    s(c) - s(l) = w * (A(c) - A(l)) + (B(c) - B(l)),

and c and l change places at exactly one weight, ``w* = (B(l) - B(c)) / (A(c) - A(l))``. All of it is exact, also what happens when
one text is taken away. Scores are linear in the texts, so a score that drops proves nothing; only an answer that changes does
(``faithfulness``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from toolkit.errors import ShapeError, UsageError
from toolkit.methods.descriptions.explanation import Candidate, Deletion, Explanation, FlippingText, TextPart
from toolkit.methods.descriptions.flips import flip_value, segments, winner_at
from toolkit.methods.descriptions.selection import SelectionOptions, nearest, select

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.methods.descriptions.linter import Lint


@dataclass(frozen=True)
class Fitted:
    """All that an answer depends on besides the photo.

    Attributes:
        classnames: C names. texts: P descriptions, the pool.
        captions: (C, D) float, L2 norm 1. descriptions: (P, D) float, L2 norm 1.
        similarity: (C, P) float64, mean cosine of the photos of a class and a text. counts: (C,) photos behind each row.
        own: for each class the pool positions of its own texts in its own order (for the fallback), or None for a pool without owners.
        tie_order: (P,) pool positions in the order that breaks ties, or None for the order of the pool.
        w: weight of the class name; ``w_origin`` says who chose it ("loo", "given", "oracle" ...).
        from_photos: False if ``similarity`` comes from texts alone; there is then no average photo to compare with.
        hits: pool position -> what the linter says about that text.
    """

    classnames: Sequence[str]
    texts: Sequence[str]
    captions: Tensor
    descriptions: Tensor
    similarity: Tensor
    counts: Tensor
    own: Sequence[Sequence[int]] | None
    options: SelectionOptions
    w: float
    w_origin: str = "given"
    tie_order: Tensor | None = None
    from_photos: bool = True
    hits: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


def explain(
    fitted: Fitted, x: Tensor, *, candidates: Tensor | None = None, sample: str | None = None, truth: int | None = None
) -> Explanation:
    """Explain the answer to one photo.

    Args:
        x: (D,) the photo's embedding, L2 norm 1.
        candidates: (k,) labels to choose from; None takes the k nearest captions.
        sample, truth: what to call the photo, and its true label, if they are known; neither changes anything else.
    Raises: ShapeError: if the widths differ. UsageError: if the candidates are not different classes.
    """
    import torch

    x = torch.as_tensor(x).reshape(-1).double()
    if x.shape[0] != fitted.captions.shape[1]:
        raise ShapeError(
            f"the photo's embedding has width {x.shape[0]} and the texts' {fitted.captions.shape[1]}", hint="use one encoder for both"
        )
    by_name = fitted.captions.double() @ x
    if candidates is None:
        candidates = nearest((fitted.captions @ x.to(fitted.captions.dtype))[None], fitted.options.k)[0]
    labels = sorted({int(label) for label in candidates})
    if len(labels) != len(candidates) or not labels:
        raise UsageError(
            "the candidates of a photo must be different classes, at least one", hint="leave candidates away to take the nearest"
        )
    case = _Case(fitted, labels, [float(by_name[label]) for label in labels], (fitted.descriptions.double() @ x).tolist())
    return case.explanation(sample, None if truth is None else fitted.classnames[truth])


def flagged(fitted: Fitted, lint: Lint) -> Fitted:
    """The same state, with what the linter says of each text; findings that are mere information are left out."""
    from toolkit.methods.descriptions.linter import RULES

    found: dict[str, list[str]] = {}
    for hit in lint.hits:
        if hit.text is not None and hit.level != "info":
            found.setdefault(" ".join(hit.text.split()), []).append(RULES[hit.rule])
    said = {index: tuple(dict.fromkeys(found.get(" ".join(text.split()), ()))) for index, text in enumerate(fitted.texts)}
    return replace(fitted, hits={index: words for index, words in said.items() if words})


class _Case:
    """One photo: its cosines with everything, and for each candidate the whole ranking of texts, of which the first m are used."""

    def __init__(self, fitted: Fitted, labels: list[int], captions: list[float], cosines: list[float]) -> None:
        self.fitted, self.labels, self.captions, self.cosines = fitted, labels, captions, cosines
        self.m, self.lone = fitted.options.m, len(labels) < 2
        self.rankings, self.margins = self._rank()
        self.lists = [self._list(position) for position in range(len(labels))]
        self.a, self.b = self._parts(self.lists)
        self.label = winner_at(self.a, self.b, labels, fitted.w)

    def _rank(self) -> tuple[list[list[int]], list[dict[int, float]]]:
        """Every text that qualifies for each candidate, best first, with its margin; nothing for a lone candidate."""
        import torch

        if self.lone:
            return [[]], [{}]
        fitted = self.fitted
        everything = replace(fitted.options, m=len(fitted.texts), fallback="pool_mean")
        alone = torch.arange(len(self.labels))[None]  # only the rows of the candidates: the selection knows no others
        rows, counts = fitted.similarity[self.labels], fitted.counts[self.labels]
        found = select(rows, counts, alone, everything, None, tie_order=fitted.tie_order)
        rankings, margins = [], []
        for position in range(len(self.labels)):
            n = int(found.found[0, position])
            order = found.chosen[0, position, :n].tolist()
            rankings.append(order)
            margins.append(dict(zip(order, found.margin[0, position, :n].tolist(), strict=True)))
        return rankings, margins

    def _list(self, position: int, without: int | None = None) -> list[int]:
        """The texts that B of a candidate averages, in order, if one text of the pool were not there."""
        if self.lone:
            return []
        kept = [index for index in self.rankings[position] if index != without][: self.m]
        return kept or self._stand_in(position, without)

    def _stand_in(self, position: int, without: int | None) -> list[int]:
        """The fallback list: the first m of the class's own texts, or the whole pool."""
        fitted, kind = self.fitted, self.fitted.options.fallback
        own = [] if fitted.own is None or kind == "pool_mean" else [i for i in fitted.own[self.labels[position]] if i != without]
        if kind == "assigned_pool_order":
            own = sorted(own)
        return own[: self.m] or [index for index in range(len(fitted.texts)) if index != without]

    def _whole_pool(self, position: int) -> bool:
        """The candidate has no list: the mean of all texts stands in."""
        return not self.rankings[position] and len(self.lists[position]) > self.m

    def _parts(self, lists: Sequence[Sequence[int]]) -> tuple[list[float], list[float]]:
        """What the score of each candidate is made of, for any lists: ``w * a + b``."""
        sizes = [max(1, len(chosen)) if self.fitted.options.size_norm == "set" else 1 for chosen in lists]
        a = [cosine / size for cosine, size in zip(self.captions, sizes, strict=True)]
        means = [sum(self.cosines[index] for index in chosen) / max(1, len(chosen)) for chosen in lists]
        return a, [mean / size for mean, size in zip(means, sizes, strict=True)]

    def _without(self, position: int, index: int) -> Deletion:
        """Both ways to take text ``index`` away from a candidate's list. A text can stand in several lists: searching again empties all."""
        others = [i for i in self.lists[position] if i != index] or self._stand_in(position, index)
        drop = self._parts([others if p == position else chosen for p, chosen in enumerate(self.lists)])
        found = [self._list(p, index) if index in chosen else chosen for p, chosen in enumerate(self.lists)]
        again = self._parts(found)
        to = [winner_at(*parts, self.labels, self.fitted.w) for parts in (drop, again)]
        entered = [i for i in found[position] if i not in self.lists[position]]
        return Deletion(drop[1][position], to[0], again[1][position], to[1], entered[0] if len(entered) == 1 else None)

    def _texts(self, position: int) -> tuple[TextPart, ...]:
        fitted, chosen = self.fitted, self.lists[position]
        if self._whole_pool(position):
            return ()
        rows = [label for label in self.labels if int(fitted.counts[label]) > 0]
        parts = []
        for rank, index in enumerate(chosen, start=1):
            cosine = self.cosines[index]
            excess = cosine - float(fitted.similarity[rows, index].double().mean()) if fitted.from_photos and rows else None
            margin = self.margins[position].get(index)
            hits = tuple(fitted.hits.get(index, ()))
            removed = self._without(position, index)
            parts.append(TextPart(index, fitted.texts[index], rank, cosine, cosine / len(chosen), margin, excess, hits, removed))
        return tuple(parts)

    def explanation(self, sample: str | None, truth: str | None) -> Explanation:
        fitted, labels, w = self.fitted, self.labels, self.fitted.w
        score = [w * a + b for a, b in zip(self.a, self.b, strict=True)]
        by_score = sorted(range(len(labels)), key=lambda p: (-score[p], -self.a[p], labels[p]))
        by_caption = sorted(range(len(labels)), key=lambda p: (-self.a[p], labels[p]))
        best = by_score[0]
        rows = tuple(self._candidate(p, best, rank, by_caption.index(p) + 1) for rank, p in enumerate(by_score, start=1))
        low = max([row.flip or 0.0 for row in rows[1:] if row.holds == "above"], default=0.0)
        high = min([row.flip for row in rows[1:] if row.holds == "below" and row.flip is not None], default=None)
        distances = [w - low] * (low > 0) + ([high - w] if high is not None else [])
        names = [fitted.classnames[label] for label in labels]
        return Explanation(
            label=labels[best],
            name=names[best],
            caption_label=labels[by_caption[0]],
            caption_name=names[by_caption[0]],
            w=w,
            w_origin=fitted.w_origin,
            m=self.m,
            candidates=rows,
            holds=(low, high),
            distance=min(distances, default=None),
            segments=segments(self.a, self.b, labels, names),
            flipping=self._flipping(rows),
            notes=self._notes(rows),
            sample=sample,
            truth=truth,
        )

    def _candidate(self, p: int, best: int, rank: int, caption_rank: int) -> Candidate:
        fitted = self.fitted
        name, rest = fitted.w * (self.a[best] - self.a[p]), self.b[best] - self.b[p]
        flip, holds = flip_value((self.a[best], self.a[p]), (self.b[best], self.b[p])) if p != best else (None, "always")
        found = len(self.rankings[p])
        return Candidate(
            label=self.labels[p],
            name=fitted.classnames[self.labels[p]],
            a=self.a[p],
            b=self.b[p],
            score=fitted.w * self.a[p] + self.b[p],
            caption_rank=caption_rank,
            rank=rank,
            name_part=name,
            description_part=rest,
            lead=name + rest,
            flip=flip,
            holds=holds,
            descriptions_decide=name < 0 < rest and name + rest > 0,
            found=found,
            fallback=not self.lone and not found,
            short=0 < found < self.m,
            texts=self._texts(p),
        )

    def _flipping(self, rows: Sequence[Candidate]) -> tuple[FlippingText, ...]:
        found = []
        for row in rows:
            for part in row.texts:
                drop, reselect = part.without.drop_to, part.without.reselect_to
                how = {(True, True): "both", (True, False): "drop", (False, True): "reselect"}.get(
                    (drop != self.label, reselect != self.label)
                )
                if how is not None:
                    to = self.fitted.classnames[reselect if reselect != self.label else drop]
                    found.append(FlippingText(part.index, part.text, row.name, how, to))
        return tuple(found)

    def _notes(self, rows: Sequence[Candidate]) -> tuple[str, ...]:
        notes = []
        if len(rows) == 1:
            notes.append("There is one candidate only, so the caption decides and no text is selected.")
        for row in rows:
            if row.fallback:
                stands = "its own first texts stand in" if row.texts else "the mean of the whole pool stands in"
                notes.append(f"No text fits {row.name} better than the other candidates: {stands}.")
            elif row.short:
                notes.append(f"Only {row.found} of {self.m} texts fit {row.name} better than the other candidates.")
            notes.extend(f"The linter says of {part.text!r}: {', '.join(part.hits)}." for part in row.texts if part.hits)
            if int(self.fitted.counts[row.label]) == 0:
                notes.append(f"There is no labelled photo of {row.name}.")
        if not self.fitted.from_photos:
            notes.append("Texts were selected without photos, by their similarity to the class names.")
        if self.fitted.w_origin == "oracle":
            notes.append("The weight w was chosen on the test set (oracle): such numbers are for study, not for claims.")
        return tuple(notes)


__all__ = ["Explanation", "Fitted", "explain", "flagged"]
