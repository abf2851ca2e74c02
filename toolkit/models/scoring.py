"""Log-probabilities of continuations: which passes are needed, and what is read off each.

The logits behind a prompt and a beginning serve every continuation with that beginning, whatever its last token. So a question costs
one row for each beginning that is not itself the beginning of another: one in all where the options are single tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from toolkit.models.rows import Row

Job = dict[int, tuple[int, ...]]  # number of the option -> its tokens


def plan_rows(row: Row, options: Sequence[Sequence[int]]) -> list[Row]:
    """The rows that are needed for the options of a question, each with a beginning as tail and the options it serves as job.

    >>> [(made.tail, made.job) for made in plan_rows(Row(0, {}), [[5], [6], [7, 8], [7, 9]])]
    [((7,), {0: (5,), 1: (6,), 2: (7, 8), 3: (7, 9)})]
    """
    beginnings = {tuple(ids[:-1]) for ids in options}
    longest = [tail for tail in sorted(beginnings) if not any(_begins(other, tail) for other in beginnings if other != tail)]
    jobs: dict[tuple[int, ...], Job] = {tail: {} for tail in longest}
    for number, ids in enumerate(options):
        serving = next(tail for tail in longest if _begins(tail, tuple(ids[:-1])))
        jobs[serving][number] = tuple(ids)
    return [replace(row, tail=tail, job=job) for tail, job in jobs.items()]


def read_scores(module: Any, inputs: Mapping[str, Any], rows: Sequence[Row]) -> list[dict[int, float]]:
    """Number of the option -> sum of the log-probabilities of its tokens, for each row of one batch, whose tails end the sequences."""
    keep = 1 + max(len(row.tail) for row in rows)
    settings = {"logits_to_keep": keep} if "logits_to_keep" in inspect.signature(module.forward).parameters else {}
    with torch.no_grad():
        logits = module(**inputs, use_cache=False, **settings).logits[:, -keep:].float()
    norms = logits.logsumexp(-1)
    wanted = [
        (place, keep - 1 - len(row.tail) + step, token, number)
        for place, row in enumerate(rows)
        for number, ids in _job(row).items()
        for step, token in enumerate(ids)
    ]
    places, steps, tokens = (torch.tensor(column, device=logits.device) for column in list(zip(*wanted, strict=True))[:3])
    values = (logits[places, steps, tokens] - norms[places, steps]).tolist()
    scores: list[dict[int, float]] = [dict.fromkeys(_job(row), 0.0) for row in rows]
    for (place, _, _, number), value in zip(wanted, values, strict=True):
        scores[place][number] += value
    return scores


def total(scores: Mapping[int, float], options: Sequence[Sequence[int]], *, mean: bool) -> Tensor:
    """(K,) float32, in the order of the options."""
    return torch.tensor([scores[number] / (len(ids) if mean else 1) for number, ids in enumerate(options)], dtype=torch.float32)


def _begins(whole: tuple[int, ...], start: tuple[int, ...]) -> bool:
    return whole[: len(start)] == start


def _job(row: Row) -> Job:
    assert isinstance(row.job, dict)
    return row.job
