"""Small helpers for inline SVG: escaped tags, nice ticks, text that is shortened to fit. No drawing library is needed.

Colours are never written here: every shape carries a class, and the page's style sheet colours it for light, dark and print.
Lengths given as ``percent(0.42)`` make a figure stretch with its column while its text keeps its size.
"""

from __future__ import annotations

import math
import unicodedata

from markupsafe import Markup, escape

FORBIDDEN = {"Cc", "Cs", "Co", "Cn"}  # control, lone surrogate, private use, unassigned: not allowed or not visible in HTML
DIRECTION_MARKS = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # can turn the rest of a line around


def clean(value: object, most: int | None = None) -> str:
    """Text that is safe to lay out: no control or direction characters, at most ``most`` characters.

    >>> clean("a\\x00b\\u202ec")
    'a\ufffdb\ufffdc'
    """
    text = str(value)
    if not text.isascii() or not text.isprintable():
        text = "".join(_visible(char) for char in text)
    if most is not None and len(text) > most:
        text = text[: most - 1].rstrip() + "…"
    return text


def _visible(char: str) -> str:
    if char in "\n\t":
        return " "
    if char in DIRECTION_MARKS or unicodedata.category(char) in FORBIDDEN:
        return "\ufffd"
    return char


def text_width(text: str, size: float) -> float:
    """Estimated width of ``text`` in px at font size ``size`` px; an upper estimate for ordinary sans-serif fonts.

    >>> text_width("abc", 10) < text_width("MMM", 10) < text_width("漢漢漢", 10)
    True
    """
    total = 0.0
    for char in text:
        if unicodedata.combining(char):
            continue
        if unicodedata.east_asian_width(char) in "WF":
            total += 1.02
        elif char in "iljtfrI.,:;|'!()[] ":
            total += 0.36
        elif char in "mwMW@%":
            total += 0.92
        elif char.isupper():
            total += 0.70
        else:
            total += 0.58
    return total * size


def elide(text: str, room: float, size: float) -> str:
    """``text`` shortened with an ellipsis until it fits ``room`` px at font size ``size`` px.

    >>> elide("highway or road", 50, 10)
    'highway…'
    """
    text = clean(text)
    if text_width(text, size) <= room:
        return text
    kept = text[: max(1, int(room / (0.36 * size)) + 1)]
    while len(kept) > 1 and text_width(kept + "…", size) > room:
        kept = kept[:-1]
    return kept.rstrip() + "…"


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """One element; attribute names may use ``_`` for ``-`` and a trailing ``_`` (``class_``); values are escaped, None is left out.

    >>> tag("text", "<b>", class_="tick", text_anchor="end")
    Markup('<text class="tick" text-anchor="end">&lt;b&gt;</text>')
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is not None:
            shown = number(value) if isinstance(value, float) else value
            parts.append(f' {key.rstrip("_").replace("_", "-")}="{escape(shown)}"')
    parts.append(">")
    parts.extend(str(escape(child)) for child in children)
    parts.append(f"</{name}>")
    return Markup("".join(parts))


def number(value: float, digits: int = 2) -> str:
    """A coordinate with at most ``digits`` decimals and no useless zeros.

    >>> number(12.50), number(-0.0), number(3)
    ('12.5', '0', '3')
    """
    shown = f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}"
    return "0" if shown in ("-0", "") else shown


def percent(fraction: float) -> str:
    """A length as a share of the figure's width or height.

    >>> percent(0.4213), percent(1)
    ('42.13%', '100%')
    """
    return number(100 * fraction, 3) + "%"


def scale(value: float, domain: tuple[float, float]) -> float:
    """Where ``value`` lies in ``domain``, as a fraction clipped to [0, 1]."""
    low, high = domain
    if not high > low:
        return 0.0
    return min(1.0, max(0.0, (value - low) / (high - low)))


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round tick positions that cover [low, high] from within, at most ``most``.

    >>> nice_ticks(0.0, 1.0, 6)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> nice_ticks(0.83, 0.91, 5)
    [0.84, 0.86, 0.88, 0.9]
    """
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    magnitude = 10.0 ** (math.floor(math.log10((high - low) / most)) - 1)
    for _ in range(4):
        for step in (1, 2, 2.5, 5):
            width = step * magnitude
            first, last = math.ceil(low / width - 1e-9), math.floor(high / width + 1e-9)
            if last - first + 1 <= most:
                return [round(index * width, 10) for index in range(first, last + 1)]
        magnitude *= 10
    return [low, high]


def nice_domain(values: list[float], *, pad: float = 0.12, bounds: tuple[float, float] | None = (0.0, 1.0)) -> tuple[float, float]:
    """A domain with some air around ``values``, kept within ``bounds``; the full bounds when there is nothing to show."""
    shown = [value for value in values if math.isfinite(value)]
    if not shown:
        return bounds or (0.0, 1.0)
    low, high = min(shown), max(shown)
    air = max(high - low, 0.02) * pad
    low, high = low - air, high + air
    if bounds is not None:
        low, high = max(bounds[0], low), min(bounds[1], high)
    return low, high
