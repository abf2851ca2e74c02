"""Reading the files of VQA sets: large JSON piece by piece, fields with errors that say where, images that stay under the data folder."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from toolkit.errors import DataError, DataNotFound
from toolkit.images import FileImage, safe_join

CHUNK = 1 << 20
DEPTHS = ("", "*/", "*/*/")  # where a file is looked for below the data folder
TRIED = 50  # first images by which the image folder is recognised
_DECODER = json.JSONDecoder()


def find_file(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of these files in ``root`` or at most two folders below. Raises: DataNotFound: if none is there."""
    if not root.is_dir():
        raise DataNotFound(f"there is no folder {root}", hint=f"give the folder that holds {names[0]}")
    for name in names:
        for depth in DEPTHS:
            found = next((path for path in sorted(root.glob(depth + name)) if path.is_file()), None)
            if found is not None:
                return found
    raise DataNotFound(f"{root} holds no {what}: there is no {' and no '.join(names)} in it", hint="unpack the official download there")


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stream_rows(path: Path, key: str | None) -> Iterator[tuple[str, Any]]:
    """(where, row) of the list under ``key`` of a JSON object, or of the list that the file is (``key`` None), without reading all of it.

    Raises: DataNotFound: if there is no such file. DataError: if it is not JSON, or holds no such list.
    """
    where = f"{path}, "
    with _Pieces(path) as pieces:
        first = pieces.peek()
        if key is None:
            if first != "[":
                raise DataError(f"{path} must be a list of questions")
            for index, row in enumerate(pieces.elements()):
                yield f"{where}[{index}]", row
            return
        if first != "{":
            raise DataError(f"{path} must be an object with a list {key!r}")
        for name in pieces.names():
            if name == key:
                if pieces.peek() != "[":
                    raise DataError(f"{path}: {key!r} must be a list")
                for index, row in enumerate(pieces.elements()):
                    yield f"{where}{key}[{index}]", row
                return
            pieces.value()
    raise DataError(f"{path} has no list {key!r}")


def stream_members(path: Path) -> Iterator[tuple[str, str, Any]]:
    """(where, name, value) of each member of the JSON object that the file is. Raises: as ``stream_rows``."""
    with _Pieces(path) as pieces:
        if pieces.peek() != "{":
            raise DataError(f"{path} must be an object of questions by id")
        for name in pieces.names():
            yield f"{path}, {name!r}", name, pieces.value()


class _Pieces:
    """A JSON file of which a window is in memory. A value that the window cuts is decoded again after the window has doubled."""

    def __init__(self, path: Path) -> None:
        self.path, self.text, self.place, self.ended = path, "", 0, False
        self._file: IO[str] | None = None

    def __enter__(self) -> _Pieces:
        try:
            self._file = open(self.path, encoding="utf-8-sig")
        except FileNotFoundError as error:
            raise DataNotFound(f"there is no file {self.path}") from error
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror or error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def fill(self) -> None:
        """Read on: at least as much as is waiting."""
        assert self._file is not None
        rest = self.text[self.place :]
        try:
            more = self._file.read(max(CHUNK, len(rest)))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path} is not UTF-8 JSON: {error}") from error
        self.text, self.place, self.ended = rest + more, 0, not more

    def peek(self) -> str:
        """The next character that is no white space, "" at the end."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in " \t\r\n":
                self.place += 1
            if self.place < len(self.text) or self.ended:
                return self.text[self.place : self.place + 1]
            self.fill()

    def take(self, wanted: str) -> str:
        found = self.peek()
        if not found or found not in wanted:
            expected = " or ".join(repr(sign) for sign in wanted)
            raise DataError(f"{self.path} is not JSON: expected {expected}, found {found or 'the end of the file'!r}")
        self.place += 1
        return found

    def value(self) -> Any:
        """Decode the next value."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.place)
                if end + 2 < len(self.text) or self.ended:  # a number may go on behind the window, by "." or "e+" and more
                    self.place = end
                    return value
            except (ValueError, RecursionError) as error:
                if self.ended or isinstance(error, RecursionError):
                    raise DataError(f"{self.path} is not JSON: {error}", hint="download it again") from error
            self.fill()

    def elements(self) -> Iterator[Any]:
        """The values of the list that begins here."""
        self.take("[")
        if self.peek() == "]":
            self.place += 1
            return
        while True:
            yield self.value()
            if self.take(",]") == "]":
                return

    def names(self) -> Iterator[str]:
        """The names of the object that begins here; the value of each has to be taken before the next."""
        self.take("{")
        if self.peek() == "}":
            self.place += 1
            return
        while True:
            if self.peek() != '"':
                raise DataError(f"{self.path} is not JSON: a name in quotes was expected")
            yield str(self.value_name())
            if self.take(",}") == "}":
                return

    def value_name(self) -> Any:
        name = self.value()
        self.take(":")
        return name


