"""Support images: drawn by seed from another split, the same in every process, and never the tested ones unnoticed."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evals.tasks import get_task
from evals.tasks.support import draw, overlap, support_facts
from tests.unit.test_cli_eval import call
from toolkit.errors import DataError, DataNotFound, UsageError
from toolkit.images import ArrayImage
from toolkit.types import Sample


def pictures(root: Path, counts: dict[str, int], seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(root / name / f"{index}.png")
    return root


@pytest.fixture
def split(tmp_path: Path) -> Path:
    pictures(tmp_path / "train", {"cat": 6, "dog": 3}, seed=1)
    return pictures(tmp_path / "test", {"cat": 2, "dog": 2})


def of(*labels: int) -> list[Sample]:
    return [Sample(f"s{i}", ArrayImage(np.full((2, 2, 3), i, np.uint8), name=str(i)), label) for i, label in enumerate(labels)]


def test_draws_are_balanced_nested_and_seeded() -> None:
    samples = of(*[0, 1, 2] * 20)
    few, many = draw(samples, 3, 2, 5), draw(samples, 3, 7, 5)
    assert [sum(s.label == c for s in many) for c in range(3)] == [7, 7, 7]
    assert {s.id for s in few} < {s.id for s in many}
    assert [s.id for s in draw(samples, 3, 2, 5)] == [s.id for s in few]
    assert [s.id for s in draw(samples, 3, 2, 6)] != [s.id for s in few]
    assert [int(s.id[1:]) for s in many] == sorted(int(s.id[1:]) for s in many)


def test_one_class_does_not_move_the_draw_of_another() -> None:
    with_more = draw(of(*[0] * 10, *[1] * 30), 2, 4, 0)
    alone = draw(of(*[0] * 10, *[1] * 3), 2, 4, 0)
    assert [s.id for s in with_more if s.label == 0] == [s.id for s in alone if s.label == 0]
    assert sum(s.label == 1 for s in alone) == 3
    assert len(draw(of(0, 1, 1), 2, None, 0)) == 3


@pytest.mark.parametrize("shots", [0, -1, 2.5, True])
def test_impossible_shots(shots: object) -> None:
    with pytest.raises(UsageError):
        draw(of(0, 1), 2, shots, 0)  # type: ignore[arg-type]


def test_folders_beside_each_other(split: Path, tmp_path: Path) -> None:
    task = get_task(f"folder:{split}")
    found = task.support(2, 0)
    assert [sample.label for sample in found] == [0, 0, 1, 1]
    assert all("train" in sample.image.name for sample in found if sample.image)
    assert len(task.support()) == 9
    assert len(task.support(split=f"folder:{tmp_path / 'train'}")) == 9
    with pytest.raises(DataNotFound, match="nothing"):
        task.support(1, 0, "nothing")
    with pytest.raises(DataError, match="those are tested"):
        task.support(1, 0, f"folder:{split}")


def test_other_folders_are_matched_by_name(tmp_path: Path) -> None:
    task = get_task(f"folder:{pictures(tmp_path / 'shown', {'cat': 1, 'dog': 1, 'emu': 1})}")
    found = task.support(split=f"folder:{pictures(tmp_path / 'other', {'Dog': 2, 'emu': 1}, seed=3)}")
    assert [sample.label for sample in found] == [1, 1, 2]
    with pytest.raises(DataError, match="no known class"):
        task.support(split=f"folder:{pictures(tmp_path / 'odd', {'cow': 1, 'dog': 1})}")
    with pytest.raises(DataNotFound, match="no images to learn from"):
        task.support(1)


def test_bazaar_support_is_never_tested() -> None:
    for name in ("bazaar/category", "bazaar/lines", "bazaar/lines-heldout"):
        task = get_task(name)
        found = task.support(3, 1)
        assert sorted({s.label for s in found}) == list(range(len(task.classnames)))
        assert len(found) == 3 * len(task.classnames)
        assert not overlap(found, task.items)


def test_named_sets_of_the_shared_folder(shared_data: Path) -> None:
    for name, most in (("fashion_mnist", 30), ("sign_digits", 40)):
        task = get_task(name, data=shared_data / name)
        assert len(task.support()) == most * 10
        found = task.support(4, 0)
        assert [sum(s.label == c for s in found) for c in range(10)] == [4] * 10
        assert not overlap(found, task.items)
    with pytest.raises(UsageError, match="split of sign_digits"):
        task.support(4, 0, "trian")


def test_facts_and_warnings(caplog: pytest.LogCaptureFixture) -> None:
    test = of(0, 1)
    support = [*of(0, 1, 1)[1:], Sample("gone", None, 0)]
    with caplog.at_level(logging.WARNING):
        facts = support_facts(support, test, {"shots": 2, "split": None, "draw_seed": 0}, 2)
    assert (facts["n"], facts["per_class"], facts["overlap"]) == (3, [1, 2], 1)
    assert "also tested, the first is s1" in caplog.text
    assert "1 classes have fewer than 2" in caplog.text


def test_the_command_line_records_the_support(split: Path, tiny_model: Path, tmp_path: Path) -> None:
    def run(out: str, *more: str) -> tuple[int, str]:
        done = call("eval", "-t", f"folder:{split}", "-m", f"local:{tiny_model}", "--output", tmp_path / out, "--no-report", *more)
        return done.exit_code, done.stderr

    assert run("a", "--shots", "2", "--draw-seed", "1") == (0, "")
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["support"] | {"fingerprint": 0} == {
        "shots": 2, "split": None, "draw_seed": 1, "n": 4, "per_class": [2, 2], "fingerprint": 0, "overlap": 0,
    }  # fmt: skip
    code, said = run("a", "--shots", "3")
    assert (code, "differs in support" in said) == (2, True)
    assert run("b", "--shots", "2", "--support", "none")[0] == 2
    assert run("c")[0] == 0
    assert json.loads((tmp_path / "c" / "manifest.json").read_text())["support"] is None
