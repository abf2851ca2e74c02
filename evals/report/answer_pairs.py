"""Two VQA runs on the same questions: every scorer, every type, and the answers that were repaired and broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.answer_comparison import compare_answers
from evals.records import read_run
from evals.report import figures
from evals.report.answer_page import card, kind_title, spread
from evals.report.answer_view import AnswerView, Asked
from evals.report.page import Context, Pair, names_apart
from evals.report.svg import clean, nice_domain, nice_ticks
from evals.report.thumbnails import Thumbnails
from evals.report.wording import counted, metric_wording, p_value, points, share


@dataclass(frozen=True)
class AnswerPair:
    """Two runs on the same questions and the statistics of their difference (``b`` minus ``a``)."""

    a: AnswerView
    b: AnswerView
    stats: Mapping[str, Any]

    @classmethod
    def read(cls, a: str | Path, b: str | Path) -> AnswerPair:
        """Raises what ``evals.records.compare_runs`` raises if the runs cannot be compared."""
        first, second = read_run(a), read_run(b)
        stats = compare_answers(first, second)
        return cls(AnswerView.of(first), AnswerView.of(second), stats)


def read_pair(a: str | Path, b: str | Path) -> Pair | AnswerPair:
    """Two runs to compare, by the kind of their task. Raises what ``evals.records.compare_runs`` raises if they cannot be compared."""
    asks = read_run(b).manifest.get("family") == "vqa"
    return AnswerPair.read(a, b) if asks else Pair.read(a, b)


def pair_section(pair: AnswerPair, thumbnails: Thumbnails, *, most: int = 8) -> Context:
    """What the templates print of a comparison."""
    stats = pair.stats
    name_a, name_b = names_apart(pair.a, pair.b)
    rows = [("", name, found) for name, found in stats["scorers"].items()]
    kinds = {kind: groups for kind, groups in stats["breakdown"].items() if len(groups) > 1}
    return {
        "answers": True,
        "a": name_a,
        "b": name_b,
        "task": pair.b.title,
        "n": int(stats["n"]),
        "images": int(stats["images"]),
        "changed": int(stats["changed"]),
        "repaired_n": int(stats["repaired"]),
        "broken_n": int(stats["broken"]),
        "p": p_value(stats["mcnemar_p"]),
        "p_raw": stats["mcnemar_p"],
        "primary": f"{stats['primary']}@{stats['scorers'][stats['primary']]['version']}",
        "sentence": verdict(name_a, name_b, stats["scorers"][stats["primary"]]),
        "tables": [_table("By scorer", rows), *(_table(kind_title(kind), [(kind, *row) for row in kinds[kind].items()]) for kind in kinds)],
        "notes": [clean(note) for note in stats["notes"]],
        "repaired": _changed(pair, thumbnails, name_a, name_b, True, most),
        "broken": _changed(pair, thumbnails, name_a, name_b, False, most),
    }


def verdict(a: str, b: str, found: Mapping[str, Any]) -> str:
    """One sentence that says no more than the interval does."""
    value, ci = found["difference"]["value"], found["difference"]["ci95"]
    if value == 0:
        return f"{a} and {b} score the same."
    better, worse = (b, a) if value > 0 else (a, b)
    sentence = f"{better} scores {100 * abs(value):.1f} points more than {worse}"
    if ci is None:
        return sentence + "; these are too few questions to say more."
    return sentence + (", more than chance explains." if ci[0] > 0 or ci[1] < 0 else "; a difference this small can be chance.")


def _table(title: str, rows: Sequence[tuple[str, str, Mapping[str, Any]]]) -> Context:
    """One row a scorer or a type; all bars of a table share one axis."""
    shown = [bound for _, _, found in rows for bound in (found["difference"]["value"], *(found["difference"]["ci95"] or ()))]
    domain = nice_domain([0.0, *shown], bounds=(-1.0, 1.0))
    ticks = nice_ticks(*domain, most=5)
    return {
        "title": title,
        "rows": [_line(kind, name, found, domain, ticks) for kind, name, found in rows],
        "axis": figures.axis(domain, ticks=ticks, labels=[points(tick) if tick else "0" for tick in ticks]),
    }


def _line(kind: str, name: str, found: Mapping[str, Any], domain: figures.Interval, ticks: Sequence[float]) -> Context:
    difference, ci = found["difference"]["value"], found["difference"]["ci95"]
    interval = f"{points(ci[0])} to {points(ci[1])}" if ci else ""
    label = f"{name}: {points(difference)} points{', 95 % interval ' + interval if interval else ''}"
    return {
        "name": clean(name, 80) if kind else metric_wording(name).title,
        "more": counted(found["n"], "question") if kind else f"{clean(name, 60)}@{found['version']}",
        "a": share(found["a"]["value"]),
        "b": share(found["b"]["value"]),
        "raw": difference,
        "value": points(difference),
        "interval": interval,
        "repaired": found["repaired"],
        "broken": found["broken"],
        "p": f"p = {p_value(found['mcnemar_p_holm'])}" if "mcnemar_p_holm" in found else "",
        "bar": figures.interval_bar(
            difference, None if ci is None else (ci[0], ci[1]), label=label, domain=domain, reference=0.0, ticks=ticks
        ),
    }


def _changed(pair: AnswerPair, thumbnails: Thumbnails, name_a: str, name_b: str, repaired: bool, most: int) -> list[Context]:
    """Cards of what only ``b`` (repaired) or only ``a`` (broken) has right; maps are those of ``b``, else of ``a``."""
    before = {row.id: row for row in pair.a.asked if row.said is not None}
    scorer = pair.stats["primary"]
    chosen: list[tuple[Asked, Asked]] = []
    for now in pair.b.asked:
        was = before.get(now.id)
        if was is None or now.said is None:
            continue
        old, new = (row.score(scorer) or 0.0 for row in (was, now))
        if (old < 0.5 <= new) if repaired else (new < 0.5 <= old):
            chosen.append((was, now))
    picked = {row.id for row in spread([now for _, now in chosen], most)}
    cards = []
    for was, now in chosen:
        if now.id in picked:
            view, row = (pair.b, now) if now.decision.get("maps") or not was.decision.get("maps") else (pair.a, was)
            said = ((name_a, was.said or ""), (name_b, now.said or ""))
            cards.append(card(view, row, thumbnails, said=said) | {"score": None, "scores": [], "repaired": repaired})
    return cards
