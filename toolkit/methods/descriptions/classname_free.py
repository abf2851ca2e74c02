"""Classification by descriptions that hold no class name, chosen for each neighbourhood of classes from labelled images.

Source: arXiv 2412.11917. Differs from it: see ``estimator``. Without support images the similarity of classes and descriptions comes from
texts alone (our extension), and the weight of the class name is ``w_text``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from toolkit.errors import UsageError
from toolkit.methods.descriptions.estimator import ClassnameFree
from toolkit.methods.descriptions.options import Options
from toolkit.methods.descriptions.prototypes import as_output, check_classes, chosen_templates, encode_support, make_predictor
from toolkit.methods.descriptions.selection import decide
from toolkit.methods.descriptions.texts import pool_source
from toolkit.types import JSON, ClassifyProblem, Predictor, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.models.base import DualEncoder


@dataclass(frozen=True)
class ClassnameFreeConfig(Options):
    """Options of ``classname-free``: those of ``Options``, and where its descriptions come from.

    Attributes:
        pool: "task", the name of another pool of the task, or a JSON file with {class: [texts]} or a list of texts.
        other_pool: its lists stand in for empty ones (``empty_list=other_pool``).
        templates: "task" takes the task's sentences around class names instead of ``caption_templates``; "" does not.
    """

    pool: str = "task"
    other_pool: str | None = None
    templates: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.w_cls == "oracle":
            raise UsageError(
                'w_cls="oracle" is chosen on test labels, which no method ever sees in an evaluation',
                hint="use w_cls=loo; the audit reports the oracle beside it",
            )
        if self.templates not in ("", "task"):
            raise UsageError(
                f"templates={self.templates!r} is not possible", hint='"task" or nothing; for own sentences: caption_templates'
            )


class ClassnameFreeMethod:
    """Class-name-free descriptions as a method of the harness."""

    name = "classname-free"
    Config = ClassnameFreeConfig

    def __init__(self, config: ClassnameFreeConfig | None = None) -> None:
        self.config = config or ClassnameFreeConfig()

    def estimator(self, encoder: DualEncoder, problem: ClassifyProblem, *, batch_size: int = 32) -> ClassnameFree:
        """The estimator, fitted on the support of a problem.

        Raises: UsageError, DataError: if the problem has no classes or descriptions, or the pool is of other classes.
        """
        check_classes(problem)
        source = pool_source(problem, self.config.pool)
        options = {f.name: getattr(self.config, f.name) for f in fields(Options)}
        if self.config.templates == "task":
            options["caption_templates"] = chosen_templates("task", problem)
        model = ClassnameFree(encoder, problem.classnames, source, other_pool=self.config.other_pool, **options)
        if problem.support:
            support = encode_support(encoder, problem, batch_size=batch_size)
            model.fit(support.x, support.y)
        return model

    def explanations(self, encoder: DualEncoder, problem: ClassifyProblem, samples: Sequence[Sample], *, batch_size: int = 32) -> JSON:
        """What ``explain.json`` of a run holds: how often texts decide, and the most instructive samples explained."""
        from toolkit.methods.descriptions.explain_run import explain_run

        return explain_run(self.estimator(encoder, problem, batch_size=batch_size), samples, batch_size=batch_size)

    def predictor(self, encoder: DualEncoder, problem: ClassifyProblem, *, batch_size: int = 32) -> Predictor:
        """A function from samples to predictions, in order; images that cannot be read become failed predictions."""
        model = self.estimator(encoder, problem, batch_size=batch_size)

        def answer(images: Tensor) -> list[dict[str, Any]]:
            return outputs(model, images)

        return make_predictor(encoder, answer, batch_size)


def outputs(model: ClassnameFree, x: Tensor) -> list[dict[str, Any]]:
    """One output for each of (N, D) embeddings: the usual entries, and the weight, who chose it, and whether the list is a fallback.

    Classes that are no candidates have probability 0 and follow in the order of their captions.
    """
    scored = model.score(x)
    best = decide(scored.L, scored.A, scored.B, model.w)
    probabilities = model.probabilities(scored)
    label = scored.L.gather(1, best[:, None])
    names = x.to(model.captions.dtype) @ model.captions.T
    names.scatter_(1, label, 3.0)  # of equal probabilities, that of the answer comes first
    fallback = model.fell_back(scored).gather(1, best[:, None])[:, 0].tolist()
    rows = zip(probabilities, names, fallback, strict=True)
    return [as_output(row, tail, w=model.w, w_origin=model.w_origin, fallback=fell) for row, tail, fell in rows]
