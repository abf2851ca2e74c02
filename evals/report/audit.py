"""The page of a semantic audit: its verdict, one figure that shows why, every arm, every test. Made from audit.json alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evals.report import figures
from evals.report.render import environment
from evals.report.svg import clean, nice_domain, nice_ticks, number, percent, scale, tag
from evals.report.wording import BAZAAR_NOTE, MINUS, counted, duration, p_value, points, share, task_title
from toolkit.files import atomic_write_text, read_json

Context = dict[str, Any]
Span = tuple[float, float]

HEADLINES = {
    "semantic": "The gain comes from what the descriptions say",
    "mixed": "Part of the gain comes from what the descriptions say",
    "few-shot leakage": "The gain comes from the labelled images, not from the descriptions",
    "ensembling": "The gain is that of any ensemble: random words do as well",
    "no gain": "No gain of the descriptions can be shown",
    "inconclusive": "These images cannot tell where the gain comes from",
    "invalid": "This audit is invalid",
}
GROUPS = {
    "0": "Class names alone",
    "1": "Texts as the writer assigned them",
    "2": "The method",
    "3a": "Same labelled images, no language",
    "3b": "Same labelled images, no language",
    "3c": "Same labelled images, no language",
    "4": "Same texts, no labelled images",
    "5": "Neither",
    "6": "Same labelled images, vision alone",
    "7": "Class names with noise",
}


def write_audit_report(audit: str | Path, out: str | Path | None = None) -> Path:
    """Write ``report.html`` beside an audit.json.

    Args:
        audit: audit.json or its folder. out: where to write; report.html in that folder by default.
    Raises: DataNotFound, DataError: if there is no audit.
    """
    path = Path(audit)
    path = path / "audit.json" if path.is_dir() else path
    return atomic_write_text(out or path.parent / "report.html", audit_html(read_json(path)))


def audit_html(result: Mapping[str, Any]) -> str:
    """The page of one audit."""
    run = result.get("run") or {}
    title = task_title(str(run.get("task", "")))
    values = {
        "title": f"Semantic audit of {title}" if title else "Semantic audit",
        "eyebrow": " · ".join(filter(None, ("Semantic audit", title, clean(run.get("model", ""), 60), clean(run.get("pool", ""), 60)))),
        "verdict": result["verdict"]["name"],
        "headline": HEADLINES.get(result["verdict"]["name"], clean(result["verdict"]["name"])),
        "reason": clean(result["verdict"]["reason"]),
        "lede": lede(result),
        "hero": hero(result),
        "flags": flags(result),
        "note": BAZAAR_NOTE if str(run.get("task", "")).startswith("bazaar") else None,
        "declared": result["declared"],
        "tests": tests(result),
        "groups": groups(result),
        "axis": _arm_axis(result),
        "checks": checks(result),
        "misplaced": result.get("misplaced") or [],
        "lint": result.get("lint"),
        "facts": facts(result),
    }
    return environment().get_template("audit.html.j2").render(**values)


def lede(result: Mapping[str, Any]) -> str:
    """Gain, control and what is left for meaning, in one sentence each."""
    gain, meaning, fewshot = result["gain"], result["meaning"], result["fewshot"]
    images = sum(result["support"])
    who = f"{counted(images // max(1, len(result['support'])), 'labelled image')}" if images else "class names alone"
    assigned = result["options"].get("mode") == "assigned"
    ours, theirs = ("as written for each class", "in their place") if assigned else (f"chosen by {who}", "chosen in the same way")
    return (
        f"Descriptions {ours} change the accuracy of the class name by {points(gain['value'])} points. "
        f"Random letters, {theirs}, change it by {points(fewshot['value'])}. "
        f"What is left for meaning: {points(meaning['value'])} points, 95\u00a0% interval {interval(meaning['ci'])}."
    )


def interval(ci: Sequence[float]) -> str:
    """An interval of differences, in points.

    >>> interval((-0.002, 0.014))
    '−0.2 to +1.4'
    """
    return f"{points(ci[0])} to {points(ci[1])}"


def equals(p: float) -> str:
    """
    >>> equals(0.034), equals(1e-9)
    ('= 0.034', '< 0.0001')
    """
    shown = p_value(p)
    return shown if shown.startswith("<") else f"= {shown}"


def _arm(result: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    return next((row for row in result["arms"] if row["name"] == name), None)


def _seeds(result: Mapping[str, Any], name: str, caption: float) -> list[float]:
    """The gain of each control seed of an arm, over draws."""
    row = _arm(result, name)
    return [] if row is None else [value - caption for draw in row["accuracies"] for value in draw]


def hero(result: Mapping[str, Any]) -> Context:
    """Three bars on one scale: the real descriptions with the part that random letters reach too, those letters, and the null arm."""
    gain, fewshot = result["gain"], result["fewshot"]
    caption = _arm(result, "caption")
    base = caption["accuracy"] if caption else 0.0
    rows: list[tuple[str, float, Span, list[float], float | None]] = [
        ("Real descriptions", gain["value"], tuple(gain["ci"]), [], fewshot["value"]),
        ("Random letters instead", fewshot["value"], tuple(fewshot["ci"]), _seeds(result, "random_characters", base), None),
    ]
    null = result.get("null")
    if null is not None:
        rows.append(("Random letters, shuffled labels", null["value"], tuple(null["ci"]), _seeds(result, "null", base), None))
    shown = [0.0, *(v for _, value, ci, dots, _ in rows for v in (value, *ci, *dots))]
    domain = nice_domain(shown, pad=0.06, bounds=None)
    ticks = nice_ticks(*domain, most=5)
    labels = [_tick(tick) for tick in ticks]
    bars = [
        {"label": label, "value": points(value), "raw": value, "bar": split_bar(value, ci, dots, part, domain, ticks, label)}
        for label, value, ci, dots, part in rows
    ]
    return {"axis": figures.axis(domain, ticks=ticks, labels=labels), "rows": bars, "baseline": share(base)}


def split_bar(
    value: float, ci: Span, dots: Sequence[float], part: float | None, domain: Span, ticks: Sequence[float], label: str
) -> Markup:
    """A bar from zero to a gain. ``part`` is how much of it random letters reach; the rest is drawn as meaning. One dot a seed."""
    parts = [tag("line", x1=percent(scale(t, domain)), x2=percent(scale(t, domain)), y1="0", y2="32", class_="grid") for t in ticks]
    edge = value if part is None else min(max(part, 0.0), max(value, 0.0)) if value > 0 else value
    parts.append(_block(0.0, edge, domain, "both"))
    if part is not None and value > edge:
        parts.append(_block(edge, value, domain, "only-b"))
    zero = percent(scale(0.0, domain))
    parts.append(tag("line", x1=zero, x2=zero, y1="0", y2="32", class_="reference"))
    for index, dot in enumerate(dots):
        high = 10 + 3 * (index * 7 % 5)  # spread them, always in the same way
        parts.append(tag("circle", cx=percent(scale(dot, domain)), cy=str(high), r="2.2", class_="wrong", fill_opacity="0.45"))
    low, top = percent(scale(ci[0], domain)), percent(scale(ci[1], domain))
    parts.append(tag("line", x1=low, x2=top, y1="28", y2="28", class_="whisker"))
    spoken = f"{label}: {points(value)} points, 95 % interval {interval(ci)}"
    return tag("svg", *parts, class_="bar", width="100%", height="32", role="img", aria_label=spoken)


def _block(start: float, end: float, domain: Span, name: str) -> Markup:
    low, high = sorted((scale(start, domain), scale(end, domain)))
    return tag("rect", x=percent(low), width=percent(high - low), y="5", height="18", rx="1", class_=name)


def flags(result: Mapping[str, Any]) -> list[str]:
    """What must be said beside the verdict."""
    found = []
    if "vision dominates" in result["flags"]:
        best = max(result["vision"], key=lambda name: result["vision"][name]["value"])
        row, lead = _arm(result, best), result["vision"][best]
        title = clean(row["title"]) if row else best
        title = title if title[:1] + title[1:].lower() != title else title[:1].lower() + title[1:]  # names like Tip-Adapter stay
        found.append(
            f"Vision dominates: with the same labelled images, {title}, which reads no descriptions, is {points(lead['value'])} points "
            f"better ({interval(lead['ci'])})."
        )
    if result["leaks"]:
        found.append(f"{counted(result['leaks'], 'text names a class', 'texts name a class')}; the audit was repeated without them.")
    if not result["support"]:
        found.append("Without labelled images the class names stand in for them, so that no gain can come from labels.")
    return found


def tests(result: Mapping[str, Any]) -> list[Context]:
    """The primary tests, what they are made of, and the safeguard."""
    rows = [
        ("Gain (G)", "real descriptions minus class name", result["gain"]),
        ("Meaning (E)", "real descriptions minus random letters", result["meaning"]),
        ("Few shots (F)", "random letters minus class name", result["fewshot"]),
    ]
    if result.get("clean"):
        rows.insert(2, ("Gain without leaks", "the same, texts that name a class dropped", result["clean"]["gain"]))
        rows.insert(3, ("Meaning without leaks", "the same, texts that name a class dropped", result["clean"]["meaning"]))
    if result.get("null"):
        rows.append(("Null", "random letters with shuffled labels minus class name; p one-sided", result["null"]))
    return [
        {
            "title": title,
            "text": text,
            "raw": row["value"],
            "value": points(row["value"]),
            "interval": interval(row["ci"]),
            "p": p_value(row["p"]),
            "holm": p_value(row["p_holm"]) if row.get("p_holm") is not None else "",
        }
        for title, text, row in rows
    ]


def _arm_domain(result: Mapping[str, Any]) -> Span:
    return nice_domain([0.0, *(bound for row in result["arms"] for bound in row["gain"]["ci"])], pad=0.05, bounds=None)


def _tick(value: float) -> str:
    """
    >>> _tick(0.05), _tick(0.0), _tick(-0.025)
    ('+5', '0', '\u22122.5')
    """
    shown = number(100 * value, 1)
    return shown.replace("-", MINUS) if value <= 0 else f"+{shown}"


def _arm_axis(result: Mapping[str, Any]) -> Markup:
    domain = _arm_domain(result)
    ticks = nice_ticks(*domain, most=4)
    return figures.axis(domain, ticks=ticks, labels=[_tick(tick) for tick in ticks])


def groups(result: Mapping[str, Any]) -> list[Context]:
    """The arms under the heading of what they take away."""
    domain = _arm_domain(result)
    ticks = nice_ticks(*domain, most=4)
    found: dict[str, list[Context]] = {}
    for row in result["arms"]:
        if row["name"] != "random_characters_clean":
            found.setdefault(GROUPS.get(row["number"], row["number"]), []).append(_line(row, domain, ticks))
    return [{"title": title, "rows": rows} for title, rows in found.items()]


def _line(row: Mapping[str, Any], domain: Span, ticks: Sequence[float]) -> Context:
    gain = row["gain"]
    repeats = row["draws"] * row["seeds"]
    weights = row.get("w")
    label = f"{row['title']}: {points(gain['value'])} points, 95 % interval {interval(gain['ci'])}"
    bar = figures.interval_bar(gain["value"], tuple(gain["ci"]), label=label, domain=domain, reference=0.0, ticks=ticks)
    return {
        "name": row["name"],
        "title": clean(row["title"]),
        "isolates": clean(row["isolates"]),
        "raw": row["accuracy"],
        "accuracy": share(row["accuracy"]),
        "gain": "" if row["name"] == "caption" else points(gain["value"]),
        "times": f"mean of {repeats}" if repeats > 1 else "",
        "repaired": number(row["repaired"] or 0.0, 0),
        "broken": number(row["broken"] or 0.0, 0),
        "w": number(sum(weights) / len(weights), 2) if weights else "",
        "optimism": points(row["optimism"]) if row.get("optimism") is not None else "",
        "bar": bar,
    }


def checks(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Facts that a reader needs to trust or doubt the verdict."""
    found = result["resolution"]
    width, delta = f"±{100 * found['half_width_meaning']:.1f} points", f"{100 * found['delta']:.1f} point"
    seen = f"effects of {delta} are resolved" if found["resolved"] else f"effects of {delta} cannot be resolved"
    rows = [
        ("Resolution", f"With {counted(result['n'], 'test image')} the interval of meaning is {width} wide: {seen}."),
        *_dependence(result),
        ("Against random pools", f"The real pool beats {share(result['meaning']['beaten'], 0)} of them."),
        ("Support and test", "share no image." if not result["overlap"] else f"share {counted(result['overlap'], 'image')}."),
    ]
    if result.get("recall_at_k") is not None:
        bounds = f"The true class is among the candidates for {share(result['recall_at_k'])} of the images: the ceiling. "
        rows.append(("Ceiling and floor", bounds + f"Without any knowledge {share(result['floor'])} would be right: the floor."))
    lift = result.get("lift")
    if lift and lift.get("lift") is not None:
        text = f"{share(lift['share'])} of the selected texts were written for the class that they were selected for"
        rows.append(("Agreement with the writer", f"{text}, {lift['lift']:.1f} times chance (p {equals(lift['p'])})."))
    if true := result.get("true_texts"):
        text = f"{share(true['share'])} of the selected texts are true of the class that they were selected for"
        rows.append(("Known truth", f"{text}; of blindly picked ones {share(true['expected'])}."))
    selected = _arm(result, "selected")
    if selected is not None and selected.get("fallback") is not None:
        text = f"{share(selected['fallback'])} of the candidates fell back on their own list, {share(selected['short'])} found fewer texts."
        rows.append(("Lists", text))
    if selected is not None and selected.get("optimism") is not None:
        text = f"A weight chosen on the test images would show {points(selected['optimism'])} points more. It never is."
        rows.append(("Optimism", text))
    return rows


