"""The words of Bazaar's questions: kinds of questions, their wordings and the answers that they can have."""

from __future__ import annotations

from dataclasses import dataclass

from evals.bazaar.captions import PATTERN_WORDS
from evals.bazaar.scene import PRICES, QUARTERS
from evals.bazaar.vocabulary import COLOURS, DEFECT_TYPES, MATERIALS
from evals.bazaar.world import CATEGORIES

TAG, NOTHING, MIDDLE = "price tag", "nothing", "middle"
YES_NO = ("yes", "no")
RELATIONS = ("left of", "right of", "above", "below")
PLURAL_NAMES = frozenset({"headphones"})


@dataclass(frozen=True)
class Form:
    """One kind of question.

    Attributes:
        type: what it asks about, for breakdowns.
        wordings: templates; {0}, {1} are its slots, {be}, {Be} and {do} agree with the first slot.
        answers: all that it can be answered with.
    """

    type: str
    wordings: tuple[str, ...]
    answers: tuple[str, ...]


def _form(kind: str, wordings: str, *answers: str) -> Form:
    return Form(kind, tuple(line.strip() for line in wordings.strip().splitlines()), answers)


_IS_THERE = """
    {Be} there {0}?
    {Be} there {0} in the picture?
    Can you see {0}?
    Does the picture show {0}?
    Do you see {0} anywhere?"""

FORMS: dict[str, Form] = {
    "colour-of": _form(
        "colour",
        """
        What colour {be} the {0}?
        What color {be} the {0}?
        Which colour {do} the {0} have?
        What is the colour of the {0}?
        What is the main color of the {0}?""",
        *COLOURS,
    ),
    "colour-at": _form(
        "colour",
        """
        What colour is the thing at the {0}?
        What color is the thing in the {0}?
        What is the colour of the thing at the {0}?
        Which colour does the thing in the {0} corner have?""",
        *COLOURS,
    ),
    "count-all": _form(
        "count",
        """
        How many things are there?
        How many things are for sale?
        How many things are in the picture?
        What is the number of things?
        How many things do you see?""",
        *("1", "2", "3", "4"),
    ),
    "count-kind": _form(
        "count",
        """
        How many {0} are there?
        How many {0} are in the picture?
        How many {0} do you see?
        What is the number of {0}?""",
        *("0", "1", "2", "3"),
    ),
    "presence-kind": _form("presence", _IS_THERE, *YES_NO),
    "presence-look": _form("presence", _IS_THERE, *YES_NO),
    "presence-tag": _form("presence", _IS_THERE, *YES_NO),
    "place-of": _form(
        "place",
        """
        Where {be} the {0}?
        Where in the picture {be} the {0}?
        In which part of the picture {be} the {0}?
        At what place {be} the {0}?""",
        *QUARTERS,
        MIDDLE,
    ),
    "place-tag": _form(
        "place",
        """
        Where is the price tag?
        In which corner is the price tag?
        Where in the picture is the price tag?""",
        *QUARTERS,
    ),
    "place-what": _form(
        "place",
        """
        What is at the {0}?
        What is in the {0}?
        What is in the {0} corner?
        What do you see at the {0}?""",
        *CATEGORIES,
        TAG,
        NOTHING,
    ),
    "relation-what": _form(
        "relation",
        """
        What is {1} the {0}?
        What do you see {1} the {0}?
        What thing is {1} the {0}?""",
        *CATEGORIES,
        TAG,
        NOTHING,
    ),
    "relation-is": _form(
        "relation",
        """
        {Be} the {0} {1} the {2}?
        {Be} the {0} somewhere {1} the {2}?
        Do you see the {0} {1} the {2}?""",
        *YES_NO,
    ),
    "defect-is": _form(
        "defect",
        """
        {Be} the {0} damaged?
        {Do} the {0} have any damage?
        Is anything wrong with the {0}?
        {Do} the {0} have a defect?
        Is there damage on the {0}?""",
        *YES_NO,
    ),
    "defect-what": _form(
        "defect",
        """
        What is wrong with the {0}?
        What damage {do} the {0} have?
        What defect {do} the {0} have?
        What kind of damage is on the {0}?""",
        *DEFECT_TYPES,
        NOTHING,
    ),
    "defect-which": _form(
        "defect",
        """
        Which thing is damaged?
        What is damaged?
        Which of the things has a defect?""",
        *CATEGORIES,
    ),
    "reading-price": _form(
        "reading",
        """
        What does the price tag say?
        What number is on the price tag?
        What is the price?
        How much is on the price tag?
        Which price is written on the tag?""",
        *map(str, PRICES),
    ),
    "material-of": _form(
        "material",
        """
        What {be} the {0} made of?
        Which material {be} the {0} made of?
        What is the material of the {0}?""",
        *MATERIALS,
    ),
    "pattern-of": _form(
        "pattern",
        """
        What pattern {do} the {0} have?
        Which pattern is on the {0}?
        What is the pattern of the {0}?
        What kind of pattern {do} the {0} have?""",
        *PATTERN_WORDS,
    ),
    "kind-of": _form(
        "kind",
        """
        What is this?
        What is for sale here?
        What kind of thing is this?
        What does the picture show?""",
        *CATEGORIES,
    ),
}
TYPES = tuple(dict.fromkeys(form.type for form in FORMS.values()))


def wording(form: str, number: int, slots: tuple[str, ...]) -> str:
    """The question ``number`` of the form's wordings, filled.

    >>> wording("relation-is", 0, ("headphones", "left of", "mug"))
    'Are the headphones left of the mug?'
    """
    many = bool(slots) and slots[0].rpartition(" ")[2] in PLURAL_NAMES
    be, do = ("are", "do") if many and form != "count-kind" else ("is", "does")
    wordings = FORMS[form].wordings
    return wordings[number % len(wordings)].format(*slots, be=be, Be=be.capitalize(), do=do, Do=do.capitalize())


def a(name: str) -> str:
    """With its article.

    >>> [a(name) for name in ("mug", "orange mug", "red headphones")]
    ['a mug', 'an orange mug', 'red headphones']
    """
    if name.rpartition(" ")[2] in PLURAL_NAMES:
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def several(name: str) -> str:
    """The plural.

    >>> [several(name) for name in ("mug", "watch", "dress", "headphones")]
    ['mugs', 'watches', 'dresses', 'headphones']
    """
    if name in PLURAL_NAMES:
        return name
    return name + ("es" if name.endswith(("s", "ch", "sh", "x")) else "s")


def answer_type(answer: str) -> str:
    """ "yes/no", "number" or "other", as VQAv2 sorts answers."""
    if answer in YES_NO:
        return "yes/no"
    return "number" if answer.isdigit() else "other"