@dataclass(frozen=True)
class Row:
    """One entry of a file and where it stands; what is missing or of another type is an error that names file, index and field."""

    where: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, where: str, value: Any) -> Row:
        if not isinstance(value, dict):
            raise DataError(f"{where} must be an object, not {_short(value)}")
        return cls(where, value)

    def error(self, field: str, wanted: str) -> DataError:
        if field not in self.values:
            return DataError(f"{self.where}: the field {field!r} is missing")
        return DataError(f"{self.where}: the field {field!r} must be {wanted}, not {_short(self.values[field])}")

    def text(self, field: str, *, empty: bool = False) -> str:
        value = self.values.get(field)
        if not isinstance(value, str) or not (empty or value.strip()):
            raise self.error(field, "a text")
        return value

    def optional_text(self, field: str) -> str | None:
        return None if self.values.get(field) is None else self.text(field, empty=True)

    def identity(self, field: str) -> str:
        """A number or a text, as text."""
        value = self.values.get(field)
        if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "":
            raise self.error(field, "a number or a text")
        return str(value)

    def number(self, field: str) -> int:
        value = self.values.get(field)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(field, "a whole number")
        return value

    def member(self, field: str) -> Mapping[str, Any]:
        value = self.values.get(field)
        if not isinstance(value, dict):
            raise self.error(field, "an object")
        return value

    def texts(self, field: str) -> list[str]:
        value = self.values.get(field)
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise self.error(field, "a list of texts")
        return value

    def answers(self, field: str = "answers", count: int | None = None) -> list[str]:
        """Reference answers, each a text or ``{"answer": text}``; empty ones are kept."""
        value = self.values.get(field)
        if not isinstance(value, list) or not value:
            raise self.error(field, "a list of answers")
        found = []
        for index, entry in enumerate(value):
            answer = entry.get("answer") if isinstance(entry, dict) else entry
            if not isinstance(answer, str):
                raise DataError(f"{self.where}: the field '{field}[{index}]' must be a text or hold an 'answer', not {_short(entry)}")
            found.append(sys.intern(answer))
        if count is not None and len(found) != count:
            raise DataError(f"{self.where}: the field {field!r} must hold {count} answers, not {len(found)}")
        return found

    def rest(self, known: Iterable[str]) -> dict[str, Any]:
        """The fields that are not known; they are kept and mean nothing."""
        left = {name: value for name, value in self.values.items() if name not in known}
        return {"extra": left} if left else {}


def check_unique(seen: dict[str, str], name: str, where: str, field: str) -> None:
    """Note an id and where it stands. Raises: DataError: if it was there before."""
    if name in seen:
        raise DataError(f"{where}: the field {field!r} holds {name!r}, which was there before, at {seen[name].rpartition(', ')[2]}")
    seen[name] = where


def images_under(
    folders: Sequence[Path], spellings: Sequence[Callable[[str], str]], wanted: Sequence[tuple[str, str]], what: str
) -> tuple[dict[str, FileImage], Path]:
    """Image name -> image, in the first folder that holds one of the first images, and that folder.

    Args:
        spellings: how an image of that name may be called below a folder, the official way first.
        wanted: (where it is asked for, image name); names may repeat.
    Raises: DataNotFound: if no folder holds any of the first images. DataError: if a path leads out of its folder.
    """
    first = list(dict.fromkeys(wanted))[:TRIED]
    root, spell = None, spellings[0]
    for folder in folders:
        for spelling in spellings if folder.is_dir() else ():
            if any(_under(folder, spelling(name), where).is_file() for where, name in first):
                root, spell = folder, spelling
                break
        if root is not None:
            break
    if root is None:
        looked = ", ".join(str(folder) for folder in folders[:4]) + (" ..." if len(folders) > 4 else "")
        raise DataNotFound(
            f"the {what} are not there: there is no {spellings[0](first[0][1])} in {looked}",
            hint="unpack them there, or name their folder: --task-option images=DIR",
        )
    images: dict[str, FileImage] = {}
    for where, name in wanted:
        if name not in images:
            images[name] = FileImage(_under(root, spell(name), where))
    return images, root


def _under(folder: Path, name: str, where: str) -> Path:
    try:
        return safe_join(folder, name)
    except DataError as error:
        raise DataError(f"{where}: {error}", hint=error.hint) from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
