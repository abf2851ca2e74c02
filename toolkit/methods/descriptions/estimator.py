"""Class-name-free classification by selected descriptions as an estimator: fit, predict, explain, sweep, save.

Source: arXiv 2412.11917. Differs from it: the weight of the class name comes from exact leave-one-out and never from the test set,
classes may have different numbers of images, ties have an order, and without labelled images the captions stand in for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from toolkit.config import to_json
from toolkit.errors import UsageError
from toolkit.methods.descriptions.arms import Arm, arm, shuffled
from toolkit.methods.descriptions.learner import Learner
from toolkit.methods.descriptions.selection import Scored, candidate_scores, decide, unit_rows
from toolkit.methods.descriptions.weight import (
    Curve,
    Weight,
    accuracy_curve,
    choose,
    neighbours,
    positions,
)

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.methods.descriptions.explain import Explanation, Fitted
    from toolkit.models.base import DualEncoder

BLOCK = 8192  # images that are scored at once


class Sweep(NamedTuple):
    """Accuracy on labelled images at every weight. What it finds best is an oracle's choice: it has seen the labels.

    Attributes:
        label: "oracle". curve: the exact curve. weight: the best plateau.
        values: (weight, accuracy) pairs, if a grid was asked for.
        recall_at_k: the ceiling; floor: recall_at_k / k.
    """

    label: str
    curve: Curve
    weight: Weight
    values: tuple[tuple[float, float], ...]
    recall_at_k: float
    floor: float


class ClassnameFree(Learner):
    """The estimator.

    Images come as (N, D) embeddings (tensor or array, scaled to norm 1 on entry) or, with an encoder, as anything that is an image.

    Args:
        encoder: a DualEncoder, or None if all embeddings are given.
        classnames: C names, or {name: aliases}; pools and labels may use the aliases.
        pool: a JSON file, {class: [texts]}, a flat list of texts, a ``Pool``, or a (P, D) array of description embeddings.
        captions: (C, D) caption embeddings, instead of encoding ``caption_templates``.
        descriptions: (P, D) description embeddings, in the order of the pool, instead of encoding its texts.
        other_pool: its lists stand in for empty ones (``empty_list="other_pool"``).
        keep_support: False keeps sums and counts only: constant memory, and no leave-one-out.
        options: see ``Options``.
    Raises: UsageError, DataError: for options, names, texts and embeddings that do not fit together.
    """

    def score(self, X: Any) -> Scored:
        """Candidates and their caption and description scores; ``selected`` holds the sets seen so far."""
        x = self._embed(X)
        sums, counts = self._state()
        L = neighbours(x, self.captions, sums, counts, self.options.selection)
        index = self._remembered.find(L, self.S, counts, self.options.selection, self.pool.own_lists, self.tie_order)
        selected = self._remembered.selected
        A, B = candidate_scores(x, self.captions, self.d, L, index, selected, self.options.selection)
        scored = Scored(L, A, B, index, selected)
        return scored if self._named_texts is None else scored._replace(B=self._named_texts.scores(x, scored, self.options.conventional))

    def predict(self, X: Any) -> Tensor:
        """(N,) class indices."""
        return self._labels_of(self._embed(X))

    def _labels_of(self, x: Tensor) -> Tensor:
        parts = [self.score(part) for part in x.split(BLOCK)] if len(x) else []
        found = [part.L.gather(1, decide(part.L, part.A, part.B, self.w)[:, None])[:, 0] for part in parts]
        return torch.cat(found) if found else torch.empty(0, dtype=torch.long)

    def predict_stream(self, batches: Iterable[Any]) -> Iterator[Tensor]:
        """Class indices batch by batch, in constant memory; the same as ``predict`` of all of them."""
        for batch in batches:
            yield self.predict(batch)

    def decision_function(self, X: Any) -> Tensor:
        """(N, C) float64 scores ``w * A + B``, -inf for classes that are no candidates."""
        scored = self.score(X)
        scores = torch.full((len(scored.L), len(self.classnames)), -torch.inf, dtype=torch.float64)
        return scores.scatter_(1, scored.L, self.w * scored.A + scored.B)

    def predict_proba(self, X: Any) -> Tensor:
        """(N, C) float64: softmax over the candidates of the weighted mean cosine over the temperature. Not calibrated."""
        return self.probabilities(self.score(X))

    def probabilities(self, scored: Scored) -> Tensor:
        """``predict_proba`` of images that are scored already."""
        part = ((self.w * scored.A + scored.B) / (1.0 + self.w) / self.temperature).softmax(dim=-1)
        return torch.zeros(len(part), len(self.classnames), dtype=torch.float64).scatter_(1, scored.L, part)

    def fell_back(self, scored: Scored) -> Tensor:
        """(N, k) bool, in the order of ``scored.L``: the candidate has its fallback list."""
        places = torch.searchsorted(scored.selected.sets[scored.set_index], scored.L)
        return scored.selected.fallback[scored.set_index].gather(1, places)

    @property
    def temperature(self) -> float:
        """What probabilities divide by: the option, else the model's, else that of CLIP."""
        if self.options.temperature is not None:
            return self.options.temperature
        return 0.01 if self.encoder is None else 1.0 / self.encoder.logit_scale

    def sweep(self, X: Any, y: Any, grid: Sequence[float] | None = None, *, keep: bool = False) -> Sweep:
        """The exact accuracy at every weight on labelled images. Labelled "oracle": never a fair result.

        Args:
            grid: weights whose accuracies are wanted as well. keep: predict with the best weight from now on; ``w_origin`` says so.
        """
        scored = self.score(X)
        y = self._labels(y, len(scored.L))
        target = positions(scored.L, y)
        curve = accuracy_curve(scored.A, scored.B, target)
        weight = choose(curve, self.options.w_max)
        points = [] if grid is None else [float(w) for w in grid]
        values = tuple(zip(points, curve.at(torch.tensor(points)).tolist(), strict=True)) if points else ()
        if keep:
            self._w, self._weight = (weight.w, "oracle"), weight
        recall = float((target >= 0).double().mean())
        return Sweep("oracle", curve, weight, values, recall, recall / scored.L.shape[1])

    def report(self, scored: Scored) -> dict[str, Any]:
        """JSON facts about a fit and some scored images: weight, origin, and how often lists were short or fell back."""
        found, fell = scored.selected.found[scored.set_index], scored.selected.fallback[scored.set_index]
        short = (found < self.options.m) & ~fell & (scored.L.shape[1] > 1)
        shares = {"fallback": float(fell.double().mean()), "short": float(short.double().mean())}
        weight = None if self.weight is None else self.weight._asdict()
        facts = {"w": self.w, "w_origin": self.w_origin, "weight": weight, "shares": shares, "from_photos": self.from_photos}
        return dict(to_json(facts | {"options": self.options, "pool": self.pool.fingerprint(), "warnings": self.warnings}))

    def fitted(self) -> Fitted:
        """What ``explain`` works on."""
        from toolkit.methods.descriptions.explain import Fitted

        if self._named_texts is not None:
            raise UsageError("explanations take name and descriptions apart, and here every text holds both", hint='use conventional="no"')
        own, chosen = self.pool.own_lists, self.options.selection
        return Fitted(
            self.classnames, self.pool.texts, self.captions, self.d, self.S, self._state()[1], own, chosen,
            self.w, self.w_origin, self.tie_order, self.from_photos,
        )  # fmt: skip

    def explain(self, image: Any, **more: Any) -> Explanation:
        """Why one image gets its class; see ``explain.explain``."""
        from toolkit.methods.descriptions.explain import explain, flagged

        x = image if isinstance(image, Tensor) and image.ndim == 1 else self._embed([image])[0]
        x = unit_rows(x[None].float(), "image")[0]
        sums, counts = self._state()
        candidates = neighbours(x[None].to(self.captions.dtype), self.captions, sums, counts, self.options.selection)[0]
        return explain(flagged(self.fitted(), self.lint()), x, candidates=candidates, **more)

    def lint(self) -> Any:
        """What is wrong with the pool; see ``linter.lint``."""
        from toolkit.methods.descriptions.linter import lint

        return lint(list(self.pool.texts) if self.pool.flat else self.pool.by_class(), self.classnames)

    def audit(self, X: Any, y: Any, **more: Any) -> Any:
        """Whether the gain on labelled test images comes from meaning; see ``audit.audit_estimator``."""
        from toolkit.methods.descriptions.audit import audit_estimator

        x = self._embed(X)
        return audit_estimator(self, x, self._labels(y, len(x)), **more)

    def save(self, path: str | Path) -> Path:
        """Write everything to one file of tensors and JSON, nothing executable."""
        from toolkit.methods.descriptions.saved import write_estimator

        return write_estimator(self, path)

    @classmethod
    def load(cls, path: str | Path, encoder: DualEncoder | None = None, *, force: bool = False) -> ClassnameFree:
        """Read what ``save`` wrote. Raises: UsageError: if it belongs to another encoder and ``force`` is not set."""
        from toolkit.methods.descriptions.saved import read_estimator

        return read_estimator(cls, path, encoder, force)


__all__ = ["Arm", "ClassnameFree", "Sweep", "arm", "shuffled"]
