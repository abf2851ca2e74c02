"""The named public sets: which prompts, which layouts, where to get them. ``--data`` points to a local copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.tasks import layouts
from evals.tasks.classify import ClassifyTask
from evals.tasks.labels import Names, match_in_order, read_names
from evals.tasks.parquet import find_parquet, read_table
from evals.tasks.prompts import PromptSet, load_prompts
from evals.tasks.support import SPLITS, first_split
from toolkit.errors import DataError, DataNotFound, UsageError, unknown_name
from toolkit.types import Sample


@dataclass(frozen=True)
class NamedSet:
    """One public data set.

    Attributes:
        prompts: the prompt set. splits: the published splits, the default first. readers: layouts, tried in this order before parquet.
        home: where its authors publish it. expects: what their copy looks like.
    """

    prompts: str
    splits: tuple[str, ...]
    readers: tuple[layouts.Layout, ...]
    home: str
    expects: str


NAMED: Mapping[str, NamedSet] = {
    "imagenet": NamedSet(
        "imagenet",
        ("val", "train"),
        (layouts.imagenet_flat, layouts.class_folders),
        "https://image-net.org/download",
        "val/n01440764/*.JPEG, or val/ILSVRC2012_val_*.JPEG with LOC_val_solution.csv",
    ),
    "imagenetv2": NamedSet(
        "imagenet",
        ("test",),
        (layouts.numbered_folders, layouts.class_folders),
        "https://github.com/modestyachts/ImageNetV2",
        "folders 0 to 999",
    ),
    "cub200": NamedSet(
        "cub200",
        ("test", "train", "all"),
        (layouts.cub200, layouts.class_folders),
        "https://www.vision.caltech.edu/datasets/cub_200_2011/",
        "CUB_200_2011/ with images/, images.txt, classes.txt, image_class_labels.txt and train_test_split.txt",
    ),
    "eurosat": NamedSet(
        "eurosat",
        ("test", "train", "validation"),
        (layouts.class_folders,),
        "https://github.com/phelber/EuroSAT",
        "AnnualCrop/*.jpg, Forest/*.jpg ...",
    ),
    "places365": NamedSet(
        "places365",
        ("val",),
        (layouts.places365, layouts.class_folders),
        "http://places2.csail.mit.edu/download.html",
        "val_256/, places365_val.txt and categories_places365.txt",
    ),
    "dtd": NamedSet(
        "dtd",
        tuple(f"{part}{number}" for part in ("test", "val", "train") for number in range(1, 11)),
        (layouts.dtd, layouts.class_folders),
        "https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        "dtd/images/ and dtd/labels/test1.txt",
    ),
    "flowers102": NamedSet(
        "flowers102",
        ("test", "val", "train"),
        (layouts.flowers102, layouts.class_folders),
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        "jpg/, imagelabels.mat and setid.mat",
    ),
    "fashion_mnist": NamedSet(
        "fashion_mnist",
        ("test", "train", "support"),
        (layouts.mnist_idx, layouts.class_folders),
        "https://github.com/zalandoresearch/fashion-mnist",
        "t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz",
    ),
    "sign_digits": NamedSet(
        "sign_digits",
        ("test", "train", "support"),
        (layouts.class_folders,),
        "https://github.com/ardamavi/Sign-Language-Digits-Dataset",
        "Dataset/0/*.JPG to Dataset/9/*.JPG",
    ),
}
SYNONYMS = {  # the same split, as parquet copies call it
    "val": ("val", "validation", "valid"),
    "validation": ("validation", "val"),
    "test1": ("test1", "test"),
    "val1": ("val1", "validation", "val"),
    "train1": ("train1", "train"),
}


def load_named(
    name: str, data: Path | None, classnames: Names | None = None, templates: Sequence[str] | None = None, split: str | None = None
) -> ClassifyTask:
    """The task of a named set.

    Args:
        data: local copy, in the authors' layout, as class folders, or as parquet files.
        classnames: other names for the prompts: a list in label order, or a mapping from the usual name.
        split: one of the published splits.
    Raises: DataNotFound: without ``data``, or if it holds nothing that is known. DataError: if it is of other classes.
    """
    spec = NAMED[name]
    prompts = load_prompts(spec.prompts)
    if split is not None and split not in spec.splits:
        raise unknown_name(f"split of {name}", split, spec.splits)
    if data is None:
        raise DataNotFound(
            f"{name} needs a local copy", hint=f"download it from {spec.home} and give the folder with --data ({spec.expects})"
        )
    if not data.exists():
        raise DataNotFound(f"there is no {name} at {data}", hint=f"download it from {spec.home} ({spec.expects})")
    samples, content = _read(name, spec, prompts, data, split or spec.splits[0])
    _check_labels(samples, len(prompts.classnames), data)
    names = _rename(prompts.classnames, read_names(classnames), name)
    same = names == prompts.classnames

    def train(wanted: str | None) -> Sequence[Sample]:
        if wanted is not None and wanted not in spec.splits:
            raise unknown_name(f"split of {name}", wanted, spec.splits)
        others = [word for word in spec.splits if word.rstrip("0123456789") in SPLITS and word != split]
        return first_split(lambda word: _read(name, spec, prompts, data, word)[0], others if wanted is None else (wanted,), name)

    return ClassifyTask(
        name if split is None else f"{name}:{split}",
        names,
        samples,
        str(data),
        content,
        templates=tuple(templates or prompts.templates),
        descriptions=prompts.descriptions if same else None,
        prompts=prompts.hashes,
        version=f"1.{prompts.version}",
        pools=prompts.pools if same else {},
        spellings=[(usual, *others) for usual, others in zip(prompts.classnames, prompts.aliases, strict=True)],
        train=train,
    )


def _read(name: str, spec: NamedSet, prompts: PromptSet, data: Path, split: str) -> layouts.Found:
    if data.is_dir():
        for reader in spec.readers:
            found = reader(data, split, prompts)
            if found is not None:
                return found
    try:
        files = _parquet_files(data, split)
    except DataNotFound as error:
        raise DataNotFound(
            f"{data} holds no {name} ({split}) in a known layout", hint=f"expected {spec.expects}, class folders, or parquet"
        ) from error
    table = read_table(files, data if data.is_dir() else data.parent)
    if table.names is None:
        raise DataError(f"{files[0]} holds labels without names, so their order cannot be checked", hint="use parquet: with --classnames")
    match_in_order(table.names, prompts.classnames, prompts.aliases, where=str(files[0]))
    return table.samples, table.content


def _parquet_files(data: Path, split: str) -> list[Path]:
    if data.is_file():
        return find_parquet(data)
    for word in SYNONYMS.get(split, (split,)):
        try:
            return find_parquet(data, word)
        except DataNotFound:
            continue
    return find_parquet(data, split)


def _check_labels(samples: Sequence[Sample], classes: int, data: Path) -> None:
    for sample in samples:
        if sample.label is None or not 0 <= sample.label < classes:
            raise DataError(f"{data}: {sample.id} has label {sample.label}, and labels go from 0 to {classes - 1}")


def _rename(names: tuple[str, ...], given: Sequence[str] | Mapping[str, str] | None, task: str) -> tuple[str, ...]:
    if given is None:
        return names
    if isinstance(given, Mapping):
        for key in given:
            if key not in names:
                raise unknown_name(f"class of {task}", key, names)
        return tuple(given.get(key, key) for key in names)
    if len(given) != len(names):
        raise UsageError(
            f"{task} has {len(names)} classes and {len(given)} class names were given", hint="give one name a class, in label order"
        )
    return tuple(given)
