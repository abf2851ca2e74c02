"""The report's figures as inline SVG: interval bars, axes, reliability diagram, paired outcomes.

Each function is pure: numbers in, Markup out. Text in a figure is for people who see it; ``label`` becomes the accessible name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from evals.report.svg import nice_ticks, number, percent, scale, tag

Interval = tuple[float, float]


class Bin(NamedTuple):
    """One bin of a reliability diagram.

    Attributes:
        low: lower edge of the confidences in it; ``high`` the upper edge.
        n: number of samples; 0 leaves the other fields meaningless.
        confidence: their mean confidence.
        accuracy: the share of them that is right, with its interval ``ci``.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    ci: Interval


def interval_bar(
    value: float | None,
    ci: Interval | None,
    *,
    label: str,
    domain: Interval = (0.0, 1.0),
    reference: float | None = None,
    ticks: Sequence[float] = (),
) -> Markup:
    """A value as an upright stroke with its interval around it, on a line that stretches with its column.

    Args:
        value: the estimate; None draws the empty line.
        ci: its interval, or None.
        domain: the values at the left and right end.
        reference: a value to mark (chance, zero).
        ticks: values of faint grid lines, the same as the axis above it.
    """
    parts = [
        tag("line", x1=percent(scale(tick, domain)), x2=percent(scale(tick, domain)), y1="0", y2="24", class_="grid") for tick in ticks
    ]
    parts.append(tag("line", x1="0%", x2="100%", y1="12", y2="12", class_="track"))
    if reference is not None and domain[0] <= reference <= domain[1]:
        at = percent(scale(reference, domain))
        parts.append(tag("line", x1=at, x2=at, y1="4", y2="20", class_="reference"))
    if ci is not None:
        low, high = scale(ci[0], domain), scale(ci[1], domain)
        parts.append(tag("rect", x=percent(low), width=percent(high - low), y="7", height="10", rx="2", class_="interval"))
    if value is not None:
        at = percent(scale(value, domain))
        parts.append(tag("line", x1=at, x2=at, y1="4", y2="20", class_="value"))
    return tag("svg", *parts, class_="bar", width="100%", height="24", role="img", aria_label=label)


def axis(domain: Interval = (0.0, 1.0), *, ticks: Sequence[float], labels: Sequence[str]) -> Markup:
    """The tick labels above a column of interval bars that share ``domain``.

    Of more than three labels every second one is ``minor``: the style sheet hides those where the column is narrow.
    """
    parts = []
    for index, (tick, shown) in enumerate(zip(ticks, labels, strict=True)):
        at = scale(tick, domain)
        anchor = "start" if at < 0.02 else "end" if at > 0.98 else "middle"
        minor = len(ticks) > 3 and (len(ticks) - 1 - index) % 2
        parts.append(tag("text", shown, x=percent(at), y="12", text_anchor=anchor, class_="tick minor" if minor else "tick"))
    return tag("svg", *parts, class_="axis", width="100%", height="16", aria_hidden="true")


def recall_bar(value: float, ci: Interval, *, label: str) -> Markup:
    """A bar from 0 to ``value`` with the interval as a thin whisker; its column stands for 0 to 100 %."""
    return tag(
        "svg",
        tag("rect", x="0", y="4", width="100%", height="8", rx="1", class_="rest"),
        tag("rect", x="0", y="4", width=percent(scale(value, (0, 1))), height="8", rx="1", class_="fill"),
        tag("line", x1=percent(scale(ci[0], (0, 1))), x2=percent(scale(ci[1], (0, 1))), y1="8", y2="8", class_="whisker"),
        class_="bar",
        width="100%",
        height="16",
        role="img",
        aria_label=label,
    )


