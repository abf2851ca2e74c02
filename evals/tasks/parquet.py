"""``parquet:FILE`` and ``parquet:DIR``: tables of encoded images and labels in the ``datasets`` layout.

Column ``image`` is a struct of bytes and path (or plain bytes), column ``label`` an integer whose names stand in the schema. Labels are
read at once, images one row group at a time, when they are asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.tasks.labels import Names, match_in_order, read_names
from evals.tasks.order import natural_key
from toolkit.config import fingerprint
from toolkit.errors import DataError, DataNotFound, ImageError, PermafrostError, UsageError, unknown_name
from toolkit.images import BytesImage, FileImage, safe_join
from toolkit.types import Sample

if TYPE_CHECKING:
    from PIL.Image import Image
    from pyarrow.parquet import ParquetFile

SPLITS = ("test", "validation", "val", "valid", "train")
GROUPS_KEPT = 2  # row groups of images that a process keeps: batches walk through a file in order


class CellImage(ABC):
    """An image in a cell of a table, read when it is asked for."""

    def content_id(self) -> str:
        """sha256 of the encoded bytes: equal to that of a file with the same content. Raises: ImageError."""
        return self.source().content_id()

    def load(self) -> Image:
        """Decode to RGB. Raises: ImageError."""
        return self.source().load()

    @abstractmethod
    def source(self) -> BytesImage | FileImage:
        """What the cell holds. Raises: ImageError."""


@dataclass(frozen=True)
class ParquetImage(CellImage):
    """One image of a parquet file: a few words long, so that it travels to worker processes and the picture does not."""

    path: Path
    group: int
    row: int
    column: str
    name: str

    def source(self) -> BytesImage | FileImage:
        try:
            state = os.stat(self.path)
            value = _images(self.path, state.st_mtime_ns, state.st_size, self.group, self.column)[self.row].as_py()
        except (OSError, ValueError, LookupError, PermafrostError) as error:  # pyarrow's errors are ValueErrors and OSErrors
            raise ImageError(f"{self.name} cannot be read: {error}") from error
        return cell_source(value, self.path.parent, self.name)


def cell_source(value: Any, root: Path, name: str) -> BytesImage | FileImage:
    """The image of one cell: its bytes, or else the file that it names, which must lie under ``root``.

    Raises: ImageError: if it has neither, or names a place elsewhere.
    """
    if isinstance(value, bytes):
        return BytesImage(value, name)
    if isinstance(value, Mapping) and value.get("bytes"):
        return BytesImage(value["bytes"], name)
    if isinstance(value, Mapping) and value.get("path"):
        try:
            return FileImage(safe_join(root, value["path"]))
        except DataError as error:
            raise ImageError(f"{name}: {error}") from error
    raise ImageError(f"{name} holds neither image bytes nor a path")


@lru_cache(maxsize=GROUPS_KEPT)
def _images(path: Path, _changed: int, _size: int, group: int, column: str) -> Any:
    return _open(path).read_row_group(group, columns=[column], use_threads=False).column(0)  # threads do not survive a fork


@dataclass(frozen=True)
class Table:
    """Labels and images of one or more parquet files.

    Attributes:
        samples: with labels as in the files. names: the label names in the schema, or None. content: hash of sizes and footers.
        files: what was read.
    """

    samples: list[Sample]
    names: tuple[str, ...] | None
    content: str
    files: tuple[Path, ...]


def load_parquet(
    place: Path, classnames: Names | None = None, *, split: str | None = None, image: str | None = None, label: str | None = None
) -> tuple[tuple[str, ...], Table]:
    """Class names and table of ``parquet:PLACE``.

    Args:
        classnames: list in label order; checked against the names in the schema where there are some. A mapping renames them.
        split: which files of a folder; by default test, else validation, else train. image, label: column names.
    """
    table = read_table(find_parquet(place, split), place if place.is_dir() else place.parent, image=image, label=label)
    given = read_names(classnames)
    if given is None and table.names is None:
        raise DataError(f"{place} holds labels without names", hint="give the class names in label order with --classnames")
    return choose_names(table.names, given, str(place)), table


def choose_names(found: Sequence[str] | None, given: Sequence[str] | Mapping[str, str] | None, where: str) -> tuple[str, ...]:
    """Class names from those in the data and those of the user. A list must agree with the data; a mapping renames."""
    if isinstance(given, Mapping):
        if found is None:
            raise UsageError(f"{where} holds labels without names, so there is nothing to rename", hint="give a list of class names")
        for name in given:
            if name not in found:
                raise unknown_name("class in the data", name, found, DataError)
        return tuple(given.get(name, name) for name in found)
    if given is None:
        return tuple(found or ())
    if found is not None and not all(name.isdigit() for name in found):
        match_in_order(found, given, where=where)
    elif found is not None and len(found) != len(given):
        raise DataError(f"{where} has {len(found)} classes and {len(given)} class names were given")
    return tuple(given)


def find_parquet(place: Path, split: str | None = None) -> list[Path]:
    """The parquet files of ``place``: itself, or those of one split in it or in its ``data`` folder.

    Raises: DataNotFound: if there are none, or none of that split.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataNotFound(f"there is no file or folder {place}", hint="give a .parquet file, or a folder of them")
    files = sorted((p for folder in (place, place / "data") for p in folder.glob("*.parquet")), key=lambda p: natural_key(p.name))
    if not files:
        raise DataNotFound(f"{place} holds no .parquet files", hint="give a .parquet file, or a folder of them")
    by_split: dict[str, list[Path]] = {}
    for path in files:
        by_split.setdefault(path.stem.split("-")[0], []).append(path)
    if split is not None:
        if split not in by_split:
            raise DataNotFound(f"{place} has no split {split!r}", hint="splits there: " + ", ".join(by_split))
        return by_split[split]
    known = [name for name in SPLITS if name in by_split]
    return by_split[known[0]] if known else files


