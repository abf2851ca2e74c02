"""One evaluation from request to report. Models and methods come in as functions, so that the harness knows neither."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from evals.families import USUAL, check_fit
from evals.records import EXPLAIN, MANIFEST, samples_files
from toolkit.config import to_json
from toolkit.errors import ImageError, PermafrostError, UsageError
from toolkit.files import atomic_write_bytes, atomic_write_json, read_json
from toolkit.types import JSON, AnswerProblem, ClassifyProblem, ImageSource, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from toolkit.launch import Place

RUNS = Path("runs")
MOST_EXPLAINED = 2000  # samples among which the instructive ones are looked for


@dataclass(frozen=True)
class EvalRequest:
    """What to evaluate and how. The field names are those of the command line.

    Attributes:
        model, method, batch_size: empty and None take what is usual for the kind of task.
        quantise: 4 or 8 bits a weight, for answerers; None loads them as they are.
        device_map: how a large answerer is spread over devices, such as "auto"; None puts it on ``device``.
        max_new_tokens: length of an answer; None takes the task's own.
        output: the run folder; None names one below ``runs`` after the configuration.
        shots: labelled images a class for methods that learn from a few; None with a ``support`` takes all of it.
        support: the split or place they come from; None takes the task's usual one if there are ``shots``, "none" forbids any.
        draw_seed: which ones are drawn.
        report: write report.html at the end.
    """

    task: str
    model: str = ""
    method: str = ""
    options: Mapping[str, JSON] = field(default_factory=dict)
    task_options: Mapping[str, JSON] = field(default_factory=dict)
    data: str | None = None
    classnames: Path | None = None
    templates: tuple[str, ...] = ()
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    offline: bool = False
    allow_pickle: bool = False
    cache: bool = True
    quantise: int | None = None
    device_map: str | None = None
    max_new_tokens: int | None = None
    shots: int | None = None
    support: str | None = None
    draw_seed: int = 0
    limit: int | None = None
    seed: int = 0
    output: Path | None = None
    resume: bool = True
    report: bool = True

    def settled(self, family: str) -> EvalRequest:
        """The same with what is usual for that kind of task in the place of what was left open."""
        usual = USUAL[family]
        return replace(
            self, model=self.model or usual.model, method=self.method or usual.method, batch_size=self.batch_size or usual.batch_size
        )

    def folder(self) -> Path:
        """The run folder. Options that change no number (batch size, workers, devices) are not part of its name."""
        from evals.provenance import run_name

        if self.output is not None:
            return self.output
        names = self.classnames.read_bytes().hex() if self.classnames and self.classnames.is_file() else None
        numbers: list[Any] = [self.options, self.task_options, self.data, names, self.templates, self.dtype, self.limit, self.seed]
        if self.asks_support():
            numbers.append([self.shots, self.support, self.draw_seed])
        if self.quantise or self.max_new_tokens:
            numbers.append([self.quantise, self.max_new_tokens])
        return RUNS / run_name(self.task, self.model, self.method, numbers)

    def asks_support(self) -> bool:
        """Raises: UsageError: for shots without support."""
        if self.support == "none" and self.shots is not None:
            raise UsageError(f"--shots {self.shots} and --support none contradict each other")
        return self.shots is not None or self.support not in (None, "none")


class Outcome(NamedTuple):
    """A finished evaluation.

    Attributes:
        results: the content of results.json.
        report: report.html, or None where none was written.
        images: sample id -> its image.
    """

    folder: Path
    results: dict[str, Any]
    report: Path | None
    images: Callable[[str], Image]


def evaluate(
    request: EvalRequest,
    *,
    load_encoder: Callable[..., Any],
    build_method: Callable[..., Any],
    load_answerer: Callable[..., Any] | None = None,
    place: Place | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> Outcome:
    """Find the data, load the model, run, write the report: cheap checks first, so that a typing error costs no time.

    Args:
        load_encoder: ``toolkit.models.load_encoder``, for tasks that classify.
        build_method: ``toolkit.methods.build_method``.
        load_answerer: ``toolkit.models.load_answerer``, for tasks that ask questions.
        place: this process among several; only rank 0 writes the report.
    Raises: PermafrostError: all that a user can get wrong.
    """
    from evals.provenance import environment
    from evals.runner import run

    def check(_: Any, task: Any) -> None:
        check_writable(request.settled(task.family).folder())

    ready = prepare(request, load_encoder, build_method, load_answerer=load_answerer, place=place, check=check)
    method, task, model, problem, learnt = ready
    request = request.settled(task.family)
    folder = request.folder()
    predict = method.predictor(model, problem, batch_size=request.batch_size)
    manifest = {
        "model": model.name,
        "model_fingerprint": model.fingerprint,
        "method": {"name": request.method, "config": to_json(method.config)},
        "support": learnt,
        "pool": _pool_hash(request),
        "generation": _generation(request, problem),
        "request": to_json(request),
        "device": _devices(model.module),
        "environment": environment(),
    }
    (folder / EXPLAIN).unlink(missing_ok=True)  # of what was here before
    shard = None if place is None else (place.rank, place.world, place.barrier)
    start = partial(run, task, predict, out=folder, manifest=manifest, shard=shard, progress=progress)
    first = place is None or place.rank == 0
    with _no_empty_run(folder, first):
        start(resume=request.resume, limit=request.limit, seed=request.seed)
    if request.report and first and hasattr(method, "explanations"):
        few = list(task.samples(min(request.limit or MOST_EXPLAINED, MOST_EXPLAINED), request.seed))
        atomic_write_json(folder / EXPLAIN, method.explanations(model, problem, few, batch_size=request.batch_size))
    report = write_run_report(folder, task=task) if request.report and first else None
    return Outcome(folder, read_json(folder / "results.json"), report, _images(task))


@contextmanager
def _no_empty_run(folder: Path, first: bool) -> Iterator[None]:
    """A call that is refused before the first answer leaves no run folder behind where none was."""
    known = (folder / MANIFEST).exists()
    try:
        yield
    except PermafrostError:
        if first and not known and not samples_files(folder):
            for path in [folder / MANIFEST, *folder.glob(".lock*")]:
                path.unlink(missing_ok=True)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise


def _generation(request: EvalRequest, problem: ClassifyProblem | AnswerProblem) -> dict[str, JSON] | None:
    """What changes an answer beside model, method and prompt; None for a task without answers in words."""
    if not isinstance(problem, AnswerProblem):
        return None
    return {"max_new_tokens": problem.max_new_tokens, "quantise": request.quantise}


def _devices(module: Any) -> str:
    """Where the weights are: one device, or several with commas between them."""
    return ", ".join(sorted({str(parameter.device) for parameter in module.parameters()}))


class Prepared(NamedTuple):
    """What an evaluation needs: an encoder or an answerer as ``model``. ``learnt`` is what the manifest says of support images, or None."""

    method: Any
    task: Any
    model: Any
    problem: Any
    learnt: dict[str, Any] | None


def prepare(
    request: EvalRequest,
    load_encoder: Callable[..., Any],
    build_method: Callable[..., Any],
    *,
    load_answerer: Callable[..., Any] | None = None,
    place: Place | None = None,
    check: Callable[[Any, Any], None] | None = None,
) -> Prepared:
    """Find the method, the data and, last because it costs most, the model. ``check`` gets method and task before the model is loaded.

    Raises: PermafrostError: all that a user can get wrong.
    """
    from evals.tasks import get_task

    method = build_method(request.method, request.options) if request.method else None
    names, templates = request.classnames, request.templates or None
    task: Any = get_task(request.task, data=request.data, classnames=names, templates=templates, **request.task_options)
    request = request.settled(task.family)
    method = build_method(request.method, request.options) if method is None else method
    check_fit(request, method, task.family)
    support, learnt = _support(task, request)
    if check is not None:
        check(method, task)
    how: dict[str, Any] = {"dtype": request.dtype, "offline": request.offline, "allow_pickle": request.allow_pickle}
    how["device"] = request.device if place is None else place.device
    if task.family == "vqa":
        if load_answerer is None:
            raise UsageError(f"{task.name} asks questions, and no way to load a model that answers was given")
        model = load_answerer(request.model, quantise=request.quantise, device_map=request.device_map, **how)
        return Prepared(method, task, model, AnswerProblem(request.max_new_tokens or task.max_new_tokens), learnt)
    model = load_encoder(request.model, cache=request.cache, **how)
    if request.workers is not None:
        model = _WithWorkers(model, request.workers)
    problem = ClassifyProblem(tuple(task.classnames), tuple(task.templates), task.descriptions, support, task.pools)
    return Prepared(method, task, model, problem, learnt)


def _support(task: Any, request: EvalRequest) -> tuple[list[Sample], dict[str, Any] | None]:
    """The support images and what the manifest says of them."""
    from evals.tasks.support import support_facts

    if not request.asks_support():
        return [], None
    samples = task.support(request.shots, request.draw_seed, request.support)
    asked = {"shots": request.shots, "split": request.support, "draw_seed": request.draw_seed}
    return samples, support_facts(samples, task.samples(request.limit, request.seed), asked, len(task.classnames))


def _pool_hash(request: EvalRequest) -> str | None:
    """sha256 of the user's own description file, if there is one: the same file name can hold other texts tomorrow."""
    pool = request.options.get("pool")
    path = Path(pool) if isinstance(pool, str) else None
    return sha256(path.read_bytes()).hexdigest() if path and path.is_file() else None


