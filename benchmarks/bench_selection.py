"""Selection, weight path and leave-one-out against a loop reference: ``python -m benchmarks.bench_selection``.

One thread, process CPU time, one warm-up, median of three. The reference is timed on a few hundred images and a few weights and
extrapolated linearly to all images and 160 weights; on those images selections and predictions must be equal.
``--full`` adds the larger cases, and ``--stream N`` predicts N images in constant memory. Prints one JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from benchmarks.reference_selection import (
    Vectors,
    make_vectors,
    published_predict,
    published_select,
    published_similarity,
)
from toolkit.methods.descriptions.estimator import ClassnameFree
from toolkit.methods.descriptions.selection import (
    Scored,
    SelectionOptions,
    class_means,
    class_sums,
    decide,
    predict,
    score,
    similarity,
)
from toolkit.methods.descriptions.weight import accuracy_curve, choose, leave_one_out, neighbours, positions

CLASSES, POOL, DIM, SHOTS, GRID = 1000, 5000, 512, 16, 160
WEIGHTS = [0.25 * step for step in range(GRID)]
SOME_WEIGHTS = [WEIGHTS[place] for place in (0, 1, 2, 4, 8, 20, 60, 159)]
T = TypeVar("T")


class Case(NamedTuple):
    """One row of the table: gates are how many times faster we must be, in selection and in selection plus sweep."""

    name: str
    kind: str
    n: int
    k: int
    m: int
    some: int
    gates: tuple[float, float]


CASES = [Case("10k random", "random", 10_000, 3, 5, 300, (20, 75)), Case("10k clustered", "clustered", 10_000, 3, 5, 300, (50, 190))]
MORE_CASES = [
    Case("50k clustered", "clustered", 50_000, 3, 5, 300, (60, 200)),
    Case("10k clustered, k=10, m=20", "clustered", 10_000, 10, 20, 100, (20, 60)),
]


def cpu_seconds(work: Callable[[], T], times: int = 3) -> tuple[T, float]:
    """The result, and the median CPU time of some runs after a warm-up."""
    result = work()
    taken = []
    for _ in range(times):
        started = time.process_time()
        result = work()
        taken.append(time.process_time() - started)
    return result, statistics.median(taken)


def grid_accuracies(scored: Scored, truth: Tensor) -> list[float]:
    """Accuracy at all weights of the grid, as the authors look for the best one."""
    target = positions(scored.L, truth)
    return [float((decide(scored.L, scored.A, scored.B, w) == target).double().mean()) for w in WEIGHTS]


def run_case(case: Case, vectors: Vectors, S: Tensor, counts: Tensor) -> dict[str, Any]:
    """Time both sides of one case and compare their answers."""
    options = SelectionOptions(k=case.k, m=case.m)
    sums, _ = class_sums(vectors.support, vectors.labels, CLASSES)
    L = neighbours(vectors.test, vectors.captions, sums, counts, options)
    scored, select_s = cpu_seconds(lambda: score(vectors.test, vectors.captions, vectors.d, L, S, counts, options=options))
    target = positions(L, vectors.truth)
    curve, exact_s = cpu_seconds(lambda: accuracy_curve(scored.A, scored.B, target))
    grid, grid_s = cpu_seconds(lambda: grid_accuracies(scored, vectors.truth))
    some = L[: case.some]
    mask, slow_select = cpu_seconds(lambda: published_select(S, some, case.m), times=1)
    test = vectors.test[: case.some]
    theirs, slow_sweep = cpu_seconds(lambda: published_predict(test, vectors.captions, vectors.d, some, mask, SOME_WEIGHTS), times=1)
    slow_select *= case.n / case.some
    slow_sweep *= case.n / case.some * GRID / len(SOME_WEIGHTS)
    ours = torch.stack([predict(scored, w)[: case.some] for w in SOME_WEIGHTS])
    ratios = (slow_select / select_s, (slow_select + slow_sweep) / (select_s + exact_s))
    return {
        "case": case.name,
        "sets": len(scored.selected.sets),
        "select_and_score_s": round(select_s, 3),
        "exact_curve_s": round(exact_s, 5),
        "grid_s": round(grid_s, 3),
        "reference_select_s": round(slow_select, 1),
        "reference_sweep_s": round(slow_sweep, 1),
        "reference_images": case.some,
        "extrapolated": "linearly in images and weights",
        "ratio_selection": round(ratios[0], 1),
        "ratio_selection_and_sweep": round(ratios[1], 1),
        "ratio_with_our_grid": round((slow_select + slow_sweep) / (select_s + grid_s), 1),
        "gates": case.gates,
        "reached": all(ratio >= gate for ratio, gate in zip(ratios, case.gates, strict=True)),
        "different_predictions": int((ours != theirs).sum()),
        "different_selections": different_selections(scored, some, S, case.m),
        "best_exact": curve.best,
        "best_on_grid": max(grid),
    }


def different_selections(scored: Scored, some: Tensor, S: Tensor, m: int) -> int:
    """Candidates of the first images whose descriptions are not the reference's."""
    mask = published_select(S, some, m)[:, :, CLASSES:]
    index = scored.set_index[: len(some)]
    chosen = scored.selected.chosen[index].gather(1, torch.searchsorted(scored.selected.sets[index], some)[..., None].expand(-1, -1, m))
    ours = torch.zeros(*mask.shape[:2], mask.shape[2] + 1).scatter_(2, chosen.masked_fill(chosen < 0, mask.shape[2]), 1.0)[..., :-1]
    return int((ours != mask).any(dim=2).sum())


