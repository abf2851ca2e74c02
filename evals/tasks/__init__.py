"""Tasks by name: ``folder:DIR``, ``parquet:FILE``, ``hf:NAME@REVISION``, ``bazaar/...`` and the named public sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.records import SampleRecord
from evals.tasks.classify import DEFAULT_TEMPLATES, ClassifyTask, summarise
from evals.tasks.labels import Names
from toolkit.errors import DataError, unknown_name
from toolkit.types import Metric


def list_tasks() -> list[str]:
    """All task names; those that end in ``:`` take a place."""
    return ["folder:"]


def get_task(
    name: str, *, data: str | Path | None = None, classnames: Names | None = None, templates: Sequence[str] | None = None, **options: Any
) -> ClassifyTask:
    """The task of that name.

    Args:
        data: local copy of a named set.
        classnames: list (label order), mapping from the data's name to ours, or a file of either.
        templates: prompts with one ``{}`` instead of the task's own.
    Raises: UsageError: for an unknown name or option. DataNotFound: if the data are not there. DataError: if they do not fit.
    """
    kind, colon, place = name.partition(":")
    if kind == "folder" and colon:
        from evals.tasks.folder import load_folder

        names, samples, content = load_folder(Path(place), classnames)
        return ClassifyTask(name, names, samples, place, content, tuple(templates or DEFAULT_TEMPLATES))
    raise unknown_name("task", name, list_tasks())


def summarise_family(family: str, records: Sequence[SampleRecord], manifest: Mapping[str, Any]) -> dict[str, Metric]:
    """The metrics of a run from its records alone."""
    if family != "classify":
        raise DataError(f"this version does not know how to score runs of the kind {family!r}")
    return summarise(records, len(manifest["classnames"]))
