"""The picture of one explanation: the class against its rivals, what each description adds, and the weights at which the answer flips.

Works on the JSON of an explanation (``permafrost explain --json``, ``explain.json`` of a run), never on a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from evals.report.drawing import Box, Item, Stroke, Words, estimated, fit, measured, pixels, svg, wrap
from evals.report.svg import clean, nice_ticks, number, scale
from evals.report.wording import MINUS

if TYPE_CHECKING:
    from PIL.Image import Image

    from evals.report.drawing import Measure

Told = Mapping[str, Any]

PAGE_WIDTH, FILE_WIDTH = 776.0, 1200
MARGIN, PHOTO = 40, 300
MOST_RIVALS, MOST_TEXTS, MOST_LISTS = 4, 6, 3
ROW, SIZE, SMALL = 25.0, 14.0, 12.5
W_SHOWN = 40.0
SHADES = ("shade-1", "shade-2")


def explain_svg(told: Told) -> Markup:
    """The figure for a page; it stands beside the photo and the sentence, which are the page's own."""
    board = Board(0.0, PAGE_WIDTH, estimated)
    board.rivals(told)
    board.texts(told)
    board.notes(told)
    return svg(board.items, PAGE_WIDTH, board.y, class_="explain", label=spoken(told))


def explain_png(told: Told, photo: Image | None, *, sentence: str = "", footer: str = "") -> Image:
    """The picture for a file, 1200 px wide: photo, sentence and figure.

    Args:
        photo: the explained photo, or None.
        sentence: what the figure says in words. footer: small print, such as the model and the task.
    """
    left = MARGIN + PHOTO + MARGIN
    board = Board(float(left), float(FILE_WIDTH - left - MARGIN), measured, top=float(MARGIN))
    board.title(told, sentence)
    board.rivals(told)
    side = Board(float(MARGIN), float(PHOTO), measured, top=float(MARGIN + PHOTO + 26))
    side.label(told)
    if photo is None:
        side.items.append(Box(MARGIN, MARGIN, PHOTO, PHOTO, "panel", 6))
        side.items.append(Words(MARGIN + PHOTO / 2, MARGIN + PHOTO / 2, "no photo at hand", SMALL, "quiet", "middle"))
    below = Board(float(MARGIN), float(FILE_WIDTH - 2 * MARGIN), measured, top=max(board.y, side.y) + 14)
    below.texts(told)
    below.notes(told)
    height = int(below.y + MARGIN + 10)
    small_print = Words(MARGIN, height - 26, fit(footer, FILE_WIDTH - 2 * MARGIN, SMALL, measured), SMALL, "quiet")
    items = [*board.items, *side.items, *below.items, small_print]
    return pixels(items, FILE_WIDTH, height, [] if photo is None else [(photo, (MARGIN, MARGIN, PHOTO, PHOTO))])


def spoken(told: Told) -> str:
    """The figure in words, for those who do not see it."""
    leads = ", ".join(f"{_name(row)} by {signed(row['lead'])}" for row in told["candidates"][1 : MOST_RIVALS + 1])
    return f"{clean(told['name'], 80)} leads {leads}" if leads else f"{clean(told['name'], 80)} was the only candidate"


def without_name(name: str, sentence: str) -> str:
    """The sentence of an explanation where the name stands above it already.

    >>> without_name("river", "river: its descriptions decide.")
    'Its descriptions decide.'
    """
    rest = sentence.removeprefix(f"{name}: ")
    return rest[:1].upper() + rest[1:] if rest != sentence else sentence


def signed(value: float, digits: int = 4) -> str:
    """A difference with its sign, zero without one.

    >>> signed(0.0123), signed(-0.5), signed(0.00001)
    ('+0.0123', '\u22120.5000', '0.0000')
    """
    shown = f"{abs(value):.{digits}f}"
    return shown if float(shown) == 0 else ("+" if value > 0 else MINUS) + shown


def _name(row: Told, most: int = 60) -> str:
    return clean(row["name"], most)


