"""What an explanation says, as frozen records. ``explain`` makes them, ``explain_text`` puts them into words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toolkit.config import to_json
from toolkit.methods.descriptions.flips import Segment


@dataclass(frozen=True)
class Deletion:
    """What happens when one text is taken away; w and everything else stay.

    Attributes:
        drop: B of its class when the others of the list are averaged; ``drop_to`` is the class that then wins.
        reselect: B of its class when the pool is searched again without it; ``reselect_to`` is the class that then wins.
        entered: pool position of the text that takes its place, or None if none is left.
    """

    drop: float
    drop_to: int
    reselect: float
    reselect_to: int
    entered: int | None


@dataclass(frozen=True)
class TextPart:
    """One selected text.

    Attributes:
        index: position in the pool. rank: 1 for the largest margin.
        cosine: of photo and text. contribution: its share of B, cosine / number of texts.
        margin: how much better the text fits the photos of its class than those of the other candidates; None in a fallback list.
        excess: cosine minus the mean cosine of the candidates' photos and this text; None if no photos are known.
        hits: what the linter says about it.
    """

    index: int
    text: str
    rank: int
    cosine: float
    contribution: float
    margin: float | None
    excess: float | None
    hits: tuple[str, ...]
    without: Deletion


@dataclass(frozen=True)
class Candidate:
    """One class that the photo was compared with, seen from the winner.

    Attributes:
        a, b: cosine with the caption, mean cosine with the texts. score: ``w * a + b``.
        caption_rank, rank: place by the caption alone and in the end, from 1.
        name_part, description_part: ``w * (A_winner - a)`` and ``B_winner - b``; they add up to ``lead``, the difference of the scores.
        flip: the weight at which it and the winner have equal scores, or None if no weight from 0 up does that.
        holds: where the winner is ahead of it: "above" or "below" ``flip``, "always", or "never" (a tie that the order of classes decides).
        descriptions_decide: the name speaks for this rival, and the descriptions outvote it.
        found: how many texts qualified. fallback: none did, and the list of the class (or the whole pool) stands in. short: fewer than m.
    """

    label: int
    name: str
    a: float
    b: float
    score: float
    caption_rank: int
    rank: int
    name_part: float
    description_part: float
    lead: float
    flip: float | None
    holds: str
    descriptions_decide: bool
    found: int
    fallback: bool
    short: bool
    texts: tuple[TextPart, ...]


@dataclass(frozen=True)
class FlippingText:
    """A single text whose removal changes the answer to ``to``; ``how`` is "drop", "reselect" or "both"."""

    index: int
    text: str
    owner: str
    how: str
    to: str


@dataclass(frozen=True)
class Explanation:
    """Why a photo got its class. ``candidates`` are in the order of their scores, the winner first.

    Attributes:
        caption_name: the class that the caption alone would choose.
        holds: the weights (low, high) for which the answer stays; high None: without end. ``distance`` from w to the nearer end, or None.
        segments: the winner at every weight from 0 up.
        flipping: texts that decide alone.
        notes: what is unusual about this answer, in sentences.
        sample, truth: the photo's name and true class, where the caller knows them.
    """

    label: int
    name: str
    caption_label: int
    caption_name: str
    w: float
    w_origin: str
    m: int
    candidates: tuple[Candidate, ...]
    holds: tuple[float, float | None]
    distance: float | None
    segments: tuple[Segment, ...]
    flipping: tuple[FlippingText, ...]
    notes: tuple[str, ...]
    sample: str | None = None
    truth: str | None = None

    @property
    def winner(self) -> Candidate:
        return self.candidates[0]

    @property
    def rivals(self) -> tuple[Candidate, ...]:
        return self.candidates[1:]

    @property
    def descriptions_decide(self) -> bool:
        """Without the descriptions another class would have won."""
        return self.label != self.caption_label

    def to_json(self) -> dict[str, Any]:
        """All numbers, with None for "without end"."""
        return dict(to_json(self)) | {"descriptions_decide": self.descriptions_decide}

    def __str__(self) -> str:
        """One sentence and a table."""
        from toolkit.methods.descriptions.explain_text import plain

        return plain(self)
