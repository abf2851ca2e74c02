"""The table of all description methods on EuroSAT: without support, and with 4 and 16 labelled images a class, drawn five times.

    python -m recipes.tables.eurosat_methods --data PATH/TO/eurosat -m pocket-clip

Writes docs/tables/eurosat_methods.md, and beside it .json with every number, version and option. Every image is encoded once, through
the feature cache. With weights at hand it takes minutes. No number is chosen on test labels.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from evals.provenance import environment
from evals.tasks import get_task
from toolkit.files import atomic_write_json, atomic_write_text
from toolkit.methods import build_method
from toolkit.models import load_encoder
from toolkit.stats import mean_bootstrap
from toolkit.types import ClassifyProblem, EncodedBatch, Sample

if TYPE_CHECKING:
    import torch

    from evals.tasks.classify import ClassifyTask
    from toolkit.models.base import DualEncoder

OUT = Path("docs/tables/eurosat_methods.md")
SHOTS = (0, 4, 16)
K = 3


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        shots: where it is defined: a method without support is measured once, one that learns has no entry at 0.
        seeds: for methods with random texts; they are averaged like draws.
    """

    label: str
    method: str
    options: Mapping[str, Any]
    shots: Sequence[int] = (0,)
    seeds: Sequence[int] = ()


FIRST = {"templates": "first"}
ROWS = (
    Row("class name, best template", "zero-shot", FIRST),
    Row("class name, all templates of the task", "zero-shot", {"templates": "task"}),
    Row("class name, 7 templates", "ensemble", {"templates": "7"}),
    Row("class name, 80 templates", "ensemble", {"templates": "80"}),
    Row("DCLIP, pool waffleclip", "dclip", FIRST | {"pool": "waffleclip"}),
    Row("DCLIP, pool ours", "dclip", FIRST | {"pool": "ours"}),
    Row("CuPL-style, pool mpvr", "cupl", FIRST | {"pool": "mpvr"}),
    Row("WaffleCLIP, 7 seeds", "waffle", FIRST | {"pool": "waffleclip"}, seeds=range(7)),
    Row("FuDD-style, pool waffleclip", "fudd", FIRST | {"pool": "waffleclip"}),
    Row("FuDD-style, pool ours", "fudd", FIRST | {"pool": "ours"}),
    Row("assigned, top 3, pool waffleclip", "assigned", FIRST | {"pool": "waffleclip"}, SHOTS),
    Row("assigned, top 3, pool ours", "assigned", FIRST | {"pool": "ours"}, SHOTS),
    Row("assigned, all classes, pool ours", "assigned", FIRST | {"pool": "ours", "scope": "global"}, SHOTS),
    Row("selected, pool waffleclip", "classname-free", {"pool": "waffleclip"}, SHOTS),
    Row("selected, pool ours", "classname-free", {"pool": "ours"}, SHOTS),
    Row("selected, pool ours, w = 0", "classname-free", {"pool": "ours", "w_cls": 0}, SHOTS),
    Row("class means in the top 3", "nearest-mean", FIRST | {"form": "local"}, (4, 16)),
    Row("class means and names in the top 3", "nearest-mean", FIRST | {"form": "mixed"}, (4, 16)),
    Row("class means, all classes", "nearest-mean", FIRST | {"form": "global"}, (4, 16)),
    Row("Tip-Adapter, training-free", "tip-adapter", FIRST, (4, 16)),
)


class Memory:
    """A dual encoder that keeps all that it encoded; images are known by name, so that their bytes are read once."""

    def __init__(self, encoder: DualEncoder) -> None:
        self.inner = encoder
        self.images: dict[str, torch.Tensor] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def iter_images(self, images: Sequence[Any], *, batch_size: int = 32, workers: int | None = None) -> Iterator[EncodedBatch]:
        """As any encoder; images that cannot be read end the table, since it would be of other images."""
        import torch

        new = [image for image in images if image.name not in self.images]
        if new:
            rows = self.inner.encode_images(new, batch_size=batch_size)
            self.images |= {image.name: row for image, row in zip(new, rows, strict=True)}
        for start in range(0, len(images), 1024):
            part = images[start : start + 1024]
            yield EncodedBatch(list(range(start, start + len(part))), torch.stack([self.images[image.name] for image in part]), [])


def right(row: Row, encoder: Any, task: ClassifyTask, samples: Sequence[Sample], support: Sequence[Sample], seed: int) -> np.ndarray:
    """(N,) whether each sample is answered rightly. The method sees no label of theirs."""
    options = dict(row.options) | ({"seed": seed} if row.seeds else {})
    if row.method == "classname-free":
        options |= {"k": K, "caption_templates": list(task.templates[:1])}
    problem = ClassifyProblem(task.classnames, task.templates, task.descriptions, tuple(support), task.pools)
    predict = build_method(row.method, options).predictor(encoder, problem, batch_size=64)
    hidden = [Sample(sample.id, sample.image) for sample in samples]
    answers = [prediction.output for prediction in predict(hidden)]
    if any(answer is None for answer in answers):
        raise SystemExit("a test image cannot be read, so that the table would be of other images")
    return np.array([answer["label"] == sample.label for answer, sample in zip(answers, samples, strict=True) if answer is not None])


