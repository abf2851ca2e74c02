"""Ten annotators answer a question of Bazaar as people do: mostly right, each in their own words, now and then not.

What an annotator does, each by itself (``NOISE``):

- does not see the truth and says what is easily taken for it: the question's doubt (faint damage, small missing parts), at least 3 %;
  then a neighbouring number, a similar colour, thing or material, one direction mixed up, a misread digit, yes for no;
- gives up: 1.5 % ("unanswerable", "don't know"), confidence "no";
- says it in another way where there is one: 12 % (grey, smartphone, two, upper left, torn), with an article: 3 %;
- writes it with a capital or a full stop: 4 %; with a typing error: 1 % of words of five letters or more.
"""

from __future__ import annotations

from typing import NamedTuple

from evals.bazaar.captions import PATTERN_WORDS
from evals.bazaar.scene import QUARTERS
from evals.bazaar.streams import Stream
from evals.bazaar.vocabulary import DEFECT_TYPES
from evals.bazaar.vqa_words import FORMS, MIDDLE, NOTHING, TAG, YES_NO, a
from evals.bazaar.world import CATEGORIES

ANNOTATORS = 10
NOISE = {"lapse": 0.03, "give up": 0.015, "other words": 0.12, "article": 0.03, "spelling": 0.04, "typing error": 0.01}

_SPARE = ("unanswerable", "unanswerable", "don't know", "not sure")
_NUMBERS = ("zero", "one", "two", "three", "four")
_OTHER_WORDS: dict[str, tuple[str, ...]] = {
    "gray": ("grey",),
    "turquoise": ("teal", "cyan"),
    "purple": ("violet",),
    "brown": ("dark brown",),
    "yes": ("yes it is", "yeah"),
    "no": ("nope", "not really"),
    "top left": ("upper left", "left top", "top left corner"),
    "top right": ("upper right", "right top", "top right corner"),
    "bottom left": ("lower left", "left bottom", "bottom left corner"),
    "bottom right": ("lower right", "right bottom", "bottom right corner"),
    MIDDLE: ("center", "centre", "in the middle"),
    TAG: ("tag", "label"),
    NOTHING: ("none", "empty"),
    "scratch": ("scratched", "scratches"),
    "crack": ("cracked", "cracks"),
    "dent": ("dented", "dents"),
    "stain": ("stained", "dirty"),
    "tear": ("torn", "hole"),
    "missing part": ("part missing", "incomplete"),
    "wood": ("wooden",),
    "fabric": ("cloth",),
    "plush": ("fur",),
    "denim": ("jeans",),
    "metal": ("steel",),
    "plain": ("none", "no pattern"),
    "dotted": ("dots", "polka dots"),
    "striped": ("stripes",),
    "pinstriped": ("thin stripes",),
    "checked": ("checkered", "checks"),
    "two-tone": ("two colors",),
    **{name: spec.synonyms for name, spec in CATEGORIES.items()},
}
_TAKEN_FOR: dict[str, tuple[str, ...]] = {
    "red": ("orange", "pink", "brown"),
    "orange": ("red", "yellow"),
    "yellow": ("orange", "white"),
    "green": ("turquoise", "blue"),
    "turquoise": ("blue", "green"),
    "blue": ("purple", "turquoise"),
    "purple": ("blue", "pink"),
    "pink": ("red", "purple"),
    "brown": ("red", "black", "orange"),
    "black": ("gray", "brown"),
    "white": ("gray", "yellow"),
    "gray": ("white", "black"),
    "phone": ("camera", "laptop"),
    "laptop": ("phone",),
    "headphones": ("watch",),
    "camera": ("phone",),
    "sneaker": ("boot",),
    "boot": ("sneaker",),
    "jacket": ("dress", "backpack"),
    "dress": ("jacket",),
    "mug": ("lamp",),
    "chair": ("lamp",),
    "lamp": ("chair", "mug"),
    "teddy bear": ("backpack",),
    "handbag": ("backpack",),
    "backpack": ("handbag",),
    "watch": ("camera",),
    "toy car": ("sneaker",),
    "scratch": ("crack", NOTHING),
    "crack": ("scratch", NOTHING),
    "dent": ("stain", NOTHING),
    "stain": ("dent", NOTHING),
    "tear": ("stain", NOTHING),
    "missing part": (NOTHING, "scratch"),
    "leather": ("plastic", "fabric"),
    "metal": ("plastic",),
    "fabric": ("leather", "denim"),
    "plastic": ("metal", "leather"),
    "wood": ("plastic",),
    "ceramic": ("plastic", "metal"),
    "plush": ("fabric",),
    "denim": ("fabric",),
    "plain": ("two-tone",),
    "striped": ("pinstriped", "zigzag"),
    "pinstriped": ("striped",),
    "dotted": ("checked",),
    "checked": ("dotted", "two-tone"),
    "zigzag": ("striped",),
    "two-tone": ("plain", "striped"),
}


