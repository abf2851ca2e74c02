"""Public data sets as their authors publish them. Each reader gives samples with labels in the order of the set's prompts.

A reader returns None where the place is not of its layout, so that the next one can try.
"""

from __future__ import annotations

import csv
import gzip
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.tasks.folder import folder_samples
from evals.tasks.labels import match_by_name, match_in_order
from evals.tasks.prompts import PromptSet
from toolkit.config import fingerprint
from toolkit.errors import DataError, DataNotFound
from toolkit.images import ArrayImage, FileImage, safe_join
from toolkit.types import Sample

Found = tuple[list[Sample], str]
Layout = Callable[[Path, str, PromptSet], Found | None]

WNID = re.compile(r"n\d{8}")


def class_folders(root: Path, split: str, prompts: PromptSet) -> Found | None:
    """One subfolder a class, in ``root``, in the split's folder, or in a lone folder around them. Folders are known by name or alias."""
    for folder in (root / split, root):
        names = _subfolders(folder)
        known = {name for name in names if _known(name, prompts)}
        if len(known) >= 2:
            return folder_samples(folder, names, match_by_name(names, prompts.classnames, prompts.aliases, where=str(folder)))
    inner = [
        path for path in (root, root / split) if path.is_dir() for path in path.iterdir() if path.is_dir() and not path.name.startswith(".")
    ]
    return class_folders(inner[0], split, prompts) if len(inner) == 1 else None


def numbered_folders(root: Path, split: str, prompts: PromptSet) -> Found | None:
    """ImageNetV2: folders ``0`` to ``999``, whose names are the labels. (Sorted as text they would be 0, 1, 10, 100 ...)"""
    names = _subfolders(root)
    if not names and root.is_dir():
        return None
    if not all(name.isdigit() for name in names):
        inner = [name for name in names if name.startswith("imagenetv2")]
        return numbered_folders(root / inner[0], split, prompts) if len(inner) == 1 else None
    labels = {name: int(name) for name in names}
    if sorted(labels.values()) != list(range(len(prompts.classnames))):
        raise DataError(f"{root} has {len(names)} numbered class folders, and {prompts.name} needs 0 to {len(prompts.classnames) - 1}")
    return folder_samples(root, names, labels)


def imagenet_flat(root: Path, split: str, prompts: PromptSet) -> Found | None:
    """ILSVRC2012_val_*.JPEG in one folder, with LOC_val_solution.csv, or with the ground truth and meta.mat of the devkit.

    The numbers of ILSVRC2012_validation_ground_truth.txt are in the devkit's own order and not in that of the labels, so that file is
    of no use without meta.mat.
    """
    places = [root / split, root, root / "ILSVRC" / "Data" / "CLS-LOC" / split]
    folder = next((place for place in places if place.is_dir() and any(place.glob("ILSVRC2012_val_*.JPEG"))), None)
    if folder is None:
        return None
    images = sorted(folder.glob("ILSVRC2012_val_*.JPEG"))
    label_of = {alias: label for label, names in enumerate(prompts.aliases) for alias in names if WNID.fullmatch(alias)}
    solution, truth, meta = (_first(root, name) for name in ("LOC_val_solution.csv", "ILSVRC2012_validation_ground_truth.txt", "meta.mat"))
    if solution is not None:
        with solution.open(newline="", encoding="utf-8") as file:
            wnids = {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(file)}
    elif truth is not None and meta is not None:
        from scipy.io import loadmat

        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        by_number = dict(zip(synsets["ILSVRC2012_ID"].astype(int).tolist(), synsets["WNID"].tolist(), strict=True))
        numbers = truth.read_text("utf-8").split()
        wnids = {f"ILSVRC2012_val_{i:08d}": by_number[int(number)] for i, number in enumerate(numbers, start=1)}
    else:
        raise DataError(
            f"{folder} holds the validation images in one folder and nothing that says their classes",
            hint="put LOC_val_solution.csv beside it, or meta.mat and ILSVRC2012_validation_ground_truth.txt of the devkit",
        )
    missing = [path.name for path in images if wnids.get(path.stem) not in label_of]
    if missing:
        raise DataError(f"{solution or truth} gives no known class for {missing[0]} and {len(missing) - 1} more images of {folder}")
    return _files(folder, [(path.name, label_of[wnids[path.stem]]) for path in images])


def cub200(root: Path, split: str, prompts: PromptSet) -> Found | None:
    """CUB_200_2011: images.txt, classes.txt, image_class_labels.txt and train_test_split.txt, joined by id."""
    root = _inside(root, "CUB_200_2011", "images.txt")
    if not (root / "images.txt").is_file():
        return None
    names = dict(_pairs(root / "classes.txt"))
    match_in_order(
        [names[number] for number in sorted(names, key=int)], prompts.classnames, prompts.aliases, where=str(root / "classes.txt")
    )
    label_of = dict(_pairs(root / "image_class_labels.txt"))
    wanted = {"test": ("0",), "train": ("1",), "all": ("0", "1")}[split]
    part = {number for number, training in _pairs(root / "train_test_split.txt") if training in wanted}
    rows = [(path, int(label_of[number]) - 1) for number, path in _pairs(root / "images.txt") if number in part]
    return _files(root / "images", rows)


