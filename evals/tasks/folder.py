"""``folder:DIR``: one subfolder of images a class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from evals.tasks.labels import Names, order_folders, read_names
from evals.tasks.order import natural_key
from toolkit.config import fingerprint
from toolkit.errors import DataError, DataNotFound
from toolkit.images import FileImage, find_images
from toolkit.types import Sample

CLASSES_FILE = "classes.json"


def class_folders(root: Path) -> list[str]:
    """The names of the subfolders in natural order; hidden ones are left out.

    Raises: DataNotFound: if ``root`` is not there. DataError: if it has no subfolders.
    """
    if not root.is_dir():
        raise DataNotFound(f"there is no folder {root}", hint="give a folder with one subfolder of images a class")
    names = sorted((entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")), key=natural_key)
    if not names:
        loose = any(entry.is_file() for entry in root.iterdir())
        what = "files and no subfolders" if loose else "nothing"
        raise DataError(f"{root} holds {what}, and a class needs a subfolder of images", hint="for example cats/001.jpg and dogs/001.jpg")
    return names


def folder_samples(root: Path, folders: Sequence[str], labels: Mapping[str, int]) -> tuple[list[Sample], str]:
    """Samples of class subfolders in label order, and a hash of paths and sizes.

    Raises: DataError: if a class has no images.
    """
    samples: list[Sample] = []
    sizes: list[int] = []
    for name in sorted(folders, key=lambda folder: labels[folder]):
        images = find_images(root / name)
        if not images:
            raise DataError(f"class folder {root / name} holds no images", hint="put images there or remove the folder")
        for path in images:
            identity = os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")
            samples.append(Sample(identity, FileImage(path), labels[name]))
            sizes.append(path.stat().st_size)
    return samples, fingerprint("files", sizes)


def load_folder(root: Path, classnames: Names | None = None) -> tuple[tuple[str, ...], list[Sample], str]:
    """Class names, samples and content hash of ``folder:DIR``.

    Args:
        classnames: a list of the folders' names sets the label order; a mapping folder -> class name renames, its order is the label
            order; a file of either kind. Without it ``classes.json`` in the folder is used, or else the folders' names in natural order.
    """
    folders = class_folders(root)
    if classnames is None and (root / CLASSES_FILE).is_file():
        classnames = root / CLASSES_FILE
    order, names = order_folders(folders, read_names(classnames), str(root))
    samples, content = folder_samples(root, folders, {folder: label for label, folder in enumerate(order)})
    return names, samples, content
