"""Layer discovery from request to report: the questions and their scorer, the study itself as a function, the files of the result."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from evals.families import USUAL
from evals.session import RUNS, check_writable
from toolkit.config import fingerprint
from toolkit.errors import UsageError
from toolkit.files import atomic_write_bytes, atomic_write_text
from toolkit.types import JSON, Sample

FIGURE, REPORT, CALIBRATION = "layers.png", "report.html", "calibration.json"


@dataclass(frozen=True)
class DiscoverRequest:
    """What to study and how. The field names are those of the command line.

    Attributes:
        variants: masking studies beside block_at, which is always made.
        scorer: what an answer is worth; None takes the one that counts for the task.
        output: the folder; None names one below ``runs`` after the configuration.
    """

    task: str
    model: str = USUAL["vqa"].model
    variants: tuple[str, ...] = ()
    scorer: str | None = None
    task_options: Mapping[str, JSON] = field(default_factory=dict)
    data: str | None = None
    limit: int = 200
    seed: int = 0
    max_new_tokens: int | None = None
    batch_size: int = USUAL["vqa"].batch_size
    device: str = "auto"
    dtype: str = "auto"
    offline: bool = False
    allow_pickle: bool = False
    quantise: int | None = None
    device_map: str | None = None
    output: Path | None = None
    resume: bool = True

    def folder(self) -> Path:
        """Everything that changes an answer has a folder of its own. Further variants go on in the same one."""
        from evals.provenance import run_name

        how = [self.scorer, dict(self.task_options), self.data, self.limit, self.seed, self.max_new_tokens, self.dtype, self.quantise]
        return self.output or RUNS / run_name(f"discover-{self.task}", self.model, "layers", how)


class Discovered(NamedTuple):
    """A finished study: its folder, the content of calibration.json, and the other files."""

    folder: Path
    calibration: dict[str, Any]
    file: Path
    figure: Path
    report: Path


def discover_task(
    request: DiscoverRequest,
    *,
    load_answerer: Callable[..., Any],
    discover: Callable[..., dict[str, Any]],
    options: Callable[..., Any],
    progress: Callable[..., None] | None = None,
) -> Discovered:
    """Study the layers of a model on a task that asks questions.

    Args:
        discover, options: ``discover`` and ``StudyOptions`` of ``toolkit.methods.interventions.discover``.
    Raises: PermafrostError: all that a user can get wrong, before the model is loaded where that is possible.
    """
    from evals.report.discover import discover_html, discover_png
    from evals.tasks import get_task

    options(variants=request.variants).all_variants()
    task: Any = get_task(request.task, data=request.data, **request.task_options)
    if task.family != "vqa":
        raise UsageError(f"{request.task} is a task that asks for classes, and layers are found by questions", hint="-t bazaar/vqa")
    scorer = _scorer(task, request.scorer)
    folder = request.folder()
    check_writable(folder)
    samples = list(task.samples(request.limit, request.seed))
    how = {name: getattr(request, name) for name in ("device", "dtype", "offline", "allow_pickle", "quantise", "device_map")}
    answerer = load_answerer(request.model, **how)
    with _lock(folder):
        studied = options(
            variants=request.variants,
            seed=request.seed,
            max_new_tokens=request.max_new_tokens or task.max_new_tokens,
            batch_size=request.batch_size,
        )
        about = _about(task, request, scorer)
        score = _scoring(scorer)
        found = discover(answerer, samples, score, folder, studied, about=about, resume=request.resume, progress=progress)
        picture = io.BytesIO()
        discover_png(found).save(picture, "PNG", optimize=True)
        figure = atomic_write_bytes(folder / FIGURE, picture.getvalue())
        report = atomic_write_text(folder / REPORT, discover_html(found))
    return Discovered(folder, found, folder / CALIBRATION, figure, report)


def _scorer(task: Any, name: str | None) -> Any:
    """Raises: UsageError: for an unknown scorer, one that needs other reference answers, or a task without any."""
    from evals.tasks.vqa import find_scorers

    if not task.scored:
        raise UsageError(f"{task.name} has no public reference answers, and layers are found by what masking costs", hint="choose a split")
    if name is None:
        return task.rules[0]
    (scorer,) = find_scorers([name])
    try:
        for sample in task.items:
            scorer.check(sample.meta["answers"])
    except (TypeError, ValueError) as error:
        raise UsageError(str(error), hint=f"scorers of this task: {', '.join(task.metrics)}") from error
    return scorer


def _scoring(scorer: Any) -> Callable[[Sample, str], float]:
    return lambda sample, answer: float(scorer(answer, sample.meta["answers"]))


def _about(task: Any, request: DiscoverRequest, scorer: Any) -> dict[str, JSON]:
    from evals.provenance import package_versions
    from toolkit.version import VERSION

    told = task.describe()
    packages = package_versions()
    return {
        "task": task.name,
        "data_fingerprint": task.data_fingerprint(),
        "limit": request.limit,
        "scorer": {"name": scorer.name, "version": scorer.version},
        "prompt": told["prompt"],
        "prompt_hash": fingerprint(told["prompt"], told["prompts"]),
        "versions": {"permafrost": VERSION, **{name: packages[name] for name in ("torch", "transformers", "numpy")}},
    }


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Raises: UsageError: if another process is at work there."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(f"another process is writing to {folder}", hint="wait for it, or choose another --output") from error
    try:
        yield
    finally:
        lock.release()


def lines(done: Discovered) -> list[str]:
    """What a person wants to see: the layers, what they rest on, and where the files are."""
    found = done.calibration
    base, scorer = found["masking"]["base"]["score"], found["scorer"]
    failed = f", {found['n_failed']} failed" if found["n_failed"] else ""
    text = [
        f"{found['task']} · {found['model']} · {found['status']}",
        f"{found['n_layers']} layers, {found['n']} questions{failed}, {scorer['name']}@{scorer['version']} {base:.4f}",
        f"fusion layers C = {found['C']}, late layer k = {found['k']}, review layer r = {found['r']} (counted from 0)",
    ]
    for variant, rows in found["masking"]["variants"].items():
        certain = [row for row in rows if row["drop"] and row["drop"] > 0 and row["p_holm"] < found["rules"]["level"]]
        costs = ", ".join(f"{row['layer']} ({100 * row['drop']:.1f})" for row in certain) or "none"
        text.append(f"{variant}: layers with a significant drop (points): {costs}")
    text += [f"note: {reason}" for reason in found["reasons"]]
    text += [f"{what}: {path}" for what, path in (("calibration", done.file), ("figure", done.figure), ("report", done.report))]
    if found["status"] == "ok":
        crop = "" if found["r"] is not None else " -o mode=crop"
        who = f"-t {found['task']} -m {found['model']}"
        text.append(f"use it: permafrost eval {who} --method contrastive-attention{crop} -o candidates={done.file}")
    return text
