"""A small task of questions about flat pictures, and predictors that answer it: no model, no files."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evals.runner import run
from evals.tasks.vqa import VqaTask
from evals.tasks.vqa_prompts import load_vqa_prompt
from toolkit.images import ArrayImage
from toolkit.types import Prediction, Sample

COLOURS = ("red", "green", "blue", "grey")
SCORERS = ("vqa_normalised", "vqa_official")


def make_task(n: int = 40, *, per_image: int = 1, scorers: Sequence[str] = SCORERS, answers: bool = True, **changes: Any) -> VqaTask:
    """``n`` questions, ``per_image`` about each picture; seven people say the truth, three say something else."""
    items = []
    for i in range(n):
        picture = ArrayImage(np.full((24, 32, 3), (i // per_image * 5) % 256, np.uint8), f"picture {i // per_image}")
        truth = COLOURS[i % 4] if i % 2 else ("yes", "no")[i // 2 % 2]
        kind = "colour" if i % 2 else "presence"
        people = [truth] * 7 + ["something else"] * 3 if answers else None
        said = {"question": f"What of {i}?", "prompt": f"What of {i}?\nShort."}
        items.append(Sample(f"q{i:03d}", picture, None, said | {"answers": people, "question_type": kind, "answer_type": "other"}))
    prompt = load_vqa_prompt("vqav2")
    return VqaTask("toy/vqa", items, "memory", "content", tuple(scorers), prompt, **changes)


def truth(sample: Sample) -> str:
    return str((sample.meta["answers"] or ["?"])[0])


def answering(
    skill: float = 0.6, *, seed: int = 0, failing: Sequence[str] = (), decide: Callable[[Sample], Mapping[str, Any]] | None = None
) -> Callable[[Sequence[Sample]], Iterator[Prediction]]:
    """Says the truth with a probability, from the sample's id alone."""

    def predict(samples: Sequence[Sample]) -> Iterator[Prediction]:
        for sample in samples:
            if sample.id in failing:
                yield Prediction(sample.id, error=f"{sample.id}: the picture is broken")
                continue
            right = random.Random(f"{seed} {sample.id}").random() < skill
            output: dict[str, Any] = {"answer": truth(sample) if right else "a lamp", "tokens": [1, 2]}
            if decide is not None:
                output["decision"] = dict(decide(sample))
            yield Prediction(sample.id, output, seconds=0.01)

    return predict


def make_run(
    task: VqaTask, out: Path, predict: Any = None, *, method: str = "plain", config: Mapping[str, Any] | None = None, **more: Any
) -> Path:
    """The folder of a finished run."""
    manifest = {"model": "toy-llava", "model_fingerprint": "f" * 64, "method": {"name": method, "config": dict(config or {})}, **more}
    run(task, predict or answering(), out=out, manifest=manifest)
    return out


def fake_maps(sample: Sample, side: int = 6) -> dict[str, Any]:
    """A decision with maps as contrastive-attention writes them."""
    rng = np.random.default_rng(int(sample.id.strip("q") or 0))
    early, late = rng.dirichlet(np.ones(side * side)), rng.dirichlet(np.ones(side * side))
    view = {
        "image": 0, "kind": "base", "grid": [side, side], "box": [0.0, 0.0, 1.0, 1.0], "early": early.tolist(), "late": late.tolist(),
        "contrast": abs(late - early).tolist(), "masked": [0, 1, 2],
    }  # fmt: skip
    return {"mode": "mask", "i_star": 1, "layers": {"late": 5}, "masked": 3, "maps": [view]}