class Board:
    """A column of a picture that grows downwards: each part adds its items and moves ``y``."""

    def __init__(self, left: float, width: float, measure: Measure, top: float = 0.0) -> None:
        self.left, self.width, self.measure, self.y = left, width, measure, top
        self.items: list[Item] = []

    @property
    def right(self) -> float:
        return self.left + self.width

    def words(
        self, x: float, text: str, room: float, *, size: float = SIZE, look: str = "ink", anchor: str = "start", bold: bool = False
    ) -> None:
        """One line at the present height, shortened to ``room`` px."""
        shown = fit(text, room, size, self.measure, bold=bold)
        self.items.append(Words(x, self.y, shown, size, look, anchor, bold, tip="" if shown == clean(text) else clean(text, 300)))

    def title(self, told: Told, sentence: str) -> None:
        self.y += 24
        self.words(self.left, told["name"], self.width, size=26, bold=True)
        self.y += 6
        for line in wrap(without_name(told["name"], sentence), self.width, 15, self.measure, most=4):
            self.y += 22
            self.words(self.left, line, self.width, size=15, look="quiet")
        self.y += 30

    def label(self, told: Told) -> None:
        """Under the photo: what it is called, what it is, and how the answer was made."""
        if told.get("sample"):
            self.words(self.left, str(told["sample"]), self.width, size=SMALL, look="quiet")
            self.y += 24
        if told.get("truth"):
            right = told["truth"] == told["name"]
            verdict = f"labelled {told['truth']}"
            for line in wrap(verdict, self.width, SIZE, self.measure, most=2):
                self.words(self.left, line, self.width, bold=True)
                self.y += 20
            self.words(self.left, "the answer is right" if right else "the answer is wrong", self.width, look="ink" if right else "warn")
            self.y += 24
        origin = {"loo": "found by leave-one-out", "oracle": "found on the test set (oracle)", "given": "given"}
        origin |= {"prequential": "found batch by batch", "no support": "as no photos were given"}
        facts = [f"{len(told['candidates'])} candidates, up to {told['m']} texts each"]
        facts.append(f"weight of the name w = {told['w']:.2f}, {origin.get(told['w_origin'], told['w_origin'])}")
        for fact in facts:
            for line in wrap(fact, self.width, SMALL, self.measure, most=2):
                self.words(self.left, line, self.width, size=SMALL, look="quiet")
                self.y += 18

    def rivals(self, told: Told) -> None:
        """The winner against each rival, and the weights at which the answer changes; nothing for a lone candidate."""
        if told["candidates"][1:]:
            self.duels(told, told["candidates"][1:])
            self.weights(told)

    def notes(self, told: Told) -> None:
        """What is unusual, in small print."""
        self.y += 8
        for note in told["notes"][:4]:
            for line in wrap(note, self.width, SMALL, self.measure, most=2):
                self.words(self.left, line, self.width, size=SMALL, look="quiet")
                self.y += 18

    def heading(self, text: str, key: Sequence[tuple[str, str]] = (), aside: str = "") -> None:
        """A title, with the key of the colours or a few small words at the right."""
        self.y += 16
        if aside:
            self.words(self.right, aside, 0.75 * self.width, size=SMALL, look="quiet", anchor="end")
        at = self.right
        for look, meaning in reversed(key):
            at -= self.measure(meaning, SMALL, False)
            self.items.append(Words(at, self.y, meaning, SMALL, "quiet"))
            at -= 16
            self.items.append(Box(at, self.y - 10, 10, 10, look, 2))
            at -= 18
        self.words(self.left, text, at - self.left, size=15, bold=True)
        self.y += 12

    def duels(self, told: Told, rivals: Sequence[Told]) -> None:
        """Each rival: the name part above, the description part below, their sum as an upright stroke, on one axis around zero."""
        self.heading(f"{_name(told, 40)} against its rivals", [("rule", "by the class name"), ("accent", "by the descriptions")])
        shown = rivals[:MOST_RIVALS]
        wide, numbers = min(210.0, 0.27 * self.width), 176.0
        x0, x1 = self.left + wide + 16, self.right - numbers - 16
        largest = max((abs(row[key]) for row in shown for key in ("name_part", "description_part", "lead")), default=0.0) or 1.0
        zero = (x0 + x1) / 2

        def at(value: float) -> float:
            return zero + (x1 - x0) / 2 * value / largest

        top = self.y
        self.y += 14
        self.items.append(Words(self.right - numbers + 76, self.y, "lead", SMALL, "quiet", "end"))
        self.items.append(Words(self.right, self.y, "flips at w", SMALL, "quiet", "end"))
        self.items.append(Words(zero - 8, self.y, "rival", SMALL, "quiet", "end"))
        self.items.append(Words(zero + 8, self.y, fit(told["name"], x1 - zero, SMALL, self.measure), SMALL, "quiet"))
        self.y += 10
        for row in shown:
            for offset, key, look in ((0, "name_part", "rule"), (13, "description_part", "accent")):
                start, end = sorted((zero, at(row[key])))
                self.items.append(Box(start, self.y + offset, max(end - start, 1.0), 11, look, 1.5))
            self.items.append(Stroke(at(row["lead"]), self.y - 3, at(row["lead"]), self.y + 27, "ink", 2))
            base, self.y = self.y, self.y + 17
            self.words(self.left, row["name"], wide)
            self.words(self.right - numbers + 76, signed(row["lead"]), 76, anchor="end")
            self.words(self.right, "never" if row["flip"] is None else f"{row['flip']:.2f}", 90, anchor="end")
            self.y = base + 38
        self.items.insert(0, Stroke(zero, top + 4, zero, self.y - 6, "line"))
        if len(rivals) > len(shown):
            self.y += 4
            self.words(self.left, f"and {len(rivals) - len(shown)} more", wide, size=SMALL, look="quiet")
            self.y += 12
        self.y += 12

    def texts(self, told: Told) -> None:
        """The selected texts of the winner and its rivals: how far each photo-text cosine stands out, and what happens without it."""
        rows = [row for row in told["candidates"][:MOST_LISTS] if row["texts"]]
        if not rows:
            return
        known = all(part["excess"] is not None for row in rows for part in row["texts"])
        usual = "bars: fit to this photo against " + ("the candidates' usual photos" if known else "the mean of these texts")
        self.heading("Descriptions", aside=usual)
        middle = 0.0 if known else sum(p["cosine"] for r in rows for p in r["texts"]) / sum(len(r["texts"]) for r in rows)
        columns = _Columns(self, told, [self._excess(part, middle) for row in rows for part in row["texts"][:MOST_TEXTS]])
        columns.head()
        for place, row in enumerate(rows):
            self.y += 30 if place else 8
            said = "" if not row["fallback"] else ": none fits better than for the others, its own first ones stand in"
            self.words(self.left, _name(row) + said, self.width, bold=True, look="accent" if place == 0 else "quiet")
            for part in row["texts"][:MOST_TEXTS]:
                columns.row(part, self._excess(part, middle), "accent" if place == 0 else "rule")
            if len(row["texts"]) > MOST_TEXTS:
                self.y += 18
                self.words(self.left, f"and {len(row['texts']) - MOST_TEXTS} more", self.width, size=SMALL, look="quiet")
        self.y += 22

    @staticmethod
    def _excess(part: Told, middle: float) -> float:
        return float(part["cosine"] - middle if part["excess"] is None else part["excess"])

    def weights(self, told: Told) -> None:
        """The w line: who wins at which weight of the class name, and the weight that was used."""
        self.heading("Weight of the class name: who wins where")
        end = w_end(told)
        self.y += 28
        top, tall, span = self.y, 26.0, (0.0, end)
        for place, part in enumerate(one for one in told["segments"] if one["low"] < end):
            x0 = self.left + self.width * scale(part["low"], span)
            x1 = self.left + self.width * scale(end if part["high"] is None else part["high"], span)
            won = part["label"] == told["label"]
            self.items.append(Box(x0, top, max(x1 - x0, 1.0), tall, "accent" if won else SHADES[place % 2]))
            shown = fit(part["name"], x1 - x0 - 12, SMALL, self.measure)
            if shown == clean(part["name"]) or x1 - x0 > 90:
                self.items.append(Words((x0 + x1) / 2, top + 17.5, shown, SMALL, "ground" if won else "ink", "middle"))
            if part["low"] > 0:
                self.items.append(Stroke(x0, top - 4, x0, top + tall + 4, "ground", 3))
        used = self.left + self.width * scale(told["w"], span)
        self.items.append(Stroke(used, top - 7, used, top + tall + 7, "ink", 2.5))
        mark = f"used: {told['w']:.2f}"
        half = self.measure(mark, SMALL, True) / 2
        at = min(max(used, self.left + half), self.right - half)
        self.items.append(Words(at, top - 12, mark, SMALL, "ink", "middle", bold=True))
        self.y = top + tall + 20
        for tick in nice_ticks(0.0, end, 9):
            x = self.left + self.width * scale(tick, span)
            anchor = "start" if tick == 0 else "end" if x > self.right - 12 else "middle"
            self.items.append(Words(x, self.y, number(tick, 3), SMALL, "quiet", anchor))
        self.y += 18
        self.words(self.left, "0: the descriptions alone", 300, size=SMALL, look="quiet")
        self.words(self.right, "larger: the name decides more and more", 320, size=SMALL, look="quiet", anchor="end")
        self.y += 22


