"""An encoder whose embeddings are known: texts and images are hashed to directions, some images cannot be read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from toolkit.images import ArrayImage
from toolkit.methods import build_method
from toolkit.types import ClassifyProblem, EncodedBatch, Prediction, Sample

DIM = 12


def direction(word: str, dim: int = DIM) -> torch.Tensor:
    """The unit vector of a text or an image name."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
    return torch.nn.functional.normalize(torch.randn(dim, generator=torch.Generator().manual_seed(seed)), dim=0)


class Known:
    """See the module's docstring. Images are called "LABEL/NUMBER" and lie near their class; "broken" ones cannot be read."""

    logit_scale = 20.0

    def __init__(self, spread: float = 0.6) -> None:
        self.asked: list[str] = []
        self.spread = spread

    def image(self, name: str) -> torch.Tensor:
        label = name.split("/")[0]
        return torch.nn.functional.normalize(direction(f"class {label}") + self.spread * direction(name), dim=0)

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 256) -> torch.Tensor:
        self.asked += texts
        return torch.stack([direction(text) for text in texts])

    def iter_images(self, images: Sequence[Any], *, batch_size: int = 32, workers: int | None = None) -> Iterator[EncodedBatch]:
        for start in range(0, len(images), batch_size):
            part = range(start, min(start + batch_size, len(images)))
            good = [index for index in part if "broken" not in images[index].name]
            rows = torch.stack([self.image(images[index].name) for index in good]) if good else torch.empty(0, DIM)
            yield EncodedBatch(good, rows, [(index, f"{images[index].name} is broken") for index in part if index not in good])


def sample(name: str, label: int | None = None) -> Sample:
    return Sample(name, ArrayImage(np.zeros((2, 2, 3), np.uint8), name=name), label)


def samples(classes: int, count: int, word: str = "test") -> list[Sample]:
    return [sample(f"{label}/{word}{number}", label) for number in range(count) for label in range(classes)]


def rows_of(encoder: Known, some: Sequence[Sample]) -> torch.Tensor:
    return torch.stack([encoder.image(one.image.name) for one in some if one.image]).double()


def predict(
    method: str, problem: ClassifyProblem, some: Sequence[Sample], encoder: Known | None = None, **options: Any
) -> list[Prediction]:
    model: Any = encoder or Known()
    return list(build_method(method, options).predictor(model, problem, batch_size=5)(some))


def labels(found: Sequence[Prediction]) -> list[int]:
    return [one.output["label"] for one in found if one.output]


def unit(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.norm(dim=-1, keepdim=True)
