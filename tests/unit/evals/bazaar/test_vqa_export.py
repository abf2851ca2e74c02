"""Bazaar VQA on disk: the official files of VQAv2, read back by the loader of VQAv2 with the same scores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cli import cli
from evals.bazaar.export import MARK
from evals.bazaar.vqa import evidence_mask, vqa_split
from evals.bazaar.vqa_export import export_vqa
from evals.records import SampleRecord
from evals.tasks import get_task
from toolkit.errors import DataError, UsageError
from toolkit.types import Prediction

COUNT = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_vqa(tmp_path_factory.mktemp("vqa") / "out", limit=COUNT)


def answers(task: object) -> Iterator[tuple[str, Prediction]]:
    """What a made-up model says: the right thing, another wording of it, or something else, by the sample's id."""
    for sample in task.samples():  # type: ignore[attr-defined]
        said = [sample.meta["answers"][0], sample.meta["answers"][9].upper() + ".", "yes"][int(sample.id) % 3]
        yield sample, Prediction(sample.id, output={"answer": said})


def test_the_loader_of_vqav2_reads_the_same_task(folder: Path) -> None:
    ours = get_task("bazaar/vqa", questions=COUNT)
    theirs = get_task(f"vqav2:{folder}")
    assert theirs.metrics == ours.metrics == ("vqa_normalised", "vqa_official")
    assert theirs.max_new_tokens == ours.max_new_tokens
    for one, other in zip(ours.samples(), theirs.samples(), strict=True):
        assert other.id == one.id
        for key in ("question", "prompt", "answers", "question_type", "answer_type"):
            assert other.meta[key] == one.meta[key]
    first, second = next(iter(ours.samples())), next(iter(theirs.samples()))
    assert np.array_equal(np.asarray(first.image.load()), np.asarray(second.image.load()))


def test_scores_are_the_same_on_both_sides(folder: Path) -> None:
    found = []
    for task in (get_task("bazaar/vqa", questions=COUNT), get_task(f"vqav2:{folder}:val")):
        records = [
            SampleRecord(sample.id, prediction=said.output, scores=task.score(sample, said), meta=sample.meta)
            for sample, said in answers(task)
        ]
        found.append((task.summarise(records), task.details(records)))
    assert found[0] == found[1]
    assert 0.2 < found[0][0]["vqa_normalised"].value < 1
    assert found[0][0]["vqa_official"].value < found[0][0]["vqa_normalised"].value  # capitals and full stops
    assert set(found[0][1]["breakdown"]["answer_type"]) == {"yes/no", "number", "other"}
    assert len(found[0][1]["breakdown"]["question_type"]) == 10


def test_the_files_are_the_official_ones(folder: Path) -> None:
    questions = json.loads((folder / "v2_OpenEnded_mscoco_val2014_questions.json").read_text())
    annotations = json.loads((folder / "v2_mscoco_val2014_annotations.json").read_text())
    assert set(questions) == {"info", "task_type", "data_type", "data_subtype", "license", "questions"}
    assert set(annotations) == {"info", "data_type", "data_subtype", "license", "annotations"}
    assert len(questions["questions"]) == len(annotations["annotations"]) == COUNT
    for asked, said in zip(questions["questions"], annotations["annotations"], strict=True):
        assert set(asked) == {"question_id", "image_id", "question"}
        assert set(said) == {"question_id", "image_id", "question_type", "answer_type", "multiple_choice_answer", "answers"}
        assert (asked["question_id"], asked["image_id"]) == (said["question_id"], said["image_id"])
        assert isinstance(asked["question_id"], int)
        assert [one["answer_id"] for one in said["answers"]] == list(range(1, 11))
        assert all(set(one) == {"answer_id", "answer", "answer_confidence"} for one in said["answers"])
        counts = [one["answer"] for one in said["answers"]].count
        assert counts(said["multiple_choice_answer"]) == max(counts(one["answer"]) for one in said["answers"])
        with Image.open(folder / "val2014" / f"COCO_val2014_{asked['image_id']:012d}.png") as picture:
            assert picture.size == (96, 96)


def test_evidence_and_masks_lie_beside(folder: Path) -> None:
    rows = [json.loads(row) for row in (folder / "evidence.jsonl").read_text().splitlines()]
    asked = vqa_split(0, COUNT)
    assert [row["question_id"] for row in rows] == [each.id for each in asked]
    assert [row["answer"] for row in rows] == [each.answer for each in asked]
    without = 0
    for row, each in zip(rows, asked, strict=True):
        mask = evidence_mask(row["evidence"])
        without += mask is None
        assert (row["mask"] is None) == (mask is None)
        if mask is not None:
            assert np.array_equal(np.asarray(Image.open(folder / row["mask"])) > 127, mask)
        assert row["form"] == each.form
    assert 0 < without < COUNT / 4


def test_an_export_that_was_cut_off_goes_on(folder: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, whole: int) -> None:
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        export_vqa(tmp_path / "out", limit=COUNT, progress=stop)
    assert json.loads((tmp_path / "out" / MARK).read_text())["complete"] is False
    old = sorted((tmp_path / "out" / "val2014").iterdir())
    assert len(old) == 5
    before = [path.stat().st_mtime_ns for path in old]
    export_vqa(tmp_path / "out", limit=COUNT)
    assert [path.stat().st_mtime_ns for path in old] == before
    whole = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {path.relative_to(tmp_path / "out"): path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == whole
    assert export_vqa(tmp_path / "out", limit=COUNT, progress=stop) == tmp_path / "out"  # complete: nothing is done
    with pytest.raises(DataError, match="another Bazaar export"):
        export_vqa(tmp_path / "out", limit=COUNT + 1)


def test_the_train_split_in_jpeg(tmp_path: Path) -> None:
    export_vqa(tmp_path / "out", split="train", limit=20, picture="jpg", size=64)
    task = get_task(f"vqav2:{tmp_path / 'out'}", split="train")
    ours = get_task("bazaar/vqa:train", questions=20, size=64)
    for one, other in zip(ours.samples(), task.samples(), strict=True):
        near = np.asarray(one.image.load()).astype(int) - np.asarray(other.image.load())
        assert np.abs(near).mean() < 4  # JPEG of quality 95 on noisy photos


def test_the_command(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["bazaar", "export", "vqa", str(tmp_path / "out"), "--limit", "20"])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "out")
    assert len(get_task(f"vqav2:{tmp_path / 'out'}")) == 20
    wrong = CliRunner().invoke(cli, ["bazaar", "export", "vqa", str(tmp_path / "two"), "--task", "lines"])
    assert wrong.exit_code == 2
    assert "--task is an option of classify" in wrong.output


@pytest.mark.parametrize("options", [{"split": "val"}, {"picture": "webp"}, {"size": 32}, {"limit": 3}, {"seed": -1}])
def test_impossible_exports_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        export_vqa(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
