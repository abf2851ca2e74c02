"""An explanation in plain text: one sentence, and a table of what speaks for whom."""

from __future__ import annotations

from toolkit.methods.descriptions.explanation import Candidate, Explanation, TextPart

MOST_RIVALS, MOST_TEXTS = 4, 8


def sentence(explanation: Explanation) -> str:
    """Who won, by what, and how firmly, in one sentence."""
    if not explanation.rivals:
        return f"{_printable(explanation.name)}: the only candidate, chosen by its caption."
    low, high = explanation.holds
    if high is None and low == 0:
        firm = "it holds for every weight of the class name"
    else:
        span = f"from {low:.2f} up" if high is None else f"from {low:.2f} to {high:.2f}" if low else f"up to {high:.2f}"
        firm = f"it holds for weights of the class name {span}, and {explanation.w:.2f} was used"
    return f"{_printable(explanation.name)}: {reason(explanation)}; {firm}{_alone(explanation)}."


def reason(explanation: Explanation) -> str:
    """Which part decided, against the rival that the name prefers, or else against the nearest one."""
    if explanation.w == 0:
        agrees = f"the name would say {_printable(explanation.caption_name)}" if explanation.descriptions_decide else "the name agrees"
        return f"its descriptions decide alone, and {agrees}"
    if explanation.descriptions_decide:
        return f"its descriptions outvote the name, which speaks for {_printable(explanation.caption_name)}"
    rival = explanation.rivals[0]
    if rival.description_part < 0:
        return f"its name outvotes the descriptions, which speak for {_printable(rival.name)}"
    if rival.lead == 0:
        return f"it ties with {_printable(rival.name)}, and the order of the classes decides"
    return f"name and descriptions both speak for it against {_printable(rival.name)}"


def _alone(explanation: Explanation) -> str:
    if not explanation.flipping:
        return ""
    first = explanation.flipping[0]
    if len(explanation.flipping) == 1:
        return f"; without the text {first.text!r} it would be {_printable(first.to)}"
    return f"; each of {len(explanation.flipping)} texts alone decides, such as {first.text!r}"


def plain(explanation: Explanation) -> str:
    """The sentence, the candidates, the texts of each, and the notes, as lines of text."""
    lines = [sentence(explanation), ""]
    shown = explanation.candidates[: MOST_RIVALS + 1]
    wide = max(len(_short(row.name, 32)) for row in shown)
    lines.append(f"{'':{wide}}  caption  descriptions  score (w = {explanation.w:.2f})  name part  description part  changes places at w")
    for row in shown:
        lines.append(_candidate_line(row, wide, explanation))
    for row in shown:
        lines += _text_lines(row)
    lines += [""] * bool(explanation.notes) + [f"note: {_printable(note)}" for note in explanation.notes]
    return "\n".join(lines)


def _candidate_line(row: Candidate, wide: int, explanation: Explanation) -> str:
    numbers = f"{_short(row.name, 32):{wide}}  {row.a:7.4f}  {row.b:12.4f}  {row.score:{17 + len(f'{explanation.w:.2f}') - 4}.4f}"
    if row.rank == 1:
        return numbers
    flip = "never" if row.flip is None else f"{row.flip:.3f}"
    return f"{numbers}  {row.name_part + 0.0:+9.4f}  {row.description_part + 0.0:+16.4f}  {flip:>19}"


def _text_lines(row: Candidate) -> list[str]:
    if not row.texts:
        return []
    kind = " (fallback: none fits it better than the others)" if row.fallback else ""
    lines = ["", f"{_printable(row.name)}{kind}", "    cosine  excess  margin  contribution"]
    for part in row.texts[:MOST_TEXTS]:
        numbers = f"  {part.cosine:8.4f} {_signed(part.excess)} {_signed(part.margin)}  {part.contribution:12.4f}"
        lines.append(f"{numbers}  {_printable(part.text)}{_marks(part)}")
    hidden = len(row.texts) - MOST_TEXTS
    return lines + [f"  and {hidden} more"] * (hidden > 0)


def _signed(value: float | None) -> str:
    return "      -" if value is None else f"{value:+7.4f}"


def _marks(part: TextPart) -> str:
    return f"  [{', '.join(part.hits)}]" if part.hits else ""


def _printable(text: str) -> str:
    """Control characters become escapes: a text of a pool must not command the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _short(text: str, most: int) -> str:
    text = _printable(text)
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