def read_table(files: Sequence[Path], root: Path, *, image: str | None = None, label: str | None = None) -> Table:
    """Read schema and labels of parquet files of one layout.

    Raises: DataError: if a file is damaged, columns are missing, files disagree on names, or a row has no label.
    """
    samples: list[Sample] = []
    names: tuple[str, ...] | None = None
    parts: list[Any] = []
    words: list[str | None] = []
    for path in files:
        file = _open(path)
        schema = file.schema_arrow
        features = hub_features(schema.metadata)
        picture, target = pick_columns(schema.names, features, image, label, str(path))
        found = feature_names(features.get(target))
        if parts and found != names:
            raise DataError(f"{path} names its labels differently from {files[0]}")
        names = found
        try:
            labels = file.read(columns=[target]).column(0).to_pylist()
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is damaged: {error}", hint="download it again") from error
        words.extend(value for value in labels if isinstance(value, str))
        samples += _rows(file, path, path.relative_to(root).as_posix(), picture, labels)
        parts.append((path.name, path.stat().st_size, _footer_hash(path)))
    if words and names is None:
        samples, names = _number_words(samples)
    return Table(samples, names, fingerprint("parquet", parts), tuple(files))


def _rows(file: ParquetFile, path: Path, short: str, picture: str, labels: Sequence[Any]) -> list[Sample]:
    samples = []
    row = 0
    for group in range(file.num_row_groups):
        for place in range(file.metadata.row_group(group).num_rows):
            name = f"{short}:{row}"
            value = labels[row]
            if value is None or not isinstance(value, (int, str)):
                raise DataError(f"{path}, row {row} has the label {value!r}, and a label is an integer or a class name")
            meta = {"word": value} if isinstance(value, str) else {}
            samples.append(Sample(name, ParquetImage(path, group, place, picture, name), value if isinstance(value, int) else None, meta))
            row += 1
    return samples


def _number_words(samples: Sequence[Sample]) -> tuple[list[Sample], tuple[str, ...]]:
    """Labels that are words are numbered in natural order."""
    words = sorted({str(sample.meta.get("word")) for sample in samples}, key=natural_key)
    place = {word: number for number, word in enumerate(words)}
    return [Sample(s.id, s.image, place[str(s.meta.get("word"))]) for s in samples], tuple(words)


def hub_features(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """Column -> feature of the ``huggingface`` entry of a schema; empty if there is none or it is damaged."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def feature_names(feature: Any) -> tuple[str, ...] | None:
    """The label names of a ClassLabel feature."""
    names = feature.get("names") if isinstance(feature, dict) else None
    return tuple(map(str, names)) if names else None


def pick_columns(columns: Sequence[str], features: Mapping[str, Any], image: str | None, label: str | None, where: str) -> tuple[str, str]:
    """(image column, label column): as asked, else by name, else by the only feature of that kind."""
    chosen = []
    for asked, option, usual, kind in ((image, "image", ("image", "img"), "Image"), (label, "label", ("label", "labels"), "ClassLabel")):
        if asked is not None:
            if asked not in columns:
                raise unknown_name(f"column in {where}", asked, columns, DataError)
            chosen.append(asked)
            continue
        typed = [name for name, feature in features.items() if isinstance(feature, dict) and feature.get("_type") == kind]
        named = [name for name in usual if name in columns]
        if not named and len(typed) != 1:
            raise DataError(f"{where} has no column {usual[0]!r}", hint=f"columns: {', '.join(columns)}; choose with -o {option}=COLUMN")
        chosen.append(named[0] if named else typed[0])
    return chosen[0], chosen[1]


def _open(path: Path) -> ParquetFile:
    import pyarrow.parquet as pq  # half a second that folder tasks do not need

    try:
        return pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise DataNotFound(f"there is no file {path}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable parquet file: {error}", hint="download it again") from error


def _footer_hash(path: Path) -> str:
    """sha256 of the footer, which holds sizes and statistics of every column chunk."""
    with open(path, "rb") as file:
        file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        file.seek(-8 - length, os.SEEK_END)
        return hashlib.sha256(file.read(length)).hexdigest()
