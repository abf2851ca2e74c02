"""Pools: order, duplicates, owners, and one sentence for everything that can be wrong with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import DataError, DataNotFound, UsageError
from toolkit.methods.descriptions.pool import load_pool

NAMES = ("cat", "dog")


def test_first_appearance_in_class_order() -> None:
    pool = load_pool({"dog": ["tail", "bark", "tail"], "cat": ["whiskers", "tail"]}, NAMES)
    assert pool.texts == ("whiskers", "tail", "bark")
    assert pool.owners == ((0, 1), (1, 2))
    assert pool.by_class() == {"cat": ("whiskers", "tail"), "dog": ("tail", "bark")}
    assert [pool.texts[index] for index in pool.tie_order()] == ["bark", "tail", "whiskers"]
    assert not pool.flat


def test_published_order_sorts_each_list() -> None:
    pool = load_pool({"dog": ["tail", "bark"], "cat": ["whiskers", "claws"]}, NAMES, published_order=True)
    assert pool.texts == ("claws", "whiskers", "bark", "tail")


@pytest.mark.parametrize(
    ("dedupe", "texts", "owners"),
    [
        ("normalised", ("a b", "c"), ((0, 1), (0,))),
        ("exact", ("a  b", "a b", "c", "a b "), ((0, 1, 2), (3,))),
        ("none", ("a  b", "a b", "c", "a b "), ((0, 1, 2), (3,))),
    ],
)
def test_duplicates(dedupe: str, texts: tuple[str, ...], owners: tuple[tuple[int, ...], ...]) -> None:
    pool = load_pool({"cat": ["a  b", "a b", "c"], "dog": ["a b "]}, NAMES, dedupe)
    assert (pool.texts, pool.owners) == (texts, owners)


def test_without_deduplication_every_text_counts() -> None:
    pool = load_pool({"cat": ["a", "a"], "dog": ["a"]}, NAMES, "none")
    assert pool.texts == ("a", "a", "a")
    assert pool.owners == ((0, 1), (2,))


def test_flat_list_and_file(tmp_path: Path) -> None:
    path = tmp_path / "pool.json"
    path.write_text(json.dumps(["x", "y", "x"]))
    pool = load_pool(path, NAMES)
    assert pool.texts == ("x", "y")
    assert pool.flat
    assert pool.own_lists is None


def test_empty_list_is_a_warning_and_can_be_filled() -> None:
    given: dict[str, list[str]] = {"cat": [], "dog": ["tail"]}
    assert "'cat' has no descriptions of its own: its fallback is the mean" in load_pool(given, NAMES).warnings[0]
    filled = load_pool(given, NAMES, other={"dog": ["x"], "cat": ["fur"]})
    assert filled.by_class() == {"cat": ("fur",), "dog": ("tail",)}
    assert "takes those of the other pool" in filled.warnings[0]


def test_dropping_texts_keeps_owners_right() -> None:
    pool = load_pool({"cat": ["a", "b", "c"], "dog": ["c", "b"]}, NAMES).without({"a", "b"})
    assert (pool.texts, pool.owners) == (("c",), ((0,), (0,)))
    with pytest.raises(DataError, match="no descriptions at all"):
        pool.without({"c"})


@pytest.mark.parametrize(
    ("source", "sentence", "hint"),
    [
        ({"cat": ["a"]}, "has no descriptions for the class 'dog'", "spelled"),
        ({"cat": ["a"], "dogs": ["b"]}, "has no descriptions for the class 'dog'", "it has 'dogs'"),
        ({"cat": ["a"], "dog": ["b"], "cats": ["b"]}, "describes the class 'cats'", "'cat', which has its own"),
        ({"cat": ["a"], "dog": ["b"], "zebra": [], "yak": []}, "'zebra' and 1 more", "take it out"),
        ({"cat": "a", "dog": ["b"]}, "class 'cat' of the pool is a str", None),
        ({"cat": ["a", 3], "dog": ["b"]}, "text 1 of class 'cat' of the pool is a int", None),
        ({"cat": ["a", "  "], "dog": ["b"]}, "text 1 of class 'cat' of the pool is empty", None),
        ({"cat": [], "dog": []}, "no descriptions at all", None),
        ([], "no descriptions at all", None),
        ([["a"]], "text 0 of the pool is a list", None),
    ],
)
def test_what_is_wrong_in_one_sentence(source: Any, sentence: str, hint: str | None) -> None:
    with pytest.raises(DataError) as caught:
        load_pool(source, NAMES)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    if hint:
        assert hint in (caught.value.hint or "")


def test_files_that_are_no_pools(tmp_path: Path) -> None:
    path = tmp_path / "pool.json"
    with pytest.raises(DataNotFound, match=r"pool\.json"):
        load_pool(path, NAMES)
    path.write_text('{"cat": ["a"],')
    with pytest.raises(DataError, match="is not JSON"):
        load_pool(path, NAMES)
    path.write_text("3")
    with pytest.raises(DataError, match="holds a int"):
        load_pool(path, NAMES)


def test_class_names_must_differ() -> None:
    with pytest.raises(DataError, match="two classes are called 'cat'"):
        load_pool({"cat": ["a"]}, ("cat", "cat"))
    with pytest.raises(UsageError, match="dedupe"):
        load_pool(["a"], NAMES, "fuzzy")
    with pytest.raises(DataError, match="flat list"):
        load_pool({"cat": [], "dog": ["a"]}, NAMES, other=["x"])
