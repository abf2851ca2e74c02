"""What whole audits of one task claim where there is nothing to claim: support labels shuffled, descriptions of random strings.

    python benchmarks/bench_claims.py                                  # the held-out product lines, 20 audits of each kind
    python benchmarks/bench_claims.py -t bazaar/lines -o w_cls=loo --shots 16

One JSON: verdicts, and how many of the audits claim a gain, by McNemar's test alone and by the rule of the audit.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evals.session import EvalRequest, prepare
from toolkit.config import parse_options
from toolkit.methods import build_method
from toolkit.methods.descriptions.audit import audit
from toolkit.methods.descriptions.audit_arms import ControlPools
from toolkit.methods.descriptions.audit_run import prepare_audit
from toolkit.methods.descriptions.controls import LETTERS, generator, shuffled
from toolkit.models import load_encoder

WORDS, LONG = 4, (3, 9)  # of a random description: words, and letters of a word


class Remembered:
    """Control pools that are encoded once and used by every audit."""

    def __init__(self, pools: ControlPools) -> None:
        self.source, self.known = pools, dict[str, list[Tensor]]()

    def pools(self, kind: str, seeds: int) -> Iterator[Tensor]:
        if len(self.known.get(kind, ())) < seeds:
            self.known[kind] = list(self.source.pools(kind, seeds))
        return iter(self.known[kind][:seeds])

    def waffle(self, number: int) -> Tensor:
        return self.source.waffle(number)


def random_texts(count: int, number: int) -> list[str]:
    """Descriptions of random words of random lengths: no shape of any real pool."""
    rng = generator(number, 21)

    def word() -> str:
        return "".join(LETTERS[i] for i in rng.integers(26, size=int(rng.integers(LONG[0], LONG[1] + 1))))

    return [" ".join(word() for _ in range(WORDS)) for _ in range(count)]


def row(done: Any, level: float) -> dict[str, Any]:
    gain = done.result["gain"]
    mcnemar = gain["value"] > 0 and gain["p_holm"] < level
    return {
        "verdict": done.verdict.name,
        "gain": round(100 * gain["value"], 2),
        "meaning": round(100 * done.result["meaning"]["value"], 2),
        "beaten": done.result["meaning"]["beaten"],
        "mcnemar": mcnemar,
        "permuted_p": gain["permuted"]["p"],
        "claimed": mcnemar and gain["permuted"]["p"] < level,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "audits": len(rows),
        "verdicts": dict(Counter(row["verdict"] for row in rows)),
        "gains_by_mcnemar_alone": sum(row["mcnemar"] for row in rows),
        "gains_claimed": sum(row["claimed"] for row in rows),
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-t", "--task", default="bazaar/lines-heldout")
    parser.add_argument("-m", "--model", default="pocket-clip")
    parser.add_argument("-o", "--option", action="append", default=[])
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--audits", type=int, default=20)
    parser.add_argument("--data")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    options = parse_options(given.option or ["w_cls=0", "neighbourhood=all"])
    request = EvalRequest(
        task=given.task, model=given.model, method="classname-free", shots=given.shots, options=options, data=given.data
    )
    method, task, encoder, problem, _ = prepare(request, load_encoder, build_method)
    samples = list(task.samples(None, 0))
    ready = prepare_audit(method, encoder, problem, samples, [list(problem.support)], settings={"arms": ("null",)})
    level = ready.options.level
    plain = replace(ready.problem, leaks=(), controls=Remembered(ready.problem.controls))  # type: ignore[arg-type]
    [(x, y)] = plain.supports
    mixed, letters = [], []
    for number in range(given.audits):
        labels = shuffled(y, generator(number, 20))
        mixed.append(row(audit(replace(plain, supports=[(x, labels)]), ready.labels, ready.options), level))
        texts = random_texts(len(plain.texts), number)
        pool = replace(plain, texts=texts, d=encoder.encode_texts(texts).to(plain.d.dtype), tie_order=None)
        letters.append(row(audit(pool, ready.labels, ready.options), level))
    spent = round(time.process_time() - began, 1)
    facts = {"task": task.name, "model": encoder.name, "shots": given.shots, "options": options, "n": len(ready.labels)}
    print(json.dumps({**facts, "shuffled_labels": summary(mixed), "random_strings": summary(letters), "cpu_seconds": spent}, indent=2))


if __name__ == "__main__":
    main()
