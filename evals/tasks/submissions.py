"""The files in which answers are handed in where reference answers are not public: one format a set, as its server wants it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from evals.metrics.vqa import SCORERS
from evals.records import SampleRecord, read_run
from toolkit.errors import DataError, UsageError, unknown_name
from toolkit.files import atomic_write_json
from toolkit.types import JSON

SUBMISSION = "submission.json"

Row = Callable[[str, str], dict[str, JSON]]


def _numbered(id_field: str, answer_field: str) -> Row:
    def row(sample_id: str, answer: str) -> dict[str, JSON]:
        try:
            return {id_field: int(sample_id), answer_field: answer}
        except ValueError as error:
            raise DataError(f"question {sample_id!r} cannot be handed in: its id is not a number") from error

    return row


FORMATS: dict[str, tuple[Row, str | None]] = {
    "vqav2": (_numbered("question_id", "answer"), "vqa_normalised"),
    "okvqa": (_numbered("question_id", "answer"), "vqa_evalai"),
    "gqa": (lambda sample_id, answer: {"questionId": sample_id, "prediction": answer}, "gqa_llava"),
    "vizwiz": (lambda sample_id, answer: {"image": sample_id, "answer": answer}, "vqa_evalai"),
    "textvqa": (_numbered("question_id", "answer"), "vqa_evalai"),
    "docvqa": (_numbered("questionId", "answer"), None),
}
"""Name -> (row of the file, scorer whose normalisation is usual before uploading)."""


def submission_rows(name: str, records: Sequence[SampleRecord], *, normalise: bool = False) -> list[JSON]:
    """The rows of a submission.

    Args:
        normalise: hand in answers as the usual scorer of the set reads them. Servers that compare without normalising where all people
            agree are harsh on "Yes."; LLaVA and lmms-eval normalise before uploading.
    Raises: UsageError: for an unknown format. DataError: if an answer is missing: a failure is not an empty answer.
    """
    if name not in FORMATS:
        raise unknown_name("submission format", name, FORMATS)
    row, scorer = FORMATS[name]
    missing = [record.id for record in records if record.prediction is None]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(records)} questions have no answer, the first is {missing[0]!r}",
            hint="run the same command again: it asks the failed ones anew",
        )
    change = SCORERS[scorer].normalise if normalise and scorer else None
    answers = [(record.id, str((record.prediction or {}).get("answer", ""))) for record in records]
    return [row(sample_id, change(answer) if change else answer) for sample_id, answer in answers]


def write_submission(run: str | Path, out: str | Path | None = None, *, normalise: bool = False, form: str | None = None) -> Path:
    """Write the submission of a finished run, from its folder alone.

    Args:
        out: the file; None writes submission.json into the run folder. normalise: see ``submission_rows``.
        form: name of the format; None takes the one of the run's data.
    Raises: DataNotFound, DataError: as ``read_run``, and if an answer is missing. UsageError: if the run's data have no such format.
    """
    found = read_run(run)
    form = form or found.manifest.get("submission")
    if not form:
        raise UsageError(f"{run} is of data that nobody hands in answers for", hint=f"formats: {', '.join(FORMATS)}")
    if found.results is None:
        raise DataError(f"{run} is not finished", hint="run the same command again")
    wanted = found.manifest.get("questions")
    if wanted is not None and len(found.samples) < int(wanted):
        raise DataError(f"{run} has {len(found.samples)} of {wanted} questions, and servers want all of them", hint="run without --limit")
    rows = submission_rows(str(form), found.samples, normalise=normalise)
    return atomic_write_json(Path(run) / SUBMISSION if out is None else out, rows)
