"""A small task without files, and predictors that answer, fail, raise or are killed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evals.tasks.classify import ClassifyTask
from toolkit.images import ArrayImage
from toolkit.types import Prediction, Sample

MANIFEST: dict[str, Any] = {"model": "coin", "model_fingerprint": "f" * 64, "method": {"name": "coin", "config": {"bias": 0.6}}}


def make_task(n: int = 40, classes: int = 7, name: str = "toy", **changes: Any) -> ClassifyTask:
    """A task of ``n`` flat grey images with labels that go round."""
    items = [Sample(f"s{i:04d}", ArrayImage(np.full((4, 4), i % 256, np.uint8), f"image {i}"), i % classes) for i in range(n)]
    return ClassifyTask(name, tuple(f"class {c}" for c in range(classes)), items, "memory", "content", **changes)


def answer(sample: Sample, classes: int = 7, skill: float = 0.6) -> Prediction:
    """An answer that depends on the sample's id alone."""
    dice = random.Random(sample.id)
    label = sample.label if dice.random() < skill else dice.randrange(classes)
    order = [label, *(c for c in range(classes) if c != label)]
    confidence = 0.3 + 0.6 * dice.random()
    return Prediction(
        sample.id, {"label": label, "confidence": confidence, "top": [[c, confidence / (k + 1)] for k, c in enumerate(order[:5])]}
    )


def predictor(classes: int = 7, skill: float = 0.6, asked: list[str] | None = None) -> Callable[[Sequence[Sample]], Iterator[Prediction]]:
    """Answers everything; ``asked`` collects the ids."""

    def predict(samples: Sequence[Sample]) -> Iterator[Prediction]:
        for sample in samples:
            if asked is not None:
                asked.append(sample.id)
            yield answer(sample, classes, skill)

    return predict


def without_seconds(results: dict[str, Any]) -> dict[str, Any]:
    """The part of results.json that must not change."""
    return {key: value for key, value in results.items() if key != "seconds"}


def save_images(folder: Path, count: int, start: int = 0, suffix: str = ".png") -> list[Path]:
    """``count`` different small images."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:05d}{suffix}" for i in range(start, start + count)]
    for i, path in enumerate(paths, start=start):
        Image.fromarray(np.full((6, 6, 3), (i * 37) % 256, np.uint8)).save(path)
    return paths


def class_tree(root: Path, classes: Iterable[str], count: int = 2) -> Path:
    """A folder with ``count`` images a class."""
    for place, name in enumerate(classes):
        save_images(root / name, count, start=10 * place)
    return root
