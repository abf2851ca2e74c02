"""``explain.json`` of a run, checked: a page is made of whatever stands in a run folder, so nothing in it is taken for granted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from evals.records import EXPLAIN
from toolkit.errors import DataError
from toolkit.files import read_json

MOST_SAMPLES, MOST_CANDIDATES, MOST_TEXTS = 20, 8, 20


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Without(_Part):
    """What happens when a text is taken away: the label that then wins."""

    drop_to: int
    reselect_to: int


class Text(_Part):
    """One selected text."""

    text: str
    cosine: FiniteFloat
    margin: FiniteFloat | None
    excess: FiniteFloat | None
    hits: tuple[str, ...] = ()
    without: Without


class Candidate(_Part):
    """One class that the photo was compared with."""

    label: int
    name: str
    name_part: FiniteFloat
    description_part: FiniteFloat
    lead: FiniteFloat
    flip: FiniteFloat | None
    fallback: bool = False
    texts: tuple[Text, ...] = Field(max_length=MOST_TEXTS)


class Segment(_Part):
    """Who wins between two weights."""

    low: float = Field(ge=0, allow_inf_nan=False)
    high: FiniteFloat | None
    label: int
    name: str


class Told(_Part):
    """One explanation, as far as a figure needs it."""

    label: int
    name: str
    w: float = Field(ge=0, allow_inf_nan=False)
    w_origin: str
    m: int
    candidates: tuple[Candidate, ...] = Field(min_length=1, max_length=MOST_CANDIDATES)
    segments: tuple[Segment, ...]
    notes: tuple[str, ...] = ()
    sample: str | None = None
    truth: str | None = None


class Shown(_Part):
    """One instructive sample."""

    id: str
    kind: str
    kind_title: str
    sentence: str
    told: Told


class Rate(_Part):
    """A share of photos."""

    flips: int = Field(ge=0)
    n: int = Field(ge=1)
    share: float = Field(ge=0, le=1)
    ci95: tuple[FiniteFloat, FiniteFloat]


class Contrast(_Part):
    """The strongest text against a random one."""

    strongest: Rate
    random: Rate
    mcnemar_p: float = Field(ge=0, le=1)


class Replaced(_Part):
    """All texts replaced by random strings."""

    flips: Rate
    repaired: int | None
    broken: int | None
    mcnemar_p: float | None


class Rates(_Part):
    """Flip rates over many photos."""

    n: int
    delete: Contrast | None
    swap: Contrast | None
    replace_all: Replaced | None


class Explanations(_Part):
    """All of ``explain.json``."""

    n: int
    w: FiniteFloat
    w_origin: str
    from_photos: bool = True
    rates: Rates | None
    samples: tuple[Shown, ...] = Field(max_length=MOST_SAMPLES)


def read_explanations(folder: Path) -> Explanations | str | None:
    """The explanations of a run; None if it has none, a sentence if they cannot be read."""
    path = folder / EXPLAIN
    if not path.exists():
        return None
    try:
        value: Any = read_json(path)
        return Explanations.model_validate(value)
    except DataError as error:
        return str(error)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        return f"{EXPLAIN} cannot be read: {where}: {first['msg']}"
