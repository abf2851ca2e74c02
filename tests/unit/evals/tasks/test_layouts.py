"""The public sets in the layouts in which their authors publish them, with their pitfalls."""

from __future__ import annotations

import csv
import gzip
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from evals.tasks import get_task
from evals.tasks.classify import ClassifyTask
from evals.tasks.layouts import read_idx
from evals.tasks.prompts import load_prompts
from tests.unit.evals.helpers import save_images
from toolkit.errors import DataError, DataNotFound, ImageError, UsageError


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return save_images(tmp_path_factory.mktemp("picture"), 1)[0].read_bytes()


def put(picture: bytes, *paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)


def task(name: str, data: Path, **options: object) -> ClassifyTask:
    return get_task(name, data=data, **options)  # type: ignore[arg-type]


def labels(found: ClassifyTask) -> dict[str, int | None]:
    return {sample.id: sample.label for sample in found.samples()}


def wnids() -> list[str]:
    return [aliases[0] for aliases in load_prompts("imagenet").aliases]


# ImageNet


def test_imagenet_as_class_folders(tmp_path: Path, picture: bytes) -> None:
    for wnid in ("n01440764", "n03126707", "n02012849", "n15075141"):
        put(picture, tmp_path / "val" / wnid / f"ILSVRC2012_val_{wnid[-4:]}.JPEG")
    found = task("imagenet", tmp_path)
    assert len(found.classnames) == 1000
    assert labels(found) == {
        "n01440764/ILSVRC2012_val_0764.JPEG": 0,
        "n02012849/ILSVRC2012_val_2849.JPEG": 134,
        "n03126707/ILSVRC2012_val_6707.JPEG": 517,
        "n15075141/ILSVRC2012_val_5141.JPEG": 999,
    }
    assert (found.classnames[134], found.classnames[517]) == ("crane bird", "construction crane")
    assert labels(task("imagenet", tmp_path / "val")) == labels(found)