def run_similarity(vectors: Vectors) -> tuple[dict[str, Any], Tensor, Tensor]:
    """S by class means against the product of all images with the pool."""

    def ours() -> tuple[Tensor, Tensor]:
        means, counts = class_means(vectors.support, vectors.labels, CLASSES)
        return similarity(means, counts, vectors.d), counts

    (S, counts), fast = cpu_seconds(ours)
    theirs, slow = cpu_seconds(lambda: published_similarity(vectors.support, vectors.d, CLASSES), times=1)
    facts = {"ours_s": round(fast, 3), "reference_s": round(slow, 2), "ratio": round(slow / fast, 1), "gate": 15}
    return facts | {"reached": slow / fast >= 15, "largest_difference": float((S - theirs).abs().max())}, S, counts


def run_leave_one_out(vectors: Vectors) -> dict[str, Any]:
    """Exact leave-one-out of all 16,000 support images."""
    work = lambda: leave_one_out(vectors.support, vectors.labels, vectors.captions, vectors.d, options=SelectionOptions())  # noqa: E731
    found, seconds = cpu_seconds(work, times=1)
    weight = choose(accuracy_curve(found.A, found.B, positions(found.L, vectors.labels)))
    return {"images": len(vectors.labels), "ours_s": round(seconds, 2), "gate_s": 5, "reached": seconds <= 5, "w": round(weight.w, 3)}


def batches(vectors: Vectors, count: int, size: int = 4096) -> Iterator[Tensor]:
    """Clustered images that are made as they are asked for."""
    generator = torch.Generator().manual_seed(1)
    for start in range(0, count, size):
        n = min(size, count - start)
        near = vectors.support[torch.randint(len(vectors.support), (n,), generator=generator)]
        noise = torch.randn(near.shape, generator=generator) / DIM**0.5
        yield torch.nn.functional.normalize(near + 0.3 * noise, dim=-1)


def run_stream(vectors: Vectors, count: int) -> dict[str, Any]:
    """Predict ``count`` images one batch after the other, and watch the memory."""
    names = [f"class {number}" for number in range(CLASSES)]
    model = ClassnameFree(None, names, vectors.d, captions=vectors.captions, w_cls=1.0).fit(vectors.support, vectors.labels)
    started, done, marks = time.process_time(), 0, []
    for labels in model.predict_stream(batches(vectors, count)):
        done += len(labels)
        marks.append(peak_mb())
    seconds = time.process_time() - started
    return {
        "images": done,
        "seconds": round(seconds, 1),
        "images_per_second": round(done / seconds),
        "peak_mb_after_a_tenth": marks[len(marks) // 10],
        "peak_mb_at_the_end": marks[-1],
    }


def peak_mb() -> int:
    """Peak resident memory of this process."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1 << 20))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="also 50,000 images, and k=10 with m=20")
    parser.add_argument("--stream", type=int, default=0, help="predict so many images as a stream, and nothing else")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    facts: dict[str, Any] = {"benchmark": "selection", "classes": CLASSES, "pool": POOL, "dim": DIM, "shots": SHOTS, "weights": GRID}
    if asked.stream:
        facts["stream"] = run_stream(make_vectors("clustered", CLASSES, POOL, 1, DIM, SHOTS, asked.seed), asked.stream)
    else:
        facts["cases"] = []
        for case in CASES + (MORE_CASES if asked.full else []):
            vectors = make_vectors(case.kind, CLASSES, POOL, case.n, DIM, SHOTS, asked.seed)
            facts["similarity"], S, counts = run_similarity(vectors)
            facts["cases"].append(run_case(case, vectors, S, counts))
        facts["leave_one_out"] = run_leave_one_out(make_vectors("clustered", CLASSES, POOL, 1, DIM, SHOTS, asked.seed))
        parts = [*facts["cases"], facts["similarity"], facts["leave_one_out"]]
        facts["reached"] = all(part["reached"] for part in parts)
    versions = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}
    print(json.dumps(facts | {"peak_mb": peak_mb(), "threads": torch.get_num_threads(), **versions}, indent=1))


if __name__ == "__main__":
    main()
