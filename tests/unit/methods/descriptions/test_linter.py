"""The pool linter: the counts that were published for public pools, one planted hit a rule, and what cleaning leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from toolkit.errors import DataError
from toolkit.methods.descriptions.linter import RULES, clean, lint

SHIPPED = Path(__file__).resolve().parents[4] / "prompts" / "descriptions" / "waffleclip"
COLUMNS = ("L1", "L2", "L3", "L5", "L6", "L7", "L8_words", "L9_non_ascii")
COUNTS = {
    # classes, slots, unique, empty, then COLUMNS
    "imagenet": (1000, 5800, 4229, 0, 73, 414, 254, 0, 36, 838, 1, 0),
    "cub200": (200, 1312, 563, 0, 0, 89, 0, 0, 3, 3, 1, 0),
    "eurosat": (10, 25, 25, 0, 0, 0, 0, 0, 0, 6, 0, 0),
    "places365": (365, 2108, 1806, 1, 40, 252, 148, 0, 18, 323, 0, 1),
    "dtd": (47, 193, 173, 0, 3, 3, 12, 0, 1, 47, 0, 0),
    "flowers102": (102, 626, 578, 0, 0, 34, 0, 23, 10, 14, 0, 2),
}


def shipped(name: str) -> dict[str, list[str]]:
    return json.loads((SHIPPED / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", COUNTS)
def test_the_counts_of_the_public_pools(name: str) -> None:
    found = lint(shipped(name))
    assert (found.classes, found.slots, found.unique, found.empty, *(found.counts[rule] for rule in COLUMNS)) == COUNTS[name]
    assert found.counts["L4_exact"] == found.slots - found.unique


def test_the_published_examples_are_found() -> None:
    by_class = {(hit.cls, hit.text): hit.rule for hit in lint(shipped("imagenet")).hits if hit.rule == "L1"}
    assert ("ambulance", 'the word "ambulance" written on the side') in by_class
    assert ("beaker", "a beaker tong") in by_class


@pytest.mark.parametrize("name", COUNTS)
def test_cleaning_the_public_pools_leaves_no_leak_and_nothing_to_fix(name: str) -> None:
    pool = shipped(name)
    done = clean(pool)
    after = lint(done.pool)
    assert after.leaks == ()
    assert [after.counts[rule] for rule in ("L1", "L3", "L5", "L6", "L8", "L9")] == [0] * 6
    assert list(done.pool) == list(pool)
    kept = sum(map(len, done.pool.values()))
    dropped = [hit for hit in done.removed if hit.rule != "L5" or not (hit.text or "").strip()]
    assert kept + len(dropped) == sum(map(len, pool.values()))


PLANTED = {
    "teacup": ["a small handle", "a teacup on a saucer", "a  thin rim", "for a sour taste", "a round opening"],
    "red lamp": ["glows in red", "stands next to a teacup", "usually has a shade", "A small handle!"],
    "chair": ["four legs and " + "a very " * 20 + "long back", "a seat made of caf\u00e9 cloth"],
    "bench": [],
}


def test_one_planted_hit_a_rule() -> None:
    found = lint(PLANTED, ["teacup", "red lamp", "chair", "bench"])
    where = {hit.rule: (hit.cls, hit.text) for hit in found.hits}
    assert where["L1"] == ("teacup", "a teacup on a saucer")
    assert where["L3"] == ("red lamp", "stands next to a teacup")
    assert where["L4"] == (None, "A small handle!")
    assert where["L5"] == (None, "a  thin rim")
    assert where["L6"] == (None, "for a sour taste")
    assert where["L7"] == (None, "usually has a shade")
    assert where["L8"][1].startswith("four legs")
    assert where["L9"] == (None, "a seat made of caf\u00e9 cloth")
    assert where["L10"] == ("bench", None)
    assert found.leaks == ("a teacup on a saucer", "stands next to a teacup")


def test_a_short_word_of_a_name_is_no_hit_and_a_stop_word_neither() -> None:
    pool = {"red lamp": ["glows in red", "a lamp shade"], "blue lamp": ["blue glass"]}
    found = [(hit.cls, hit.text) for hit in lint(pool).hits if hit.rule == "L2"]
    assert found == [("red lamp", "a lamp shade"), ("blue lamp", "blue glass")]
    assert [hit.text for hit in lint(pool, stop=["blue", "lamp"]).hits if hit.rule == "L2"] == []


def test_names_are_found_as_whole_words_in_a_row() -> None:
    pool = {"hot dog": ["a dog that is hot", "hot dogs", "a Hot-Dog."], "cat": ["a category of pets"]}
    assert [(hit.cls, hit.text) for hit in lint(pool).hits if hit.rule == "L1"] == [("hot dog", "a Hot-Dog.")]


def test_whole_words_only_for_non_visual_and_hedged() -> None:
    texts = ["tasteful shapes", "songbird", "dismay", "used forks", "a sweet SCENT", "it weighs a lot", "native to Peru", "can be red"]
    found = lint({"a class": texts})
    assert [hit.text for hit in found.hits if hit.rule == "L6"] == ["a sweet SCENT", "it weighs a lot", "native to Peru"]
    assert [hit.text for hit in found.hits if hit.rule == "L7"] == ["can be red"]


def test_other_classes_other_order_and_near_names() -> None:
    found = lint({"Sea_Lake": ["water"], "forrest": ["trees"], "river": ["a winding band"]}, ["river", "forest", "sea lake"])
    details = [(hit.cls, hit.detail) for hit in found.hits if hit.rule == "L10"]
    assert details[:2] == [("forrest", "not a class; did you mean 'forest'?"), ("forest", "missing from the pool")]
    assert details[2][1].startswith("the classes come in another order")
    done = clean({"Sea_Lake": ["water"], "forrest": ["trees"], "river": ["a winding band"]}, ["river", "forest", "sea lake"])
    assert done.pool == {"river": ["a winding band"], "forest": [], "sea lake": ["water"]}
    assert [(hit.rule, hit.cls) for hit in done.removed] == [("L10", "forrest")]


def test_cleaning_the_planted_pool() -> None:
    done = clean(PLANTED)
    after = lint(done.pool)
    assert {hit.rule for hit in after.hits} <= {"L4", "L7", "L10"}
    assert done.pool["teacup"] == ["a small handle", "a thin rim", "a round opening"]
    assert done.pool["red lamp"] == ["glows in red", "usually has a shade", "A small handle!"]
    assert done.pool["chair"] == []
    assert clean(done.pool).pool == done.pool
    assert PLANTED["teacup"][2] == "a  thin rim"  # the input is left alone


def test_a_text_of_many_classes_and_a_flat_list() -> None:
    pool = {f"class {i}": ["a thing", f"text {i}"] for i in range(11)}
    assert [hit.detail for hit in lint(pool).hits if hit.rule == "L11"] == ["given to 11 of 11 classes"]
    flat = lint(["a handle", "a teacup"], ["teacup"])
    assert (flat.slots, flat.leaks) == (2, ("a teacup",))


def test_tokens_and_near_duplicates_come_from_a_model() -> None:
    texts = ["short", "rather long", "nearly short"]
    unit = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]]), dim=-1)
    found = lint({"c": texts}, count_tokens=lambda given: [78 if text == "rather long" else 4 for text in given], encode=lambda _: unit)
    assert [(hit.level, hit.text) for hit in found.hits if hit.rule == "L8"] == [("error", "rather long")]
    assert [hit.text for hit in found.hits if hit.rule == "L4"] == ["nearly short"]
    assert found.counts["L8_tokens"] == 1


@pytest.mark.parametrize("bad", [{}, {"a": "text"}, {"a": [1]}, [1, 2], "text", {"a": None}])
def test_what_is_no_pool_is_one_sentence(bad: object) -> None:
    with pytest.raises(DataError, match=r"a pool maps|not a list of strings"):
        lint(bad)  # type: ignore[arg-type]


def test_every_rule_has_a_count() -> None:
    assert set(RULES) <= set(lint({"a": ["b"]}).counts)
    assert lint({"a thing": ["bright and round"]}).clean