def test_imagenet_flat_with_the_kaggle_solution(tmp_path: Path, picture: bytes) -> None:
    rows = [("ILSVRC2012_val_00000002", "n15075141 1 2 3 4 n15075141 5 6 7 8"), ("ILSVRC2012_val_00000001", "n01440764 1 2 3 4")]
    put(picture, *(tmp_path / f"ILSVRC/Data/CLS-LOC/val/{name}.JPEG" for name, _ in rows))
    with (tmp_path / "LOC_val_solution.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("ImageId", "PredictionString"), *rows])
    assert labels(task("imagenet", tmp_path)) == {"ILSVRC2012_val_00000001.JPEG": 0, "ILSVRC2012_val_00000002.JPEG": 999}


def test_imagenet_flat_with_the_devkit_whose_numbers_are_not_labels(tmp_path: Path, picture: bytes) -> None:
    """ILSVRC2012_ID 1 is n02119789, which is label 278 and not 0."""
    put(picture, *(tmp_path / f"val/ILSVRC2012_val_{i:08d}.JPEG" for i in (1, 2)))
    truth = tmp_path / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
    truth.parent.mkdir(parents=True)
    truth.write_text("1\n2\n")
    with pytest.raises(DataError, match="nothing that says their classes"):
        task("imagenet", tmp_path)
    synsets = np.array([(1, "n02119789"), (2, "n02100735"), (3, "n01440764")], dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O")])
    savemat(truth.parent / "meta.mat", {"synsets": synsets})
    assert labels(task("imagenet", tmp_path)) == {"ILSVRC2012_val_00000001.JPEG": 278, "ILSVRC2012_val_00000002.JPEG": 212}


def test_wordnet_ids_are_in_label_order() -> None:
    assert len(wnids()) == 1000
    assert wnids() == sorted(wnids())


def test_imagenetv2_folders_are_numbers(tmp_path: Path, picture: bytes) -> None:
    """Sorted as text, folder 10 would be class 2."""
    put(picture, *(tmp_path / f"imagenetv2-matched-frequency-format-val/{label}/0.jpeg" for label in range(1000)))
    found = task("imagenetv2", tmp_path)
    assert labels(found) == {f"{label}/0.jpeg": label for label in range(1000)}
    (tmp_path / "imagenetv2-matched-frequency-format-val/999/0.jpeg").unlink()
    (tmp_path / "imagenetv2-matched-frequency-format-val/999").rmdir()
    with pytest.raises(DataError, match="999 numbered class folders"):
        task("imagenetv2", tmp_path)


# CUB


def write_cub(root: Path, picture: bytes, names: list[str] | None = None) -> Path:
    names = names or [
        f"{i:03d}.{name.replace(' ', '_').replace('-', '_')}" for i, name in enumerate(load_prompts("cub200").classnames, start=1)
    ]
    root.mkdir(parents=True)
    rows = [
        (1, 1, f"{names[0]}/a.jpg", 0),
        (2, 1, f"{names[0]}/b.jpg", 1),
        (3, 200, f"{names[199]}/c.jpg", 0),
        (4, 17, f"{names[16]}/d.jpg", 0),
    ]
    put(picture, *(root / "images" / path for _, _, path, _ in rows))
    (root / "images.txt").write_text("".join(f"{i} {path}\n" for i, _, path, _ in rows))
    (root / "classes.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(names, start=1)))
    (root / "image_class_labels.txt").write_text("".join(f"{i} {label}\n" for i, label, _, _ in rows))
    (root / "train_test_split.txt").write_text("".join(f"{i} {train}\n" for i, _, _, train in rows))
    return root


def test_cub_is_joined_by_id_and_its_test_part_is_zero(tmp_path: Path, picture: bytes) -> None:
    write_cub(tmp_path / "CUB_200_2011", picture)
    found = labels(task("cub200", tmp_path))
    assert {path.split("/")[1]: label for path, label in found.items()} == {"a.jpg": 0, "c.jpg": 199, "d.jpg": 16}
    assert [path.split("/")[1] for path in labels(task("cub200:train", tmp_path))] == ["b.jpg"]
    assert len(labels(task("cub200", tmp_path / "CUB_200_2011", split="all"))) == 4


def test_cub_with_another_class_order_is_refused(tmp_path: Path, picture: bytes) -> None:
    names = [f"{i:03d}.{name.replace(' ', '_')}" for i, name in enumerate(sorted(load_prompts("cub200").classnames), start=1)]
    with pytest.raises(DataError, match="another order"):
        task("cub200", write_cub(tmp_path / "CUB_200_2011", picture, names))


def test_cub_damaged(tmp_path: Path, picture: bytes) -> None:
    root = write_cub(tmp_path / "CUB_200_2011", picture)
    (root / "images.txt").write_text("1 a b\n")
    with pytest.raises(DataError, match=r"images.txt, line 1 must hold two words"):
        task("cub200", root)
    (root / "train_test_split.txt").unlink()
    with pytest.raises(DataNotFound, match=r"train_test_split.txt is missing"):
        task("cub200", root)


def test_a_listed_path_cannot_leave_the_folder(tmp_path: Path, picture: bytes) -> None:
    root = write_cub(tmp_path / "CUB_200_2011", picture)
    (root / "images.txt").write_text("1 ../../secret.jpg\n")
    with pytest.raises(DataError):
        task("cub200", root)


def test_a_listed_file_that_is_missing_is_one_failed_sample(tmp_path: Path, picture: bytes) -> None:
    root = write_cub(tmp_path / "CUB_200_2011", picture)
    next((root / "images").rglob("c.jpg")).unlink()
    samples = {s.id[-5:]: s for s in task("cub200", root).samples()}
    assert len(samples) == 3
    with pytest.raises(ImageError):
        samples["c.jpg"].image.load()  # type: ignore[union-attr]


# DTD, Flowers102, Places365


def test_dtd_by_its_published_split(tmp_path: Path, picture: bytes) -> None:
    rows = ["banded/banded_0002.jpg", "polka-dotted/polka-dotted_0001.jpg", "zigzagged/zigzagged_0003.jpg"]
    put(picture, *(tmp_path / "dtd/images" / row for row in [*rows, "banded/banded_0009.jpg"]))
    (tmp_path / "dtd/labels").mkdir()
    (tmp_path / "dtd/labels/test1.txt").write_text("\n".join(rows) + "\n")
    (tmp_path / "dtd/labels/test7.txt").write_text(rows[0] + "\n")
    assert list(labels(task("dtd", tmp_path)).values()) == [0, 30, 46]
    assert list(labels(task("dtd:test7", tmp_path / "dtd"))) == rows[:1]
    with pytest.raises(DataNotFound, match=r"val2.txt is missing"):
        task("dtd:val2", tmp_path)


def test_flowers_labels_begin_at_one_and_ids_are_file_numbers(tmp_path: Path, picture: bytes) -> None:
    numbers = range(1, 12)
    put(picture, *(tmp_path / f"jpg/image_{i:05d}.jpg" for i in numbers))
    savemat(tmp_path / "imagelabels.mat", {"labels": np.array([[102, 1, 77, 3, 4, 5, 6, 7, 8, 9, 10]], np.uint8)})
    savemat(tmp_path / "setid.mat", {"tstid": np.array([[3, 1, 2]]), "trnid": np.array([[4]]), "valid": np.array([[5, 6]])})
    found = task("flowers102", tmp_path)
    assert labels(found) == {"image_00001.jpg": 101, "image_00002.jpg": 0, "image_00003.jpg": 76}
    assert (found.classnames[0], found.classnames[76], found.classnames[101]) == ("pink primrose", "passion flower", "blackberry lily")
    assert labels(task("flowers102:val", tmp_path)) == {"image_00005.jpg": 3, "image_00006.jpg": 4}
    savemat(tmp_path / "imagelabels.mat", {"labels": np.array([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]], np.uint8)})
    with pytest.raises(DataError, match="holds labels 0 to 10, expected 1 to 102"):
        task("flowers102", tmp_path)
    (tmp_path / "setid.mat").unlink()
    with pytest.raises(DataNotFound, match=r"lacks setid.mat"):
        task("flowers102", tmp_path)


def places_names() -> list[str]:
    """As in categories_places365.txt: ``/a/airfield``, ``/a/apartment_building/outdoor`` ..."""
    keys = [aliases[-1] if "(" in aliases[0] else aliases[0] for aliases in load_prompts("places365").aliases]
    return [f"/{key[0]}/{key.replace('-', '/')}" for key in keys]


def test_places_with_its_lists(tmp_path: Path, picture: bytes) -> None:
    put(picture, *(tmp_path / f"val_256/Places365_val_{i:08d}.jpg" for i in (1, 2)))
    (tmp_path / "places365_val.txt").write_text("Places365_val_00000001.jpg 165\nPlaces365_val_00000002.jpg 8\n")
    with pytest.raises(DataNotFound, match="categories_places365"):
        task("places365", tmp_path)
    categories = tmp_path / "categories_places365.txt"
    categories.write_text("".join(f"{name} {i}\n" for i, name in enumerate(places_names())))
    found = task("places365", tmp_path)
    assert labels(found) == {"Places365_val_00000001.jpg": 165, "Places365_val_00000002.jpg": 8}
    assert (found.classnames[8], found.classnames[165]) == ("outdoor apartment building", "indoor greenhouse")
    categories.write_text("".join(f"{name} {i}\n" for i, name in enumerate(sorted(places_names(), reverse=True))))
    with pytest.raises(DataError, match="another order"):
        task("places365", tmp_path)


# EuroSAT, Fashion-MNIST, sign digits


def test_eurosat_class_folders_whatever_they_are_called(tmp_path: Path) -> None:
    for place, spelling in enumerate(load_prompts("eurosat").aliases):
        save_images(tmp_path / "2750" / spelling[0], 2, start=10 * place)
    found = task("eurosat", tmp_path)
    assert Counter(labels(found).values()) == dict.fromkeys(range(10), 2)
    assert labels(found)["SeaLake/00090.png"] == 9
    assert labels(found)["HerbaceousVegetation/00020.png"] == 2


def test_sign_digits_as_published(tmp_path: Path) -> None:
    for digit in range(10):
        save_images(tmp_path / f"Dataset/{digit}", 1, start=digit)
    found = task("sign_digits", tmp_path)
    assert list(labels(found).values()) == list(range(10))
    assert found.classnames[3] == "three"


def write_idx(path: Path, array: np.ndarray) -> None:
    data = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_fashion_mnist_as_published(tmp_path: Path, suffix: str) -> None:
    raw = tmp_path / "FashionMNIST/raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28))
    write_idx(raw / f"t10k-images-idx3-ubyte{suffix}", pixels)
    write_idx(raw / f"t10k-labels-idx1-ubyte{suffix}", np.array([9, 2, 1]))
    found = task("fashion_mnist", tmp_path)
    assert labels(found) == {"t10k:0": 9, "t10k:1": 2, "t10k:2": 1}
    image = next(found.samples()).image
    assert image is not None
    assert np.array_equal(np.asarray(image.load())[..., 0], pixels[0])
    with pytest.raises(DataNotFound, match="no fashion_mnist"):
        task("fashion_mnist:train", tmp_path)


def test_damaged_idx_files(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", np.zeros((4, 2, 2)))
    for content in (b"", b"\0\0\x08", (tmp_path / "a").read_bytes()[:-1], b"\0\0\x0d\x01\0\0\0\x01\0", b"plain text, no header"):
        (tmp_path / "b").write_bytes(content)
        with pytest.raises(DataError, match="not a readable IDX file"):
            read_idx(tmp_path / "b")
    (tmp_path / "c.gz").write_bytes(gzip.compress((tmp_path / "a").read_bytes())[:-9])
    with pytest.raises(DataError, match="not a readable IDX file"):
        read_idx(tmp_path / "c.gz")


# all of them


@pytest.mark.parametrize(
    "name", ["imagenet", "imagenetv2", "cub200", "eurosat", "places365", "dtd", "flowers102", "fashion_mnist", "sign_digits"]
)
def test_without_data_it_says_where_they_are_and_how_they_look(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match=f"{name} needs a local copy") as error:
        get_task(name)
    assert "http" in str(error.value.hint)
    assert "--data" in str(error.value.hint)
    with pytest.raises(DataNotFound, match="holds no"):
        task(name, tmp_path)
    with pytest.raises(DataNotFound, match="there is no"):
        task(name, tmp_path / "none")
    with pytest.raises(UsageError, match="no split"):
        task(name, tmp_path, split="tset")


def test_class_folders_of_another_set_are_refused(tmp_path: Path) -> None:
    for name in ("Forest", "River", "Moon"):
        save_images(tmp_path / name, 1)
    with pytest.raises(DataError, match=r"of no known class:\n  Moon"):
        task("eurosat", tmp_path)


def test_other_names_for_the_prompts(tmp_path: Path) -> None:
    for name in ("Forest", "River"):
        save_images(tmp_path / name, 1)
    names = [f"name {i}" for i in range(10)]
    assert task("eurosat", tmp_path, classnames=names).classnames == tuple(names)
    renamed = task("eurosat", tmp_path, classnames={"forest": "dense woods"})
    assert renamed.classnames[:3] == ("annual crop land", "dense woods", "brushland or shrubland")
    with pytest.raises(UsageError, match="10 classes and 2 class names"):
        task("eurosat", tmp_path, classnames=["a", "b"])
    with pytest.raises(UsageError, match="no class of eurosat called 'forrest'"):
        task("eurosat", tmp_path, classnames={"forrest": "woods"})
