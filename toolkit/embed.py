"""A folder of images as embeddings on disk: safetensors shards, the image of each row in JSON lines, and resume.

Layout of the output folder::

    manifest.json                  model, its fingerprint, the list of images as a fingerprint, shard size, status
    embeddings-00000.safetensors   "embeddings": (n, D) float32, L2 norm 1
    ids-00000.jsonl                one line a row: {"row": 0, "id": "relative/path.jpg"}; written last, so it closes its shard
    failures.jsonl                 one line for each image that could not be read: {"shard": 0, "id": ..., "error": ...}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from toolkit.config import fingerprint
from toolkit.errors import DataNotFound, UsageError
from toolkit.files import atomic_write_bytes, atomic_write_json, atomic_write_text, read_json, read_jsonl
from toolkit.types import JSON, ImageSource

if TYPE_CHECKING:
    from toolkit.models.base import DualEncoder

SCHEMA = 1
SHARD_SIZE = 4096
MUST_AGREE = {"model_fingerprint": "another model", "images_fingerprint": "other images", "shard_size": "another shard size"}


class EmbedResult(NamedTuple):
    """What is in the output folder now.

    Attributes:
        n: rows over all shards.
        n_failed: images that could not be read.
        n_resumed: images that an earlier call had done already.
    """

    out: Path
    n: int
    n_failed: int
    n_resumed: int


def embed_folder(
    encoder: DualEncoder,
    folder: Path,
    out: Path,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    resume: bool = True,
    shard_size: int = SHARD_SIZE,
    progress: Callable[[int, int], None] | None = None,
) -> EmbedResult:
    """Embed every image below ``folder`` into ``out``; a call that was cut short continues with its next shard.

    Args:
        resume: keep the shards that are there; False starts over.
        progress: called with (images done, images in all).
    Raises:
        DataNotFound: if the folder is not there or holds no image.
        UsageError: if ``out`` holds embeddings of another model or of other images.
    """
    from toolkit.images import FileImage, find_images

    paths = find_images(folder)
    if not paths:
        raise DataNotFound(f"there are no images in {folder}", hint="JPEG, PNG, WEBP and BMP files are read, also from folders below")
    names = [path.relative_to(folder).as_posix() for path in paths]
    manifest: dict[str, JSON] = {
        "schema": SCHEMA,
        "model": encoder.name,
        "model_fingerprint": encoder.fingerprint,
        "dim": encoder.dim,
        "n_images": len(paths),
        "images_fingerprint": _fingerprint_of_list(names, paths),
        "shard_size": shard_size,
    }
    _open_output(out, manifest, resume=resume)
    failures = _read_failures(out)
    rows = resumed = 0
    for shard, start in enumerate(range(0, len(paths), shard_size)):
        ids = names[start : start + shard_size]
        n_rows = _rows_of_closed_shard(out, shard)
        if n_rows is None:
            images = [FileImage(path) for path in paths[start : start + shard_size]]
            report = _shifted(progress, start, len(paths))
            matrix, kept, broken = _encode(encoder, images, batch_size=batch_size, workers=workers, progress=report)
            failures[shard] = [{"shard": shard, "id": ids[index], "error": error} for index, error in broken]
            _write_shard(out, shard, matrix, [ids[index] for index in kept], failures)
            n_rows = len(kept)
        else:
            resumed += len(ids)
            if progress is not None:
                progress(start + len(ids), len(paths))
        rows += n_rows
    n_failed = sum(len(lines) for lines in failures.values())
    atomic_write_json(out / "manifest.json", {**manifest, "status": "done", "n": rows, "n_failed": n_failed})
    return EmbedResult(out=out, n=rows, n_failed=n_failed, n_resumed=resumed)


def check_output(folder: Path, out: Path) -> None:
    """Fail before a model is loaded. Raises: DataNotFound: no such folder. UsageError: if ``out`` cannot be written to."""
    if not folder.is_dir():
        raise DataNotFound(f"there is no folder {folder}", hint="give a folder with images")
    probe = out / ".permafrost-probe"
    atomic_write_bytes(probe, b"")
    probe.unlink()


def _encode(
    encoder: DualEncoder, images: Sequence[ImageSource], *, batch_size: int, workers: int | None, progress: Callable[[int], None] | None
) -> tuple[np.ndarray, list[int], list[tuple[int, str]]]:
    """(n, D) float32 in the order of ``images``, the positions of its rows, and (position, sentence) of each failure."""
    matrix = np.zeros((len(images), encoder.dim), dtype=np.float32)
    good = np.zeros(len(images), dtype=bool)
    broken: list[tuple[int, str]] = []
    for batch in encoder.iter_images(images, batch_size=batch_size, workers=workers):
        matrix[batch.indices] = batch.embeddings.numpy()
        good[batch.indices] = True
        broken += batch.failures
        if progress is not None:
            progress(int(good.sum()) + len(broken))
    return matrix[good], [int(index) for index in np.flatnonzero(good)], sorted(broken)


def _shifted(progress: Callable[[int, int], None] | None, start: int, total: int) -> Callable[[int], None] | None:
    return None if progress is None else lambda done: progress(start + done, total)


def _fingerprint_of_list(names: Sequence[str], paths: Sequence[Path]) -> str:
    """Names, sizes and times: reading every byte of every image would cost more than it guards against."""
    stats = [path.stat() for path in paths]
    return fingerprint([[name, stat.st_size, stat.st_mtime_ns] for name, stat in zip(names, stats, strict=True)])


def _open_output(out: Path, manifest: dict[str, JSON], *, resume: bool) -> None:
    """Make the folder ready; refuse to mix two models or two lists of images in it."""
    known = out / "manifest.json"
    if known.exists() and resume:
        before = read_json(known)
        for key, what in MUST_AGREE.items():
            if not isinstance(before, dict) or before.get(key) != manifest[key]:
                raise UsageError(f"{out} holds embeddings of {what}", hint="choose another --output, or start over with --no-resume")
        if before.get("status") == "done":
            return
    for pattern in () if resume else ("ids-*.jsonl", "embeddings-*.safetensors", "failures.jsonl"):
        for path in out.glob(pattern):
            path.unlink()
    atomic_write_json(known, {**manifest, "status": "running"})


def _rows_of_closed_shard(out: Path, shard: int) -> int | None:
    """Rows of a shard that is whole, or None: the ids are written last, so a shard without them is not closed."""
    ids = out / f"ids-{shard:05d}.jsonl"
    return sum(1 for _ in read_jsonl(ids)) if ids.exists() else None


def _read_failures(out: Path) -> dict[int, list[JSON]]:
    """Failures of the closed shards of an earlier call, by shard."""
    failures: dict[int, list[JSON]] = {}
    if (out / "failures.jsonl").exists():
        for line in read_jsonl(out / "failures.jsonl"):
            if _rows_of_closed_shard(out, line["shard"]) is not None:
                failures.setdefault(line["shard"], []).append(line)
    return failures


def _write_shard(out: Path, shard: int, matrix: np.ndarray, ids: Sequence[str], failures: dict[int, list[JSON]]) -> None:
    from safetensors.numpy import save

    atomic_write_bytes(out / f"embeddings-{shard:05d}.safetensors", save({"embeddings": matrix}))
    atomic_write_text(out / "failures.jsonl", _lines([line for key in sorted(failures) for line in failures[key]]))
    atomic_write_text(out / f"ids-{shard:05d}.jsonl", _lines([{"row": row, "id": name} for row, name in enumerate(ids)]))


def _lines(records: Sequence[JSON]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
