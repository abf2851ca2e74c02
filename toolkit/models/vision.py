"""From image sources to batches of pixels: decoding and resizing in worker processes, normalising on the model's device.

A worker hands back what the library's own preprocessing gives up to the last resize and crop, as 8-bit pixels where that is
possible: a quarter of the traffic between processes. The rest (scaling, mean, standard deviation) is the library's own
element-wise arithmetic, on a whole batch.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch

from toolkit.errors import ImageError, PermafrostError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from toolkit.types import JSON, ImageSource

WORTH_WORKERS = 64
"""Fewer images are decoded in this process: starting workers would take longer."""
MOST_WORKERS = 8

Pixels = dict[str, np.ndarray]


class Preprocess(Protocol):
    """A library's image preprocessing in two halves. Must be picklable."""

    def prepare(self, image: Image) -> Pixels:
        """One RGB image, up to its last resize and crop; every image gives the same keys, shapes and dtypes."""

    def finish(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The model's inputs from a stacked batch, float32 where they are pixels; runs on the model's device."""

    def describe(self) -> JSON:
        """All that determines the result, for the fingerprint."""


class PixelBatch(NamedTuple):
    """Decoded images.

    Attributes:
        indices: positions in the sequence of sources.
        pixels: the prepared images, stacked; empty if none could be read.
        failures: (position, sentence) of each image that could not be read.
    """

    indices: list[int]
    pixels: Pixels
    failures: list[tuple[int, str]]


class _Batches(torch.utils.data.Dataset):
    """Batch number -> PixelBatch. This is what travels to the workers."""

    def __init__(self, sources: Sequence[ImageSource], preprocess: Preprocess, batch_size: int) -> None:
        self.sources, self.preprocess, self.batch_size = sources, preprocess, batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.sources) / self.batch_size)

    def __getitem__(self, number: int) -> PixelBatch:
        start = number * self.batch_size
        indices: list[int] = []
        rows: list[Pixels] = []
        failures: list[tuple[int, str]] = []
        for position in range(start, min(start + self.batch_size, len(self.sources))):
            source = self.sources[position]
            try:
                row = self.preprocess.prepare(source.load())
            except Exception as error:  # whatever one image does must not end the run: it comes back as that image's failure
                failures.append((position, describe_failure(source, error)))
            else:
                indices.append(position)
                rows.append(row)
        pixels = {key: np.stack([row[key] for row in rows]) for key in rows[0]} if rows else {}
        return PixelBatch(indices, pixels, failures)


def describe_failure(source: ImageSource, error: Exception) -> str:
    """One sentence for an image that could not be read. Our own errors name the image already."""
    if isinstance(error, PermafrostError):
        return str(error)
    return f"{source.name} cannot be read: {type(error).__name__}: {error}"


def count_workers(images: int, workers: int | None) -> int:
    """How many processes decode: as asked, or else none for few images or on one processor, and at most MOST_WORKERS."""
    if workers is not None:
        if workers < 0:
            raise UsageError(f"workers={workers} is not possible", hint="0 decodes in this process")
        return workers
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return 0 if images < WORTH_WORKERS or processors == 1 else min(MOST_WORKERS, processors)


def _start_method(device: torch.device) -> str:
    """``fork`` is fast and needs no guarded main module; beside an accelerator or on macOS it is unsafe."""
    safe = sys.platform.startswith("linux") and device.type == "cpu" and not torch.cuda.is_initialized()
    return "fork" if safe else "spawn"


def _as_is(batch: Any) -> Any:
    return batch  # arrays travel through pipes: no shared memory, which containers keep small


def iter_pixels(
    sources: Sequence[ImageSource], preprocess: Preprocess, *, batch_size: int, workers: int | None, device: torch.device
) -> Iterator[PixelBatch]:
    """Decode ``sources`` in order, ``batch_size`` at a time.

    Args:
        workers: processes; 0 decodes here, None chooses.
        device: where the model is; decides how workers can be started.
    Raises: UsageError: for impossible numbers, or if a worker process dies.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size={batch_size} is not possible", hint="use 1 or more")
    batches = _Batches(sources, preprocess, batch_size)
    count = min(count_workers(len(sources), workers), len(batches))
    if count == 0:
        yield from (batches[number] for number in range(len(batches)))
        return
    loader: Any = torch.utils.data.DataLoader(
        batches,
        batch_size=None,
        num_workers=count,
        collate_fn=_as_is,
        multiprocessing_context=_start_method(device),
        generator=torch.Generator(),  # its own: drawing the workers' seeds must not move the global random state
    )
    iterator = iter(loader)
    try:
        while True:
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except RuntimeError as error:
                if "worker" not in str(error):
                    raise
                raise UsageError(f"a process that decodes images died: {error}", hint="try fewer workers, or workers=0") from error
            yield batch
    finally:
        del iterator  # ends the workers, also when the caller stops early


def raise_first_failure(failures: Sequence[tuple[int, str]]) -> None:
    """Raises: ImageError: with the sentence of the first failure, if there is one."""
    if failures:
        raise ImageError(failures[0][1])
