"""Differential descriptions: the classes that captions confuse are told apart by what is said of one and not of the other.

The k classes with the best captions are compared pair by pair; each class scores the mean over its pairs of the sentences of that pair.
Source: Esfandiarpoor and Bach, 2024, arXiv 2311.07593 (FuDD). Differs from it: the authors' pair files carry no licence, so pairs are made
from a pool: of the texts of class c that class l does not have, those that are closest to the list of c rather than to that of l, in the
text embedding. Pair files {class: {other class: [texts]}} can be given. Embeddings are averaged and not scaled again (the paper averages
similarities, which is the same); the public code scales them to norm 1, which is ``average="unit"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import DataError, unknown_name
from toolkit.files import read_json
from toolkit.methods.descriptions.prototypes import (
    check_classes,
    check_temperature,
    check_templates,
    chosen_templates,
    local_outputs,
    make_predictor,
    text_classifier,
)
from toolkit.methods.descriptions.texts import WORDINGS, at_least, joined, mean_of_sentences, one_of, problem_lists
from toolkit.types import ClassifyProblem, Predictor

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.models.base import DualEncoder

Pairs = Mapping[str, Mapping[str, Sequence[str]]]
CACHED_PAIRS = 50_000


@dataclass(frozen=True)
class FuddConfig:
    """Options of ``fudd``.

    Attributes:
        pool: "task", the name of another pool of the task, or a JSON file {class: [texts]}.
        pairs: a JSON file {class: {other class: [texts]}}; None makes pairs from the pool.
        k: classes that are compared with each other.
        m: at most so many texts a pair, when made from the pool.
        average: "similarity" or "unit" (the mean embedding is scaled to norm 1).
        templates: "first", "task", "single", or sentences with one "{}".
        wording: how caption and text are joined: "ours", "published" or "plain".
        temperature: cosines are divided by it; None takes the temperature that the model was trained with.
    """

    pool: str = "task"
    pairs: str | None = None
    k: int = 10
    m: int = 5
    average: str = "similarity"
    templates: str | Sequence[str] = "first"
    wording: str = "ours"
    temperature: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "templates", check_templates(self.templates))
        at_least("k", self.k, 1)
        at_least("m", self.m, 1)
        one_of("average", self.average, ("similarity", "unit"))
        one_of("wording", self.wording, WORDINGS)
        check_temperature(self.temperature)


class Fudd:
    """Differential descriptions. See the module's docstring."""

    name = "fudd"
    Config = FuddConfig

    def __init__(self, config: FuddConfig | None = None) -> None:
        self.config = config or FuddConfig()

    def predictor(self, encoder: DualEncoder, problem: ClassifyProblem, *, batch_size: int = 32) -> Predictor:
        """A function from samples to predictions, in order; images that cannot be read become failed predictions."""
        import torch

        check_classes(problem)
        templates = chosen_templates(self.config.templates, problem)
        captions = text_classifier(encoder, problem.classnames, templates)
        table = _Table(self.config, encoder, problem, templates, captions)
        scale = encoder.logit_scale if self.config.temperature is None else 1.0 / self.config.temperature

        def answer(images: Tensor) -> list[dict[str, Any]]:
            from toolkit.methods.descriptions.selection import nearest

            A = images.double() @ captions.double().T
            L = nearest(A, self.config.k)
            scores = torch.stack([table.vectors(row) @ image for row, image in zip(L.tolist(), images.double(), strict=True)])
            return local_outputs(L, scores, A, scale)

        return make_predictor(encoder, answer, batch_size)


class _Table:
    """The vector of a class among others, made when it is asked for."""

    def __init__(
        self, config: FuddConfig, encoder: DualEncoder, problem: ClassifyProblem, templates: Sequence[str], captions: Tensor
    ) -> None:
        self.config, self.captions = config, captions.double()
        self.known: dict[tuple[int, int], Tensor] = {}
        self.given: dict[tuple[int, int], Tensor] | None = None
        self.lists: list[tuple[str, ...]] = []
        names = problem.classnames

        def said(number: int, texts: Sequence[str]) -> list[str]:
            return [joined(template, names[number], text, config.wording) for text in texts for template in templates]

        if config.pairs is not None:
            pairs = read_pairs(Path(config.pairs), names)
            self.given = {key: mean_of_sentences(encoder, [said(key[0], texts)])[0].double() for key, texts in pairs.items()}
            return
        self.lists = problem_lists(problem, config.pool)
        plain = [[text] for texts in self.lists for text in texts]
        bare = mean_of_sentences(encoder, plain).double()
        named = mean_of_sentences(encoder, [said(number, [text]) for number, texts in enumerate(self.lists) for text in texts]).double()
        sizes = [len(texts) for texts in self.lists]
        self.bare: Sequence[Tensor] = bare.split(sizes)
        self.named: Sequence[Tensor] = named.split(sizes)

    def vectors(self, classes: Sequence[int]) -> Tensor:
        """(k, D) float64: each class as it differs from the others of these."""
        import torch

        rows = []
        for one in classes:
            others = [self.pair(one, other) for other in sorted(classes) if other != one]
            row = torch.stack(others).mean(dim=0) if others else self.captions[one]
            rows.append(row / row.norm() if self.config.average == "unit" else row)
        return torch.stack(rows)

    def pair(self, one: int, other: int) -> Tensor:
        """(D,) the mean of the sentences that tell class ``one`` from class ``other``; the caption where there are none."""
        if self.given is not None:
            return self.given.get((one, other), self.captions[one])
        if (one, other) not in self.known:
            if len(self.known) >= CACHED_PAIRS:
                self.known.clear()
            self.known[one, other] = self._from_pool(one, other)
        return self.known[one, other]

    def _from_pool(self, one: int, other: int) -> Tensor:
        shared = set(self.lists[other])
        own = [number for number, text in enumerate(self.lists[one]) if text not in shared]
        if not own:
            return self.captions[one]
        towards = self.bare[one].mean(dim=0)
        if self.lists[other]:
            towards = towards - self.bare[other].mean(dim=0)
        margins = (self.bare[one] @ towards).tolist()
        chosen = sorted(own, key=lambda number: (-margins[number], number))[: self.config.m]
        mean: Tensor = self.named[one][chosen].mean(dim=0)
        return mean


def read_pairs(path: Path, classnames: Sequence[str]) -> dict[tuple[int, int], list[str]]:
    """(class, other class) -> texts. Raises: DataError: unless the file is {class: {other class: [texts]}} with names of the task."""
    value = read_json(path)
    if not isinstance(value, dict) or not all(isinstance(others, dict) for others in value.values()):
        raise DataError(f"{path} is not a file of pairs", hint='expected {"cat": {"dog": ["whiskers"]}}')
    place = {name: number for number, name in enumerate(classnames)}
    found: dict[tuple[int, int], list[str]] = {}
    for name, others in value.items():
        for other, texts in others.items():
            for word in (name, other):
                if word not in place:
                    raise unknown_name(f"class of {path}", word, classnames, DataError)
            if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
                raise DataError(f"{path}: the texts of {name!r} against {other!r} must be a list of texts")
            if texts:
                found[place[name], place[other]] = texts
    return found
