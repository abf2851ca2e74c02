"""Which classes a finished run confuses: whom descriptions should tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evals.metrics.classification import confusion_matrix
from evals.records import read_run
from toolkit.errors import DataError, UsageError


def confused_names(folder: str | Path, count: int, wanted: Sequence[str] | None = None) -> dict[str, list[str]]:
    """Class name -> the ``count`` others that its images are most often taken for, or that are taken for it.

    Of equally often confused ones the earlier class comes first; classes that are never confused follow in label order.
    Args:
        wanted: the classes that the run must have been about, in any order.
    Raises: DataNotFound: if ``folder`` is not a run. DataError: if it has no answers of a classification. UsageError: if it is of other
        classes.
    """
    run = read_run(folder)
    names = list(run.manifest.get("classnames") or ())
    answered = [record for record in run.samples if record.prediction is not None]
    if not names or not answered:
        raise DataError(f"{folder} holds no answers of a classification run")
    if wanted is not None and set(wanted) != set(names):
        raise UsageError(f"{folder} is of other classes", hint="its classes: " + ", ".join(names[:5]))
    labels = np.array([record.label for record in answered])
    predictions = np.array([(record.prediction or {})["label"] for record in answered])
    matrix = confusion_matrix(labels, predictions, len(names))
    both = matrix + matrix.T
    np.fill_diagonal(both, -1)
    order = np.argsort(-both, axis=1, kind="stable")
    return {name: [names[j] for j in order[i] if j != i][:count] for i, name in enumerate(names)}
