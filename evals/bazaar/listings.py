"""What the seller writes: title and description, each claim in it with its place in the text and its verdict.

Sellers are honest (all damage is named), forgetful (some of it is left out) or bold (they deny it, and promise accessories
that are not there). The verdict is against the item itself, not against a photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evals.bazaar.defects import Defect
from evals.bazaar.items import Item
from evals.bazaar.price import Sale, sale
from evals.bazaar.streams import Stream

_LISTING = 5
SELLERS = ("honest", "forgetful", "bold")

_LEVELS = ((0.34, ("small", "light", "minor")), (0.67, ("visible", "clear", "moderate")), (1.01, ("deep", "large", "severe")))
_NOUNS = {"headphones": "pair of headphones"}
STATES = {  # what sellers call a condition, by grade
    "A": ("like new", "mint", "flawless"),
    "B": ("very good condition", "barely used"),
    "C": ("good condition", "used"),
    "D": ("well used", "acceptable condition"),
    "E": ("for parts", "heavily used"),
}
_OPENINGS = (
    "I am selling my {thing}.",
    "Here I offer a {thing} that I no longer need.",
    "This {thing} is looking for a new home.",
    "For sale is a {thing} from our household.",
)
_AGES = ("It is {age} old.", "I bought it {age} ago.", "Bought new {age} ago.")
_FILLERS = (
    "We are a smoke-free home.",
    "Pick-up in {region} or shipping.",
    "No returns, private sale.",
    "Feel free to ask for more photos.",
    "First come, first served.",
)


@dataclass(frozen=True)
class Claim:
    """One statement of a listing.

    Attributes:
        about: "defect", "accessory", "works" or "state" (a word for the whole condition).
        subject: type of the damage, name of the accessory, or the word. part: of the damage, if it is named.
        present: what is claimed: there, or not there.
        level: the adjective of a damage, if there is one.
        field, start, end: where it is said; ``getattr(listing, field)[start:end]`` is the sentence or phrase.
        verdict: "supported" or "contradicted" by the item.
    """

    about: str
    subject: str
    part: str | None
    present: bool
    level: str | None
    field: str
    start: int
    end: int
    verdict: str


@dataclass(frozen=True)
class Listing:
    """A listing; ``omitted`` are the numbers of the item's defects that no claim names or denies."""

    title: str
    description: str
    seller: str
    claims: tuple[Claim, ...]
    omitted: tuple[int, ...]


class _Writer:
    """Sentences one after another, with the claims in them."""

    def __init__(self) -> None:
        self.text = ""
        self.claims: list[Claim] = []

    def say(self, sentence: str, claims: Sequence[Claim] = ()) -> None:
        start = len(self.text) + bool(self.text)
        self.text += (" " if self.text else "") + sentence
        for c in claims:
            self.claims.append(
                Claim(c.about, c.subject, c.part, c.present, c.level, "description", start, start + len(sentence), c.verdict)
            )


def _claim(about: str, subject: str, present: bool, true: bool, part: str | None = None, level: str | None = None) -> Claim:
    return Claim(about, subject, part, present, level, "", 0, 0, "supported" if true else "contradicted")


def listing(item: Item) -> Listing:
    """The listing of an item: always the same one."""
    stream, sold = Stream(item.seed, item.index, _LISTING), sale(item)
    seller = stream.weighted(SELLERS, (0.6, 0.25, 0.15))
    thing = item.line if item.line is not None and stream.chance(0.7) else f"{item.colour} {_NOUNS.get(item.category, item.category)}"
    writer = _Writer()
    writer.say(stream.choice(_OPENINGS).format(thing=thing))
    if stream.chance(0.8):
        writer.say(stream.choice(_AGES).format(age=_age(sold.age_months)))
    if stream.chance(0.7):
        writer.say(_looks(item, stream))
    if not sold.works and not (seller == "bold" and stream.chance(0.3)):
        writer.say(stream.choice(("It does not work any more.", "Not working, for parts only.")), [_claim("works", "works", False, True)])
    elif not sold.works:
        writer.say("It works perfectly.", [_claim("works", "works", True, False)])
    named = _damage(item, seller, stream, writer)
    _accessories(item, seller, stream, writer)
    if stream.chance(0.6):
        writer.say(stream.choice(_FILLERS).format(region=sold.region))
    title, state = _title(item, sold, seller, stream)
    omitted = tuple(k for k in range(len(item.defects)) if k not in named)
    return Listing(title, writer.text, seller, (*state, *writer.claims), omitted)


