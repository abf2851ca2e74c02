"""Real photos through the whole harness: loaders, labels, a predictor that looks at pixels, runs and comparisons."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from evals.records import compare_runs, rescore
from evals.runner import run
from evals.tasks import get_task
from evals.tasks.classify import ClassifyTask
from toolkit.errors import DataError
from toolkit.types import Prediction, Sample

COUNTS = {"eurosat": 3000, "sign_digits": 1662, "fashion_mnist": 600}
FIRST = {"eurosat": "annual crop land", "sign_digits": "zero", "fashion_mnist": "t-shirt or top"}


def colours(sample: Sample) -> np.ndarray:
    """Mean and spread of each colour channel."""
    assert sample.image is not None
    pixels = np.asarray(sample.image.load(), dtype=np.float64).reshape(-1, 3) / 255
    return np.concatenate([pixels.mean(axis=0), pixels.std(axis=0)])


class ByColour:
    """Nearest class mean of six numbers: weak, honest, and dependent on labels and pixels belonging together."""

    def __init__(self, train: ClassifyTask, limit: int) -> None:
        samples = list(train.samples(limit))
        features, labels = np.array([colours(s) for s in samples]), np.array([s.label for s in samples])
        self.means = np.array([features[labels == c].mean(axis=0) for c in range(len(train.classnames))])
        self.spread = features.std(axis=0)

    def __call__(self, samples: Sequence[Sample]) -> Iterator[Prediction]:
        for sample in samples:
            logits = -(((colours(sample) - self.means) / self.spread) ** 2).sum(axis=1)
            p = np.exp(logits - logits.max())
            p /= p.sum()
            top = np.argsort(-p)[:5]
            yield Prediction(sample.id, {"label": int(top[0]), "confidence": float(p[top[0]]), "top": [[int(c), float(p[c])] for c in top]})


@pytest.mark.parametrize("name", COUNTS)
def test_shared_sets_load_with_the_right_classes(shared_data: Path, name: str) -> None:
    task = get_task(name, data=shared_data / name)
    assert len(task) == COUNTS[name]
    assert len(task.classnames) == 10
    assert task.classnames[0] == FIRST[name]
    counts = Counter(sample.label for sample in task.samples())
    assert sorted(counts) == list(range(10))
    assert min(counts.values()) >= 60
    if name == "eurosat":
        assert set(counts.values()) == {300}
    task.samples(1).__next__().image.load()  # type: ignore[union-attr]


def test_labels_belong_to_the_pictures(shared_data: Path) -> None:
    """EuroSAT rows name their class folder too: each label must be the class that its file name says."""
    import pyarrow.parquet as pq

    task = get_task("eurosat", data=shared_data / "eurosat")
    table = pq.read_table(shared_data / "eurosat/test-00000-of-00001.parquet", columns=["file", "image"])
    folders = {"AnnualCrop": 0, "HerbaceousVegetation": 2, "SeaLake": 9}
    for sample, file, cell in zip(task.samples(), table["file"].to_pylist(), table["image"].to_pylist(), strict=True):
        folder = file.split("/")[0]
        assert sample.label == folders.get(folder, sample.label)
        assert sample.image is not None
        if sample.label == 9:
            assert sample.image.content_id() == hashlib.sha256(cell["bytes"]).hexdigest()


@pytest.mark.parametrize("other", ["sign_digits", "fashion_mnist"])
def test_another_set_is_refused(shared_data: Path, other: str) -> None:
    with pytest.raises(DataError, match="10 of 10 class names differ"):
        get_task("eurosat", data=shared_data / other)


def test_a_run_on_real_photos_from_start_to_comparison(shared_data: Path, tmp_path: Path) -> None:
    task = get_task("eurosat", data=shared_data / "eurosat")
    train = get_task("eurosat:train", data=shared_data / "eurosat")
    weak, strong = ByColour(train, 60), ByColour(train, 600)
    for name, predict in (("weak", weak), ("strong", strong)):
        who = {"model": name, "model_fingerprint": name, "method": {"name": "colour", "config": {}}}
        result = run(task, predict, out=tmp_path / name, manifest=who, limit=500)
        assert (result.n, result.n_failed) == (500, 0)
        assert rescore(tmp_path / name)["metrics"]["top1"]["value"] == result.metrics["top1"].value
    top1 = result.metrics["top1"]
    assert top1.value is not None
    assert top1.ci95 is not None
    assert top1.ci95[0] > 0.3, "colour alone is far above the 10 % of chance, so labels and pixels belong together"
    assert top1.ci95[1] - top1.ci95[0] < 0.1
    found = compare_runs(tmp_path / "weak", tmp_path / "strong")
    assert found["n"] == 500
    assert found["difference"]["value"] == pytest.approx(found["top1"]["b"]["value"] - found["top1"]["a"]["value"])


def test_a_folder_of_real_photos(shared_data: Path) -> None:
    task = get_task(f"folder:{shared_data / 'recsys/clothing_small_test/test'}")
    assert len(task) == 372
    assert task.classnames == ("dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt")
