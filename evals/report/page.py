"""From views to the values that the templates print: sentences, table rows, figures and thumbnails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evals.records import compare_runs
from evals.report import confusion, figures
from evals.report.svg import clean, nice_domain, nice_ticks
from evals.report.thumbnails import Thumbnails
from evals.report.view import ClassRow, Measured, Row, RunView, settings_apart
from evals.report.wording import counted, finite, metric_wording, p_value, points, share, shown, shown_interval

MOST_BARS = 40  # classes that all get a bar; beyond, the best and the worst do
MOST_LISTED = 1000  # rows of the full class table
MOST_FAILURES = 100

Context = dict[str, Any]
FULL: tuple[float, float] = (0.0, 1.0)
FIFTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def headline(view: RunView) -> tuple[str, str]:
    """The first sentence of a page and the one after it."""
    main = view.main
    if main is None or main.value is None:
        if not view.rows:
            return f"{view.model} on {view.title}: nothing has been evaluated yet", "The run folder holds no samples."
        if view.n_failed == len(view.rows):
            reason = "Every sample failed; the reasons are listed below."
            return f"{view.model} on {view.title}: no image could be scored", reason
        return f"{view.model} on {view.title}: no score yet", f"{counted(len(view.rows), 'sample')} are in; the run is not finished."
    words = metric_wording(main.name)
    n = main.n if main.n is not None else view.n - view.n_failed
    if main.name == "top1":
        first = f"{view.model} names {share(main.value)} of {counted(n, 'image')} correctly"
    else:
        first = f"{view.model} on {view.title}: {words.title} {shown(main.value, words)}"
    second = []
    if main.ci is not None:
        second.append(f"The 95\u00a0% interval runs from {shown_interval(main.ci, words)}.")
    if view.chance is not None and main.name == "top1":
        second.append(f"Guessing among {view.n_classes:,} classes would get {share(view.chance)}.")
    if view.n_failed:
        verb = "is" if view.n_failed == 1 else "are"
        second.append(f"{counted(view.n_failed, 'image')} could not be scored and {verb} left out.")
    return first, " ".join(second)


def metric_rows(view: RunView) -> list[Context]:
    """One row a metric, with its interval drawn on 0 to 100 % where the metric is a fraction."""
    rows = []
    for metric in view.metrics:
        words = metric_wording(metric.name)
        inside = metric.value is not None and 0 <= metric.value <= 1 and metric.name != "srcc"
        chance = view.chance if metric.name in ("top1", "mean_per_class_recall") else None
        rows.append(
            {
                "name": metric.name,
                "title": words.title,
                "meaning": words.meaning,
                "raw": metric.value,
                "value": shown(metric.value, words),
                "interval": shown_interval(metric.ci, words),
                "n": metric.n,
                "bar": figures.interval_bar(metric.value, metric.ci, label=spoken(metric), reference=chance, ticks=FIFTHS)
                if inside
                else None,
            }
        )
    return rows


def spoken(metric: Measured) -> str:
    """A metric and its interval in words, for a figure's accessible name."""
    words = metric_wording(metric.name)
    interval = f", 95 % interval {shown_interval(metric.ci, words)}" if metric.ci else ""
    return f"{words.title}: {shown(metric.value, words)}{interval}"


def full_axis() -> Markup:
    """The 0 to 100 % axis above a column of bars."""
    return figures.axis(FULL, ticks=(0.0, 0.5, 1.0), labels=("0", "50", "100\u00a0%"))


def hero(view: RunView) -> Markup | None:
    """The headline's number on its line, or None where it is no fraction."""
    main = view.main
    if main is None or main.value is None or not 0 <= main.value <= 1:
        return None
    return figures.interval_bar(main.value, main.ci, label=spoken(main), reference=view.chance, ticks=FIFTHS)


def shot(view: RunView, row: Row, thumbnails: Thumbnails, *, key: str | None = None) -> Context:
    """One thumbnail with what was answered and what it is. ``key`` is the id under which the image is asked for."""
    said, truth = view.class_title(row.predicted), view.class_title(row.label)
    return {
        "id": clean(row.id, 80),
        "image": row.image,
        "uri": thumbnails.uri(key if key is not None else row.id),
        "said": said,
        "truth": truth,
        "raw": row.confidence,
        "confidence": None if row.confidence is None else share(row.confidence, 0 if row.confidence < 0.995 else 1),
        "alt": clean(f"{truth}, taken for {said}" if row.right is False else truth, 160),
    }


