"""``hf:`` on a real cache of ``datasets``, without a network."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evals.tasks import get_task
from toolkit.errors import DataError, DataNotFound, ImageError, UsageError

datasets = pytest.importorskip("datasets")
NAMES = ["cat", "dog", "emu"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """``datasets.load_dataset`` answers ``me/zoo`` from parquet files, through its own cache; returns the calls."""
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    files = {}
    for split, count in (("train", 5), ("test", 7)):
        pictures = [Image.fromarray(np.full((5, 4, 3), i * 9, np.uint8)) for i in range(count)]
        files[split] = str(tmp_path / f"{split}.parquet")
        datasets.Dataset.from_dict({"img": pictures, "label": [i % 3 for i in range(count)]}, features=features).to_parquet(files[split])
    real, calls = datasets.load_dataset, []

    def load(name: str, config: str | None = None, *, revision: str | None = None) -> Any:
        calls.append((name, config, revision))
        return (
            real("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
            if name == "me/zoo"
            else real(name, config, revision=revision)
        )

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


def test_a_data_set_of_the_hub(hub: list[tuple[Any, ...]]) -> None:
    task = get_task("hf:me/zoo@0123abc")
    assert hub == [("me/zoo", None, "0123abc")]
    assert (task.classnames, len(task)) == (tuple(NAMES), 7)
    for i, sample in enumerate(task.samples()):
        assert sample.image is not None
        assert np.array_equal(np.asarray(sample.image.load()), np.full((5, 4, 3), i * 9))
        assert sample.label == i % 3
    last = pickle.loads(pickle.dumps(sample))
    assert len(pickle.dumps(sample)) < 700
    assert last.image.content_id() == sample.image.content_id()  # type: ignore[union-attr]


def test_splits(hub: list[tuple[Any, ...]]) -> None:
    assert len(get_task("hf:me/zoo@0123abc:train")) == 5
    assert len(get_task("hf:me/zoo", split="train")) == 5
    with pytest.raises(DataNotFound, match="no split 'dev'") as error:
        get_task("hf:me/zoo:dev")
    assert error.value.hint == "splits there: train, test"
    with pytest.raises(UsageError, match="another one"):
        get_task("hf:me/zoo:train", split="test")


def test_class_names_are_checked(hub: list[tuple[Any, ...]]) -> None:
    assert get_task("hf:me/zoo", classnames={"emu": "large bird"}).classnames == ("cat", "dog", "large bird")
    with pytest.raises(DataError, match="another order"):
        get_task("hf:me/zoo", classnames=["dog", "cat", "emu"])
    with pytest.raises(DataError, match="'imgs'"):
        get_task("hf:me/zoo", image="imgs")


def test_a_cache_that_is_gone_fails_the_samples(hub: list[tuple[Any, ...]], tmp_path: Path) -> None:
    from evals.tasks import hub as under_test

    sample = next(get_task("hf:me/zoo").samples())
    under_test._table.cache_clear()
    for path in (tmp_path / "cache").rglob("*.arrow"):
        path.unlink()
    with pytest.raises(ImageError, match="me/zoo:0 cannot be read"):
        sample.image.load()  # type: ignore[union-attr]


def test_offline_and_missing_is_missing_data() -> None:
    with pytest.raises(DataNotFound, match="someone/nothing cannot be loaded") as error:
        get_task("hf:someone/nothing@main")
    assert error.value.exit_code == 3


@pytest.mark.parametrize("place", ["a/b/c", "a b", "../x/y", "a@b@c", "x:y:z", "@main"])
def test_malformed_places(place: str) -> None:
    with pytest.raises(UsageError, match="is not of the form"):
        get_task(f"hf:{place}")


def test_a_local_folder_of_that_name_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "me/zoo").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="a local folder 'me/zoo'"):
        get_task("hf:me/zoo")
