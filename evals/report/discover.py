"""The figure and the page of a layer discovery: what masking costs at each layer, how attention moves, which layers follow.

Works on calibration.json alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from evals.report.drawing import Box, Item, Stroke, Words, estimated, fit, measured, pixels, svg
from evals.report.render import environment
from evals.report.svg import clean, nice_domain, nice_ticks, number
from evals.report.wording import BAZAAR_NOTE, counted, p_value, points, share, task_title

if TYPE_CHECKING:
    from PIL.Image import Image

    from evals.report.drawing import Measure

Found = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]

PAGE_WIDTH, FILE_WIDTH, MARGIN = 776.0, 1200, 40
HEIGHT, AXIS = 150.0, 56.0  # of a panel; room for the numbers at its left
SIZE, SMALL = 14.0, 12.0
MOST_NUMBERS = 32  # layers that all get their number


def discover_svg(found: Found) -> Markup:
    """The figure for a page."""
    panels = _Panels(found, 0.0, PAGE_WIDTH, estimated)
    panels.draw()
    return svg(panels.items, PAGE_WIDTH, panels.y, class_="explain", label=headline(found))


def discover_png(found: Found) -> Image:
    """The figure for a file, 1200 px wide, with a title and the small print."""
    panels = _Panels(found, float(MARGIN), float(FILE_WIDTH - 2 * MARGIN), measured, top=float(MARGIN))
    panels.y += 22
    panels.words(panels.left, headline(found), 22, bold=True)
    panels.y += 26
    panels.words(panels.left, layers_sentence(found), SIZE, "quiet")
    panels.y += 14
    panels.draw()
    panels.y += 24
    scorer = found["scorer"]
    small = f"{found['task']} · {found['model']} · {found['n']} questions · {scorer['name']}@{scorer['version']} · seed {found['seed']}"
    panels.words(panels.left, small, SMALL, "quiet")
    return pixels(panels.items, FILE_WIDTH, int(panels.y + MARGIN))


def headline(found: Found) -> str:
    """The first sentence."""
    who = clean(found["model"].rstrip("/").rpartition("/")[2], 60)  # of a path or a repository its last name
    if found["status"] != "ok":
        return f"Which layers of {who} fuse image and text stays open"
    if found["r"] is None:
        return f"{who} fuses image and text, and has no review layer"
    return f"{who} fuses image and text early, and looks again at layer {found['r']}"


def layers_sentence(found: Found) -> str:
    """C, k and r in words."""
    fusion = ", ".join(map(str, found["C"])) or "none"
    late = "none" if found["k"] is None else found["k"]
    review = "none" if found["r"] is None else found["r"]
    return f"Fusion layers C: {fusion}. Late layer k: {late}. Review layer r: {review}. Counted from 0 of {found['n_layers']} layers."


class _Panels:
    """A column of panels over the same layers. Each adds its items and moves ``y``."""

    def __init__(self, found: Found, left: float, width: float, measure: Measure, top: float = 0.0) -> None:
        self.found, self.left, self.width, self.measure, self.y = found, left, width, measure, top
        self.n: int = found["n_layers"]
        self.step = (width - AXIS) / self.n
        self.items: list[Item] = []

    def draw(self) -> None:
        level = self.found["rules"]["level"]
        for variant, rows in self.found["masking"]["variants"].items():
            bars = [(row["layer"], row["drop"], row["ci95"], row["p_holm"] < level and row["drop"] > 0) for row in rows if row["ci95"]]
            unit = f"{variant}: drop of the score in points; {self.found['masking']['meaning'][variant]}"
            self.panel(unit, bars, factor=100.0)
        hellinger = self.found["hellinger"]
        moved = [(row["next"], row["mean"], (row["q25"], row["q75"]), row["next"] == self.found["k"]) for row in hellinger["neighbours"]]
        self.panel("Distance of the attention to that of the layer before, H(P(i-1), P(i)), with quartiles", moved)
        far = [(row["layer"], row["mean"], (row["q25"], row["q75"]), row["layer"] in self.found["C"]) for row in hellinger["to_late"]]
        if far:
            self.panel(f"Distance of the attention to that of layer k = {self.found['k']}, H(P(i), P(k)), with quartiles", far)

    def panel(self, title: str, bars: Sequence[tuple[int, float, Sequence[float], bool]], factor: float = 1.0) -> None:
        """Bars with their intervals: (layer, value, (low, high), stands out)."""
        self.y += 30
        self.words(self.left, title, SIZE, bold=True)
        self.y += 12
        low, high = nice_domain([0.0, *(factor * v for _, value, ci, _ in bars for v in (value, *ci))], pad=0.06, bounds=None)
        top = self.y

        def at(value: float) -> float:
            return top + HEIGHT * (high - value) / (high - low)

        for tick in nice_ticks(low, high, 5):
            self.items.append(Stroke(self.left + AXIS, at(tick), self.left + self.width, at(tick), "rule" if tick == 0 else "line"))
            self.items.append(Words(self.left + AXIS - 8, at(tick) + 4, number(tick), SMALL, "quiet", "end"))
        for layer, value, (least, most), certain in bars:
            x, (upper, lower) = self.left + AXIS + self.step * (layer + 0.5), sorted((at(0.0), at(factor * value)))
            look, wide = "accent" if certain else "shade-2", 0.64 * self.step
            self.items.append(Box(x - wide / 2, upper, wide, lower - upper, look))
            self.items.append(Stroke(x, at(factor * least), x, at(factor * most), "ink", 1.5))
        self.y += HEIGHT + 16
        every = -(-self.n // MOST_NUMBERS)
        for layer in range(0, self.n, every):
            role = self.role(layer)
            x = self.left + AXIS + self.step * (layer + 0.5)
            self.items.append(Words(x, self.y, f"{layer}{role}", SMALL, "ink" if role else "quiet", "middle", bold=bool(role)))
        self.y += 4

    def role(self, layer: int) -> str:
        names = {"C": layer in self.found["C"], "k": layer == self.found["k"], "r": layer == self.found["r"]}
        said = "".join(name for name, holds in names.items() if holds)
        return f" {said}" if said else ""

    def words(self, x: float, text: str, size: float, look: str = "ink", *, bold: bool = False) -> None:
        shown = fit(text, self.width, size, self.measure, bold=bold)
        self.items.append(Words(x, self.y, shown, size, look, bold=bold, tip="" if shown == clean(text) else clean(text, 300)))


def discover_html(found: Found) -> str:
    """The page of one discovery."""
    title = task_title(str(found["task"]))
    base = found["masking"]["base"]
    scorer = f"{found['scorer']['name']}@{found['scorer']['version']}"
    values = {
        "title": f"Layers of {clean(found['model'], 60)}",
        "eyebrow": " · ".join(("Layer discovery", title, clean(found["model"], 60))),
        "headline": headline(found),
        "lede": layers_sentence(found),
        "figure": discover_svg(found),
        "notes": [clean(reason[0].upper() + reason[1:] + ".") for reason in found["reasons"]],
        "note": BAZAAR_NOTE if str(found["task"]).startswith("bazaar") else None,
        "base": f"{share(base['score'])} by {scorer}",
        "variants": [_variant(name, rows, found) for name, rows in found["masking"]["variants"].items()],
        "rules": _rules(found),
        "facts": _facts(found, scorer),
    }
    return environment().get_template("discover.html.j2").render(**values)


def _variant(name: str, rows: Rows, found: Found) -> dict[str, Any]:
    level = found["rules"]["level"]
    table = [
        {
            "layer": row["layer"],
            "score": "" if row["score"] is None else share(row["score"]),
            "raw": row["drop"],
            "drop": "" if row["drop"] is None else points(row["drop"]),
            "interval": "" if row["ci95"] is None else f"{points(row['ci95'][0])} to {points(row['ci95'][1])}",
            "p": p_value(row["p_holm"]),
            "certain": row["drop"] is not None and row["drop"] > 0 and row["p_holm"] < level,
        }
        for row in rows
    ]
    return {"name": name, "meaning": found["masking"]["meaning"][name], "rows": table}


def _rules(found: Found) -> list[str]:
    rules = found["rules"]
    return [
        f"C: layers in the first {share(rules['early'], 0)} of the depth whose block_at drop is significant at {share(rules['level'], 0)}.",
        f"r: of the last {share(rules['review'], 0)}, the layer with the largest significant block_at drop; none if there is none.",
        f"k: of the last {share(rules['late'], 0)}, before r, the layer whose attention differs least from the layer before.",
        f"Test: {rules['test']}.",
        f"Inconclusive with fewer than {counted(rules['min_candidates'], 'layer')} in C.",
    ]


def _facts(found: Found, scorer: str) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items() if version)
    failed = f", {found['n_failed']} failed" if found["n_failed"] else ""
    rows = [
        ("Task", clean(found["task"], 200)),
        ("Model", clean(f"{found['model']} ({found['model_type']} with a {found['text_type']}, {found['dtype']})", 300)),
        ("Questions", f"{counted(found['n'], 'question')}{failed}, drawn with seed {found['seed']}"),
        ("Scorer", clean(scorer)),
        ("Fingerprint", clean(found["fingerprint"], 80)),
        ("Versions", clean(versions, 300)),
    ]
    return [(word, value) for word, value in rows if value]
