"""The table of methods: names lead to classes, and wrong names and options to near matches."""

from __future__ import annotations

import dataclasses

import pytest

from toolkit.errors import UsageError
from toolkit.methods import METHODS, build_method, list_methods


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


def test_near_matches() -> None:
    with pytest.raises(UsageError) as caught:
        build_method("zeroshot")
    assert caught.value.hint == "did you mean 'zero-shot'?"
    with pytest.raises(UsageError) as caught:
        build_method("zero-shot", {"temprature": 1})
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("did you mean 'temperature'")
