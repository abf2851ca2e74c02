"""Does a prompt of your own beat the plain one? Two evaluations and a paired test, from Python.

python examples/compare_prompts.py folder:photos "a blurry photo of a {}." --model pocket-clip --out runs/prompts
"""

from __future__ import annotations

import argparse
from pathlib import Path

import toolkit
from evals.records import compare_runs
from evals.session import EvalRequest, evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task")
    parser.add_argument("template")
    parser.add_argument("--model", default="pocket-clip")
    parser.add_argument("--out", type=Path, default=Path("runs/prompts"))
    given = parser.parse_args()

    for name, template in (("plain", "a photo of a {}."), ("own", given.template)):
        request = EvalRequest(given.task, given.model, templates=(template,), output=given.out / name)
        outcome = evaluate(request, load_encoder=toolkit.load_encoder, build_method=toolkit.build_method)
        top1 = outcome.results["metrics"]["top1"]
        print(f"{name}: {top1['value']:.4f}, 95 % interval {top1['ci95'][0]:.4f} to {top1['ci95'][1]:.4f}; {outcome.report}")

    compared = compare_runs(given.out / "plain", given.out / "own")
    print(f"difference {compared['difference']['value']:+.4f}, exact McNemar p = {compared['mcnemar_p']:.3g}")


if __name__ == "__main__":
    main()
