"""What a masking study and attention profiles say about the layers of a model. Pure: scores and distances in, layers out.

Source of the study and of the distances: arXiv 2601.08151. The rules that turn them into layers, and their thresholds, are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolkit.stats import clustered_bootstrap, holm, sign_flip_test
from toolkit.types import JSON

__all__ = ["Chosen", "Rules", "choose", "drops", "parts", "profile"]

VARIANTS = {
    "block_at": "no text token may attend to image tokens in this layer alone",
    "block_from": "no text token may attend to image tokens in this and all later layers",
    "zero_from": "image tokens are set to zero at the input of this layer, which lasts",
}
"""The three masking studies. Layers are chosen by the first one; it says what one layer alone contributes."""


@dataclass(frozen=True)
class Rules:
    """The thresholds of the choice; all of them are in the calibration file.

    Attributes:
        level: of significance, after Holm's correction over all layers of a variant.
        early: share of the depth, from the input, in which fusion layers C are looked for.
        review: share of the depth, at the output, in which the review layer r is looked for.
        late: share of the depth, at the output, in which the layer k is looked for.
        min_candidates: with fewer layers in C the study is inconclusive.
    """

    level: float = 0.05
    early: float = 0.6
    review: float = 0.25
    late: float = 1 / 3
    min_candidates: int = 1

    def to_json(self) -> dict[str, JSON]:
        test = "one-sided sign-flip test of the paired drop over images, Holm over the layers of a variant"
        return {**{name: round(value, 6) for name, value in asdict(self).items()}, "variant": "block_at", "test": test}


class Chosen(NamedTuple):
    """The layers, from 0. ``status`` is "ok" or "inconclusive"; ``reasons`` are sentences for people."""

    candidates: tuple[int, ...]
    late: int | None
    review: int | None
    status: str
    reasons: tuple[str, ...]


def parts(n_layers: int, rules: Rules) -> tuple[range, range, range]:
    """The layers that lie in the early part, in the late part and in the review part.

    The early part and the review part are rounded down and the late part up: before every review layer there is then a late one.

    >>> parts(32, Rules())
    (range(0, 19), range(21, 32), range(24, 32))
    >>> parts(6, Rules())
    (range(0, 3), range(4, 6), range(5, 6))
    """
    early = math.floor(n_layers * rules.early + 1e-9)
    late = math.ceil(n_layers * rules.late - 1e-9)
    review = math.floor(n_layers * rules.review + 1e-9)
    return range(early), range(n_layers - late, n_layers), range(n_layers - review, n_layers)


def drops(
    base: Mapping[str, float], masked: Mapping[int, Mapping[str, float]], images: Mapping[str, str], *, seed: int = 0
) -> list[dict[str, JSON]]:
    """What masking each layer costs: one JSON row a layer, with all that the rules and a figure need.

    Args:
        base: sample -> score of the unmasked model. masked: layer -> the same with that layer masked; only samples in both count.
        images: sample -> the image that it is about; samples about one image are not independent.
    Returns: rows with ``layer``, ``score``, ``drop`` (base minus masked), ``ci95``, ``p`` (one-sided, for a drop), ``p_holm``, ``n``.
    """
    rows: list[dict[str, JSON]] = []
    for layer in sorted(masked):
        names = [name for name in base if name in masked[layer]]
        row: dict[str, JSON] = {"layer": layer, "n": len(names), "score": None, "drop": None, "ci95": None, "p": 1.0}
        if names:
            scores = np.array([masked[layer][name] for name in names])
            gaps = np.array([base[name] for name in names]) - scores
            clusters = [images[name] for name in names]
            found = clustered_bootstrap(gaps, clusters, seed=seed)
            row["score"], row["drop"] = _digits(float(scores.mean())), _digits(found.value)
            row["ci95"] = [_digits(bound) for bound in found.ci]
            row["p"] = _digits(sign_flip_test(gaps, clusters, seed=seed))
        rows.append(row)
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = _digits(p)
    return rows


def profile(values: NDArray[np.float64]) -> dict[str, JSON]:
    """Mean and quartiles of distances over samples: (S,) numbers.

    >>> profile(np.array([0.1, 0.2, 0.3]))
    {'mean': 0.2, 'q25': 0.15, 'median': 0.2, 'q75': 0.25}
    """
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"mean": _digits(float(values.mean())), "q25": _digits(low), "median": _digits(middle), "q75": _digits(high)}


def choose(rows: Sequence[Mapping[str, JSON]], neighbours: Sequence[float], rules: Rules | None = None) -> Chosen:
    """C, k and r of a model.

    C: early layers with a significant drop. r: the review layer with the largest significant drop, None without one. k: of the late
    layers before r, or of all if there is no r, the one with the smallest H(P(k-1), P(k)). Of equal ones the smallest.

    Args:
        rows: of ``drops`` of the variant block_at, one for every layer.
        neighbours: (n - 1) mean H(P(i), P(i+1)).
    """
    rules = rules or Rules()
    early, late, review = parts(len(rows), rules)
    certain = {row["layer"]: row["drop"] for row in rows if row["drop"] is not None and row["drop"] > 0 and row["p_holm"] < rules.level}
    candidates = tuple(layer for layer in early if layer in certain)
    found = [layer for layer in review if layer in certain]
    r = min(found, key=lambda layer: (-certain[layer], layer), default=None)
    before = [layer for layer in late if layer >= 1 and (r is None or layer < r)]
    k = min(before, key=lambda layer: (neighbours[layer - 1], layer), default=None)
    reasons = []
    if len(candidates) < rules.min_candidates:
        reasons.append(
            f"{len(candidates)} of the first {len(early)} layers cost a significant part of the score when blocked, "
            f"and at least {rules.min_candidates} must"
        )
    if k is None:
        reasons.append(f"a model of {len(rows)} layers has no late layer to compare with")
    status = "inconclusive" if reasons else "ok"
    if r is None:
        reasons.append(f"no review layer: none of the last {len(review)} costs a significant part of the score when blocked")
    return Chosen(candidates, k, r, status, tuple(reasons))


def _digits(value: float) -> float:
    return float(f"{value:.7g}")
