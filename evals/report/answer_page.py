"""From views of VQA runs to the values that the templates print: sentences, scorers side by side, types, cards, maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from evals.attention_scores import MAPS, attention_scores, map_names, point_at
from evals.report import figures
from evals.report.answer_view import AnswerView, Asked
from evals.report.page import FIFTHS, Context, metric_rows
from evals.report.svg import clean, nice_domain, nice_ticks
from evals.report.thumbnails import Thumbnails
from evals.report.view import Measured
from evals.report.wording import counted, metric_wording, share, shown, shown_interval

MOST_TYPES = 40


def headline(view: AnswerView) -> tuple[str, str]:
    """The first sentence of a page and the one after it."""
    main, asked = view.main, f"{counted(len(view.rows), 'question')} about {counted(view.n_images, 'image')}"
    if main is None or main.value is None:
        if not view.rows:
            return f"{view.model} on {view.title}: nothing has been asked yet", "The run folder holds no answers."
        if view.n_failed == len(view.rows):
            return f"{view.model} on {view.title}: no question could be answered", "Every question failed; the reasons are listed below."
        if not view.scorers:
            return f"{view.model} answered {asked}", "This split has no public answers: its server scores submission.json."
        return f"{view.model} on {view.title}: no score yet", f"{counted(len(view.rows), 'answer')} are in; the run is not finished."
    words = metric_wording(main.name)
    second = [f"{asked}, scored by {main.name}@{view.scorers[main.name]}."]
    if main.ci is not None:
        second.append(f"The 95\u00a0% interval runs from {shown_interval(main.ci, words)}.")
    if view.n_failed:
        verb = "has" if view.n_failed == 1 else "have"
        second.append(f"{counted(view.n_failed, 'question')} {verb} no answer and no score: a failure is not an empty answer.")
    return f"{view.model} scores {shown(main.value, words)} on {view.title}", " ".join(second)


def scorer_rows(view: AnswerView) -> list[Context]:
    """The metric rows with the version of each scorer, the primary one first and marked."""
    rows = [row | {"meaning": f"{row['name']}@{view.scorers.get(row['name'], '?')}. {row['meaning']}"} for row in metric_rows(view)]
    rows.sort(key=lambda row: row["name"] != view.primary)
    if len(rows) > 1:
        rows[0]["title"] += ", the one that counts"
    return rows


def type_sections(view: AnswerView) -> list[Context]:
    """One table for each kind of type: the primary score of its questions."""
    sections = []
    for kind, groups in view.breakdown.items():
        if len(groups) > 1:
            rows = [_type_row(value, metric) for value, metric in list(groups.items())[:MOST_TYPES]]
            sections.append({"title": kind_title(kind), "rows": rows, "hidden": len(groups) - len(rows)})
    return sections


def kind_title(kind: str) -> str:
    """
    >>> kind_title("question_type")
    'By question type'
    """
    return "By " + clean(kind, 60).replace("_", " ")


def _type_row(value: str, metric: Measured) -> Context:
    words = metric_wording(metric.name)
    interval = shown_interval(metric.ci, words)
    bar = figures.interval_bar(metric.value, metric.ci, label=f"{value}: {shown(metric.value, words)} {interval}", ticks=FIFTHS)
    return {"name": value, "raw": metric.value, "value": shown(metric.value, words), "interval": interval, "n": metric.n, "bar": bar}


def gallery(view: AnswerView, thumbnails: Thumbnails, most: int = 6) -> list[Context]:
    """The most instructive answers, in groups; each answer is shown once."""
    taken: set[str] = set()

    def group(title: str, text: str, rows: Iterable[Asked]) -> Context:
        chosen = spread([row for row in rows if row.id not in taken], most)
        taken.update(row.id for row in chosen)
        return {"title": title, "text": text, "cards": [card(view, row, thumbnails) for row in chosen]}

    answered = [row for row in view.asked if row.said is not None]
    if view.primary is None:
        return [group("Answers", "", answered)] if answered else []
    score: Callable[[Asked], float] = lambda row: row.score(view.primary) or 0.0  # noqa: E731  # one line, used three times
    wrong = sorted((row for row in answered if score(row) == 0.0), key=lambda row: -row.agreement)
    torn = sorted((row for row in answered if disagreement(row) >= 0.5), key=lambda row: -disagreement(row))
    groups = [
        group("Scored differently by different scorers", "The same words are right for one and wrong for another.", torn),
        group("Wrong where people agree", "No credit, although most people gave one answer.", wrong),
        group("Partly right", "Some people said the same.", (row for row in answered if 0.0 < score(row) < 1.0)),
        group("Right", "", (row for row in answered if score(row) == 1.0)),
    ]
    return [each for each in groups if each["cards"]]


def disagreement(row: Asked) -> float:
    """The largest difference between two scorers of one answer."""
    return max(row.scores.values()) - min(row.scores.values()) if row.scores else 0.0


def spread(rows: Sequence[Asked], most: int) -> list[Asked]:
    """The first ``most`` rows, no more of one type than of another while others are left, in their order."""
    by_type: dict[tuple[str, ...], list[Asked]] = {}
    for row in rows:
        by_type.setdefault(row.kinds[:1], []).append(row)
    chosen: list[Asked] = []
    depth = 0
    while len(chosen) < most and any(len(group) > depth for group in by_type.values()):
        chosen += [group[depth] for group in by_type.values() if len(group) > depth]
        depth += 1
    return chosen[:most]


def card(view: AnswerView, row: Asked, thumbnails: Thumbnails, *, key: str | None = None, said: Sequence[tuple[str, str]] = ()) -> Context:
    """One question with its image, what was said and what people say.

    Args:
        key: the id under which the image is asked for. said: (who, answer) pairs, where several answered.
    """
    scores = [(name, f"{value:.2g}") for name, value in row.scores.items()]
    differ = len({value for _, value in scores}) > 1
    return {
        "id": clean(row.id, 80),
        "uri": thumbnails.uri(row.id if key is None else key),
        "question": row.question or "(no question on file)",
        "said": [*said] or [("", row.said or "(nothing)")],
        "people": [(answer or "(empty)", count) for answer, count in row.answers[:4]],
        "more": max(0, len(row.answers) - 4),
        "kinds": " · ".join(row.kinds),
        "score": None if view.primary is None else f"{row.score(view.primary) or 0.0:.2g}",
        "scores": scores if differ else [],
        "maps": map_figures(row, thumbnails),
        "pointed": pointed_sentence(view, row),
    }


def map_figures(row: Asked, thumbnails: Thumbnails) -> list[Context]:
    """The maps of a decision over the image as small pictures with titles; none without maps or without the image."""
    from toolkit.heatmaps import has_maps, map_panels

    if thumbnails.images is None or not has_maps(row.decision):
        return []
    try:
        panels = map_panels(thumbnails.images(row.id), row.decision, side=96)[0][1:]
    except Exception as error:  # whatever a data source raises, one missing picture must not cost the report
        thumbnails.problems[f"maps of {row.id}"] = f"{type(error).__name__}: {error}"
        return []
    made = [(panel, thumbnails.picture(panel.picture)) for panel in panels]
    return [{"title": clean(panel.title, 60), "scale": clean(panel.scale, 60), "uri": uri} for panel, uri in made if uri is not None]


def pointed_sentence(view: AnswerView, row: Asked) -> str:
    """How much of each map lies on the pixels that show the answer; empty where that is not known."""
    record = view.by_id.get(row.id)
    found = None if record is None else point_at(record)
    if found is None:
        return ""
    names = map_names(view.method_name)
    parts = [f"{names[name].lower()} {share(each.share)}" for name, each in found.maps.items()]
    area = next(iter(found.maps.values())).area
    return f"On the pixels that show the answer: {', '.join(parts)} (an even map: {share(area)})."


def attention_section(view: AnswerView) -> Context | None:
    """The maps of the whole run against the truth; None where they cannot be compared."""
    found = attention_scores(view.records)
    if found is None:
        return None
    maps: Mapping[str, Any] = found["maps"]
    shares = [bound for each in maps.values() for bound in (*(each["share"]["ci95"] or ()), each["share"]["value"], each["uniform"])]
    domain = (0.0, nice_domain([0.0, *shares])[1])
    ticks = nice_ticks(*domain, most=5)
    names = map_names(view.method_name)
    rows = [_map_row(names[name], maps[name], domain, ticks) for name in MAPS if name in maps]
    return {
        "n": found["n"],
        "rows": rows,
        "axis": figures.axis(domain, ticks=ticks, labels=[share(tick, 0) for tick in ticks]),
        "sentence": _attention_sentence(maps, names),
    }


def _map_row(title: str, found: Mapping[str, Any], domain: figures.Interval, ticks: Sequence[float]) -> Context:
    value, ci, hit = found["share"]["value"], found["share"]["ci95"], found["hit"]
    interval = f"{100 * ci[0]:.1f} to {share(ci[1])}" if ci else ""
    label = f"{title}: {share(value)} of the attention on the right pixels; an even map {share(found['uniform'])}"
    bounds = None if ci is None else (ci[0], ci[1])
    return {
        "title": title,
        "raw": value,
        "value": share(value),
        "interval": interval,
        "hit": share(hit["value"]),
        "hit_interval": f"{100 * hit['ci95'][0]:.1f} to {share(hit['ci95'][1])}" if hit["ci95"] else "",
        "chance": share(found["chance"]),
        "bar": figures.interval_bar(value, bounds, label=label, domain=domain, reference=found["uniform"], ticks=ticks),
    }


def _attention_sentence(maps: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Which map looks at the right pixels more than an even map does, as far as the intervals can tell."""
    low = {name: (each["share"]["ci95"] or [0.0])[0] for name, each in maps.items()}
    better = [name for name in maps if low[name] > maps[name]["uniform"]]
    even = share(next(iter(maps.values()))["uniform"])
    if not better:
        return f"No map puts more on the pixels that show the answer than an even map would ({even})."
    best = max(better, key=lambda name: maps[name]["share"]["value"])
    much = share(maps[best]["share"]["value"])
    return f"{names[best]}: {much} lies on the pixels that show the answer; an even map has {even} there."
