"""Counts the answers of Bazaar's questions and writes how many of each to keep: ``python -m recipes.tables.bazaar_vqa``.

For each form of question and each subject that its text names, an answer with share p among the candidates is kept with probability
min(1, floor / p). floor is the smallest share, but at least ROOM of an even one, so that a rare answer does not throw the others away.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from evals.bazaar.scene import scene
from evals.bazaar.streams import Stream
from evals.bazaar.vqa_candidates import Candidate, candidates
from evals.bazaar.vqa_words import FORMS, TYPES
from toolkit.files import atomic_write_json

OUT = Path(__file__).resolve().parents[2] / "evals" / "data" / "bazaar-vqa" / "shares.json"
SEED, SCENES = 90_001, 24_000
ROOM = 0.3

Key = tuple[str, str]


def main() -> None:
    found = [candidates(scene(index, SEED), Stream(SEED, index, 31)) for index in range(SCENES)]
    counts: dict[Key, Counter[str]] = defaultdict(Counter)
    for row in found:
        for each in row:
            counts[each.form, each.subject][each.answer] += 1
    keep: dict[str, dict[str, dict[str, float]]] = {}
    for (form, subject), answers in sorted(counts.items()):
        shares = kept(answers)
        if shares:
            keep.setdefault(form, {})[subject] = shares
    table = {"made_from": {"seed": SEED, "scenes": SCENES}, "keep": keep, "weights": weights(found, keep)}
    atomic_write_json(OUT, table)


def kept(answers: Counter[str]) -> dict[str, float]:
    """Answer -> probability of keeping it, where that is less than 1."""
    total = sum(answers.values())
    floor = max(min(answers.values()) / total, ROOM / len(answers))
    shares = {answer: round(min(1.0, floor * total / many), 4) for answer, many in sorted(answers.items())}
    return {answer: share for answer, share in shares.items() if share < 1}


def weights(found: list[list[Candidate]], keep: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    """Form -> how much more often to choose it where it can be asked, so that types come out alike, and the forms within a type."""
    possible: dict[str, float] = defaultdict(float)
    for row in found:
        missed: dict[str, float] = {}
        for each in row:
            share = keep.get(each.form, {}).get(each.subject, {}).get(each.answer, 1.0)
            missed[each.form] = missed.get(each.form, 1.0) * (1 - share)
        for form, chance in missed.items():
            possible[form] += 1 - chance
    forms = {kind: sum(form.type == kind for form in FORMS.values()) for kind in TYPES}
    raw = {form: len(found) / possible[form] / forms[FORMS[form].type] for form in FORMS}
    return {form: round(value, 4) for form, value in raw.items()}


if __name__ == "__main__":
    main()
