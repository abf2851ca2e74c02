"""What the estimator learns: class sums of labelled images, the similarity matrix, and the weight of the class name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from toolkit.errors import DataError, UsageError
from toolkit.methods.descriptions.conventional import NamedTexts
from toolkit.methods.descriptions.inputs import Inputs, doubling_rounds, first_of_each
from toolkit.methods.descriptions.options import options_from
from toolkit.methods.descriptions.pool import Pool, Source
from toolkit.methods.descriptions.remembered import Remembered
from toolkit.methods.descriptions.selection import Scored, class_sums, similarity
from toolkit.methods.descriptions.weight import Curve, Weight, accuracy_curve, choose, curve_of, leave_one_out, positions, spans_before

if TYPE_CHECKING:
    from toolkit.models.base import DualEncoder


class Learner(Inputs):
    """The fitted state: order-free in the images, and exact when images are taken out again.

    Attributes:
        sums: (C, D) float64 sums of embeddings. counts: (C,) images of each class. keep_support: whether embeddings are kept.
    """

    def __init__(
        self,
        encoder: DualEncoder | None = None,
        classnames: Sequence[str] | Mapping[str, Sequence[str]] = (),
        pool: Source | Pool | Tensor | Any = (),
        *,
        captions: Any = None,
        descriptions: Any = None,
        other_pool: Source | None = None,
        keep_support: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            encoder, classnames, pool, options_from(options), captions=captions, descriptions=descriptions, other_pool=other_pool
        )
        self.keep_support = keep_support
        self._remembered = Remembered()
        self._named_texts: NamedTexts | None = None
        if self.options.conventional != "no":
            if encoder is None:
                raise UsageError("texts with class names need an encoder", hint='pass encoder=..., or conventional="no"')
            self._named_texts = NamedTexts(encoder, self.classnames, self.pool.texts, self.options.caption_templates[0])
        self.reset()

    def reset(self) -> Self:
        """Forget all images."""
        self.sums = torch.zeros(len(self.classnames), self.captions.shape[1], dtype=torch.float64)
        self.counts = torch.zeros(len(self.classnames), dtype=torch.long)
        self._support: list[tuple[Tensor, Tensor]] = [(self.captions[:0], torch.empty(0, dtype=torch.long))]
        self._spans: list[tuple[Tensor, Tensor]] = []
        self._stale()
        return self

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from labelled images alone: class sums, S, then the weight.

        Args:
            X: images or embeddings; or, without ``y``, an iterable of (X, y) batches. y: (n,) class indices or names.
        """
        self.reset()
        if y is None:
            for part, labels in X:
                self.partial_fit(part, labels)
            return self
        x = self._embed(X)
        labels = self._labels(y, len(x))
        if self.options.support == "first_n":
            kept = first_of_each(labels, self.options.first_n)
            x, labels = x[kept], labels[kept]
        rounds = doubling_rounds(labels) if self.options.w_cls == "prequential" else [torch.arange(len(labels))]
        for part in rounds:
            self._add(x[part], labels[part])
        return self

    def partial_fit(self, X: Any, y: Any) -> Self:
        """Learn from one more batch. The order of batches does not matter but for ``w_cls="prequential"``."""
        if self.options.support == "first_n":
            raise UsageError('support="first_n" needs all images at once', hint='call fit, or use support="all"')
        x = self._embed(X)
        self._add(x, self._labels(y, len(x)))
        return self

    def _add(self, x: Tensor, y: Tensor) -> None:
        if self.options.w_cls == "prequential" and int((self.counts > 0).sum()) >= 2:
            o, own = self.options.selection, self.pool.own_lists
            self._spans.append(spans_before(x, y, self.captions, self.d, self.sums, self.counts, o, own, self.tie_order))
        sums, counts = class_sums(x, y, len(self.classnames))
        self.sums, self.counts = self.sums + sums, self.counts + counts
        if self.keep_support:
            self._support.append((x, y))
        self._stale()

    def forget(self, X: Any, y: Any) -> Self:
        """Take images out again that were learnt from. Raises: DataError: if one of them was not."""
        x = self._embed(X)
        y = self._labels(y, len(x))
        sums, counts = class_sums(x, y, len(self.classnames))
        short = (counts > self.counts).nonzero()
        if len(short):
            raise DataError(f"class {self.classnames[int(short[0])]!r} has fewer images than are to be forgotten")
        if self.keep_support:
            known, labels = self.support
            left = torch.ones(len(labels), dtype=torch.bool)
            for number in range(len(x)):
                same = left & (labels == y[number]) & ((known - x[number]).abs().amax(dim=1) < 1e-6)
                if not same.any():
                    raise DataError(f"image {number} to be forgotten was not learnt as {self.classnames[int(y[number])]!r}")
                left[int(same.nonzero()[0])] = False
            self._support = [(known[left], labels[left])]
        self.sums, self.counts = self.sums - sums, self.counts - counts
        self.sums[self.counts == 0] = 0  # also what rounding left
        self._stale()
        return self

    @property
    def support(self) -> tuple[Tensor, Tensor]:
        """(n, D) embeddings and (n,) classes of the images learnt from; empty if they are not kept."""
        if len(self._support) > 1:
            self._support = [(torch.cat([x for x, _ in self._support]), torch.cat([y for _, y in self._support]))]
        return self._support[0]

    def _stale(self) -> None:
        self._S: Tensor | None = None
        self._weight: Weight | None = None
        self._w: tuple[float, str] | None = None
        self._remembered.clear()

    @property
    def from_photos(self) -> bool:
        """False while no labelled image was seen: the captions then stand in for class means."""
        return bool((self.counts > 0).any())

    def _state(self) -> tuple[Tensor, Tensor]:
        """(C, D) sums and (C,) counts; our extension without support: each class is one image whose embedding is its caption."""
        if self.from_photos:
            return self.sums, self.counts
        return self.captions.double(), torch.ones_like(self.counts)

    @property
    def S(self) -> Tensor:
        """(C, P) similarity of classes and descriptions."""
        if self._S is None:
            sums, counts = self._state()
            S = similarity(sums / counts.clamp(min=1)[:, None], counts, self.d, self.options.row_norm)
            self._S = self.options.selection.tensor(S)
        return self._S

    @property
    def w(self) -> float:
        """The weight of the class name."""
        return self._chosen()[0]

    @property
    def w_origin(self) -> str:
        """Who chose the weight: "loo", "prequential", "given", "oracle", or "no support" (``w_text``)."""
        return self._chosen()[1]

    @property
    def weight(self) -> Weight | None:
        """Plateau and accuracy behind a chosen weight."""
        self._chosen()
        return self._weight

    def _chosen(self) -> tuple[float, str]:
        if self._w is None:
            self._w = self._choose()
        return self._w

    def _choose(self) -> tuple[float, str]:
        if self.options.conventional != "no":
            return 0.0, "conventional"
        given = self.options.w_cls
        if not isinstance(given, str):
            return float(given), "given"
        if given == "oracle":
            raise UsageError(
                'w_cls="oracle" is chosen on test labels, and none were seen', hint='call sweep(X, y, keep=True), or use w_cls="loo"'
            )
        if not self.from_photos:
            return self.options.w_text, "no support"
        if given == "prequential":
            if not self._spans:
                raise DataError("no batch came after two classes had images, so that no weight can be chosen", hint="fit more batches")
            curve = curve_of(*self.spans)
        else:
            curve = self._loo_curve()
        self._weight = choose(curve, self.options.w_max)
        return self._weight.w, given

    @property
    def spans(self) -> tuple[Tensor, Tensor]:
        """(n,) lowest and highest weight at which each image of a "prequential" fit was right before it was learnt."""
        empty = torch.empty(0, dtype=torch.float64)
        return torch.cat([empty, *(low for low, _ in self._spans)]), torch.cat([empty, *(high for _, high in self._spans)])

    def remembered_weight(self) -> dict[str, Any] | None:
        """The weight for ``save``; None where an oracle has not spoken yet."""
        if self.options.w_cls == "oracle" and self._w is None:
            return None
        return {"w": self.w, "origin": self.w_origin, "weight": None if self.weight is None else self.weight._asdict()}

    def restore(self, tensors: Mapping[str, Tensor], w: Mapping[str, Any] | None) -> None:
        """Take over the state that ``save`` wrote."""
        self.captions, self.d = tensors["captions"], tensors["descriptions"]
        self.sums, self.counts = tensors["sums"], tensors["counts"]
        self._support = [(tensors["support_x"], tensors["support_y"])]
        self._spans = [(tensors["low"], tensors["high"])] if len(tensors["low"]) else []
        self._stale()
        if w is not None:
            weight = w["weight"]
            self._w = (w["w"], w["origin"])
            self._weight = None if weight is None else Weight(**{**weight, "plateau": tuple(weight["plateau"])})

    def _loo_curve(self) -> Curve:
        if not self.keep_support:
            raise UsageError(
                'w_cls="loo" needs the support embeddings, and only their sums were kept', hint='use w_cls="prequential" or a number'
            )
        if int(self.counts[self.counts > 0].min()) < 2:
            name = self.classnames[int((self.counts == 1).nonzero()[0])]
            self._warn(f"class {name!r} has one support image: left out, its class has none")
        held_out = self.held_out()
        return accuracy_curve(held_out.A, held_out.B, positions(held_out.L, self.support[1]))

    def held_out(self) -> Scored:
        """Each support image scored by a selection that has not seen it."""
        x, y = self.support
        own, chosen = self.pool.own_lists, self.options.selection
        return leave_one_out(x, y, self.captions, self.d, options=chosen, own_lists=own, tie_order=self.tie_order)