def _age(months: int) -> str:
    if months < 1:
        return "a few weeks"
    if months < 24:
        return "one month" if months == 1 else f"{months} months"
    return f"{months // 12} years"


def _looks(item: Item, stream: Stream) -> str:
    name, value = stream.choice(item.attributes)
    part = stream.choice(item.spec.attribute[name].phrases[value])
    gone = any(missing.rstrip("s") in part for missing in item.missing_parts)
    return f"Colour {item.colour} with {item.colour2}." if gone else f"Colour {item.colour} with {item.colour2}; it comes with {part}."


def _title(item: Item, sold: Sale, seller: str, stream: Stream) -> tuple[str, list[Claim]]:
    """The title; half of them state a condition, which bold sellers round up by two grades."""
    name = f"{item.line} {item.category}" if item.line is not None else f"{item.colour} {item.material} {item.category}"
    title = name[0].upper() + name[1:]
    if stream.chance(0.5):
        return title, []
    shift = 2 if seller == "bold" else 0
    claimed = "ABCDE"[max(0, "ABCDE".index(sold.grade) - shift)]
    word = stream.choice(STATES[claimed])
    start = len(title) + 2
    claim = Claim(
        "state", word, None, True, None, "title", start, start + len(word), "supported" if claimed == sold.grade else "contradicted"
    )
    return f"{title}, {word}", [claim]


def _damage(item: Item, seller: str, stream: Stream, writer: _Writer) -> set[int]:
    """Says or denies the damage; returns the numbers of the defects that were said or denied."""
    named: set[int] = set()
    if not item.defects:
        if stream.chance(0.6):
            text = stream.choice(("There is no damage.", "No scratches, no stains.", "It has no defects at all.", "Free of any damage."))
            kinds = ("scratch", "stain") if text.startswith("No scratches") else ("damage",)
            writer.say(text, [_claim("defect", kind, False, True) for kind in kinds])
        return named
    if seller == "bold" and stream.chance(0.7):
        return _deny(item, stream.integer(len(item.defects)), stream, writer)
    for number, defect in enumerate(item.defects):
        if seller != "honest" and stream.chance(0.5):
            continue
        writer.say(*_admit(defect, stream))
        named.add(number)
    return named


def _admit(defect: Defect, stream: Stream) -> tuple[str, list[Claim]]:
    if defect.type == "missing part":
        verb = "are" if defect.part.endswith("s") and defect.part != "lens" else "is"
        text = stream.choice((f"The {defect.part} {verb} missing.", f"It comes without its {defect.part}."))
        return text, [_claim("defect", defect.type, True, True, defect.part)]
    level = stream.choice(next(words for most, words in _LEVELS if defect.severity < most))
    text = stream.choice(("There is a {l} {t} on the {p}.", "Please note the {l} {t} on the {p}.", "It has a {l} {t} on the {p}."))
    return text.format(l=level, t=defect.type, p=defect.part), [_claim("defect", defect.type, True, True, defect.part, level)]


_PLURALS = {"scratch": "scratches", "crack": "cracks", "dent": "dents", "stain": "stains", "tear": "tears"}


def _deny(item: Item, number: int, stream: Stream, writer: _Writer) -> set[int]:
    """Denies one defect, and with it perhaps others; returns their numbers."""
    kind, part = item.defects[number].type, item.defects[number].part
    if kind == "missing part":
        writer.say(stream.choice(("It is complete.", "Nothing is missing.")), [_claim("defect", kind, False, False)])
        return {number}
    plural = _PLURALS[kind]
    options = ((f"No {plural} anywhere.", None), (f"There are no {plural} on the {part}.", part), (f"Absolutely no {plural}.", None))
    text, where = stream.choice(options)
    writer.say(text, [_claim("defect", kind, False, False, where)])
    return {k for k, d in enumerate(item.defects) if d.type == kind and where in (None, d.part)}


def _accessories(item: Item, seller: str, stream: Stream, writer: _Writer) -> None:
    for thing in item.accessories:
        if thing.present and stream.chance(0.7):
            text = stream.choice((f"The {thing.name} is included.", f"Comes with its {thing.name}.", f"Including the {thing.name}."))
            writer.say(text, [_claim("accessory", thing.name, True, True)])
        elif not thing.present and seller == "bold" and stream.chance(0.5):
            writer.say(f"The {thing.name} is included.", [_claim("accessory", thing.name, True, False)])
        elif not thing.present and stream.chance(0.5):
            text = stream.choice((f"Without the {thing.name}.", f"The {thing.name} is not included.", f"Sold without its {thing.name}."))
            writer.say(text, [_claim("accessory", thing.name, False, True)])
