"""``parquet:`` on files that ``datasets`` writes, on other layouts, and on damaged ones."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evals.tasks import get_task
from evals.tasks import parquet as under_test
from toolkit.errors import DataError, DataNotFound, ImageError, UsageError
from toolkit.images import BytesImage

NAMES = ["cat", "dog", "emu"]


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((5, 4, 3), shade, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write(
    path: Path,
    labels: list[Any],
    names: list[str] | None = NAMES,
    *,
    rows_per_group: int = 4,
    column: str = "label",
    cells: list[Any] | None = None,
) -> Path:
    """A file in the ``datasets`` layout."""
    import json

    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": png(i * 9), "path": None} for i in range(len(labels))] if cells is None else cells
    table = pa.table({"image": pa.array(cells), column: pa.array(labels)})
    if names is not None:
        features = {"image": {"_type": "Image"}, column: {"_type": "ClassLabel", "names": names}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=rows_per_group)
    return path


def load(place: Path, **options: Any) -> Any:
    return get_task(f"parquet:{place}", **options)


def test_a_file_as_datasets_writes_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"image": [Image.fromarray(np.full((5, 4, 3), i * 9, np.uint8)) for i in range(7)], "label": [0, 1, 2, 0, 1, 2, 0]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "test.parquet")
    task = load(tmp_path / "test.parquet")
    assert task.classnames == tuple(NAMES)
    samples = list(task.samples())
    assert [s.label for s in samples] == rows["label"]
    for i, sample in enumerate(samples):
        assert np.array_equal(np.asarray(sample.image.load()), np.full((5, 4, 3), i * 9))


def test_images_come_row_group_by_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load(write(tmp_path / "test.parquet", [i % 3 for i in range(10)]))
    opened: list[int] = []
    real = under_test._open

    class Counting:
        def __init__(self, file: Any) -> None:
            self.file = file

        def read_row_group(self, group: int, **options: Any) -> Any:
            opened.append(group)
            return self.file.read_row_group(group, **options)

    under_test._images.cache_clear()
    monkeypatch.setattr(under_test, "_open", lambda path: Counting(real(path)))
    for i, sample in enumerate(task.samples()):
        assert sample.image.load().getpixel((0, 0)) == (i * 9,) * 3
        assert sample.image.content_id() == BytesImage(png(i * 9)).content_id()
    assert opened == [0, 1, 2], "each group once, in order"


def test_samples_are_small_and_travel(tmp_path: Path) -> None:
    sample = list(load(write(tmp_path / "test.parquet", [0, 1, 2])).samples())[1]
    packed = pickle.dumps(sample)
    assert len(packed) < 600
    assert pickle.loads(packed).image.load().getpixel((0, 0)) == (9, 9, 9)


def test_a_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "test.parquet", [0, 1])
    sample = next(load(path).samples())
    first = sample.image.content_id()
    write(path, [0, 1], cells=[{"bytes": png(200), "path": None}, {"bytes": png(201), "path": None}])
    assert sample.image.content_id() == BytesImage(png(200)).content_id() != first


def test_a_folder_of_splits_and_shards(tmp_path: Path) -> None:
    for shard in range(11):
        write(tmp_path / f"data/test-{shard}-of-11.parquet", [0, 1])
    write(tmp_path / "data/train-00000-of-00001.parquet", [0, 1, 2])
    task = load(tmp_path)
    assert len(task) == 22
    ids = [s.id for s in task.samples()]
    assert ids[:3] == ["data/test-0-of-11.parquet:0", "data/test-0-of-11.parquet:1", "data/test-1-of-11.parquet:0"]
    assert ids[-1] == "data/test-10-of-11.parquet:1"
    assert len(load(tmp_path, split="train")) == 3
    with pytest.raises(DataNotFound, match="no split 'dev'") as error:
        load(tmp_path, split="dev")
    assert error.value.hint == "splits there: test, train"


def test_other_columns_by_option_or_by_kind(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [0, 1, 2], column="kind")
    assert len(load(path)) == 3, "the only label column"
    assert len(load(path, label="kind", image="image")) == 3
    with pytest.raises(DataError, match="'kinds'") as error:
        load(path, label="kinds")
    assert "'kind'" in str(error.value.hint)
    bare = write(tmp_path / "b.parquet", [0, 1, 2], names=None, column="target")
    with pytest.raises(DataError, match="no column 'label'") as error:
        load(bare)
    assert error.value.hint == "columns: image, target; choose with -o label=COLUMN"
    assert load(bare, label="target", classnames=NAMES).classnames == tuple(NAMES)


def test_labels_without_names_need_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [0, 1, 2], names=None)
    with pytest.raises(DataError, match="labels without names"):
        load(path)
    with pytest.raises(UsageError, match="nothing to rename"):
        load(path, classnames={"cat": "tabby"})


def test_labels_that_are_words(tmp_path: Path) -> None:
    task = load(write(tmp_path / "a.parquet", ["dog", "cat", "dog"], names=None))
    assert task.classnames == ("cat", "dog")
    assert [s.label for s in task.samples()] == [1, 0, 1]


def test_bytes_without_a_struct(tmp_path: Path) -> None:
    task = load(write(tmp_path / "a.parquet", [0, 1, 2], cells=[png(i) for i in range(3)]))
    assert next(task.samples()).image.load().size == (4, 5)


def test_paths_lead_to_files_beside_the_table_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(png(3))
    (tmp_path / "secret.png").write_bytes(png(4))
    cells = [{"bytes": None, "path": p} for p in ("a.png", "../secret.png", str(tmp_path / "secret.png"), "none.png", "")]
    samples = list(load(write(tmp_path / "in/t.parquet", [0, 1, 2, 0, 1], cells=cells)).samples())
    assert samples[0].image.load().getpixel((0, 0)) == (3, 3, 3)
    for sample in samples[1:]:
        with pytest.raises(ImageError):
            sample.image.load()


def test_names_are_checked_in_order(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [0, 1, 2])
    assert load(path, classnames=["Cat", "Dog", "Emu"]).classnames == ("Cat", "Dog", "Emu")
    assert load(path, classnames={"emu": "large bird"}).classnames == ("cat", "dog", "large bird")
    with pytest.raises(DataError, match="another order"):
        load(path, classnames=["dog", "cat", "emu"])
    with pytest.raises(DataError, match="3 classes and the prompts 2"):
        load(path, classnames=["cat", "dog"])
    with pytest.raises(DataError, match="no class in the data called 'emuu'"):
        load(path, classnames={"emuu": "bird"})


def test_names_that_are_numbers_take_any_list_of_that_length(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [0, 1, 2], names=["0", "1", "2"])
    assert load(path, classnames=["zero", "one", "two"]).classnames == ("zero", "one", "two")
    with pytest.raises(DataError, match="has 3 classes and 2 class names"):
        load(path, classnames=["zero", "one"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 3], r"a\.parquet:2 has label 3"),
        ([0, -1, 1], r"a\.parquet:1 has label -1"),
        ([0, None, 1], "row 1 has the label None"),
        ([0.5, 1.5, 2.5], r"row 0 has the label 0\.5"),
    ],
)
def test_labels_out_of_range_name_the_row(tmp_path: Path, labels: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "a.parquet", labels))


def test_shards_that_disagree_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "test-0.parquet", [0, 1])
    write(tmp_path / "test-1.parquet", [0, 1], names=["dog", "cat", "emu"])
    with pytest.raises(DataError, match="names its labels differently"):
        load(tmp_path)


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound):
        load(tmp_path / "none.parquet")
    with pytest.raises(DataNotFound, match=r"no \.parquet files"):
        load(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(DataError, match="not a readable parquet file"):
        load(tmp_path / "a.parquet")


def test_a_file_that_vanishes_or_breaks_later_fails_its_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [0, 1, 2])
    sample = next(load(path).samples())
    path.write_bytes(b"broken")
    with pytest.raises(ImageError, match=r"a\.parquet:0"):
        sample.image.load()
    path.unlink()
    with pytest.raises(ImageError, match=r"a\.parquet:0"):
        sample.image.content_id()


def test_the_fingerprint_sees_other_pictures(tmp_path: Path) -> None:
    a = load(write(tmp_path / "1/a.parquet", [0, 1, 2])).data_fingerprint()
    assert load(write(tmp_path / "2/a.parquet", [0, 1, 2])).data_fingerprint() == a
    other = [{"bytes": png(77), "path": None} for _ in range(3)]
    assert load(write(tmp_path / "3/a.parquet", [0, 1, 2], cells=other)).data_fingerprint() != a
    assert load(write(tmp_path / "4/a.parquet", [0, 1, 1])).data_fingerprint() != a


def test_damaged_metadata_counts_as_none() -> None:
    assert under_test.hub_features({b"huggingface": b"{"}) == {}
    assert under_test.hub_features({b"huggingface": b'{"info": 3}'}) == {}
    assert under_test.hub_features(None) == {}
