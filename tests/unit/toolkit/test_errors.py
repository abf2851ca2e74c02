from __future__ import annotations

import inspect

import pytest

from toolkit import errors


def test_every_error_is_a_sentence_with_a_hint_and_an_exit_code() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.PermafrostError)]
    assert len(kinds) >= 12
    for kind in kinds:
        error = kind("it is cold", hint="put on a coat")
        assert (str(error), error.hint) == ("it is cold", "put on a coat")
        assert error.exit_code in (errors.EXIT_USAGE, errors.EXIT_MISSING)


def test_a_missing_image_is_a_failed_image_and_missing_data() -> None:
    error = errors.ImageNotFound("no file")
    assert isinstance(error, errors.ImageError)
    assert isinstance(error, errors.DataNotFound)
    assert error.exit_code == errors.EXIT_MISSING
    assert errors.ImageError("broken").exit_code == errors.EXIT_USAGE


@pytest.mark.parametrize(
    ("word", "hint"),
    [("eurosta", "did you mean 'eurosat'?"), ("qqqq", "known tasks: bazaar/lines, eurosat")],
)
def test_unknown_names_get_near_matches_or_all_names(word: str, hint: str) -> None:
    error = errors.unknown_name("task", word, {"eurosat", "bazaar/lines"}, errors.ModelNotFound)
    assert isinstance(error, errors.ModelNotFound)
    assert (str(error), error.hint) == (f"there is no task called {word!r}", hint)
