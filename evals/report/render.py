"""Filling the templates. Autoescape is always on; the page's policy forbids every request and every script but its own."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evals.report import answer_page, answer_pairs, figures, page, provenance
from evals.report.answer_view import AnswerView
from evals.report.explain_section import explain_section
from evals.report.svg import clean, nice_domain, nice_ticks, number
from evals.report.thumbnails import BUDGET, Thumbnails
from evals.report.view import RunView, settings_apart
from evals.report.wording import BAZAAR_NOTE, duration, finite, metric_wording, share, shown, shown_interval
from toolkit.version import VERSION

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageOf = Callable[[str], Image]

TEMPLATES = Path(__file__).parent / "templates"
MISTAKES, HESITANT = 24, 12
OVERVIEW_MISTAKES = 12
CARDS, OVERVIEW_CARDS = 6, 2
NARROW = 0.02  # scores of a group that lie closer together get an axis of this width on both sides

AnyPair = page.Pair | answer_pairs.AnswerPair


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The one Jinja environment: escaping everywhere, an undefined name is an error."""
    env = Environment(autoescape=True, undefined=StrictUndefined, loader=FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True)
    style, script = (_asset(name) for name in ("style.css", "sort.js"))
    env.globals.update(
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; form-action 'none'",
        version=VERSION,
        bazaar_note=BAZAAR_NOTE,
        full_axis=page.full_axis(),
    )
    return env


def _asset(name: str) -> str:
    return "\n" + (TEMPLATES / name).read_text(encoding="utf-8").strip() + "\n"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _sections(view: RunView, thumbnails: Thumbnails, mistakes: int, hesitant: int) -> page.Context:
    """What a run's page and its part of an overview have in common."""
    first, second = page.headline(view)
    return {
        "view": view,
        "headline": first,
        "second": second,
        "hero": page.hero(view),
        "metrics": page.metric_rows(view),
        "mistakes": page.shots(view, view.mistakes[:mistakes], thumbnails),
        "n_mistakes": len(view.mistakes),
        "has_confidence": any(row.confidence is not None for row in view.mistakes),
        "hesitant": page.shots(view, view.hesitant[:hesitant], thumbnails),
        "with_images": thumbnails.images is not None,
        "confusion": page.confusion_section(view),
        "classes": page.class_section(view),
        "calibration": page.calibration_section(view),
        "failures": page.failure_section(view),
        "facts": provenance.facts(view),
        "manifest": provenance.manifest_text(view),
        "missing_images": len(thumbnails.problems),
    }


def _answer_sections(view: AnswerView, thumbnails: Thumbnails, cards: int) -> page.Context:
    """The same for a run of questions and answers. Cards come first, so that maps do not take the room of the images."""
    first, second = answer_page.headline(view)
    return {
        "view": view,
        "answers": True,
        "headline": first,
        "second": second,
        "hero": page.hero(view),
        "metrics": answer_page.scorer_rows(view),
        "types": answer_page.type_sections(view),
        "gallery": answer_page.gallery(view, thumbnails, cards),
        "attention": answer_page.attention_section(view),
        "failures": page.failure_section(view),
        "facts": provenance.facts(view),
        "manifest": provenance.manifest_text(view),
        "missing_images": len(thumbnails.problems),
    }


def _pair_section(pair: AnyPair, thumbnails: Thumbnails, most: int) -> page.Context:
    if isinstance(pair, answer_pairs.AnswerPair):
        return answer_pairs.pair_section(pair, thumbnails, most=most)
    return page.pair_section(pair, thumbnails, most=most)


def report_html(view: RunView, pairs: Sequence[AnyPair], thumbnails: Thumbnails) -> str:
    """The page of one run."""
    title = f"{view.model} on {view.title}"
    if isinstance(view, AnswerView):
        compared = [_pair_section(pair, thumbnails, 8) for pair in pairs]
        values = _answer_sections(view, thumbnails, CARDS)
        return environment().get_template("answers.html.j2").render(run=values, pairs=compared, title=title)
    values = _sections(view, thumbnails, MISTAKES, HESITANT) | {"why": explain_section(view, thumbnails)}
    compared = [_pair_section(pair, thumbnails, 12) for pair in pairs]
    return environment().get_template("report.html.j2").render(run=values, pairs=compared, title=title)


