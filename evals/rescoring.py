"""Scoring the stored answers of a finished run again, with the same or with other scorers: no model, no data set, nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evals.metrics.vqa import Scorer, get_scorer
from evals.records import Run, SampleRecord, build_results
from evals.tasks.vqa import details, find_scorers, summarise
from toolkit.errors import DataError, UsageError
from toolkit.types import JSON

SAME = 1e-9  # stored scores went through JSON, which keeps every digit


def rescore_answers(run: Run, scorers: Sequence[str] | None = None) -> dict[str, JSON]:
    """The results of a run of questions and answers, from its records alone.

    Args:
        scorers: ``name`` or ``name@version``, the primary one first; None takes those of the run.
    Raises: UsageError: for an unknown scorer, or if the run has no reference answers. DataError: if a scorer does not fit the reference
        answers, or a stored score is not what its scorer gives: the folder was changed, or a scorer without a new version.
    """
    rules = stored_scorers(run) if scorers is None else find_scorers(scorers)
    if not rules or not all((record.meta or {}).get("answers") for record in run.samples):
        raise UsageError(f"{run.path} has no reference answers to score against", hint="its split is scored by the server of the data set")
    records = rescored(run, rules)
    breakdowns = [str(kind) for kind in run.manifest.get("breakdowns") or ()]
    seconds = float(run.manifest.get("seconds") or 0.0)
    return build_results(run.manifest, records, summarise(records, rules), seconds, details(records, rules, breakdowns))


def stored_scorers(run: Run) -> tuple[Scorer, ...]:
    """The scorers of a run in the versions that it names. Raises: DataError: if this version of the project does not know one of them."""
    try:
        return tuple(get_scorer(name, version) for name, version in (run.manifest.get("scorers") or {}).items())
    except ValueError as error:
        raise DataError(f"{run.path}: {error}", hint="use the version of the project that wrote it, or choose scorers") from error


def rescored(run: Run, rules: Sequence[Scorer]) -> list[SampleRecord]:
    """The records of a run with the scores of these scorers. Raises: DataError: see ``rescore_answers``."""
    stored = run.manifest.get("scorers") or {}
    records = []
    for record in run.samples:
        if record.prediction is None:
            records.append(record)
            continue
        try:
            scores = {rule.name: rule(record.prediction["answer"], (record.meta or {})["answers"]) for rule in rules}
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{run.path}, question {record.id}: {error}", hint="choose other scorers") from error
        for rule in rules:
            known = (record.scores or {}).get(rule.name)
            if stored.get(rule.name) == rule.version and known is not None and abs(known - scores[rule.name]) > SAME:
                raise DataError(
                    f"{run.path}, question {record.id}: {rule.full_name} gives {scores[rule.name]:g} and {known:g} is stored",
                    hint="the run folder was changed after it was written; evaluate again with --no-resume",
                )
        records.append(replace(record, scores=scores))
    return records