def dtd(root: Path, split: str, prompts: PromptSet) -> Found | None:
    """DTD: images/<class>/ and labels/test1.txt (or train1, val1 ... of the ten published splits)."""
    root = _inside(root, "dtd", "images")
    listing = root / "labels" / f"{split if split[-1:].isdigit() else split + '1'}.txt"
    if not (root / "images").is_dir() or not (root / "labels").is_dir():
        return None
    rows = [line.strip() for line in _text(listing).splitlines() if line.strip()]
    folders = sorted({row.split("/")[0] for row in rows})
    labels = match_by_name(folders, prompts.classnames, prompts.aliases, where=str(listing))
    return _files(root / "images", [(row, labels[row.split("/")[0]]) for row in rows])


def flowers102(root: Path, split: str, prompts: PromptSet) -> Found | None:
    """Flowers102: jpg/image_00001.jpg ..., imagelabels.mat (labels from 1) and setid.mat (tstid, valid, trnid)."""
    root = _inside(root, "flowers-102", "imagelabels.mat")
    if not (root / "imagelabels.mat").is_file():
        return None
    from scipy.io import loadmat

    key = {"test": "tstid", "val": "valid", "train": "trnid"}[split]
    if not (root / "setid.mat").is_file():
        raise DataNotFound(f"{root} lacks setid.mat, which says what belongs to {split}", hint="download it beside imagelabels.mat")
    labels = loadmat(root / "imagelabels.mat")["labels"].ravel().astype(int)
    numbers = np.sort(loadmat(root / "setid.mat")[key].ravel().astype(int))
    if labels.min() < 1 or labels.max() > len(prompts.classnames):
        raise DataError(
            f"{root / 'imagelabels.mat'} holds labels {labels.min()} to {labels.max()}, expected 1 to {len(prompts.classnames)}"
        )
    return _files(root / "jpg", [(f"image_{number:05d}.jpg", int(labels[number - 1]) - 1) for number in numbers])


def places365(root: Path, split: str, prompts: PromptSet) -> Found | None:
    """Places365: val_256/ (or val_large/), places365_val.txt and categories_places365.txt."""
    listing, categories = _first(root, f"places365_{split}.txt"), _first(root, "categories_places365.txt")
    folder = next((root / name for name in (f"{split}_256", f"{split}_large", split) if (root / name).is_dir()), None)
    if listing is None or folder is None:
        return None
    if categories is None:
        raise DataNotFound(f"{root} lacks categories_places365.txt, which names the labels", hint=f"put it beside {listing.name}")
    numbered = {int(number): name for name, number in _pairs(categories)}
    match_in_order([numbered[i] for i in sorted(numbered)], prompts.classnames, prompts.aliases, where=str(categories))
    return _files(folder, [(path.lstrip("/"), int(label)) for path, label in _pairs(listing)])


def mnist_idx(root: Path, split: str, prompts: PromptSet) -> Found | None:
    """Fashion-MNIST: t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, with or without .gz."""
    stem = {"test": "t10k", "train": "train"}.get(split)
    if stem is None:
        return None
    images, labels = (
        _first(root, f"{stem}-{kind}-ubyte.gz") or _first(root, f"{stem}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")
    )
    if images is None or labels is None:
        return None
    pixels, targets = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or targets.shape != pixels.shape[:1]:
        raise DataError(f"{images} and {labels} do not belong together: {pixels.shape} images and {targets.shape} labels")
    samples = [Sample(f"{stem}:{i}", ArrayImage(pixels[i], f"{images.name}:{i}"), int(targets[i])) for i in range(len(targets))]
    return samples, fingerprint("idx", images.stat().st_size, labels.stat().st_size)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An array of bytes in the IDX format. Raises: DataError: if the file is damaged or of another kind."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, axes = struct.unpack(">HBB", data[:4])
        shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
        if zero != 0 or kind != 8:
            raise ValueError("not an IDX file of bytes")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{path} is not a readable IDX file: {error}", hint="download it again") from error


def _files(root: Path, rows: Sequence[tuple[str, int]]) -> Found:
    """Samples of listed files. A listed file that is missing fails when it is opened, as one sample."""
    samples = [Sample(name, FileImage(safe_join(root, name)), label) for name, label in rows]
    return samples, fingerprint("listed", [_size(root / name) for name, _ in rows])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _subfolders(folder: Path) -> list[str]:
    """Subfolders that hold images."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _known(name: str, prompts: PromptSet) -> bool:
    try:
        match_by_name([name], prompts.classnames, prompts.aliases, where="")
    except DataError:
        return False
    return True


def _inside(root: Path, name: str, mark: str) -> Path:
    return root if (root / mark).exists() else root / name


def _first(root: Path, name: str) -> Path | None:
    """A file of that name in ``root``, beside it, or at most three folders down."""
    near: Iterable[Path] = (root / name, root.parent / name)
    deep = (path for depth in ("*/", "*/*/", "*/*/*/") for path in root.glob(depth + name))
    return next((path for group in (near, deep) for path in group if path.is_file()), None)


def _pairs(path: Path) -> list[tuple[str, str]]:
    """Lines of two words."""
    rows: list[Any] = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        words = line.split()
        if words:
            if len(words) != 2:
                raise DataError(f"{path}, line {number} must hold two words, not {line!r}")
            rows.append(tuple(words))
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise DataNotFound(f"{path} is missing", hint="the data set is not complete; unpack it again") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
