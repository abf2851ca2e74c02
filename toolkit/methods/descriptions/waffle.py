"""Captions with meaningless endings: random words and random letters, averaged; and controls that take the meaning out of a pool.

Source: Roth et al., 2023, arXiv 2306.07282 (WaffleCLIP). Differs from it: the noise has the shape (words a text, letters a word) of texts
drawn from the pool, not its mean shape; words of class names are never drawn; ``scrambled`` shuffles words over the whole pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.methods.descriptions.controls import common_words, derangement, generator, permuted_words, waffle_texts
from toolkit.methods.descriptions.prototypes import (
    check_classes,
    check_temperature,
    check_templates,
    chosen_templates,
    linear_predictor,
)
from toolkit.methods.descriptions.texts import WORDINGS, at_least, joined, mean_of_sentences, one_of, problem_lists
from toolkit.types import ClassifyProblem, Predictor

if TYPE_CHECKING:
    from toolkit.models.base import DualEncoder

MODES = ("waffle", "random", "shared", "swapped", "scrambled")
SHAPE = ("two words", "three short words", "a longer one of five")  # where a task has no pool to take the shape from


@dataclass(frozen=True)
class WaffleConfig:
    """Options of ``waffle``.

    Attributes:
        mode: "waffle" (random words and letters, the same for all classes), "random" (each class gets random texts of the pool, as many
            as it has), "shared" (all classes get the same random texts), "swapped" (each class gets the list of another one),
            "scrambled" (the words of the pool are shuffled over all texts).
        pairs: a random-word text and a random-letter text each; with "shared", texts.
        seed: of all draws.
        pool: "task", the name of another pool of the task, or a JSON file {class: [texts]}.
        templates: "first", "task", "single", or sentences with one "{}".
        wording: how caption and text are joined: "ours", "published" or "plain".
        temperature: cosines are divided by it; None takes the temperature that the model was trained with.
    """

    mode: str = "waffle"
    pairs: int = 15
    seed: int = 0
    pool: str = "task"
    templates: str | Sequence[str] = "first"
    wording: str = "ours"
    temperature: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "templates", check_templates(self.templates))
        one_of("mode", self.mode, MODES)
        one_of("wording", self.wording, WORDINGS)
        at_least("pairs", self.pairs, 1)
        at_least("seed", self.seed, 0)
        check_temperature(self.temperature)


class Waffle:
    """Captions with random endings. See the module's docstring."""

    name = "waffle"
    Config = WaffleConfig

    def __init__(self, config: WaffleConfig | None = None) -> None:
        self.config = config or WaffleConfig()

    def texts(self, problem: ClassifyProblem) -> list[list[str]]:
        """(C,) the endings of each class. Raises: UsageError: if a mode needs a pool, and the task has none."""
        mode, rng = self.config.mode, generator(self.config.seed)
        names = problem.classnames
        needless = mode == "waffle" and self.config.pool == "task" and problem.descriptions is None
        lists = [SHAPE] * len(names) if needless else problem_lists(problem, self.config.pool)
        flat = [text for texts in lists for text in texts]
        if mode in ("waffle", "shared"):
            drawn = [flat[int(i)] for i in rng.permutation(len(flat))[: self.config.pairs]]
            same = waffle_texts(flat, common_words(), rng, names, self.config.pairs) if mode == "waffle" else drawn
            return [same for _ in names]
        if mode == "swapped":
            return [list(lists[other]) for other in derangement(len(lists), rng)]
        mixed = permuted_words(flat, rng) if mode == "scrambled" else [flat[int(i)] for i in rng.permutation(len(flat))]
        following = iter(mixed)
        return [[next(following) for _ in texts] for texts in lists]

    def predictor(self, encoder: DualEncoder, problem: ClassifyProblem, *, batch_size: int = 32) -> Predictor:
        """A function from samples to predictions, in order; images that cannot be read become failed predictions."""
        check_classes(problem)
        templates = chosen_templates(self.config.templates, problem)
        sentences = [
            [joined(template, name, text, self.config.wording) for template in templates for text in texts]
            or [template.replace("{}", name) for template in templates]
            for name, texts in zip(problem.classnames, self.texts(problem), strict=True)
        ]
        scale = encoder.logit_scale if self.config.temperature is None else 1.0 / self.config.temperature
        return linear_predictor(encoder, mean_of_sentences(encoder, sentences), scale, batch_size)
