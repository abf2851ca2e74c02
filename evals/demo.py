"""The demonstration: one frozen model on rendered goods and on real photos, one prompt against an ensemble, one page at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.session import EvalRequest, Outcome

if TYPE_CHECKING:
    from PIL.Image import Image

PHOTOS = Path(__file__).resolve().parent / "data" / "eurosat-mini"
SETTINGS: Mapping[str, Mapping[str, Any]] = {"single": {"templates": "single"}, "ensemble": {"templates": "task"}}
TITLE = "Permafrost: a frozen model, evaluated zero-shot"
LEDE = (
    "Each task is answered twice by the same frozen model: with one prompt a class, and with the mean of several prompts. "
    "The model is frozen throughout. It was trained on other photos of EuroSAT and on other rendered goods: none of these images, and "
    "none of the held-out product lines, was ever seen."
)


@dataclass(frozen=True)
class Show:
    """One task of the demonstration. ``limit`` keeps the whole under a minute on two cores."""

    task: str
    limit: int | None = None
    data: str | None = None


@dataclass(frozen=True)
class Demo:
    """What the demonstration left behind: its runs, (before, after) pairs of them, and the page."""

    runs: list[Outcome]
    comparisons: list[dict[str, Any]]
    page: Path


def shows() -> list[Show]:
    """Bazaar, and real photos where a sample is shipped."""
    photos = sorted(PHOTOS.glob("*.parquet"))
    real = [Show("eurosat", data=str(photos[0]))] if photos else []
    return [*real, Show("bazaar/category", 400), Show("bazaar/lines", 400), Show("bazaar/lines-heldout", 240)]


def run_demo(
    evaluate: Callable[[EvalRequest], Outcome], out: Path, *, limit: int | None = None, say: Callable[[str], None], **how: Any
) -> Demo:
    """Evaluate, compare in pairs, and write ``out``/report.html.

    Args:
        evaluate: does one request; the caller decides where models come from.
        limit: fewer samples a task than the demonstration takes.
        say: gets a line of progress before each step.
        how: fields of EvalRequest that are the same for all runs, such as the device.
    """
    from evals.records import compare_runs
    from evals.report import write_overview

    runs, pairs, comparisons = [], [], []
    for show in shows():
        done = []
        for name, options in SETTINGS.items():
            say(f"{show.task}, {name}")
            most = show.limit if limit is None else min(limit, show.limit or limit)
            folder = out / show.task.replace("/", "-") / name
            done.append(evaluate(EvalRequest(show.task, data=show.data, options=options, limit=most, output=folder, **how)))
        runs += done
        pairs.append((done[0].folder, done[1].folder))
        comparisons.append(compare_runs(*pairs[-1]))
    say("report")
    images: dict[str | Path, Callable[[str], Image]] = {run.folder: run.images for run in runs}
    page = write_overview([run.folder for run in runs], out / "report.html", title=TITLE, lede=LEDE, images=images, comparisons=pairs)
    return Demo(runs, comparisons, page)
