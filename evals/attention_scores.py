"""Attention against the truth: how much of a run's attention maps lies on the pixels that show the answer. No model is loaded.

Needs decisions with maps (``-o keep_maps=true`` or ``mode=maps`` of contrastive attention) and questions that know their pixels, which
only rendered scenes do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evals.metrics.pointing import Pointing
from evals.records import SampleRecord, metric_to_json, read_run
from toolkit.regions import WHOLE, HeatGrid, merge_grids
from toolkit.stats import mean_ci, wilson
from toolkit.types import JSON, Metric

MAPS = ("early", "late", "contrast")
NAMES = {
    "vicrop": {"early": "Any question", "late": "This question", "contrast": "Ratio of both"},
    "": {"early": "Early layer", "late": "Late layer", "contrast": "Contrast of both"},
}
"""method -> map -> what it is to people; most methods have those of contrastive attention."""
SIZE = 96  # pixels of the side at which masks are drawn; cells and pixels are compared by area, so that the size hardly matters


class Pointed(NamedTuple):
    """One question's maps against the pixels that show its answer: map name -> score."""

    id: str
    maps: Mapping[str, Pointing]


def heat_of(decision: Mapping[str, Any], name: str) -> np.ndarray | None:
    """(rows, columns) not negative: one map of a decision over the first image, all views added up; None where it has none.

    Of a signed contrast only the gain counts: where attention fell, the method does not look.
    """
    views = [view for view in decision.get("maps") or () if view.get("image", 0) == 0]
    if not views or not all(view.get("grid") for view in views):
        return None
    grids = []
    for view in views:
        left, top, right, bottom = view.get("box") or WHOLE
        values = np.asarray(view[name], dtype=np.float64).reshape(tuple(view["grid"])).clip(min=0.0)
        grids.append(HeatGrid(values, (left, top, right, bottom)))
    heat = merge_grids(grids)
    return heat if heat.any() else None


def point_at(record: SampleRecord) -> Pointed | None:
    """The score of every map of one record, or None without maps or without known pixels."""
    decision = (record.prediction or {}).get("decision") or {}
    evidence = (record.meta or {}).get("evidence")
    if not decision.get("maps") or not evidence:
        return None
    from evals.tasks.bazaar_vqa import pointing

    heats = {name: heat for name in MAPS if (heat := heat_of(decision, name)) is not None}
    found = {name: score for name, heat in heats.items() if (score := pointing(evidence, heat.tolist(), size=SIZE)) is not None}
    return Pointed(record.id, found) if found else None


def map_names(method: str) -> Mapping[str, str]:
    """What the maps of a method are called."""
    return NAMES.get(method, NAMES[""])


def attention_lines(folder: Path) -> list[str]:
    """One line on the maps of a run against the truth, or none."""
    run = read_run(folder)
    found = attention_scores(run.samples)
    if found is None:
        return []
    method = str((run.manifest.get("method") or {}).get("name"))
    names, maps = map_names(method), found["maps"]
    shares = ", ".join(f"{names[name].lower()} {100 * each['share']['value']:.1f} %" for name, each in maps.items())
    even = 100 * next(iter(maps.values()))["uniform"]
    return [f"{method}: attention on the pixels that show the answer, {found['n']} questions: {shares} (an even map: {even:.1f} %)"]


def attention_scores(records: Iterable[SampleRecord]) -> dict[str, JSON] | None:
    """How well the maps of a run point at the pixels that show the answers; None where no record can be scored.

    Returns: JSON with ``n`` and for each map ``share`` (of its weight on the right pixels) and ``hit`` (pointing game), each with interval
        and with ``uniform`` or ``chance``, what a map that knows nothing would get on the same questions.
    """
    found = [pointed for record in records if (pointed := point_at(record)) is not None]
    if not found:
        return None
    maps: dict[str, JSON] = {}
    for name in MAPS:
        scores = [pointed.maps[name] for pointed in found if name in pointed.maps]
        if not scores:
            continue
        shares, hits = [score.share for score in scores], [score.hit for score in scores]
        n = len(scores)
        binary = all(hit in (0.0, 1.0) for hit in hits)
        hit = Metric(float(np.mean(hits)), wilson(round(sum(hits)), n) if binary else mean_ci(hits), n)
        maps[name] = {
            "share": metric_to_json(Metric(float(np.mean(shares)), mean_ci(shares), n)),
            "uniform": float(np.mean([score.area for score in scores])),
            "hit": metric_to_json(hit),
            "chance": float(np.mean([score.chance for score in scores])),
        }
    return {"n": len(found), "maps": maps}