class _Columns:
    """The columns of the table of texts."""

    def __init__(self, board: Board, told: Told, values: Sequence[float]) -> None:
        self.board, self.told = board, told
        self.names = {row["label"]: row["name"] for row in told["candidates"]}
        wide = board.width
        self.text_end = board.left + (0.44 if wide > 900 else 0.485) * wide
        self.bar = (self.text_end + 16, board.left + 0.65 * wide)
        step = 68 if wide > 900 else 62
        self.cosine, self.margin = self.bar[1] + step, self.bar[1] + 2 * step
        self.without = self.margin + 18
        low, high = min(0.0, *values), max(0.0, *values)
        self.span = (low, high if high > low else low + 1.0)

    def head(self) -> None:
        board = self.board
        board.y += 12
        zero = self.at(0.0)
        if zero - self.bar[0] > 40:
            board.words(zero - 7, "worse", zero - self.bar[0], size=SMALL, look="quiet", anchor="end")
        if self.bar[1] - zero > 40:
            board.words(zero + 7, "better", self.bar[1] - zero, size=SMALL, look="quiet")
        board.words(self.cosine, "cosine", 70, size=SMALL, look="quiet", anchor="end")
        board.words(self.margin, "margin", 70, size=SMALL, look="quiet", anchor="end")
        board.words(self.without, "without it", board.right - self.without, size=SMALL, look="quiet")
        board.y -= 4

    def at(self, value: float) -> float:
        return self.bar[0] + (self.bar[1] - self.bar[0]) * scale(value, self.span)

    def row(self, part: Told, value: float, look: str) -> None:
        board = self.board
        board.y += ROW
        zero, end = self.at(0.0), self.at(value)
        board.items.append(Box(min(zero, end), board.y - 12, max(abs(end - zero), 1.0), 13, look, 1.5))
        board.items.append(Stroke(zero, board.y - 16, zero, board.y + 6, "rule", 1))
        board.words(board.left, part["text"], self.text_end - board.left)
        board.words(self.cosine, f"{part['cosine']:.3f}".replace("-", MINUS), 70, anchor="end")
        board.words(self.margin, "" if part["margin"] is None else signed(part["margin"], 3), 70, anchor="end")
        to = next((part["without"][key] for key in ("reselect_to", "drop_to") if part["without"][key] != self.told["label"]), None)
        room = board.right - self.without
        if to is not None:
            board.words(self.without, f"{self.names.get(to, to)}", room, look="warn", bold=True)
        else:
            board.words(self.without, "same" + (", flagged" if part["hits"] else ""), room, look="warn" if part["hits"] else "quiet")


def w_end(told: Told) -> float:
    """How far the w line goes: past the used weight and past every flip below 40.

    >>> w_end({"w": 1.0, "segments": [{"low": 0.0}, {"low": 4.0}, {"low": 900.0}]})
    5.0
    """
    flips = [part["low"] for part in told["segments"] if 0 < part["low"] <= W_SHOWN]
    return max(1.4 * told["w"], 1.25 * max(flips, default=0.0)) or 1.0
