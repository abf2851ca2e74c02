from __future__ import annotations

import enum
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.config import build_config, fingerprint, parse_options, to_json
from toolkit.errors import UsageError


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Config:
    k: int = 5
    where: Path = Path("a/b")
    colour: Colour = Colour.RED
    names: frozenset[str] = frozenset({"z", "a"})


def test_to_json_of_all_that_configurations_hold() -> None:
    assert to_json(Config()) == {"k": 5, "where": "a/b", "colour": "red", "names": ["a", "z"]}
    with pytest.raises(TypeError, match="object is not JSON"):
        to_json(object())


def test_fingerprint_is_the_same_in_another_process() -> None:
    code = "from toolkit.config import fingerprint; print(fingerprint({'b': {3, 1, 2}, 'a': 0.1}, 'ü'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert other.stdout.strip() == fingerprint({"a": 0.1, "b": {1, 2, 3}}, "ü")


@given(st.lists(st.text()), st.lists(st.text()))
def test_fingerprint_tells_different_parts_apart(left: list[str], right: list[str]) -> None:
    assert (fingerprint(*left) == fingerprint(*right)) == (left == right)


def test_options_are_json_where_they_parse() -> None:
    given_options = ("k=3", "rate=1e-2", "flag=true", "names=[1, 2]", "w-cls=loo", "path=a=b", "empty=")
    expected = {"k": 3, "rate": 0.01, "flag": True, "names": [1, 2], "w_cls": "loo", "path": "a=b", "empty": ""}
    assert parse_options(given_options) == expected


@pytest.mark.parametrize("pairs", [["k"], ["=3"], ["k=1", "k=2"], ["a-b=1", "a_b=2"]])
def test_options_that_make_no_sense_are_refused(pairs: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_options(pairs)


def test_build_config_names_near_options() -> None:
    assert build_config(Config, {"k": 7}).k == 7
    with pytest.raises(UsageError) as caught:
        build_config(Config, {"color": "red"})
    assert caught.value.hint == "did you mean 'colour'?"
