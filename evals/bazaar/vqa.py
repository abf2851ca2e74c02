"""Bazaar VQA: questions about scenes, with the truth, ten annotators' answers and the pixels that show it.

Answers are balanced within each form of question, and within what the question's text gives away, so that the text alone says little: a
candidate is kept with a probability that evens out how often its answer occurs (``shares.json``, made by ``recipes.tables.bazaar_vqa``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evals.bazaar.scene import Scene, scene, scene_masks
from evals.bazaar.streams import Stream
from evals.bazaar.vqa_annotators import Annotation, annotate
from evals.bazaar.vqa_candidates import Candidate, candidates
from evals.bazaar.vqa_words import FORMS, TYPES, answer_type, wording
from toolkit.errors import DataError, UsageError

IDS_A_SCENE = 1000  # question id = scene * 1000 + number
DEFAULT_COUNT = 2000
MARKET = {"test": 0, "train": 1}  # the seed of the marketplace of each split
MOST_A_SCENE = 3  # questions of a split about one scene

_QUESTIONS, _TRAINING = 31, 32  # numbers of the random streams


class Evidence(NamedTuple):
    """What shows the answer: positions of things in the scene, (thing, defect) pairs, the price tag. Empty where nothing does."""

    scene: int
    seed: int
    things: tuple[int, ...]
    defects: tuple[tuple[int, int], ...]
    tag: bool

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "things": list(self.things), "defects": [list(pair) for pair in self.defects]}


@dataclass(frozen=True)
class VqaQuestion:
    """One question.

    Attributes:
        scene, seed, number: its key. form: of ``vqa_words.FORMS``. text: as it is asked. answer: the truth.
        evidence: the things, defects and tag that it is about.
        doubt: share of careful people who would not see the truth.
    """

    scene: int
    seed: int
    number: int
    form: str
    text: str
    answer: str
    evidence: Evidence
    doubt: float

    @property
    def id(self) -> int:
        """Unique within a marketplace."""
        return self.scene * IDS_A_SCENE + self.number

    @property
    def type(self) -> str:
        """A word of ``vqa_words.TYPES``."""
        return FORMS[self.form].type

    @property
    def answer_type(self) -> str:
        """ "yes/no", "number" or "other"."""
        return answer_type(self.answer)

    def annotations(self) -> tuple[Annotation, ...]:
        """Ten answers, always the same ones."""
        return annotate(self.form, self.answer, self.doubt, Stream(self.seed, self.scene, _QUESTIONS, self.number))


def questions(shown: Scene, stream: Stream | None = None) -> tuple[VqaQuestion, ...]:
    """The questions about a scene that balancing keeps, with one wording each.

    Args:
        stream: chooses names, directions, wordings and what is kept; None takes the scene's own, so that the questions are always the same.
    """
    draws = stream or Stream(shown.seed, shown.index, _QUESTIONS)
    asked = []
    for number, candidate in enumerate(candidates(shown, draws)):
        kept, word = draws.random() < _keep(candidate), draws.integer(60)
        if kept:
            asked.append(_asked(shown, number, candidate, word))
    return tuple(asked)


def _asked(shown: Scene, number: int, found: Candidate, word: int) -> VqaQuestion:
    text = wording(found.form, word, found.slots)
    evidence = Evidence(shown.index, shown.seed, found.things, found.defects, found.tag)
    return VqaQuestion(shown.index, shown.seed, number, found.form, text, found.answer, evidence, found.doubt)


def training_questions(shown: Scene, k: int = 4, *, draw: int = 0) -> list[tuple[str, str]]:
    """Up to ``k`` (question, true answer) pairs about a scene, of types that are asked equally often over many scenes. Nothing is drawn.

    Args:
        draw: another number gives other questions and wordings about the same scene.
    """
    stream = Stream(shown.seed, shown.index, _TRAINING, draw)
    by_form: dict[str, list[Candidate]] = {}
    for candidate in candidates(shown, stream):
        if stream.random() < _keep(candidate):
            by_form.setdefault(candidate.form, []).append(candidate)
    weights = _shares()[1]
    pairs: list[tuple[str, str]] = []
    while by_form and len(pairs) < k:
        form = stream.weighted(tuple(by_form), tuple(weights[name] for name in by_form))
        found = by_form[form].pop(stream.integer(len(by_form[form])))
        pairs.append((wording(form, stream.integer(60), found.slots), found.answer))
        if not by_form[form]:
            del by_form[form]
    return pairs


def _keep(candidate: Candidate) -> float:
    return _shares()[0].get((candidate.form, candidate.subject, candidate.answer), 1.0)


@lru_cache(maxsize=1)
def _shares() -> tuple[dict[tuple[str, str, str], float], dict[str, float]]:
    """(probability of keeping each form, subject and answer; 1 where it is not named), (weight of each form in training)."""
    table = json.loads(files("evals").joinpath("data/bazaar-vqa/shares.json").read_text(encoding="utf-8"))
    keep = {
        (form, subject, answer): share
        for form, subjects in table["keep"].items()
        for subject, answers in subjects.items()
        for answer, share in answers.items()
    }
    return keep, {form: table["weights"].get(form, 1.0) for form in FORMS}


def vqa_split(seed: int = 0, count: int = DEFAULT_COUNT) -> list[VqaQuestion]:
    """``count`` questions about the first scenes of a marketplace, the same number of each type, in the order of their ids.

    Within a type the forms share alike; within a form no answer takes more than its share by far, and yes and no are equally many.
    At most MOST_A_SCENE questions are about one scene, of different types.
    Raises: UsageError: for a number that no split can have.
    """
    if seed < 0 or not len(FORMS) <= count <= 500_000:
        raise UsageError(f"a split has {len(FORMS)} to 500000 questions and a seed from 0, not {count} and {seed}")
    return list(_split(seed, count))


@lru_cache(maxsize=4)
def _split(seed: int, count: int) -> tuple[VqaQuestion, ...]:
    quota = _quotas(count)
    most = {form: -(-quota[form] * (5 if len(FORMS[form].answers) > 2 else 4) // (4 * len(FORMS[form].answers))) for form in FORMS}
    taken: Counter[str] = Counter()
    answered: Counter[tuple[str, str]] = Counter()
    chosen: list[VqaQuestion] = []
    for index in range(200 * count):
        here: set[str] = set()
        every = [each for each in questions(scene(index, seed)) if taken[each.form] < quota[each.form]]
        # What is behind comes first: the form that lacks most, then its rarest answer.
        for asked in sorted(every, key=lambda each: (taken[each.form] / quota[each.form], answered[each.form, each.answer])):
            form, key = asked.form, (asked.form, asked.answer)
            if len(here) < MOST_A_SCENE and asked.type not in here and taken[form] < quota[form] and answered[key] < most[form]:
                here.add(asked.type)
                taken[form] += 1
                answered[key] += 1
                chosen.append(asked)
        if len(chosen) == count:
            return tuple(sorted(chosen, key=lambda each: each.id))
    raise DataError(f"the scenes of marketplace {seed} do not give {count} balanced questions", hint="ask for fewer")


def _quotas(count: int) -> dict[str, int]:
    """How many questions of each form: the same for each type, and within a type for each of its forms; the first ones take the rest."""
    quota: dict[str, int] = {}
    for kind, many in zip(TYPES, _parts(count, len(TYPES)), strict=True):
        own = [form for form in FORMS if FORMS[form].type == kind]
        quota.update(zip(own, _parts(many, len(own)), strict=True))
    return quota


def _parts(whole: int, parts: int) -> list[int]:
    return [whole // parts + (k < whole % parts) for k in range(parts)]


def evidence_mask(evidence: Evidence | Mapping[str, Any], size: int = 96, *, whole: bool = False) -> NDArray[np.bool_] | None:
    """(size, size) booleans: the pixels that show the answer.

    These are the pixels of the damage where the question is about damage that is there, else of the things and the tag it is about.

    Args:
        evidence: as a question or the meta of a sample holds it. whole: the whole things, also where the question is about damage.
    Returns: None where no pixel shows it (nothing is there, or it is covered).
    Raises: DataError: if the record names what the scene does not have.
    """
    found = evidence if isinstance(evidence, Evidence) else _read(evidence)
    seen = scene_masks(scene(found.scene, found.seed), size)
    try:
        if found.defects and not whole:
            parts = [seen.defects[thing][defect] for thing, defect in found.defects]
        else:
            parts = [seen.things[thing] for thing in found.things]
    except IndexError as error:
        raise DataError(f"scene {found.scene} of marketplace {found.seed} has no such thing: {found}") from error
    if found.tag and seen.tag is not None:
        parts.append(seen.tag)
    mask = np.logical_or.reduce(parts) if parts else np.zeros((size, size), dtype=np.bool_)
    return mask if mask.any() else None


def _read(record: Mapping[str, Any]) -> Evidence:
    try:
        defects: Sequence[Sequence[int]] = record["defects"]
        pairs = tuple((int(thing), int(defect)) for thing, defect in defects)
        return Evidence(int(record["scene"]), int(record["seed"]), tuple(int(k) for k in record["things"]), pairs, bool(record["tag"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"this is no record of evidence: {record!r}") from error
