"""``folder:DIR`` and what every classification task does."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from evals.runner import run
from evals.tasks import get_task, list_tasks
from evals.tasks.classify import ClassifyTask
from tests.unit.evals.helpers import MANIFEST, answer, class_tree, make_task, save_images
from toolkit.errors import DataError, DataNotFound, ImageError, UsageError
from toolkit.types import Prediction, Sample


def folder(root: Path, **options: object) -> ClassifyTask:
    return get_task(f"folder:{root}", **options)  # type: ignore[arg-type]


def test_a_folder_becomes_a_task(tmp_path: Path) -> None:
    task = folder(class_tree(tmp_path, ["dog", "cat", "wild_boar"], 3))
    assert task.classnames == ("cat", "dog", "wild boar")
    samples = list(task.samples())
    assert [sample.label for sample in samples] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert samples[0].id == "cat/00010.png"
    assert samples[0].image is not None
    assert samples[0].image.load().size == (6, 6)
    assert task.metrics == ("top1", "mean_per_class_recall", "ece"), "with three classes the first five are always right"


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    a = folder(class_tree(tmp_path / "a", ["c10", "c2", "c1"]))
    assert a.classnames == ("c1", "c2", "c10")
    b = folder(class_tree(tmp_path / "b", ["c1", "c2", "c10"]))
    assert [s.id.split("/")[0] for s in a.samples()] == [s.id.split("/")[0] for s in b.samples()]


def test_images_in_deeper_folders_belong_to_the_class(tmp_path: Path) -> None:
    class_tree(tmp_path, ["cat", "dog"])
    save_images(tmp_path / "cat" / "tabby", 2, start=50)
    assert [s.id for s in folder(tmp_path).samples() if s.label == 0] == [
        "cat/00000.png", "cat/00001.png", "cat/tabby/00050.png", "cat/tabby/00051.png",
    ]  # fmt: skip


def test_hidden_folders_and_loose_files_are_left_out(tmp_path: Path) -> None:
    class_tree(tmp_path, ["cat", "dog", ".cache"])
    (tmp_path / "README.txt").write_text("hello")
    (tmp_path / "cat" / "notes.txt").write_text("hello")
    assert folder(tmp_path).classnames == ("cat", "dog")


def test_classes_json_renames_and_orders(tmp_path: Path) -> None:
    class_tree(tmp_path, ["n1", "n2"])
    (tmp_path / "classes.json").write_text(json.dumps({"n2": "dog", "n1": "cat"}))
    task = folder(tmp_path)
    assert task.classnames == ("dog", "cat")
    assert next(task.samples()).id.startswith("n2/")
    assert folder(tmp_path, classnames={"n1": "tabby", "n2": "husky"}).classnames == ("tabby", "husky"), "what is asked for goes first"


def test_class_names_from_a_file_or_a_list(tmp_path: Path) -> None:
    class_tree(tmp_path / "data", ["cat", "dog"])
    (tmp_path / "names.json").write_text('["dog", "cat"]')
    for given in (tmp_path / "names.json", str(tmp_path / "names.json"), (str(tmp_path / "names.json"),), ["dog", "cat"]):
        assert folder(tmp_path / "data", classnames=given).classnames == ("dog", "cat")


# bad input


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="there is no folder") as error:
        folder(tmp_path / "none")
    assert error.value.exit_code == 3


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds nothing"):
        folder(tmp_path)


def test_images_without_class_folders(tmp_path: Path) -> None:
    save_images(tmp_path, 2)
    with pytest.raises(DataError, match="files and no subfolders"):
        folder(tmp_path)


def test_a_class_without_images(tmp_path: Path) -> None:
    class_tree(tmp_path, ["cat", "dog"])
    (tmp_path / "emu").mkdir()
    with pytest.raises(DataError, match="emu holds no images"):
        folder(tmp_path)


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    class_tree(tmp_path, ["cat"])
    with pytest.raises(DataError, match="has 1 class, and every answer would be right"):
        folder(tmp_path)


def test_a_broken_image_is_one_failed_sample(tmp_path: Path) -> None:
    class_tree(tmp_path / "data", ["cat", "dog"], 3)
    (tmp_path / "data/cat/00001.png").write_text("this is text")

    def predict(samples: Sequence[Sample]) -> Iterator[Prediction]:
        for sample in samples:
            assert sample.image is not None
            try:
                sample.image.load()
                yield answer(sample, classes=2)
            except ImageError as error:
                yield Prediction(sample.id, error=str(error))

    result = run(folder(tmp_path / "data"), predict, out=tmp_path / "run", manifest=MANIFEST)
    assert (result.n, result.n_failed, result.metrics["top1"].n) == (6, 1, 5)
    line = json.loads((tmp_path / "run/samples.jsonl").read_text().splitlines()[1])
    assert line["prediction"] is None
    assert line["image"].endswith("cat/00001.png")
    assert "00001.png" in line["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_file_names_that_are_not_utf8(tmp_path: Path) -> None:
    class_tree(tmp_path / "data", ["cat", "dog"])
    os.rename(os.fsencode(tmp_path / "data/cat/00000.png"), os.fsencode(tmp_path / "data/cat") + b"/\xff.png")
    task = folder(tmp_path / "data")
    result = run(task, lambda samples: (answer(s, 2) for s in samples), out=tmp_path / "run", manifest=MANIFEST)
    assert result.n_failed == 0
    assert any(s.id == "cat/\\xff.png" for s in task.samples())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("folders:x", "folder:"),
        ("eurosatt", "'eurosat'"),
        ("bazaar/line", "'bazaar/lines'"),
        ("image-net", "'imagenet'"),
        ("zzz", "known tasks"),
    ],
)
def test_unknown_tasks_get_near_matches(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match="there is no task called") as error:
        get_task(name)
    assert hint in str(error.value.hint)


def test_options_that_a_task_does_not_have(tmp_path: Path) -> None:
    class_tree(tmp_path, ["cat", "dog"])
    with pytest.raises(UsageError, match="takes no options"):
        folder(tmp_path, split="test")
    with pytest.raises(UsageError, match="no option of bazaar/lines called 'splitt'"):
        get_task("bazaar/lines", splitt="test")
    with pytest.raises(UsageError, match="says itself where the data are"):
        folder(tmp_path, data=tmp_path)


@pytest.mark.parametrize("templates", [["a photo"], ["{} and {}"], ["{0}"], ["{name}"], ["a {} {"], []])
def test_templates_must_have_one_slot(templates: list[str]) -> None:
    with pytest.raises(UsageError, match="template"):
        make_task(templates=tuple(templates))


# every classification task


def test_a_limit_is_a_random_draw_that_grows() -> None:
    task = make_task(n=100)
    small, large = [[s.id for s in task.samples(limit)] for limit in (10, 40)]
    assert small != [f"s{i:04d}" for i in range(10)]
    assert small == sorted(small)
    assert set(small) < set(large)
    assert small == [s.id for s in task.samples(10)]
    assert small != [s.id for s in task.samples(10, seed=1)]
    assert [s.id for s in task.samples(1000)] == [s.id for s in task.samples()]


def test_the_fingerprint_sees_files_labels_and_names_of_files(tmp_path: Path) -> None:
    class_tree(tmp_path, ["cat", "dog"], 3)
    before = folder(tmp_path).data_fingerprint()
    assert folder(tmp_path).data_fingerprint() == before
    assert folder(tmp_path, classnames=["dog", "cat"]).data_fingerprint() != before
    path = tmp_path / "cat/00000.png"
    content = path.read_bytes()
    path.write_bytes(content + b"\0")
    assert folder(tmp_path).data_fingerprint() != before
    path.write_bytes(content)
    assert folder(tmp_path).data_fingerprint() == before
    path.rename(tmp_path / "cat/other.png")
    assert folder(tmp_path).data_fingerprint() != before


def test_labels_out_of_range_are_named() -> None:
    task = make_task(n=10)
    items = [*task.items, Sample("s0010", None, 7)]
    with pytest.raises(DataError, match="s0010 has label 7, and labels go from 0 to 6"):
        ClassifyTask("toy", task.classnames, items, "memory", "content")
    with pytest.raises(DataError, match="has no images"):
        ClassifyTask("toy", task.classnames, [], "memory", "content")


def test_scores_of_one_answer() -> None:
    task = make_task()
    sample = next(task.samples())
    top = [[c, 0.1] for c in (1, 2, 3, 4, 0)]
    assert task.score(sample, Prediction(sample.id, {"label": 1, "confidence": 0.5, "top": top})) == {"top1": 0.0, "top5": 1.0}
    assert make_task(classes=5).score(sample, Prediction(sample.id, {"label": 0, "confidence": 0.5, "top": []})) == {"top1": 1.0}


def test_every_listed_task_is_known() -> None:
    for name in list_tasks():
        with pytest.raises((DataNotFound, UsageError)) as error:
            get_task(name if not name.endswith(":") else f"{name}/nowhere", data=None if name.endswith(":") else "/nowhere")
        assert "no task called" not in str(error.value)