def shots(view: RunView, rows: Sequence[Row], thumbnails: Thumbnails) -> list[Context]:
    return [shot(view, row, thumbnails) for row in rows]


def class_rows(rows: Sequence[ClassRow]) -> list[Context]:
    return [
        {
            "name": one.name,
            "n": one.n,
            "right": one.right,
            "answered": one.answered,
            "raw": one.recall,
            "recall": share(one.recall),
            "precision": share(one.right / one.answered) if one.answered else "never answered",
            "bar": figures.recall_bar(one.recall, one.ci, label=f"{clean(one.name, 60)}: {one.right} of {one.n} recognised"),
        }
        for one in rows
    ]


def class_section(view: RunView) -> Context | None:
    """Per-class recall: every class when they are few, else the weakest and the strongest and one table of all."""
    rows = view.classes
    if not rows:
        return None
    if len(rows) <= MOST_BARS:
        return {"groups": [("", class_rows(rows))], "all": [], "n": len(rows)}
    groups = [("The 20 weakest classes", class_rows(rows[::-1][:20])), ("The 10 strongest classes", class_rows(rows[:10]))]
    return {"groups": groups, "all": class_rows(rows[:MOST_LISTED]), "n": len(rows)}


def confusion_section(view: RunView) -> Context | None:
    """The matrix and the most confused pairs."""
    counts = view.counts
    if counts is None or len(counts) < 2:
        return None
    names = [view.class_title(index) for index in range(len(counts))]
    wrong = int(counts.sum() - counts.trace())
    pairs = confusion.most_confused(counts)
    label = f"Confusion matrix of {len(counts)} classes: {counts.trace()} right and {wrong} wrong answers."
    if pairs:
        first = pairs[0]
        label += f" Most often: {clean(names[first.true], 60)} taken for {clean(names[first.predicted], 60)}, {first.n} times."
    return {
        "matrix": confusion.matrix(counts, names, label=label),
        "block": -(-len(counts) // confusion.MOST_CLASSES) if len(counts) > confusion.MOST_CLASSES else 0,
        "pairs": [
            {"truth": names[one.true], "said": names[one.predicted], "n": one.n, "raw": one.share, "share": share(one.share)}
            for one in pairs
        ],
        "wrong": wrong,
    }


def calibration_section(view: RunView) -> Context | None:
    """The reliability diagram with the calibration error and a sentence that says which way it is off."""
    bins = [one for one in view.bins if one.n]
    if not bins:
        return None
    n = sum(one.n for one in bins)
    confidence = sum(one.n * one.confidence for one in bins) / n
    accuracy = sum(one.n * one.accuracy for one in bins) / n
    gap = confidence - accuracy
    ece = next((metric for metric in view.metrics if metric.name == "ece" and metric.value is not None), None)
    if abs(gap) < 0.01:
        verdict = "on average its confidence is honest"
    else:
        verdict = f"it is {'over' if gap > 0 else 'under'}-confident by {100 * abs(gap):.1f} points on average"
    sentence = f"Mean confidence is {share(confidence)} and {share(accuracy)} of the answers are right: {verdict}."
    return {
        "figure": figures.reliability(view.bins, label=f"Reliability diagram in {len(bins)} bins. {sentence}"),
        "sentence": sentence,
        "ece": None
        if ece is None
        else {"raw": ece.value, "value": share(ece.value or 0.0), "interval": shown_interval(ece.ci, metric_wording("ece"))},
        "bins": [
            {
                "range": f"{100 * one.low:.0f} to {share(one.high, 0)}",
                "n": one.n,
                "confidence": share(one.confidence),
                "accuracy": share(one.accuracy),
            }
            for one in bins
        ],
    }


def failure_section(view: RunView) -> Context | None:
    if not view.n_failed:
        return None
    listed = [{"id": clean(row.id, 200), "image": clean(row.image, 300), "error": row.error} for row in view.failed[:MOST_FAILURES]]
    return {"rows": listed, "n": view.n_failed, "hidden": max(0, view.n_failed - len(listed))}


@dataclass(frozen=True)
class Pair:
    """Two runs on the same samples and the statistics of their difference (``b`` minus ``a``)."""

    a: RunView
    b: RunView
    stats: Mapping[str, Any]

    @classmethod
    def read(cls, a: str | Path, b: str | Path) -> Pair:
        """Raises what ``evals.records.compare_runs`` raises if the runs cannot be compared."""
        return cls(RunView.read(a), RunView.read(b), compare_runs(a, b))


def names_apart(a: RunView, b: RunView) -> tuple[str, str]:
    """What to call two runs: by what differs between them."""
    if a.model != b.model:
        if a.method != b.method:
            return f"{a.model} with {a.method}", f"{b.model} with {b.method}"
        return a.model, b.model
    if a.method != b.method:
        return a.method, b.method
    first, second = settings_apart([a, b])
    return first, second


def pair_section(pair: Pair, thumbnails: Thumbnails | None = None, *, most: int = 12) -> Context:
    """A paired comparison: the sentence, the four outcomes, the difference on its line, what was repaired and broken."""
    stats = pair.stats
    name_a, name_b = names_apart(pair.a, pair.b)
    value, ci = float(stats["difference"]["value"]), tuple(float(bound) for bound in stats["difference"]["ci95"])
    p = finite(stats["mcnemar_p"])
    domain = nice_domain([value, *ci, 0.0], bounds=(-1.0, 1.0))
    ticks = nice_ticks(*domain, most=5)
    counts = {key: int(stats[key]) for key in ("both_right", "only_b", "only_a", "both_wrong")}
    both, only_a, only_b, neither = (counts[key] for key in ("both_right", "only_a", "only_b", "both_wrong"))
    label = f"Both right {both}, only {name_b} {only_b}, only {name_a} {only_a}, both wrong {neither}"
    shown_ci = f"{points(ci[0])} to {points(ci[1])}"
    return {
        "answers": False,
        "a": name_a,
        "b": name_b,
        "task": pair.b.title,
        "n": int(stats["n"]),
        "sentence": _difference_sentence(name_a, name_b, value, ci, p),
        "raw": value,
        "value": points(value),
        "interval": shown_ci,
        "p": p_value(p),
        "p_raw": p,
        "counts": counts,
        "bar": figures.paired_bar(both, only_a, only_b, neither, label=label),
        "axis": figures.axis(domain, ticks=ticks, labels=[points(tick) if tick else "0" for tick in ticks]),
        "line": figures.interval_bar(
            value,
            (ci[0], ci[1]),
            label=f"Difference {points(value)} points, 95 % interval {shown_ci}",
            domain=domain,
            reference=0.0,
            ticks=ticks,
        ),
        "notes": [clean(note) for note in stats.get("notes", ())],
        "repaired": _changed(pair, thumbnails, True, most),
        "broken": _changed(pair, thumbnails, False, most),
    }


def _difference_sentence(a: str, b: str, value: float, ci: Sequence[float], p: float | None) -> str:
    if value == 0:
        return f"{a} and {b} get the same number right."
    better, worse = (b, a) if value > 0 else (a, b)
    sentence = f"{better} gets {100 * abs(value):.1f} points more right than {worse}"
    certain = ci[0] > 0 or ci[1] < 0
    if p is not None and p >= 0.05 and not certain:
        return sentence + "; a difference this small can be chance."
    if p is not None and p < 0.05 and certain:
        return sentence + ", more than chance explains."
    return sentence + "; the evidence is on the border of chance."


def _changed(pair: Pair, thumbnails: Thumbnails | None, repaired: bool, most: int) -> list[Context]:
    """Samples that only ``b`` (repaired) or only ``a`` (broken) is right on, shown with the wrong answer, most confident first."""
    if thumbnails is None or thumbnails.images is None:
        return []
    others = {row.id: row for row in (pair.b if repaired else pair.a).answered}
    wrong_side = pair.a if repaired else pair.b
    rows = [row for row in wrong_side.mistakes if row.id in others and others[row.id].right]
    return shots(wrong_side, rows[:most], thumbnails)
