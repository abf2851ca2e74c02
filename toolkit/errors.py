"""Every error that a user can meet: one sentence, a hint and an exit code.

The command line prints ``error: <message>`` and ``hint: <hint>`` and leaves with ``exit_code``; it never shows a
traceback for these. Anything else that escapes is a bug of ours (exit code 1).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_MISSING = 3
EXIT_FAILED_SAMPLES = 4
EXIT_INTERRUPTED = 130


class PermafrostError(Exception):
    """Base of all errors that are the world's fault and not ours.

    Args:
        message: one sentence that says what happened and what was expected.
        hint: what to do about it, if anything is known.
    """

    exit_code = EXIT_USAGE

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(PermafrostError):
    """The call itself is wrong: an unknown name, an impossible option."""


class ShapeError(PermafrostError):
    """A tensor has another shape than the one that the function needs."""


class DataError(PermafrostError):
    """The data were found, and they are not what the task needs."""


class ImageError(DataError):
    """One image cannot be read: broken, too large, of a format that is not accepted."""


class MissingError(PermafrostError):
    """Data, weights or a dependency are not there."""

    exit_code = EXIT_MISSING


class DataNotFound(MissingError):
    """A file, a folder or a data set is not there."""


class ImageNotFound(ImageError, DataNotFound):
    """The file of one image is not there: a failed image like any other to whoever reads many, missing data to whoever asked for it."""


class ModelNotFound(MissingError):
    """No model of that name, or its weights are not there."""


class UnsafeLoadError(MissingError):
    """The only available weights or code are of a kind that is not loaded by default."""


class ModelConfigError(MissingError):
    """The model exists, and loading it as asked would give another model than the one that was trained."""


class DependencyMissing(MissingError):
    """An optional package is not installed."""


class SiteNotFound(UsageError):
    """No module of that name in this architecture."""


class Refused(UsageError):
    """A method cannot do on this model or call what it promises; it says why and what to do instead, and changes nothing."""


def near_matches(word: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """The known names closest to ``word``, best first.

    >>> near_matches("pocket-clap", ["pocket-clip", "pocket-llava", "hf:"])
    ['pocket-clip', 'pocket-llava']
    """
    return difflib.get_close_matches(word, list(known), n=most, cutoff=0.5)


def unknown_name(kind: str, word: str, known: Iterable[str], error: type[PermafrostError] = UsageError) -> PermafrostError:
    """The error for an unknown ``kind`` (model, task, method ...), with near matches or else all that is known."""
    names = sorted(known)
    near = near_matches(word, names)
    if near:
        hint = "did you mean " + " or ".join(repr(name) for name in near) + "?"
    else:
        hint = f"known {kind}s: " + ", ".join(names)
    return error(f"there is no {kind} called {word!r}", hint=hint)