def overview_html(
    views: Sequence[RunView],
    pairs: Sequence[AnyPair],
    *,
    title: str,
    lede: str,
    notes: Sequence[str],
    images: Callable[[RunView], ImageOf | None],
    out: Path,
) -> str:
    """The page of several runs. The budget for thumbnails is shared evenly among its parts."""
    budget = BUDGET // max(1, len(views) + len(pairs))
    runs = []
    for index, view in enumerate(views, start=1):
        thumbnails = Thumbnails(images(view), budget)
        if isinstance(view, AnswerView):
            values = _answer_sections(view, thumbnails, OVERVIEW_CARDS)
        else:
            values = _sections(view, thumbnails, OVERVIEW_MISTAKES, 0) | {"answers": False}
        alike = [other for other in views if (other.task, other.model, other.method) == (view.task, view.model, view.method)]
        values["setting"] = dict(zip(map(id, alike), settings_apart(alike), strict=True))[id(view)]
        runs.append(values | {"anchor": f"run-{index}", "link": _relative(view.folder / "report.html", out)})
    compared, shown_tasks = [], set()
    for pair in pairs:
        most = 0 if pair.b.task in shown_tasks else 6
        shown_tasks.add(pair.b.task)
        compared.append(_pair_section(pair, Thumbnails(images(pair.b), budget), most))
    return (
        environment()
        .get_template("overview.html.j2")
        .render(
            title=clean(title, 200),
            lede=clean(lede, 1000),
            notes=[clean(note, 600) for note in notes],
            groups=_groups(runs),
            runs=runs,
            pairs=compared,
            bazaar=any(v.is_bazaar for v in views),
        )
    )


def _relative(target: Path, out: Path) -> str | None:
    """The link from the page to another file, or None if that is not there."""
    if not target.exists() or target.resolve() == out.resolve():
        return None
    return Path(os.path.relpath(target.resolve(), out.resolve().parent)).as_posix()


def _groups(runs: Sequence[page.Context]) -> list[page.Context]:
    """Runs of one task under one heading, on one axis that shows their differences (and chance, where it is near)."""
    tasks: dict[str, list[page.Context]] = {}
    for run in runs:
        tasks.setdefault(run["view"].task, []).append(run)
    return [_group(members) for members in tasks.values()]


def _group(members: Sequence[page.Context]) -> page.Context:
    views = [run["view"] for run in members]
    mains = [view.main for view in views]
    same = {metric.name for metric in mains if metric is not None}
    words = metric_wording(next(iter(same))) if len(same) == 1 else None
    values = [bound for metric in mains if metric is not None and metric.value is not None for bound in (metric.value, *(metric.ci or ()))]
    fraction = words is not None and words.share and all(0 <= value <= 1 for value in values)
    domain = _group_domain(values, fraction, [view.chance for view in views if view.chance is not None])
    ticks = nice_ticks(*domain, most=5)
    labels = [number(100 * tick, 1) + ("\u00a0%" if tick == ticks[-1] else "") if fraction else number(tick, 3) for tick in ticks]
    rows = []
    for run, view, metric in zip(members, views, mains, strict=True):
        value, ci = (None, None) if metric is None else (metric.value, metric.ci)
        named = metric_wording(metric.name) if metric is not None else None
        rows.append(
            {
                "model": view.model,
                "how": " · ".join(word for word in (view.method, run["setting"]) if word),
                "anchor": run["anchor"],
                "raw": value,
                "metric": metric.name if metric is not None else "",
                "value": shown(value, named) if named else "no score",
                "interval": shown_interval(ci, named) if named else "",
                "n": view.n - view.n_failed,
                "what": "questions" if run["answers"] else "images",
                "n_failed": view.n_failed,
                "seconds": duration(finite(view.results.get("seconds"))),
                "bar": figures.interval_bar(value, ci, label=page.spoken(metric), domain=domain, reference=view.chance, ticks=ticks)
                if metric is not None
                else None,
            }
        )
    chance = views[0].chance
    inside = chance is not None and domain[0] <= chance <= domain[1]
    return {
        "title": views[0].title,
        "metric": words.title if words else "Main metric",
        "rows": rows,
        "axis": figures.axis(domain, ticks=ticks, labels=labels),
        "chance": share(chance) if chance is not None else None,
        "chance_drawn": inside,
        "classes": views[0].n_classes,
    }


def _group_domain(values: list[float], fraction: bool, chances: list[float]) -> tuple[float, float]:
    """A single run gets the whole axis; several get the part that shows their difference, with chance if that costs little."""
    if fraction and len(values) <= 3:
        return 0.0, 1.0
    if fraction and values and max(values) - min(values) < NARROW:  # equal scores need no microscope
        values = [*values, max(0.0, min(values) - NARROW), min(1.0, max(values) + NARROW)]
    domain = nice_domain(values, bounds=(0.0, 1.0) if fraction else None)
    near = nice_domain([*values, *chances], bounds=(0.0, 1.0) if fraction else None)
    return near if near[1] - near[0] < 2 * (domain[1] - domain[0]) else domain
