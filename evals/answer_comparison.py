"""Paired comparison of two runs of answers in words: every scorer, every type of question, what was repaired and what was broken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from evals.records import Run, SampleRecord, metric_to_json, pair
from toolkit.errors import UsageError
from toolkit.stats import clustered_bootstrap, holm, mcnemar_exact, mean_ci
from toolkit.types import JSON, Metric

RIGHT = 0.5  # a score from here on counts as right where right and wrong are counted; graded scores have no other border
FEWEST = 5  # questions of a type; below this an interval says nothing


class Pairs(NamedTuple):
    """The scores of both runs on the questions that both answered, and which image each question is about."""

    records: list[tuple[SampleRecord, SampleRecord]]
    images: Sequence[str]

    def scores(self, scorer: str, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """(n,) scores of the first and of the second run."""
        both = [tuple((record.scores or {})[scorer] for record in self.records[row]) for row in rows]
        table = np.array(both, dtype=np.float64).reshape(-1, 2)
        return table[:, 0], table[:, 1]


def compare_answers(a: Run, b: Run, *, seed: int = 0) -> dict[str, JSON]:
    """Paired comparison of two finished runs; ``b`` minus ``a``.

    Returns: JSON with ``a``, ``b`` (who they are), ``n`` questions about ``images`` images, ``primary`` (the scorer that counts),
        ``scorers`` (name -> version, score of each run, difference with its interval, ``repaired``, ``broken``, exact McNemar p),
        ``breakdown`` (type -> value -> the same for the primary scorer, with ``mcnemar_p_holm``: of many types some differ by chance),
        ``changed`` (answers that read differently) and ``notes``.
        ``difference``, ``repaired``, ``broken`` and ``mcnemar_p`` are those of the primary scorer.
    Raises: UsageError: if the runs share no scorer; and what ``evals.records.pair`` raises.
    """
    from evals.comparison import describe_run

    records = pair(a, b)
    pairs = Pairs(records, [record.image or record.id for record, _ in records])
    versions = _shared_scorers(a, b)
    primary = a.manifest.get("primary")
    primary = primary if primary in versions else next(iter(versions))
    everything = range(len(records))
    scorers = {name: {"version": versions[name], **_compare(pairs, name, everything, seed)} for name in versions}
    return {
        "schema": 1,
        "family": "vqa",
        "task": a.manifest["task"],
        "a": describe_run(a),
        "b": describe_run(b),
        "n": len(records),
        "images": len(set(pairs.images)),
        "primary": primary,
        "scorers": scorers,
        **{name: scorers[primary][name] for name in ("difference", "repaired", "broken", "mcnemar_p")},
        "changed": sum((one.prediction or {}).get("answer") != (other.prediction or {}).get("answer") for one, other in records),
        "breakdown": _breakdown(a, pairs, primary, seed),
        "notes": _notes(a, b, pairs, versions),
    }


def right(record: SampleRecord, scorer: str) -> bool:
    """Whether an answer counts as right where right and wrong are counted."""
    return (record.scores or {}).get(scorer, 0.0) >= RIGHT


def _shared_scorers(a: Run, b: Run) -> dict[str, int]:
    """name -> version of the scorers that gave both runs their scores, in the order of ``a``."""
    mine, other = (dict(run.manifest.get("scorers") or {}) for run in (a, b))
    shared = {name: version for name, version in mine.items() if other.get(name) == version}
    if not shared:
        has = [", ".join(f"{name}@{version}" for name, version in one.items()) or "no scorer" for one in (mine, other)]
        raise UsageError(
            f"{a.path} and {b.path} share no scorer: {has[0]} and {has[1]}",
            hint="evaluate both with the same scorers; a split without public answers has none",
        )
    return shared


def _compare(pairs: Pairs, scorer: str, rows: Sequence[int], seed: int) -> dict[str, JSON]:
    first, second = pairs.scores(scorer, rows)
    images = [pairs.images[row] for row in rows]
    found = clustered_bootstrap(second - first, images, seed=seed) if len(rows) >= FEWEST else None
    was, now = first >= RIGHT, second >= RIGHT
    repaired, broken = int((~was & now).sum()), int((was & ~now).sum())
    return {
        "n": len(rows),
        "a": metric_to_json(Metric(float(first.mean()), mean_ci(first, images), len(rows))),
        "b": metric_to_json(Metric(float(second.mean()), mean_ci(second, images), len(rows))),
        "difference": {"value": float((second - first).mean()), "ci95": None if found is None else list(found.ci)},
        "repaired": repaired,
        "broken": broken,
        "mcnemar_p": mcnemar_exact(broken, repaired),
    }


def _breakdown(a: Run, pairs: Pairs, scorer: str, seed: int) -> dict[str, JSON]:
    found: dict[str, JSON] = {}
    for kind in a.manifest.get("breakdowns") or ():
        groups: dict[str, list[int]] = {}
        for row, (record, _) in enumerate(pairs.records):
            for value in _types(record.meta or {}, kind):
                groups.setdefault(value, []).append(row)
        order = sorted(groups, key=lambda value: (-len(groups[value]), value))
        if order:
            rows = [_compare(pairs, scorer, groups[value], seed) for value in order]
            adjusted = holm([row["mcnemar_p"] for row in rows])
            found[kind] = {value: row | {"mcnemar_p_holm": p} for value, row, p in zip(order, rows, adjusted, strict=True)}
    return found


def _types(meta: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    value = meta.get(kind)
    if value is None:
        return ()
    return tuple(dict.fromkeys(map(str, value))) if isinstance(value, list) else (str(value),)


def _notes(a: Run, b: Run, pairs: Pairs, versions: Mapping[str, int]) -> list[str]:
    from evals.comparison import missing_notes

    notes = list(missing_notes(a, b, len(pairs.records)))
    images = len(set(pairs.images))
    if images < len(pairs.records):
        notes.append(
            f"The {len(pairs.records)} questions are about {images} images: intervals resample images, and McNemar's test takes questions "
            "as independent, so that its p is too small where answers about one image agree."
        )
    notes += list(_differences(a, b))
    dropped = [name for run in (a, b) for name in run.manifest.get("scorers") or {} if name not in versions]
    if dropped:
        notes.append(f"Not compared, because only one run has them in this version: {', '.join(dict.fromkeys(dropped))}.")
    return notes


def _differences(a: Run, b: Run) -> Iterator[str]:
    """What else differs, and so can be the cause: a comparison of methods should differ in the method alone."""
    for key, what in (("prompt", "prompts"), ("generation", "settings of generation"), ("model", "models")):
        mine, other = a.manifest.get(key), b.manifest.get(key)
        if mine != other and key != "model":
            yield f"The {what} differ, so that the difference is not that of model and method alone."
        elif mine != other and a.manifest.get("method") != b.manifest.get("method"):
            yield "Both models and methods differ."