class _WithWorkers:
    """An encoder that decodes with so many processes; methods do not know about processes."""

    def __init__(self, encoder: Any, workers: int) -> None:
        self._encoder, self._workers = encoder, workers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def iter_images(self, images: Sequence[Any], *, batch_size: int = 32) -> Any:
        return self._encoder.iter_images(images, batch_size=batch_size, workers=self._workers)


def check_writable(folder: Path) -> None:
    """Raises: UsageError: if files cannot be written into ``folder``; found before a model is loaded, not after. Makes no folder."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    probe = place / f".permafrost-probe.{os.getpid()}"
    atomic_write_bytes(probe, b"")
    probe.unlink(missing_ok=True)


def write_run_report(folder: Path, *, compare: Sequence[Path] = (), task: Any = None) -> Path:
    """report.html of a run folder, with thumbnails where the run's images are still there.

    Raises: DataNotFound: if ``folder`` is not a run.
    """
    from evals.records import read_run
    from evals.report import write_report

    run = read_run(folder)
    if task is None:
        task = _task_again(run.manifest)
    return write_report(folder, images=None if task is None else _images(task), compare=compare)


def _task_again(manifest: Mapping[str, Any]) -> Any:
    """The task of a finished run, or None if its data are no longer where they were: the report then has no thumbnails."""
    from evals.tasks import get_task

    asked = manifest.get("request") or {}
    names = asked.get("classnames")
    try:
        classnames = Path(names) if names else None
        task = get_task(asked.get("task", ""), data=asked.get("data"), classnames=classnames, **asked.get("task_options", {}))
    except PermafrostError:
        return None
    return task if task.data_fingerprint() == manifest.get("data_fingerprint") else None


def _images(task: Any) -> Callable[[str], Image]:
    """Sample id -> its image, opened when asked for."""
    sources: dict[str, ImageSource | None] = {}

    def open_one(sample_id: str) -> Image:
        if not sources:
            sources.update((sample.id, sample.image) for sample in task.samples())
        source = sources.get(sample_id)
        if source is None:
            raise ImageError(f"{sample_id} has no image")
        return source.load()

    return open_one
