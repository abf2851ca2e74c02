"""Writing files so that a reader never meets half of one: the only way in which the project writes results."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from toolkit.config import to_json
from toolkit.errors import DataError, DataNotFound, UsageError
from toolkit.types import JSON

Where = str | os.PathLike[str]


def atomic_write_bytes(path: Where, data: bytes) -> Path:
    """Write ``data`` to ``path``: temporary file in the same folder, fsync, rename. Missing folders are made.

    After a crash at any moment ``path`` holds either its old content or all of the new one.

    Returns: the path.
    Raises: UsageError: if the place cannot be written to (no permission, a file in the way, disk full).
    """
    path = Path(path)
    temporary = path.parent / f".{path.name[:100]}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)  # gone already if the rename happened; also runs on Ctrl-C
        _sync_folder(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return path


def atomic_write_text(path: Where, text: str) -> Path:
    """``atomic_write_bytes`` of UTF-8 text, line ends as they are."""
    return atomic_write_bytes(path, _utf8(text))


def atomic_write_json(path: Where, value: object, *, indent: int | None = 2) -> Path:
    """``atomic_write_bytes`` of strict JSON (NaN and infinity are refused) with a line end after it.

    Raises: ValueError: on NaN or infinity. TypeError: on a value that JSON has no word for.
    """
    return atomic_write_text(path, json.dumps(to_json(value), indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Where) -> JSON:
    """Read one JSON file.

    Raises: DataNotFound: if it is not there. DataError: if it is not UTF-8 JSON.
    """
    return _parse(_read_bytes(Path(path)), str(path))


def read_lines(path: Where) -> list[str]:
    """The lines of a text file that are not blank, without white space around them.

    Raises: DataNotFound: if it is not there. DataError: if it is not UTF-8.
    """
    try:
        text = _read_bytes(Path(path)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file in UTF-8") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def append_jsonl(path: Where, records: Iterable[object], *, sync: bool = False) -> int:
    """Append one strict-JSON line a record; a torn last line, left by a killed writer, is cut off first.

    The lines go out in one write, so that a crash can tear the last of them only. One writer at a time.

    Args:
        sync: fsync before returning, so that the lines also survive a power cut.
    Returns: the number of lines written.
    Raises: UsageError: if the place cannot be written to.
    """
    path = Path(path)
    lines = [json.dumps(to_json(record), ensure_ascii=False, allow_nan=False, separators=(",", ":")) for record in records]
    data = _utf8("".join(line + "\n" for line in lines))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            _cut_torn_line(file.fileno())
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
    except OSError as error:
        raise _cannot_write(path, error) from error
    return len(lines)


def read_jsonl(path: Where) -> Iterator[JSON]:
    """The records of a JSON-lines file, in order. A last line without its line end was torn by a kill and is left out.

    Raises: DataNotFound: if the file is not there. DataError: if any other line is not JSON.
    """
    data = _read_bytes(Path(path))
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        if line.strip():
            yield _parse(line, f"{path}, line {number}")


def _utf8(text: str) -> bytes:
    # File names that are not UTF-8 reach us with lone surrogates. Written as \\udcXX they are valid JSON and come back whole.
    return text.encode("utf-8", "backslashreplace")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataNotFound(f"there is no file {path}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _parse(data: bytes, where: str) -> JSON:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise DataError(f"{where} is not JSON: {error}") from error


def _cut_torn_line(descriptor: int) -> None:
    """Cut the file behind its last line end."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    position = end
    while position > 0:
        start = max(0, position - 65536)
        os.lseek(descriptor, start, os.SEEK_SET)
        newline = os.read(descriptor, position - start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position < end:
        os.ftruncate(descriptor, position)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut. Only POSIX can open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _cannot_write(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot write {path}: {error.strerror or error}", hint="choose another place or free this one")
