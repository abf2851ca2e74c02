"""The section of a run's page that explains answers: how often texts decide, and the most instructive samples with their figures."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from evals.report import figures
from evals.report.explain_figure import explain_svg, without_name
from evals.report.svg import clean, nice_domain, nice_ticks
from evals.report.thumbnails import Thumbnails
from evals.report.told import Contrast, Explanations, Rate, Rates, Shown, read_explanations
from evals.report.view import RunView
from evals.report.wording import counted, p_value, share

Context = dict[str, Any]


def explain_section(view: RunView, thumbnails: Thumbnails) -> Context | None:
    """What the templates print; None for a run of a method that does not explain itself."""
    found = read_explanations(view.folder)
    if found is None:
        return None
    if isinstance(found, str):
        return {"problem": clean(found, 300), "rates": None, "kinds": [], "n": 0}
    kinds = [
        {"title": clean(title, 120), "samples": [_sample(one, thumbnails) for one in members]}
        for title, members in groupby(found.samples, key=lambda one: one.kind_title)
    ]
    return {"problem": "", "rates": _rates(found), "kinds": kinds, "n": len(found.samples)}


def _sample(one: Shown, thumbnails: Thumbnails) -> Context:
    told = one.told
    return {
        "id": clean(one.id, 80),
        "uri": thumbnails.uri(one.id),
        "said": clean(told.name, 80),
        "truth": None if told.truth is None else clean(told.truth, 80),
        "right": told.truth == told.name,
        "sentence": without_name(clean(told.name), clean(one.sentence, 500)),
        "figure": explain_svg(told.model_dump()),
    }


def _rates(found: Explanations) -> Context | None:
    rates = found.rates
    if rates is None or rates.delete is None:
        return None
    rows = [("The description that stands out most is taken away", rates.delete.strongest)]
    rows.append(("A random one of the same list is taken away", rates.delete.random))
    if rates.swap is not None:
        rows.append(("The one that stands out most becomes a random string", rates.swap.strongest))
        rows.append(("A random one of the same list becomes a random string", rates.swap.random))
    if rates.replace_all is not None:
        rows.append(("Every description of every candidate becomes a random string", rates.replace_all.flips))
    domain = nice_domain([0.0, *(bound for _, rate in rows for bound in rate.ci95)])
    domain = (0.0, domain[1])
    ticks = nice_ticks(*domain, most=5)
    return {
        "sentence": _verdict(rates.delete),
        "more": _more(rates),
        "n": rates.n,
        "axis": figures.axis(domain, ticks=ticks, labels=[share(tick, 0 if ticks[-1] >= 0.05 else 1) for tick in ticks]),
        "rows": [_rate(title, rate, domain, ticks) for title, rate in rows],
    }


def _rate(title: str, rate: Rate, domain: figures.Interval, ticks: list[float]) -> Context:
    interval = f"{100 * rate.ci95[0]:.1f} to {share(rate.ci95[1])}"
    bar = figures.interval_bar(rate.share, rate.ci95, label=f"{title}: {share(rate.share)}, {interval}", domain=domain, ticks=ticks)
    return {"title": title, "raw": rate.share, "value": share(rate.share), "interval": interval, "bar": bar}


def _verdict(delete: Contrast) -> str:
    a, b = delete.strongest, delete.random
    p = delete.mcnemar_p
    if p >= 0.05:
        return "The description that stands out most changes the answer about as often as a random one when it is taken away."
    word = "more" if a.share > b.share else "less"
    numbers = f"({share(a.share)} against {share(b.share)})"
    return f"Taking away the description that stands out most changes the answer {word} often than a random one {numbers}."


def _more(rates: Rates) -> str:
    assert rates.delete is not None
    parts = [f"On the same {counted(rates.n, 'image')}; exact McNemar p = {p_value(rates.delete.mcnemar_p)} for taking away"]
    if rates.swap is not None:
        parts[0] += f", {p_value(rates.swap.mcnemar_p)} for random strings"
    whole = rates.replace_all
    if whole is not None and whole.broken is not None and whole.repaired is not None:
        change = f"With random strings in place of all descriptions {whole.broken:,} of {counted(whole.flips.n, 'answer')} turn wrong"
        parts.append(f"{change} and {whole.repaired:,} right, p = {p_value(whole.mcnemar_p)}")
    return ". ".join(parts) + "."