def paired_bar(both: int, only_a: int, only_b: int, neither: int, *, label: str) -> Markup:
    """The four outcomes of two runs on the same images as one bar; the legend with the counts is ordinary text beside it."""
    total = both + only_a + only_b + neither
    parts, at = [], 0.0
    for count, name in ((both, "both"), (only_b, "only-b"), (only_a, "only-a"), (neither, "neither")):
        width = count / total if total else 0.0
        if count:
            parts.append(tag("rect", x=percent(at), width=percent(width), y="0", height="28", class_=name))
        if at > 0 and count:
            parts.append(tag("line", x1=percent(at), x2=percent(at), y1="0", y2="28", class_="gap"))
        at += width
    return tag("svg", *parts, class_="bar paired", width="100%", height="28", role="img", aria_label=label)


def compact(count: int) -> str:
    """A count in at most four characters.

    >>> compact(87), compact(1234), compact(45678), compact(2_000_000)
    ('87', '1.2k', '46k', '2M')
    """
    if count < 1000:
        return str(count)
    if count < 999_500:
        return f"{count / 1000:.1f}k" if count < 9950 else f"{count / 1000:.0f}k"
    return number(count / 1e6, 1 if count < 9_950_000 else 0) + "M"


def reliability(bins: Sequence[Bin], *, label: str) -> Markup:
    """Accuracy against confidence, one dot a bin with its interval, over the number of samples in each bin.

    Below the diagonal the model is more confident than it is right. The view box is 360 x 456 px and shrinks with a narrow column.
    """
    left, top, side, gap, strip = 44.0, 10.0, 300.0, 30.0, 70.0
    base = top + side

    def x(value: float) -> float:
        return left + side * scale(value, (0, 1))

    def y(value: float) -> float:
        return base - side * scale(value, (0, 1))

    parts: list[Markup] = []
    for tick in nice_ticks(0, 1, 6):
        parts.append(tag("line", x1=x(tick), x2=x(tick), y1=top, y2=base, class_="grid"))
        parts.append(tag("line", x1=left, x2=left + side, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(tag("text", f"{100 * tick:.0f}", x=x(tick), y=base + 16, text_anchor="middle", class_="tick"))
        parts.append(tag("text", f"{100 * tick:.0f}", x=left - 8, y=y(tick) + 4, text_anchor="end", class_="tick"))
    parts.append(tag("line", x1=x(0), y1=y(0), x2=x(1), y2=y(1), class_="diagonal"))
    full = [one for one in bins if one.n]
    for one in full:
        at = x(one.confidence)
        parts.append(tag("line", x1=at, x2=at, y1=y(one.ci[0]), y2=y(one.ci[1]), class_="whisker"))
    if len(full) > 1:
        points = " ".join(f"{number(x(one.confidence))},{number(y(one.accuracy))}" for one in full)
        parts.append(tag("polyline", points=points, class_="curve"))
    for one in full:
        tip = tag("title", f"confidence {100 * one.confidence:.1f} %, right {100 * one.accuracy:.1f} %, n = {one.n}")
        parts.append(tag("circle", tip, cx=x(one.confidence), cy=y(one.accuracy), r=4.5, class_="point"))
    parts.append(tag("text", "right, %", x=left + 8, y=top + 16, class_="axis-title"))
    floor = base + gap + strip
    tallest = max((one.n for one in bins), default=0)
    for one in full:
        height = max(1.0, (strip - 14) * one.n / tallest)
        x1, x2 = x(one.low) + 1, x(one.high) - 1
        parts.append(tag("rect", x=x1, width=max(1.0, x2 - x1), y=floor - height, height=height, class_="count"))
        parts.append(tag("text", compact(one.n), x=(x1 + x2) / 2, y=floor - height - 4, text_anchor="middle", class_="tick small"))
    parts.append(tag("line", x1=left, x2=left + side, y1=floor, y2=floor, class_="track"))
    parts.append(tag("text", "number of images", x=left, y=floor + 20, class_="tick"))
    parts.append(tag("text", "confidence, %", x=left + side, y=floor + 20, text_anchor="end", class_="axis-title"))
    parts.append(tag("line", x1=left, x2=left + side, y1=base, y2=base, class_="track"))
    return tag("svg", *parts, viewBox="0 0 360 456", class_="figure reliability", role="img", aria_label=label)
