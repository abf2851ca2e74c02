"""The table of methods: names lead to classes, and wrong names and options to near matches."""

from __future__ import annotations

import dataclasses

import pytest

from toolkit.errors import UsageError
from toolkit.methods import METHODS, build_method, family_of, list_methods


@pytest.mark.parametrize("name", list_methods())
def test_every_name_builds_a_method_of_that_name(name: str) -> None:
    method = build_method(name)
    assert method.name == name
    assert dataclasses.is_dataclass(method.config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.config.anything = 1


def test_file_name_and_command_line_name_are_one_word() -> None:
    for name, place in METHODS.items():
        assert place.split(":")[0].rsplit(".", 1)[1] == name.replace("-", "_")


def test_every_method_is_of_one_family() -> None:
    assert {name for family in ("classify", "answer") for name in list_methods(family)} == set(METHODS)
    assert (family_of("zero-shot"), family_of("contrastive-attention")) == ("classify", "answer")
    for name in METHODS:
        assert hasattr(build_method(name), "answer") == (family_of(name) == "answer"), "the harness tells them apart by this"
    with pytest.raises(UsageError, match="no method called 'nothing'"):
        family_of("nothing")


def test_near_matches() -> None:
    with pytest.raises(UsageError) as caught:
        build_method("zeroshot")
    assert caught.value.hint == "did you mean 'zero-shot'?"
    with pytest.raises(UsageError) as caught:
        build_method("zero-shot", {"temprature": 1})
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("did you mean 'temperature'")