def measure(encoder: Any, task: ClassifyTask, samples: Sequence[Sample], draws: int) -> list[dict[str, Any]]:
    """One record for each row and number of shots: accuracies, gains over the class name, intervals."""
    caption = right(ROWS[0], encoder, task, samples, (), 0)
    records = []
    for row in ROWS:
        for shots in row.shots:
            seeds = range(draws) if shots else (row.seeds or (0,))
            drawn = {seed: task.support(shots, seed) if shots else [] for seed in seeds}
            values = np.stack([right(row, encoder, task, samples, drawn[seed], seed) for seed in seeds]).astype(np.float64)
            accuracy, gain = mean_bootstrap(values), mean_bootstrap(values - caption)
            print(f"{row.label}, {shots} shots: {100 * accuracy.value:.2f} %")
            records.append(
                {
                    "label": row.label,
                    "method": row.method,
                    "options": dict(row.options),
                    "shots": shots,
                    "runs": len(seeds),
                    "n": len(samples),
                }
                | {"accuracy": accuracy.value, "ci95": accuracy.ci, "each": values.mean(axis=1).tolist()}
                | {"gain": gain.value, "gain_ci95": gain.ci}
            )
    return records


def ceiling(encoder: Any, task: ClassifyTask, samples: Sequence[Sample]) -> float:
    """recall@3 of the class name: no method that picks among its top 3 can be more often right."""
    predict = build_method("zero-shot", FIRST).predictor(encoder, ClassifyProblem(task.classnames, task.templates), batch_size=64)
    found = [prediction.output or {} for prediction in predict(samples)]
    return float(np.mean([sample.label in [index for index, _ in out["top"][:K]] for out, sample in zip(found, samples, strict=True)]))


def markdown(records: Sequence[Mapping[str, Any]], model: str, n: int, recall: float, draws: int, command: str) -> str:
    """The page."""
    by_row: dict[str, dict[int, Mapping[str, Any]]] = {}
    for record in records:
        by_row.setdefault(record["label"], {})[record["shots"]] = record
    lines = [
        "# Description methods on EuroSAT",
        "",
        f"Made by `{command}`. Model {model}, {n:,} test images, top-1 in percent with 95 % intervals.",
        f"With support: mean over {draws} draws of that many labelled images a class from the training split; the interval resamples",
        "draws and images. Without: one run, or the mean over its seeds. All methods share the captions (the task's best template), the",
        "images and the support. Weights are chosen by exact leave-one-out on the support, never on test labels. An empty cell: not",
        "defined, or the same as without support.",
        "",
        f"Methods that choose among the top {K} captions cannot be above recall@{K} = {100 * recall:.1f}; with w = 0 chance is",
        f"recall@{K} / {K} = {100 * recall / K:.1f}.",
        "",
        "| method | no labelled image | " + " | ".join(f"{shots} a class" for shots in SHOTS[1:]) + " | gain over the class name |",
        "|---|---|---|---|---|",
    ]
    for label, cells in by_row.items():
        last = cells[max(cells)]
        low, high = last["gain_ci95"]
        gain = f"{100 * last['gain']:+.1f} ({100 * low:+.1f}, {100 * high:+.1f})"
        lines.append(f"| {label} | " + " | ".join(_cell(cells.get(shots)) for shots in SHOTS) + f" | {gain} |")
    lines += ["", "The gain is that of the last filled column, paired image by image with the class name in its best template.", ""]
    return "\n".join(lines)


def _cell(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return ""
    low, high = record["ci95"]
    return f"{100 * record['accuracy']:.1f} ({100 * low:.1f}, {100 * high:.1f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", required=True, help="a local copy of EuroSAT with a train and a test split")
    parser.add_argument("-m", "--model", default="pocket-clip")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--limit", type=int, help="test images; for a first look only")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    task = get_task("eurosat", data=given.data)
    samples = list(task.samples(given.limit))
    encoder = load_encoder(given.model, device=given.device)
    memory = Memory(encoder)
    recall = ceiling(memory, task, samples)
    records = measure(memory, task, samples, given.draws)
    facts = {
        "model": given.model,
        "model_fingerprint": encoder.fingerprint,
        "draws": given.draws,
        "limit": given.limit,
        "recall_at_3": recall,
    }
    facts |= {"data_fingerprint": task.data_fingerprint(), "prompts": dict(task.prompts), "environment": environment()}
    command = f"python -m recipes.tables.eurosat_methods --data eurosat -m {given.model}"
    command += "" if given.limit is None else f" --limit {given.limit}"
    command += "" if given.draws == 5 else f" --draws {given.draws}"
    atomic_write_json(given.out.with_suffix(".json"), {**facts, "rows": records})
    atomic_write_text(given.out, markdown(records, given.model, len(samples), recall, given.draws, command))
    print(given.out)


if __name__ == "__main__":
    main()
