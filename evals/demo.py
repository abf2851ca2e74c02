"""The demonstration: one frozen model on real photos and on rendered goods, answered in two ways each, one page at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.session import EvalRequest, Outcome

if TYPE_CHECKING:
    from PIL.Image import Image

PHOTOS = Path(__file__).resolve().parent / "data" / "eurosat-mini"
Setting = Mapping[str, Any]  # fields of EvalRequest
PROMPTS: Mapping[str, Setting] = {"one prompt": {"options": {"templates": "single"}}, "ensemble": {"options": {"templates": "task"}}}
DESCRIBED: Setting = {"method": "classname-free", "options": {"w_cls": 0, "neighbourhood": "all"}, "shots": 4}
TITLE = "Permafrost: a frozen model, evaluated zero-shot"
LEDE = (
    "Each task is answered in two ways by the same frozen model: with one prompt a class, and with the mean of several prompts. "
    "The names of the held-out product lines were never seen in training: there the second way is descriptions without any class name, "
    "chosen with the help of 4 labelled images a class (how much of such a gain is meaning is what permafrost audit finds out). "
    "The model was trained on other photos of EuroSAT and on other rendered goods."
)


@dataclass(frozen=True)
class Show:
    """One task of the demonstration and two settings. ``limit`` keeps the whole under a minute on two cores."""

    task: str
    limit: int | None = None
    data: str | None = None
    settings: Mapping[str, Setting] = field(default_factory=lambda: PROMPTS)


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
    new_goods = Show("bazaar/lines-heldout", 240, settings={"one prompt": PROMPTS["one prompt"], "descriptions": DESCRIBED})
    return [*real, Show("bazaar/category", 400), Show("bazaar/lines", 400), new_goods]


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
        for name, setting in show.settings.items():
            say(f"{show.task}, {name}")
            most = show.limit if limit is None else min(limit, show.limit or limit)
            folder = out / show.task.replace("/", "-") / name.replace(" ", "-")
            done.append(evaluate(EvalRequest(show.task, data=show.data, limit=most, output=folder, **setting, **how)))
        runs += done
        pairs.append((done[0].folder, done[1].folder))
        comparisons.append(compare_runs(*pairs[-1]) | {"settings": list(show.settings)})
    say("report")
    images: dict[str | Path, Callable[[str], Image]] = {run.folder: run.images for run in runs}
    page = write_overview([run.folder for run in runs], out / "report.html", title=TITLE, lede=LEDE, images=images, comparisons=pairs)
    return Demo(runs, comparisons, page)
