"""The demonstration: frozen models on real photos, on rendered goods and on questions about rendered scenes, one page at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.session import EvalRequest, Outcome
from toolkit.errors import MissingError, Refused

if TYPE_CHECKING:
    from PIL.Image import Image

PHOTOS = Path(__file__).resolve().parent / "data" / "eurosat-mini"
Setting = Mapping[str, Any]  # fields of EvalRequest
PROMPTS: Mapping[str, Setting] = {"one prompt": {"options": {"templates": "single"}}, "ensemble": {"options": {"templates": "task"}}}
DESCRIBED: Setting = {"method": "classname-free", "options": {"w_cls": 0, "neighbourhood": "all", "leaks": "drop"}, "shots": 4}
SCALED: Mapping[str, Any] = {"candidates": "scaled"}  # the published layers are those of a model of 32
ASKED: Mapping[str, Setting] = {
    "plain": {"method": "plain"},
    "contrastive attention": {"method": "contrastive-attention", "options": {**SCALED, "keep_maps": True}},
    "contrastive attention, crop": {"method": "contrastive-attention", "options": {**SCALED, "mode": "crop"}},
    "vicrop": {"method": "vicrop", "options": {"layer": "scaled", "unit": "image", "keep_maps": True}},
    "vcd": {"method": "vcd"},
    "dola": {"method": "dola"},
    "pai": {"method": "pai"},
}
"""What the questions are answered with; each is compared with the first. The order is that of the page."""
TITLE = "Permafrost: frozen models, evaluated without training"
LEDE = (
    "Each task is answered in several ways by the same frozen model. Images are classified with one prompt a class, and with the mean of "
    "several prompts; questions about rendered scenes are answered by a small multimodal language model as it is, and with methods that "
    "change where it looks. "
    "The names of the held-out product lines were never seen in training: there the second way is descriptions without any class name, "
    "chosen with the help of 4 labelled images a class (how much of such a gain is meaning is what permafrost audit finds out). "
    "The model was trained on other photos of EuroSAT and on other rendered goods."
)


@dataclass(frozen=True)
class Show:
    """One task of the demonstration and its settings, of which the first is what the others are compared with.

    Attributes:
        limit: keeps the whole under a minute and a half on two cores. asks: whether it asks questions, which another model answers.
    """

    task: str
    limit: int | None = None
    data: str | None = None
    settings: Mapping[str, Setting] = field(default_factory=lambda: PROMPTS)
    task_options: Mapping[str, Any] = field(default_factory=dict)
    asks: bool = False


@dataclass(frozen=True)
class Demo:
    """What the demonstration left behind: its runs, (before, after) pairs of them, and the page.

    Attributes:
        missing: one sentence for each part that could not be shown because something is not installed.
        refused: one sentence for each method that says that it cannot work on this model.
    """

    runs: list[Outcome]
    comparisons: list[dict[str, Any]]
    page: Path
    missing: list[str]
    refused: list[str]


def shows() -> list[Show]:
    """Bazaar, and real photos where a sample is shipped."""
    photos = sorted(PHOTOS.glob("*.parquet"))
    real = [Show("eurosat", data=str(photos[0]))] if photos else []
    new_goods = Show("bazaar/lines-heldout", 240, settings={"one prompt": PROMPTS["one prompt"], "descriptions": DESCRIBED})
    questions = Show("bazaar/vqa", settings=ASKED, task_options={"questions": 100}, asks=True)
    return [*real, Show("bazaar/category", 400), Show("bazaar/lines", 400), new_goods, questions]


def run_demo(
    evaluate: Callable[[EvalRequest], Outcome],
    out: Path,
    *,
    limit: int | None = None,
    say: Callable[[str], None],
    model: str = "",
    answerer: str = "",
    **how: Any,
) -> Demo:
    """Evaluate, compare in pairs, and write ``out``/report.html.

    Args:
        evaluate: does one request; the caller decides where models come from.
        limit: fewer samples a task than the demonstration takes.
        say: gets a line of progress before each step.
        model, answerer: who classifies, and who answers questions; empty takes the shipped ones.
        how: fields of EvalRequest that are the same for all runs, such as the device.
    Raises: PermafrostError: if the model that classifies is not there. Without the one that answers the rest is shown, and ``missing``
        says what is not.
    """
    from evals.records import compare_runs
    from evals.report import write_overview

    runs: list[Outcome] = []
    pairs, comparisons, missing, refused = [], [], [], []
    for show in shows():
        most = min((n for n in (limit, show.limit) if n is not None), default=None)
        who = answerer if show.asks else model
        request = EvalRequest(show.task, who, data=show.data, task_options=show.task_options, limit=most, **how)
        done: dict[str, Outcome] = {}
        for name, setting in show.settings.items():
            say(f"{show.task}, {name}")
            try:
                done[name] = evaluate(replace(request, output=out / _folder(show.task) / _folder(name), **setting))
            except Refused as error:
                refused.append(f"{name} was not run: {error}.")
            except MissingError as error:
                if not show.asks:
                    raise
                say(f"{error}" + (f" ({error.hint})" if error.hint else ""))
                missing.append(
                    f"The questions of {show.task} were not asked, because {who or 'the model that answers'} cannot be loaded: "
                    "nothing is shown of methods for multimodal language models."
                )
                break
        first, *others = done or [""]
        for name in others:
            pairs.append((done[first].folder, done[name].folder))
            comparisons.append(compare_runs(*pairs[-1]) | {"settings": [first, name]})
        runs += done.values()
    for sentence in (*missing, *refused):
        say(sentence)
    say("report")
    images: dict[str | Path, Callable[[str], Image]] = {run.folder: run.images for run in runs}
    notes = [*missing, *refused]
    folders = [run.folder for run in runs]
    page = write_overview(folders, out / "report.html", title=TITLE, lede=LEDE, images=images, comparisons=pairs, notes=notes)
    return Demo(runs, comparisons, page, missing, refused)


def _folder(name: str) -> str:
    """
    >>> _folder("contrastive attention, crop")
    'contrastive-attention-crop'
    """
    return name.replace(",", "").replace("/", "-").replace(" ", "-")
