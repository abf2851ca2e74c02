"""Writes Bazaar to disk in public layouts, so that the loaders of real data read it as well."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

from evals.bazaar.classify import classify_spec, classify_split
from evals.bazaar.descriptions import description_pool
from evals.bazaar.image import RenderedImage, renderer_version
from evals.bazaar.items import VIEWS, item
from evals.bazaar.record import truth
from toolkit.config import to_json
from toolkit.errors import DataError, UsageError
from toolkit.files import atomic_write_bytes, atomic_write_json, atomic_write_text, read_json
from toolkit.types import ImageSource

MARK = "bazaar.json"  # says what the folder holds, and whether it is complete
SIZES = (32, 1024)


def export_task(what: str, folder: str | Path, *, task: str | None = None, seed: int | None = None, **given: Any) -> Path:
    """``export_classify`` or ``export_vqa``, by what to write.

    Raises: UsageError: for an option that the other one takes.
    """
    if what == "vqa":
        from evals.bazaar.vqa_export import export_vqa

        if task is not None:
            raise UsageError("--task is an option of classify, and vqa is one task", hint="leave it out")
        return export_vqa(folder, seed=seed, **given)
    return export_classify(folder, task or "lines", seed=seed or 0, **given)


def export_classify(
    folder: str | Path,
    task: str = "lines",
    split: str = "test",
    limit: int | None = None,
    size: int = 96,
    *,
    seed: int = 0,
    view: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a classification split as a folder of class folders of PNG files, which ``folder:DIR`` reads.

    Beside the class folders lie ``classes.json`` (label order), ``templates.json``, ``descriptions.json`` (the pool),
    ``descriptions-truth.json`` (the kind of each text) and ``items.jsonl`` (all that is known of each item, with its file).
    The same call resumes an export that was cut off: finished pictures stay.

    Args:
        limit: at most so many pictures, the same number of each class if it divides. progress: called with (done, all).
    Returns: the folder.
    Raises: UsageError: for an unknown task or split, a bad number, or a place that cannot be written to. DataError: if the folder
        holds something else.
    """
    folder = Path(folder)
    if not SIZES[0] <= size <= SIZES[1] or not 0 <= view < VIEWS or seed < 0:
        raise UsageError(f"size must be {SIZES[0]} to {SIZES[1]}, view 0 to {VIEWS - 1} and seed 0 or more, not {size}, {view} and {seed}")
    names, templates, descriptions = classify_spec(task)
    rows = _limited(classify_split(task, split, seed), len(names), limit)
    mark = {"task": task, "split": split, "limit": limit, "size": size, "seed": seed, "view": view, "renderer": renderer_version()}
    if is_done(folder, mark):
        return folder
    atomic_write_json(folder / MARK, {**mark, "complete": False})
    atomic_write_json(folder / "classes.json", names)
    atomic_write_json(folder / "templates.json", templates)
    atomic_write_json(folder / "descriptions.json", descriptions)
    atomic_write_json(folder / "descriptions-truth.json", {name: pool.kinds for name, pool in description_pool(task).items()})
    records = []
    for done, (index, label) in enumerate(rows, start=1):
        file = f"{names[label]}/{index:06d}-{view}.png"
        if not (folder / file).exists():
            atomic_write_bytes(folder / file, png(RenderedImage(index, seed, size, view)))
        records.append({"file": file, "label": label, **truth(item(index, seed))})
        if progress is not None:
            progress(done, len(rows))
    atomic_write_text(folder / "items.jsonl", "".join(line(record) for record in records))
    atomic_write_json(folder / MARK, {**mark, "complete": True})
    return folder


def _limited(rows: list[tuple[int, int]], classes: int, limit: int | None) -> list[tuple[int, int]]:
    if limit is None:
        return rows
    if limit < classes:
        raise UsageError(f"a limit of {limit} pictures leaves some of the {classes} classes empty", hint=f"use --limit {classes} or more")
    by_class: list[list[tuple[int, int]]] = [[] for _ in range(classes)]
    for row in rows:
        by_class[row[1]].append(row)
    turns = [row for turn in zip_longest(*by_class) for row in turn if row is not None]
    return sorted(turns[:limit])


def is_done(folder: Path, mark: dict[str, Any]) -> bool:
    """Whether the folder holds this export, complete. Another one, or anything else, is not written over."""
    if not folder.exists() or not any(folder.iterdir()):
        return False
    if not (folder / MARK).is_file():
        raise DataError(f"{folder} is not empty and holds no Bazaar export", hint="give a new folder")
    found = read_json(folder / MARK)
    if not isinstance(found, dict) or {key: found.get(key) for key in mark} != mark:
        raise DataError(f"{folder} holds another Bazaar export than the one that is asked for", hint="give a new folder")
    return bool(found.get("complete"))


def png(image: ImageSource) -> bytes:
    """The picture as a PNG file."""
    buffer = io.BytesIO()
    image.load().save(buffer, "PNG")
    return buffer.getvalue()


def line(record: object) -> str:
    """One line of JSON."""
    return json.dumps(to_json(record), ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
