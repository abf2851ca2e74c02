"""Labelled images for methods that learn from a few: drawn from another split of the task, class by class, by a seed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from evals.tasks.labels import match_by_name
from toolkit.config import fingerprint
from toolkit.errors import DataError, DataNotFound, ImageError, UsageError
from toolkit.types import Sample

Train = Callable[[str | None], Sequence[Sample]]
"""A split's name, or None for the usual one -> its samples, labelled as the task's own."""
Spellings = Sequence[Sequence[str]]
SPLITS = ("train", "support")
OTHER_IMAGES = "name other images of the same classes: --support SPLIT, --support folder:DIR or --support parquet:FILE"
HASH_THREADS = 8

_log = logging.getLogger(__name__)


def first_split(read: Callable[[str], Sequence[Sample]], names: Sequence[str], task: str) -> Sequence[Sample]:
    """The samples of the first split of these names that is there. Raises: DataNotFound: if none is."""
    reasons = []
    for name in names:
        try:
            return read(name)
        except DataNotFound as error:
            reasons.append(f"{name}: {error}")
    raise no_support(task, "; ".join(reasons))


def no_support(task: str, reason: str = "it has one split only") -> DataNotFound:
    """The error of a task that has nothing to learn from."""
    return DataNotFound(f"{task} has no images to learn from ({reason})", hint=OTHER_IMAGES)


def relabelled(
    samples: Sequence[Sample], names: Sequence[str], classnames: Sequence[str], spellings: Spellings, where: str
) -> list[Sample]:
    """Samples of other data, whose labels are positions in ``names``, with the labels of this task.

    Raises: DataError: if a name is of no class of the task.
    """
    labels = match_by_name(names, classnames, spellings, where=where)
    return [replace(sample, label=None if sample.label is None else labels[names[sample.label]]) for sample in samples]


def draw(samples: Sequence[Sample], classes: int, shots: int | None, seed: int) -> list[Sample]:
    """``shots`` samples a class, or all of a class that has fewer; in the order of the data.

    Drawn for each class by itself: more shots of the same seed contain fewer shots of it.
    Raises: UsageError: for fewer than one shot. DataError: for a label of no class.
    """
    if shots is None:
        return list(samples)
    if isinstance(shots, bool) or not isinstance(shots, int) or shots < 1:
        raise UsageError(f"shots must be a number from 1, not {shots!r}", hint="--shots 16")
    by_class: list[list[int]] = [[] for _ in range(classes)]
    for position, sample in enumerate(samples):
        if sample.label is None or not 0 <= sample.label < classes:
            raise DataError(f"support image {sample.id} has label {sample.label}, and labels go from 0 to {classes - 1}")
        by_class[sample.label].append(position)
    chosen: list[int] = []
    for label, positions in enumerate(by_class):
        order = np.random.default_rng([seed, label]).permutation(len(positions))[:shots]
        chosen += [positions[int(place)] for place in order]
    return [samples[position] for position in sorted(chosen)]


def same_images(some: Sequence[Sample], others: Sequence[Sample]) -> bool:
    """Whether the two are one list of images: the data have one split, whatever it was asked for by."""
    return len(some) == len(others) and all(a.id == b.id and a.image == b.image for a, b in zip(some, others, strict=True))


def overlap(support: Iterable[Sample], test: Iterable[Sample]) -> list[str]:
    """Ids of the support samples whose image is also among ``test``, by content."""
    tested = set(_contents(test)) - {None}
    support = list(support)
    return [sample.id for sample, content in zip(support, _contents(support), strict=True) if content in tested]


def support_facts(support: Sequence[Sample], test: Iterable[Sample], asked: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """What a run's manifest says of its support: how it was drawn, how many there are, which, and how many are tested too."""
    counts = np.bincount([sample.label or 0 for sample in support], minlength=classes)
    shared = overlap(support, test)
    shots = asked.get("shots")
    if shared:
        _log.warning("%d of %d support images are also tested, the first is %s", len(shared), len(support), shared[0])
    if shots is not None and counts.min() < shots:
        _log.warning("%d classes have fewer than %d support images, the least %d", int((counts < shots).sum()), shots, int(counts.min()))
    return {
        **asked,
        "n": len(support),
        "per_class": [int(counts.min()), int(counts.max())],
        "fingerprint": fingerprint([(sample.id, sample.label) for sample in support]),
        "overlap": len(shared),
    }


def _contents(samples: Iterable[Sample]) -> list[str | None]:
    def content(sample: Sample) -> str | None:
        try:
            return None if sample.image is None else sample.image.content_id()
        except (ImageError, OSError):
            return None  # an image that cannot be read is reported where it is used

    with ThreadPoolExecutor(max_workers=HASH_THREADS) as pool:
        return list(pool.map(content, samples))
