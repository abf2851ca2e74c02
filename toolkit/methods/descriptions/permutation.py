"""What the same images gain when their labels are shuffled: the distribution that a gain has to stand out from.

Tests over test images, such as McNemar's, take the images for independent trials. Photos that are near copies of each other are none, and
then a gain by luck is taken for a gain. Shuffled labels need no such assumption: if the labels of the support do not matter, then the
labels as they are and any shuffling of them are exchangeable, so that the rank of the real gain among shuffled ones is exact, however alike
the images are. Only S is made with the shuffled labels; the weight keeps its true target, as in the shuffled arms of an audit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolkit.methods.descriptions import controls
from toolkit.methods.descriptions.answers import relisted
from toolkit.methods.descriptions.audit_arms import AuditOptions, AuditProblem, subset
from toolkit.methods.descriptions.relabel import relabel
from toolkit.methods.descriptions.verdict import Permuted

_STREAM = 13  # of random numbers; 10 to 12 are those of the arms


def permuted_accuracies(
    problem: AuditProblem,
    options: AuditOptions,
    labels: Tensor,
    *,
    kept: Sequence[int] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> NDArray[np.float64]:
    """Accuracies of the method with the real pool: first by the labels as they are, then by each of ``options.permutations`` shufflings.

    Descriptions that are judged as assigned know no labels; there the classes swap their lists instead.

    Args:
        labels: (N,) of the test images, read after each answer. kept: only these texts of the pool. tick: called after each shuffling.
    Returns: (draws, 1 + permutations).
    """
    table = np.empty((len(problem.draws()), 1 + options.permutations))
    for draw, (x, y) in enumerate(problem.draws()):
        for number, predicted in enumerate(_predictions(problem, options, x, y, draw, kept)):
            table[draw, number] = float(predicted.eq(labels).double().mean())
            if number:
                tick()
    return table


def _predictions(
    problem: AuditProblem, options: AuditOptions, x: Tensor, y: Tensor, draw: int, kept: Sequence[int] | None
) -> Iterator[Tensor]:
    d, own, order = problem.d, problem.own_lists, problem.tie_order
    if kept is not None:
        d, own, order = subset(d, own, order, kept)
    streams = [controls.generator(options.seed, _STREAM, draw, number) for number in range(options.permutations)]
    if options.mode == "assigned":
        answer = relisted(problem.test, x, y, problem.captions, d, own or (), k=options.selection.k)
        yield answer(torch.arange(len(problem.captions)))
        yield from (answer(torch.from_numpy(rng.permutation(len(problem.captions)))) for rng in streams)
        return
    given = {"options": options.selection, "own_lists": own, "tie_order": order, "w_cls": options.w_cls}
    choose = relabel(problem.test, x, y, problem.captions, d, **given)  # type: ignore[arg-type]
    yield choose(y)
    yield from (choose(controls.shuffled(y, rng)) for rng in streams)


def permuted(accuracies: NDArray[np.float64], caption: float, what: str = "labels") -> Permuted:
    """The permutation test of a mean gain over draws, from ``permuted_accuracies`` and the accuracy of the caption."""
    real, *shuffled = accuracies.mean(axis=0).tolist()
    low, high = np.quantile(shuffled, (0.025, 0.975))
    span = (float(low) - caption, float(high) - caption)
    return Permuted(permutation_p(real, shuffled), len(shuffled), float(np.mean(shuffled)) - caption, span, what)


def permutation_p(accuracy: float, shuffled: Sequence[float]) -> float:
    """The rank of an accuracy among K by shuffled labels, as a two-sided p like McNemar's: 2 (1 + how many reach it) / (1 + K).

    >>> permutation_p(0.5, [0.1] * 39)
    0.05
    """
    upper = (1 + sum(other >= accuracy - 1e-12 for other in shuffled)) / (1 + len(shuffled))
    return min(1.0, 2 * upper)
