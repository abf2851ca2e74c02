"""The explanations that go with a run: how often single texts decide over all photos, and the most instructive photos in detail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from toolkit.errors import UsageError
from toolkit.methods.descriptions.controls import generator, random_characters
from toolkit.methods.descriptions.explain import explain, flagged
from toolkit.methods.descriptions.explain_text import sentence
from toolkit.methods.descriptions.explanation import Explanation
from toolkit.methods.descriptions.faithfulness import KINDS, flip_rates, instructive, rates_json
from toolkit.methods.descriptions.selection import unit_rows
from toolkit.types import JSON, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.methods.descriptions.estimator import ClassnameFree

MOST = 20
CANDIDATES, TEXTS, FLIPPING = 5, 8, 10  # of each explanation that are kept for a report


def explain_run(model: ClassnameFree, samples: Sequence[Sample], *, batch_size: int = 32, seed: int = 0, most: int = MOST) -> JSON:
    """Explain a fitted estimator's answers to samples. Samples whose images cannot be read are left out.

    Returns: JSON with ``w``, ``w_origin``, ``rates`` (see ``FlipRates``) and ``samples``, at most ``most`` of
        {"id", "kind", "kind_title", "sentence", "told"}, where "told" is the explanation without its longest tails.
    Raises: UsageError: if the estimator has no encoder.
    """
    if model.encoder is None:
        raise UsageError("explaining samples needs the encoder", hint="explain embeddings one by one with explain(x)")
    x, kept = _embedded(model, samples, batch_size)
    facts: dict[str, Any] = {
        "schema": 1,
        "n": len(kept),
        "w": model.w,
        "w_origin": model.w_origin,
        "k": model.options.k,
        "m": model.options.m,
    }
    facts["from_photos"] = model.from_photos
    if not kept:
        return facts | {"rates": None, "samples": []}
    scored = model.score(x)
    fitted = flagged(model.fitted(), model.lint())
    labels = torch.tensor([-1 if sample.label is None else sample.label for sample in kept])
    known = labels if bool((labels >= 0).all()) else None
    strings = model.encoder.encode_texts(random_characters(list(fitted.texts), generator(seed)))
    rates = flip_rates(fitted, x, scored, labels=known, strings=unit_rows(strings), seed=seed)
    shown = []
    for position, kind in instructive(fitted, x, scored, known, most=most):
        told = explain(fitted, x[position], candidates=scored.L[position], sample=kept[position].id, truth=kept[position].label)
        entry = {"id": kept[position].id, "kind": kind, "kind_title": KINDS[kind], "sentence": sentence(told)}
        shown.append(entry | {"told": shortened(told).to_json()})
    return facts | {"rates": rates_json(rates), "samples": shown}


def shortened(told: Explanation) -> Explanation:
    """The explanation without far rivals and long tails of lists, for files that hold many."""
    rows = tuple(replace(row, texts=row.texts[:TEXTS]) for row in told.candidates[:CANDIDATES])
    return replace(told, candidates=rows, flipping=told.flipping[:FLIPPING])


def _embedded(model: ClassnameFree, samples: Sequence[Sample], batch_size: int) -> tuple[Tensor, list[Sample]]:
    """(N, D) unit rows of the samples whose images can be read, and these samples."""
    assert model.encoder is not None
    asked = [sample for sample in samples if sample.image is not None]
    rows: dict[int, Tensor] = {}
    for batch in model.encoder.iter_images([sample.image for sample in asked], batch_size=batch_size):
        rows.update(zip(batch.indices, batch.embeddings, strict=True))
    order = sorted(rows)
    x = torch.stack([rows[index] for index in order]) if order else model.captions[:0]
    return model.options.selection.tensor(unit_rows(x)), [asked[index] for index in order]
