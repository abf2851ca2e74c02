"""Scorers of answers in words: named, versioned, pure functions of strings.

Public harnesses score the same answers differently, by more than the gains that papers report. So a score has the name and the version of
the scorer that gave it, several scorers run side by side, and what a scorer does never changes under one version.
"""

from __future__ import annotations

import difflib
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from evals.metrics.vqa_text import depunctuate, edit_distance, plain_words, single_spaced, tokenise, trim

TEN = 10
_CONSENSUS = (0.0, 0.3, 0.6, 0.9) + (1.0,) * 7  # mean of min(1, n / 3) over leave-one-out, by the number of equal answers
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)

Normalise = Callable[[str], str]


@dataclass(frozen=True)
class Scorer:
    """A named rule that gives an answer a score in [0, 1].

    Attributes:
        references: how many reference answers a question must have; None takes any number from one.
        binary: whether scores are 0 or 1 only.
        lenient: whether it also rewards answers that are wrong; then it is never reported alone.
        same_as: the public implementation that gives the same scores.
        normalise: what it does to an answer before it compares; None where it compares answers as they are.
    """

    name: str
    version: int
    references: int | None
    binary: bool
    same_as: str
    rule: Callable[[str, Sequence[str]], float]
    lenient: bool = False
    normalise: Normalise | None = None

    @property
    def full_name(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    def __call__(self, prediction: str, answers: Sequence[str]) -> float:
        """The score of an answer, untouched as the model gave it.

        Raises: TypeError: if something is not a string. ValueError: if the number of reference answers is wrong.
        """
        if not isinstance(prediction, str):
            raise TypeError(f"{self.full_name} scores strings, not a {type(prediction).__name__}")
        self.check(answers)
        return self.rule(prediction, answers)

    def check(self, answers: Sequence[str]) -> None:
        """Raises: TypeError, ValueError: if no answer can be scored against these reference answers."""
        if isinstance(answers, str) or not all(isinstance(answer, str) for answer in answers):
            raise TypeError(f"{self.full_name} compares with a list of strings")
        if not answers or self.references not in (None, len(answers)):
            wanted = {None: "at least one reference answer", 1: "one reference answer"}.get(self.references, "ten reference answers")
            raise ValueError(f"{self.full_name} needs {wanted}, not {len(answers)}")
        if self.name == "gqa_contains" and not _words(answers[0]):
            raise ValueError(f"{self.full_name}: the reference answer {answers[0]!r} has no word left and would be in every answer")


def consensus(prediction: str, answers: Sequence[str]) -> float:
    """Agreement of an answer with ten people, each left out once: 0.3 for each who says the same, at most 1.

    >>> consensus("2", ["2", "2"] + ["3"] * 8)
    0.6
    """
    return _CONSENSUS[sum(answer == prediction for answer in answers)]


def _official_words(text: str) -> str:
    return plain_words(depunctuate(trim(text)))


def _normalised_words(text: str) -> str:
    return plain_words(depunctuate(trim(text), several_commas=True))


def _evalai_words(text: str) -> str:
    return plain_words(depunctuate(trim(tokenise(text))))


def _vlmevalkit_words(text: str) -> str:
    return plain_words(depunctuate(trim(text), keep_after_digit=True))


def _words(text: str) -> str:
    return plain_words(depunctuate(text))


def _official(prediction: str, answers: Sequence[str]) -> float:
    """The one that leaves everything as it is where all ten people agree."""
    prediction, answers = trim(prediction), [trim(answer) for answer in answers]
    if len(set(answers)) > 1:
        prediction, answers = _official_words(prediction), [_official_words(answer) for answer in answers]
    return consensus(prediction, answers)


def _consensus_of(normalise: Normalise) -> Callable[[str, Sequence[str]], float]:
    return lambda prediction, answers: consensus(normalise(prediction), [normalise(answer) for answer in answers])


def _no_case_no_punctuation(text: str) -> str:
    return text.lower().translate(_NO_PUNCTUATION)


def _no_stop_lower(text: str) -> str:
    return text.rstrip(".").lower()


def _gqa_exact(prediction: str, answers: Sequence[str]) -> float:
    return float(_no_case_no_punctuation(prediction) == _no_case_no_punctuation(answers[0]))


def _gqa_strip(prediction: str, answers: Sequence[str]) -> float:
    return float(prediction.strip().lower() == answers[0].strip().lower())


def _gqa_llava(prediction: str, answers: Sequence[str]) -> float:
    return float(_no_stop_lower(prediction) == answers[0])


def _gqa_contains(prediction: str, answers: Sequence[str]) -> float:
    return float(_words(answers[0]) in _words(prediction))


def _anls(prediction: str, answers: Sequence[str]) -> float:
    """1 - the least normalised edit distance, or 0 below 0.5; lengths are those of the raw texts in upper case."""
    text, raw = single_spaced(prediction), len(prediction.upper())
    least = min(_share(edit_distance(text, single_spaced(answer)), max(raw, len(answer.upper()))) for answer in answers)
    return 1 - least if 1 - least >= 0.5 else 0.0


def _anls_strict(prediction: str, answers: Sequence[str]) -> float:
    """The largest 1 - normalised edit distance below 0.5; lengths are those of the compared texts in upper case."""
    text = single_spaced(prediction)
    best = 0.0
    for answer in map(single_spaced, answers):
        distance = _share(edit_distance(text, answer), max(len(text.upper()), len(answer.upper())))
        best = max(best, 1 - distance if distance < 0.5 else 0.0)
    return best


def _share(distance: int, length: int) -> float:
    return distance / length if length else 0.0


def _docvqa_contains(prediction: str, answers: Sequence[str]) -> float:
    return float(any(answer in prediction or prediction in answer for answer in answers))


_LMMS, _KIT, _KNOW = "EvolvingLMMs-Lab/lmms-eval@75571cf", "open-compass/VLMEvalKit@e8e78f0", "saccharomycetes/mllms_know@a64c5d5"
_ALL = (
    Scorer("vqa_official", 1, TEN, False, "GT-Vision-Lab/VQA@a013f00 vqaEval.py", _official),
    Scorer("vqa_normalised", 1, TEN, False, f"{_LMMS} vqav2", _consensus_of(_normalised_words), normalise=_normalised_words),
    Scorer("vqa_evalai", 1, TEN, False, f"{_LMMS} ok_vqa, vizwiz_vqa, textvqa", _consensus_of(_evalai_words), normalise=_evalai_words),
    Scorer("vqa_vlmevalkit", 1, TEN, False, f"{_KIT} vqa_score", _consensus_of(_vlmevalkit_words), normalise=_vlmevalkit_words),
    Scorer("gqa_exact", 1, 1, True, f"{_LMMS} exact_match", _gqa_exact, normalise=_no_case_no_punctuation),
    Scorer("gqa_strip", 1, 1, True, f"{_KIT} accuracy", _gqa_strip),
    Scorer("gqa_llava", 1, 1, True, "haotian-liu/LLaVA@a689fd8 convert_gqa_for_eval.py", _gqa_llava, normalise=_no_stop_lower),
    Scorer("gqa_contains", 1, 1, True, f"{_KNOW} get_score.py", _gqa_contains, lenient=True),
    Scorer("anls", 1, None, False, f"{_LMMS} anls", _anls),
    Scorer("anls_strict", 1, None, False, "PyPI anls 0.0.2", _anls_strict),
    Scorer("docvqa_contains", 1, None, True, f"{_KNOW} get_score.py", _docvqa_contains, lenient=True),
)
SCORERS: Mapping[str, Scorer] = MappingProxyType({scorer.name: scorer for scorer in _ALL})


def get_scorer(name: str, version: int | None = None) -> Scorer:
    """The scorer called ``name`` or ``name@version``.

    Raises: ValueError: if there is none; the message names similar ones. A version that is not known is never replaced by another one.
    """
    base, _, tail = name.partition("@")
    wanted = tail or ("" if version is None else str(version))
    scorer = SCORERS.get(base)
    if scorer is None:
        near = difflib.get_close_matches(base, SCORERS, n=3, cutoff=0.5) or list(SCORERS)
        raise ValueError(f"there is no scorer called {base!r}; there is {', '.join(near)}")
    if wanted and wanted != str(scorer.version):
        raise ValueError(f"there is no scorer {base}@{wanted}; there is {scorer.full_name}")
    return scorer


def check_scorers(scorers: Sequence[Scorer]) -> None:
    """Raises: ValueError: if there is none, one comes twice, or lenient ones are alone."""
    names = [scorer.name for scorer in scorers]
    if not names or len(set(names)) < len(names):
        raise ValueError("give at least one scorer, and each one once" if not names else f"a scorer is given twice: {', '.join(names)}")
    if all(scorer.lenient for scorer in scorers):
        raise ValueError(f"{' and '.join(names)} also reward wrong answers and are not reported alone; add a strict scorer")
