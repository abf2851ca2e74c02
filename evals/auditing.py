"""A semantic audit from request to report: the data of the task, the audit itself as a function, the files of the result."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evals.session import RUNS, EvalRequest, check_writable, prepare
from toolkit.config import to_json
from toolkit.errors import UsageError
from toolkit.files import atomic_write_bytes, atomic_write_json
from toolkit.types import JSON, Sample


class Audited(NamedTuple):
    """A finished audit: its folder, the content of audit.json, the report."""

    folder: Path
    result: dict[str, Any]
    report: Path


def audit_task(
    request: EvalRequest,
    *,
    draws: int,
    settings: Mapping[str, JSON],
    load_encoder: Callable[..., Any],
    build_method: Callable[..., Any],
    audit_samples: Callable[..., Any],
    progress: Callable[[int, int], None] | None = None,
) -> Audited:
    """Audit the description pool of a task.

    Args:
        request: task, model, support and the options of ``classname-free``, as for an evaluation.
        draws: support draws, with the seeds from ``request.draw_seed`` on. settings: fields of the audit's own options.
        audit_samples: ``toolkit.methods.descriptions.audit_run.audit_samples``.
    Raises: PermafrostError: all that a user can get wrong.
    """
    from evals.provenance import environment
    from evals.report.audit import write_audit_report
    from evals.tasks.support import support_facts

    began = time.monotonic()
    request = request.settled("classify")
    if draws > 1 and request.shots is None:
        raise UsageError(f"{draws} draws need --shots", hint="--shots 16 --draws 5")
    folder = request.output or _folder(request, draws, settings)
    check_writable(folder)
    method, task, encoder, problem, learnt = prepare(request, load_encoder, build_method)
    samples = list(task.samples(request.limit, request.seed))
    supports: list[list[Sample]] = [list(problem.support)] if learnt else []
    facts = [learnt] if learnt else []
    for number in range(1, draws if learnt else 1):
        seed = request.draw_seed + number
        supports.append(task.support(request.shots, seed, request.support))
        asked = {"shots": request.shots, "split": request.support, "draw_seed": seed}
        facts.append(support_facts(supports[-1], samples, asked, len(task.classnames)))
    overlap = max((one["overlap"] for one in facts), default=0)
    given = {"settings": dict(settings), "overlap": overlap, "batch_size": request.batch_size, "progress": progress, "truth": task.truth}
    done, ids, failures = audit_samples(method, encoder, problem, samples, supports, **given)
    run = {
        "task": task.name,
        "data_fingerprint": task.data_fingerprint(),
        "model": encoder.name,
        "model_fingerprint": encoder.fingerprint,
        "pool": str(request.options.get("pool", "task")),
        "method": to_json(method.config),
        "support": facts,
        "failures": failures,
        "request": to_json(request),
        "environment": environment(),
        "seconds": time.monotonic() - began,
    }
    result = {**done.result, "classnames": list(task.classnames), "run": run}
    labels = {sample.id: sample.label for sample in samples}
    atomic_write_bytes(folder / "predictions.npz", packed(ids, [labels[name] for name in ids], done.predictions))
    atomic_write_json(folder / "audit.json", result)
    return Audited(folder, result, write_audit_report(folder))


def packed(ids: list[str], labels: list[int | None], predictions: Mapping[str, np.ndarray]) -> bytes:
    """Ids, labels and every arm's (draws, seeds, N) answers as one .npz without pickles."""
    file = io.BytesIO()
    answers = {name: table.astype(np.int32) for name, table in predictions.items()}
    np.savez_compressed(file, allow_pickle=False, ids=np.array(ids), labels=np.array(labels, dtype=np.int32), **answers)
    return file.getvalue()


def _folder(request: EvalRequest, draws: int, settings: Mapping[str, JSON]) -> Path:
    """A name of its own for everything that changes a number."""
    from evals.provenance import run_name

    plain = replace(request, output=None, report=True, cache=True, batch_size=32, workers=None, device="auto")
    pool = Path(str(request.options.get("pool", "task")))
    text = pool.read_text(encoding="utf-8", errors="replace") if pool.is_file() else None
    return RUNS / run_name(f"audit-{request.task}", request.model, pool.stem, [to_json(plain), draws, dict(settings), text])