def _dependence(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is left of the gain if test images are not taken for independent."""
    gain, meaning, rows = result["gain"], result["meaning"], []
    if found := gain.get("permuted"):
        what = "the classes' lists" if found["what"] == "lists" else "the labels of the support"
        spread = f"{points(found['mean'])} points on average, {interval(found['span'])} in the middle 95\u00a0%"
        text = f"With {what} shuffled, {found['permutations']} times, the gain is {spread}. The real gain of {points(gain['value'])} has "
        rows.append((f"Shuffled {found['what']}", text + f"p {equals(found['p'])}, which holds however alike the test images are."))
    if gain.get("ci_classes") and meaning.get("ci_classes"):
        text = f"With whole classes resampled instead of images, the interval of the gain is {interval(gain['ci_classes'])}"
        rows.append(("Images that resemble each other", f"{text}, that of meaning {interval(meaning['ci_classes'])}."))
    return rows


def facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was run, briefly; audit.json has the rest."""
    run = result.get("run") or {}
    options = result["options"]
    support = f"{counted(result['support'][0], 'image')} a draw, {counted(result['draws'], 'draw')}" if result["support"] else "none"
    sizes = (counted(result["classes"], "class", "classes"), counted(result["texts"], "text"), counted(result["n"], "test image"))
    weight = "leave-one-out" if options["w_cls"] == "loo" else clean(options["w_cls"])
    rows = [
        ("Task", clean(run.get("task", ""), 200)),
        ("Model", clean(run.get("model", ""), 200)),
        ("Pool", clean(run.get("pool", ""), 200)),
        ("Size", ", ".join(sizes)),
        ("Support", support),
        ("Selection", f"k = {options['selection']['k']}, m = {options['selection']['m']}, weight of the class name: {weight}"),
        ("Control seeds", str(options["seeds"])),
        ("Time", duration(run.get("seconds"))),
        ("Version", clean((run.get("environment") or {}).get("permafrost", ""))),
    ]
    return [(word, value) for word, value in rows if value]