class Annotation(NamedTuple):
    """One annotator's answer; confidence "yes", "maybe" or "no", as in VQAv2."""

    answer: str
    confidence: str


def annotate(form: str, answer: str, doubt: float, stream: Stream) -> tuple[Annotation, ...]:
    """Ten answers to a question of ``form`` whose truth is ``answer``.

    Args:
        doubt: probability that a careful person does not see the truth, [0, 1].
    """
    return tuple(_one(form, answer, doubt, stream) for _ in range(ANNOTATORS))


def consensus(answers: tuple[Annotation, ...]) -> str:
    """The most frequent answer as it was written; of several the first one."""
    said = [each.answer for each in answers]
    return max(said, key=said.count)


def _one(form: str, answer: str, doubt: float, stream: Stream) -> Annotation:
    if stream.chance(NOISE["give up"]):
        return Annotation(stream.choice(_SPARE), "no")
    wrong = stream.chance(max(doubt, NOISE["lapse"]))
    said = mistaken(form, answer, stream) if wrong else answer
    sure = "yes" if stream.chance(0.5 if wrong else 0.95 - doubt) else "maybe"
    return Annotation(_written(said, form, stream), sure)


def mistaken(form: str, answer: str, stream: Stream) -> str:
    """What somebody says who does not see the truth."""
    if answer in YES_NO:
        return YES_NO[answer == "yes"]
    if form.startswith("count"):
        return str(abs(int(answer) + stream.choice((-1, 1))))
    if answer.isdigit():
        digits = list(answer)
        digits[stream.integer(len(digits))] = stream.choice([digit for digit in "0123456789" if digit not in answer])
        return "".join(digits).lstrip("0") or "0"
    if answer in QUARTERS:
        vertical, side = answer.split()
        turned = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}
        return f"{turned[vertical]} {side}" if stream.chance(0.4) else f"{vertical} {turned[side]}"
    if answer in _TAKEN_FOR and answer in FORMS[form].answers:
        return stream.choice(_TAKEN_FOR[answer])
    return stream.choice([other for other in FORMS[form].answers if other != answer])


def _written(said: str, form: str, stream: Stream) -> str:
    words = _other_words(said, form)
    text = stream.choice(words) if words and stream.chance(NOISE["other words"]) else said
    if said in CATEGORIES or (said in DEFECT_TYPES and text == said):
        text = a(text) if stream.chance(NOISE["article"]) else text
    if stream.chance(NOISE["spelling"]):
        text = text.capitalize() if stream.chance(0.7) else f"{text}."
    if len(text) >= 5 and stream.chance(NOISE["typing error"]):
        text = _mistyped(text, stream)
    return text


def _other_words(said: str, form: str) -> tuple[str, ...]:
    if said.isdigit():
        return (_NUMBERS[int(said)],) if form.startswith("count") and int(said) < len(_NUMBERS) else (f"{said} euros", f"€{said}")
    if said == NOTHING and FORMS[form].type == "defect":
        return ("none", "no damage")
    if said in YES_NO:
        return () if FORMS[form].type == "presence" else _OTHER_WORDS[said]
    return _OTHER_WORDS.get(said, ()) or PATTERN_WORDS.get(said, ())[1:]


def _mistyped(text: str, stream: Stream) -> str:
    """Two letters exchanged, one left out or one doubled."""
    at = 1 + stream.integer(len(text) - 2)
    before, here, behind = text[:at], text[at], text[at + 1 :]
    return before + stream.choice((behind[0] + here + behind[1:], behind, here + here + behind))
