"""Paired comparison of two runs; here those of classification."""

from __future__ import annotations

from collections.abc import Sequence

from evals.records import Run, SampleRecord, pair
from toolkit.stats import mcnemar_exact, paired_bootstrap, wilson
from toolkit.types import JSON


def right(record: SampleRecord) -> bool:
    """Whether the first answer of an answered record is its label."""
    return record.prediction is not None and record.prediction.get("label") == record.label


def compare(a: Run, b: Run, *, seed: int = 0) -> dict[str, JSON]:
    """See ``evals.records.compare_runs``; runs of answers in words are compared by ``evals.answer_comparison``."""
    if a.manifest.get("family") == "vqa":
        from evals.answer_comparison import compare_answers

        return compare_answers(a, b, seed=seed)
    pairs = pair(a, b)
    outcomes = [(right(mine), right(other)) for mine, other in pairs]
    n = len(pairs)
    both, only_a, only_b, neither = (outcomes.count(case) for case in ((True, True), (True, False), (False, True), (False, False)))
    difference = paired_bootstrap(only_b, only_a, n, seed=seed)
    return {
        "schema": 1,
        "task": a.manifest["task"],
        "a": describe_run(a),
        "b": describe_run(b),
        "n": n,
        "both_right": both,
        "only_a": only_a,
        "only_b": only_b,
        "both_wrong": neither,
        "top1": {"a": _share(both + only_a, n), "b": _share(both + only_b, n)},
        "difference": {"value": difference.value, "ci95": list(difference.ci)},
        "mcnemar_p": mcnemar_exact(only_a, only_b),
        "per_class": _per_class([record.label for record, _ in pairs], outcomes, a.classnames),
        "notes": _notes(a, b, n),
    }


def describe_run(run: Run) -> dict[str, JSON]:
    """Who a run is, in a comparison."""
    method = run.manifest.get("method")
    return {
        "path": str(run.path),
        "model": run.manifest.get("model"),
        "method": method,
        "n": len(run.samples),
        "n_answered": len(run.answered),
    }


def _share(count: int, n: int) -> dict[str, JSON]:
    return {"value": count / n, "ci95": list(wilson(count, n)), "n": n}


def _per_class(labels: Sequence[int | None], outcomes: Sequence[tuple[bool, bool]], names: Sequence[str]) -> list[JSON]:
    rows: dict[int, list[int]] = {}
    for label, (a_right, b_right) in zip(labels, outcomes, strict=True):
        if label is not None:
            row = rows.setdefault(label, [0, 0, 0, 0, 0])
            for place, hit in enumerate((True, a_right, b_right, a_right and not b_right, b_right and not a_right)):
                row[place] += hit
    return [
        {
            "label": label,
            "class": names[label] if label < len(names) else str(label),
            "n": n,
            "recall_a": a_right / n,
            "recall_b": b_right / n,
            "difference": (b_right - a_right) / n,
            "only_a": only_a,
            "only_b": only_b,
        }
        for label, (n, a_right, b_right, only_a, only_b) in sorted(rows.items())
    ]


def missing_notes(a: Run, b: Run, n: int) -> list[str]:
    """Sentences on samples that are not compared: without an answer, or not yet asked."""
    notes = []
    if len(a.answered) != len(b.answered) or n < len(a.answered):
        notes.append(f"A answered {len(a.answered)} samples and B {len(b.answered)}; the comparison uses the {n} that both answered.")
    for letter, run in (("A", a), ("B", b)):
        if run.manifest.get("status") != "finished":
            notes.append(f"Run {letter} is not finished (status {run.manifest.get('status')}).")
    return notes


def _notes(a: Run, b: Run, n: int) -> list[str]:
    notes = missing_notes(a, b, n)
    if a.classnames != b.classnames:
        notes.append("The runs name the classes differently; labels are compared by index.")
    return notes
