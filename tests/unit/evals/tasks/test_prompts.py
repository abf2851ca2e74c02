"""The shipped prompts: complete, licensed, of the right classes in the right order."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from evals.tasks.classify import check_templates
from evals.tasks.prompts import PROMPTS, list_prompts, load_prompts
from toolkit.errors import DataError, UsageError

SIZES = {
    "cub200": (200, 1), "dtd": (47, 8), "eurosat": (10, 3), "fashion_mnist": (10, 4), "flowers102": (102, 1), "imagenet": (1000, 80),
    "places365": (365, 2), "sign_digits": (10, 4),
}  # fmt: skip


def test_all_sets_are_there() -> None:
    assert list_prompts() == sorted(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_each_set_is_complete(name: str) -> None:
    found = load_prompts(name)
    assert (len(found.classnames), len(found.templates)) in (SIZES[name], (SIZES[name][0], SIZES[name][1] + 1))
    check_templates(found.templates)
    assert all(text == text.strip() for text in found.classnames)
    assert len(set(found.templates)) == len(found.templates)
    for path, digest in found.hashes.items():
        assert hashlib.sha256((PROMPTS / path).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("name", SIZES)
def test_every_borrowed_part_has_its_notice(name: str) -> None:
    content = json.loads((PROMPTS / "classify" / f"{name}.json").read_text())
    for part in content["sources"].values():
        for source in part:
            assert source["licence"]
            if source["source"] != "written for this project":
                assert len((PROMPTS / source["notice"]).read_text()) > 500


def test_only_known_class_names_come_twice() -> None:
    names = {name: load_prompts(name).classnames for name in SIZES}
    twice = {name: sorted(word for word, count in Counter(words).items() if count > 1) for name, words in names.items()}
    assert {name: words for name, words in twice.items() if words} == {"imagenet": ["missile", "sunglasses"]}


def test_pools_have_a_list_for_every_class() -> None:
    for name in ("cub200", "dtd", "eurosat", "flowers102", "imagenet", "places365"):
        found = load_prompts(name)
        assert found.descriptions is not None
        assert set(found.descriptions) == set(found.classnames)
    assert sum(map(len, load_prompts("eurosat").descriptions.values())) == 25  # type: ignore[union-attr]


def test_a_pool_in_another_order_is_refused(tmp_path: Path) -> None:
    (tmp_path / "classify").mkdir()
    classes = [{"name": "cat"}, {"name": "dog"}]
    file = {"name": "toy", "version": 1, "sources": {}, "descriptions": "pool.json", "classes": classes}
    file["templates"] = {"single": "a {}.", "ensemble": ["a {}."]}
    (tmp_path / "classify/toy.json").write_text(json.dumps(file))
    (tmp_path / "pool.json").write_text(json.dumps({"dog": ["barks"], "cat": ["purrs"]}))
    with pytest.raises(DataError, match="another order"):
        load_prompts("toy", tmp_path)
    (tmp_path / "pool.json").write_text(json.dumps({"cat": "purrs", "dog": ["barks"]}))
    with pytest.raises(DataError, match="must map class names to lists"):
        load_prompts("toy", tmp_path)
    (tmp_path / "pool.json").unlink()
    with pytest.raises(DataError, match="missing"):
        load_prompts("toy", tmp_path)
    (tmp_path / "pool.json").write_text(json.dumps({"Cat": ["purrs"], "Dog": ["barks"]}))
    assert load_prompts("toy", tmp_path).descriptions == {"cat": ("purrs",), "dog": ("barks",)}


@pytest.mark.parametrize(("name", "text"), [("a.json", "{"), ("a.json", '{"name": "a"}'), ("a.yaml", "!!python/object:os.system {}")])
def test_damaged_prompt_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "classify").mkdir()
    (tmp_path / "classify" / name).write_text(text)
    with pytest.raises(DataError, match=r"is damaged|is not a prompt file"):
        load_prompts("a", tmp_path)


def test_unknown_prompts_get_near_matches() -> None:
    with pytest.raises(UsageError) as error:
        load_prompts("euro_sat")
    assert "eurosat" in str(error.value.hint)


def test_prompts_are_data_only() -> None:
    assert not [path for path in PROMPTS.rglob("*") if path.suffix in (".py", ".pyc")]
