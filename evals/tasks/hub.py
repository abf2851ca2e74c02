"""``hf:NAME@REVISION[:split]``: image classification sets of the Hugging Face Hub, through ``datasets``."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.tasks.labels import Names, read_names
from evals.tasks.parquet import CellImage, cell_source, choose_names, feature_names, hub_features, pick_columns
from toolkit.config import fingerprint
from toolkit.errors import DataError, DataNotFound, DependencyMissing, ImageError, UsageError
from toolkit.types import Sample

if TYPE_CHECKING:
    from toolkit.images import BytesImage, FileImage

PLACE = re.compile(r"(?P<name>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?(:(?P<split>[\w.-]+))?")
SPLITS = ("test", "validation", "train")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArrowImage(CellImage):
    """One image of an arrow file in the ``datasets`` cache, which is mapped into memory and not read as a whole."""

    path: Path
    row: int
    column: str
    name: str

    def source(self) -> BytesImage | FileImage:
        try:
            value = _table(self.path).column(self.column)[self.row].as_py()
        except (OSError, ValueError, LookupError) as error:
            raise ImageError(f"{self.name} cannot be read: {error}") from error
        return cell_source(value, _files_root(self.path), self.name)


@lru_cache(maxsize=32)
def _table(path: Path) -> Any:
    import pyarrow as pa

    return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()


def _files_root(arrow: Path) -> Path:
    """Where image files that a table names may lie: in the cache folder that the table lies in."""
    from datasets import config

    home = Path(config.HF_CACHE_HOME)
    return home if home in arrow.parents else arrow.parent


def load_hub(
    place: str,
    classnames: Names | None = None,
    *,
    split: str | None = None,
    config: str | None = None,
    image: str | None = None,
    label: str | None = None,
) -> tuple[tuple[str, ...], list[Sample], str]:
    """Class names, samples and content hash of ``hf:PLACE``.

    Args:
        split: by default test, else validation, else train. config: the configuration, where a set has several.
    Raises: UsageError: for a malformed place. DataNotFound: if the set is neither in the cache nor within reach.
    """
    match = PLACE.fullmatch(place)
    if match is None:
        raise UsageError(
            f"hf:{place} is not of the form hf:NAME@REVISION:SPLIT",
            hint="for example hf:uoft-cs/cifar10@0b2714987fa478483af9968de7c934580d0bb9a2:test",
        )
    if Path(match["name"]).exists():
        raise UsageError(
            f"there is a local folder {match['name']!r}, which would be loaded in place of the one on the Hub",
            hint="use folder: or parquet:",
        )
    if split is not None and match["split"] is not None and split != match["split"]:
        raise UsageError(f"hf:{place} names the split {match['split']!r} and -o split={split} another one")
    table = _load(match["name"], match["revision"], config, split or match["split"])
    features = hub_features({b"huggingface": _features_json(table)})
    picture, target = pick_columns(table.column_names, features, image, label, f"hf:{place}")
    names = choose_names(feature_names(features.get(target)), read_names(classnames), f"hf:{place}")
    if not names:
        raise DataError(f"hf:{place} holds labels without names", hint="give the class names in label order with --classnames")
    return names, *_samples(table, picture, target, place)


def _load(name: str, revision: str | None, config: str | None, split: str | None) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DependencyMissing("hf: tasks need the package datasets", hint="pip install datasets") from error
    try:
        found = datasets.load_dataset(name, config, revision=revision)
    except (
        OSError,
        ValueError,
        RuntimeError,
        datasets.exceptions.DatasetsError,
    ) as error:  # offline, unknown, gated, several configurations
        _log.debug("load_dataset failed", exc_info=True)
        first = str(error).strip().split("\n")[0]
        raise DataNotFound(
            f"the data set {name} cannot be loaded: {first}",
            hint="check its name, and `-o config=` if it has several; offline it must be in the cache of `datasets`",
        ) from error
    splits = list(found)
    chosen = split or next((word for word in SPLITS if word in splits), splits[0])
    if chosen not in splits:
        raise DataNotFound(f"{name} has no split {chosen!r}", hint="splits there: " + ", ".join(splits))
    return found[chosen]


def _features_json(table: Any) -> bytes:
    metadata = table.features.arrow_schema.metadata or {}
    return bytes(metadata.get(b"huggingface", b""))


def _samples(table: Any, picture: str, target: str, place: str) -> tuple[list[Sample], str]:
    samples: list[Sample] = []
    sizes: list[int] = []
    for entry in table.cache_files:
        path = Path(entry["filename"])
        labels: Sequence[Any] = _table(path).column(target).to_pylist()
        sizes.append(path.stat().st_size)
        for row, value in enumerate(labels):
            name = f"{place}:{len(samples)}"
            if not isinstance(value, int):
                raise DataError(f"hf:{name} has the label {value!r}, and a label is an integer")
            samples.append(Sample(str(len(samples)), ArrowImage(path, row, picture, name), value))
    if len(samples) != len(table):
        raise DataError(f"hf:{place} has {len(table)} rows and its cache {len(samples)}", hint="remove it from the cache of `datasets`")
    return samples, fingerprint("arrow", sizes)
