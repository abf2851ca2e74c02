"""The scores on pocket-llava's card: ``python -m recipes.pocket_llava.evaluate --blind build/pocket-llava/blind/model --card FOLDER``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evals.metrics.vqa import get_scorer
from evals.tasks import get_task
from recipes.pocket_llava.card import write
from toolkit.files import atomic_write_json
from toolkit.models import load_answerer
from toolkit.stats import clustered_bootstrap
from toolkit.types import Question, Sample

SCORER = "vqa_normalised"


def answers(name: str, samples: Sequence[Sample], *, blind: bool = False) -> list[str]:
    """What a model answers; a ``blind`` one gets the question alone."""
    answerer = load_answerer(name, device="auto", dtype="float32")
    asked = [Question(sample.meta["prompt"], () if blind or sample.image is None else (sample.image,), sample.id) for sample in samples]
    said = answerer.answer(asked, max_new_tokens=8, batch_size=64)
    failed = [answer.error for answer in said if answer.error is not None]
    if failed:
        raise RuntimeError(f"{len(failed)} questions got no answer, the first: {failed[0]}")
    return [answer.text or "" for answer in said]


def table(samples: Sequence[Sample], said: Sequence[str]) -> dict[str, dict[str, object]]:
    """Accuracy over all and by type of question, with intervals over scenes."""
    score = get_scorer(SCORER)
    values = np.array([score(text, sample.meta["answers"]) for text, sample in zip(said, samples, strict=True)])
    scenes = np.array([sample.image.name if sample.image else sample.id for sample in samples])
    types = np.array([sample.meta["question_type"] for sample in samples])
    rows = {"all": np.ones(len(values), dtype=bool), **{kind: types == kind for kind in dict.fromkeys(types.tolist())}}
    out: dict[str, dict[str, object]] = {}
    for name, chosen in rows.items():
        low, high = clustered_bootstrap(values[chosen], scenes[chosen].tolist()).ci
        out[name] = {"value": round(float(values[chosen].mean()), 4), "ci95": [round(low, 4), round(high, 4)], "n": int(chosen.sum())}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket-llava")
    parser.add_argument("--blind", type=Path, help="the folder of the question-only baseline")
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--out", type=Path, help="write the scores as JSON")
    parser.add_argument("--card", type=Path, help="write README.md into this model folder")
    parser.add_argument("--hours", default="", help="a sentence for the card on where and how long it was trained")
    arguments = parser.parse_args()
    samples = list(get_task("bazaar/vqa", questions=arguments.questions).samples())
    result = {"pocket-llava": table(samples, answers(arguments.model, samples))}
    shuffled = [Sample(s.id, other.image, None, s.meta) for s, other in zip(samples, samples[len(samples) // 2 :] + samples, strict=False)]
    result["with the picture of another question"] = table(samples, answers(arguments.model, shuffled))
    if arguments.blind:
        result["question only"] = table(samples, answers(f"local:{arguments.blind}", samples, blind=True))
    print(json.dumps(result, indent=1))
    if arguments.out:
        atomic_write_json(arguments.out, result)
    if arguments.card:
        write(arguments.card, result, hours=arguments.hours)


if __name__ == "__main__":
    main()
