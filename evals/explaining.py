"""Explaining single images with a method that can: samples of a task by id or number, or any image file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from evals.session import EvalRequest, prepare
from toolkit.errors import DataNotFound, UsageError, near_matches, unknown_name
from toolkit.files import atomic_write_bytes
from toolkit.images import FileImage

if TYPE_CHECKING:
    from PIL.Image import Image

    from evals.tasks.classify import ClassifyTask
    from toolkit.types import ImageSource


class Explained(NamedTuple):
    """One explained image: what to call it, the method's explanation (it has ``to_json()``), and the decoded image."""

    name: str
    explanation: Any
    image: Image


def explain_images(
    request: EvalRequest,
    asked: Sequence[str],
    samples: Sequence[str],
    *,
    load_encoder: Callable[..., Any],
    build_method: Callable[..., Any],
) -> Iterator[Explained]:
    """Explain image files and samples of a task, in the order in which they were asked for.

    Args:
        request: task, model, method and support, as for an evaluation.
        asked: image files, or positions of samples. samples: ids or positions of samples.
    Raises: UsageError: if nothing is asked for, a sample is unknown, or the method does not explain itself. ImageError: for an image that
        cannot be read.
    """
    if not asked and not samples:
        raise UsageError("nothing to explain", hint="give an image file, or --sample with the id or the number of a sample of the task")
    wanted: list[tuple[str, ImageSource, int | None]] = []

    def check(method: Any, task: ClassifyTask) -> None:
        if not hasattr(method, "explanations"):
            raise UsageError(f"the method {request.method!r} does not explain itself", hint="classname-free does")
        wanted.extend([_place(task, name) for name in asked] + [_sample(task, name) for name in samples])

    method, _, encoder, problem, _ = prepare(request, load_encoder, build_method, check=check)
    model = method.estimator(encoder, problem, batch_size=request.batch_size)
    for name, source, label in wanted:
        yield Explained(name, model.explain(source, sample=name, truth=label), source.load())


def _place(task: ClassifyTask, name: str) -> tuple[str, ImageSource, int | None]:
    """An image file; or, if there is none of that name, the sample at that position."""
    path = Path(name)
    if path.is_file():
        return path.name, FileImage(path), None
    if name.isdecimal():
        return _sample(task, name)
    raise DataNotFound(f"there is no image {name}", hint="for a sample of the task give its number, or --sample with its id")


def _sample(task: ClassifyTask, name: str) -> tuple[str, ImageSource, int | None]:
    found = next((sample for sample in task.items if sample.id == name), None)
    if found is None and name.isdecimal():
        if int(name) >= len(task.items):
            raise UsageError(f"{task.name} has {len(task.items)} samples, and {name} is not a number from 0 to {len(task.items) - 1}")
        found = task.items[int(name)]
    if found is None:
        ids = [sample.id for sample in task.items]
        raise unknown_name("sample", name, near_matches(name, ids) or [*ids[:3], "..."])
    if found.image is None:
        raise UsageError(f"the sample {found.id} has no image")
    return found.id, found.image, found.label


def picture_path(out: Path | None, number: int, count: int) -> Path | None:
    """Where picture ``number`` of ``count`` goes: ``why.png``, or why-1.png, why-2.png ... if there are several.

    Raises: UsageError: unless the file is a .png.
    >>> picture_path(Path("why.png"), 1, 3)
    PosixPath('why-2.png')
    """
    if out is None:
        return None
    if out.suffix.lower() != ".png":
        raise UsageError(f"{out} is not a .png file", hint="pictures of explanations are written as PNG: --out why.png")
    return out if count < 2 else out.with_name(f"{out.stem}-{number + 1}{out.suffix}")


def draw(path: Path, told: Mapping[str, Any], photo: Image, *, footer: str = "") -> Path:
    """Write the picture of one explanation (JSON with "sentence") as PNG."""
    from evals.report.explain_figure import explain_png

    buffer = io.BytesIO()
    explain_png(told, photo, sentence=str(told["sentence"]), footer=footer).save(buffer, "PNG", optimize=True)
    return atomic_write_bytes(path, buffer.getvalue())
