"""Class names against the labels of the data: the check that a mismatch cannot pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.tasks.labels import match_by_name, match_in_order, normalise, order_folders, read_names
from evals.tasks.order import natural_key
from toolkit.errors import DataError, DataNotFound

LAND = ["annual crop land", "forest", "lake or sea"]
OTHER = [["AnnualCrop", "Annual Crop Land"], ["Forest"], ["SeaLake", "Sea or Lake"]]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("AnnualCrop", "annual crop"),
        ("001.Black_footed_Albatross", "Black-footed Albatross"),
        ("T - shirt / top", "T-shirt/top"),
        ("/a/apartment_building/outdoor", "apartment_building-outdoor"),
        ("café", "Cafe"),
        ("colt's foot", "Colts Foot"),
    ],
)
def test_spellings_of_one_name(one: str, two: str) -> None:
    assert normalise(one) == normalise(two)


@pytest.mark.parametrize(("one", "two"), [("1", "10"), ("class 1", "class 2"), ("猫", "犬"), ("3.5", "4.5"), ("+", "-")])
def test_other_names_stay_apart(one: str, two: str) -> None:
    assert normalise(one) != normalise(two)


def test_names_and_aliases_in_order_pass() -> None:
    match_in_order(["AnnualCrop", "FOREST", "Sea or Lake"], LAND, OTHER, where="data")
    match_in_order(["annual crop land", "forest", "lake or sea"], LAND, where="data")
    match_in_order(["tench, Tinca tinca", "cock"], ["tench", "rooster"], [["n01440764", "Tinca tinca"], ["cock"]], where="data")


def test_another_order_is_refused_with_the_reason_and_both_lists() -> None:
    with pytest.raises(DataError) as error:
        match_in_order(["Forest", "AnnualCrop", "SeaLake"], LAND, OTHER, where="test.parquet")
    lines = str(error.value).split("\n")
    assert lines[0] == "test.parquet: they are the same classes in another order, and labels would be scored against the wrong names"
    assert [line.split() for line in lines[1:]] == [
        ["#", "data", "prompts"],
        ["0", "Forest", "annual", "crop", "land"],
        ["1", "AnnualCrop", "forest"],
    ]


def test_other_names_are_refused_row_by_row() -> None:
    with pytest.raises(DataError, match=r"1 of 3 class names differ\n +# +data +prompts\n +1 +Wood +forest$"):
        match_in_order(["AnnualCrop", "Wood", "SeaLake"], LAND, OTHER, where="data")


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(DataError, match="the data have 2 classes and the prompts 3") as error:
        match_in_order(["AnnualCrop", "Forest"], LAND, OTHER, where="data")
    assert "(none)" in str(error.value)


def test_at_most_twenty_rows_are_shown() -> None:
    names = [f"class {i}" for i in range(100)]
    with pytest.raises(DataError) as error:
        match_in_order(names[::-1], names, where="data")
    assert str(error.value).count("\n") == 22
    assert str(error.value).endswith("... and 80 more")


@given(st.permutations(range(12)))
def test_only_the_true_order_passes(order: list[int]) -> None:
    names = [f"class {chr(97 + i)}" for i in range(12)]
    shuffled = [names[i] for i in order]
    if shuffled == names:
        match_in_order(shuffled, names, where="data")
    else:
        with pytest.raises(DataError, match="another order"):
            match_in_order(shuffled, names, where="data")


def test_folders_are_known_by_name_whatever_their_order() -> None:
    assert match_by_name(["SeaLake", "AnnualCrop"], LAND, OTHER, where="data") == {"SeaLake": 2, "AnnualCrop": 0}


def test_a_name_goes_before_another_classs_alias() -> None:
    """ImageNet: the lemma ``maillot`` belongs to two classes."""
    assert match_by_name(["maillot", "tights"], ["tights", "maillot"], [["maillot"], ["tank suit"]], where="x") == {
        "maillot": 1,
        "tights": 0,
    }


def test_unknown_and_double_folders_are_refused() -> None:
    with pytest.raises(DataError, match=r"1 of 2 class folders are of no known class:\n  Moon"):
        match_by_name(["Forest", "Moon"], LAND, OTHER, where="data")
    with pytest.raises(DataError, match="'SeaLake' and 'Sea or Lake' are both class 2"):
        match_by_name(["SeaLake", "Sea or Lake"], LAND, OTHER, where="data")


def test_folders_without_names_are_in_natural_order() -> None:
    assert sorted(["c10", "c2", "b", "10", "9"], key=natural_key) == ["9", "10", "b", "c2", "c10"]
    assert order_folders(["a_b", "c"], None, "x") == (["a_b", "c"], ("a b", "c"))


def test_a_list_orders_and_a_mapping_renames() -> None:
    assert order_folders(["cat", "dog"], ["Dog", "Cat"], "x") == (["dog", "cat"], ("Dog", "Cat"))
    assert order_folders(["n1", "n2"], {"n2": "dog", "n1": "cat"}, "x") == (["n2", "n1"], ("dog", "cat"))


def test_numbered_folders_are_places_in_the_list() -> None:
    folders = sorted(str(i) for i in range(12))
    names = [f"digit {i}" for i in range(12)]
    assert order_folders(folders, names, "x") == ([str(i) for i in range(12)], tuple(names))


@pytest.mark.parametrize("names", [["cat", "bird"], ["cat"], ["cat", "dog", "bird"], {"cat": "a"}, {"cat": "a", "dog": "b", "bird": "c"}])
def test_names_of_other_folders_are_refused(names: list[str] | dict[str, str]) -> None:
    with pytest.raises(DataError, match="x: "):
        order_folders(["cat", "dog"], names, "x")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", '["cat", "dog"]', ["cat", "dog"]),
        ("a.json", '{"n1": "cat"}', {"n1": "cat"}),
        ("a.yaml", "- cat\n- dog\n", ["cat", "dog"]),
        ("a.txt", "cat\n\n dog \n", ["cat", "dog"]),
    ],
)
def test_files_of_names(tmp_path: Path, name: str, text: str, expected: object) -> None:
    (tmp_path / name).write_text(text)
    assert read_names(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "[", "not valid JSON"),
        ("a.yaml", "[", "not valid YAML"),
        ("a.yaml", "!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("a.json", '["cat", "cat"]', "name a class twice: 'cat'"),
        ("a.json", "[]", "must be a list of names"),
        ("a.json", '"cat"', "must be a list of names"),
        ("a.json", "[1, 2]", "must be a list of names"),
        ("a.json", "7", "must be a list of names"),
        ("a.json", "\ud800", "cannot read"),
    ],
)
def test_damaged_files_of_names(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=message):
        read_names(tmp_path / name)


def test_a_missing_file_of_names(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound):
        read_names(tmp_path / "none.json")
