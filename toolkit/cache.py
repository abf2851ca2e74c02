"""The one feature store: what a frozen model said about an image or a text, so that it is asked only once.

A SQLite file. Entries are content-addressed (``feature_key``), never change, and carry a checksum; several processes may
read and write at once. Nothing in it is irreplaceable: a damaged file is moved aside and filled anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import sqlite3
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from toolkit.errors import UsageError

SCHEMA = 1
APPLICATION_ID = 0x50465354  # "PFST" in the file header: tells our file from any other SQLite file
CHECK_ON_OPEN_BYTES = 256 * 1024 * 1024
"""Larger files are not scanned on opening, which would take seconds; their entries' checksums still are, on every read."""
BUSY_S = 60.0
_CHUNK = 900  # older SQLite libraries take at most 999 parameters
_BATCH = 2_000  # rows a transaction: long enough to be fast, short enough to let other writers in
_DTYPES: dict[int, np.dtype[Any]] = {4: np.dtype("<f4"), 2: np.dtype("<f2")}
_TABLE = """
CREATE TABLE IF NOT EXISTS features (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, model TEXT NOT NULL, created_s INTEGER NOT NULL, value BLOB NOT NULL
)"""

__all__ = ["FeatureStore", "default_path", "default_store", "feature_key"]

_HINT = "set PERMAFROST_CACHE to a folder on a local disk that you can write to and that has room"
_log = logging.getLogger(__name__)
_inherited: list[sqlite3.Connection] = []  # of a parent process: closing them in a child could disturb the parent's locks


def feature_key(model_fingerprint: str, site: str, content_id: str) -> str:
    """The key of one feature: sha256 (hex) over the schema and the three parts.

    Args:
        model_fingerprint: weights, preprocessing, tokenizer and dtype of the model.
        site: what was read, with its configuration, for example ``"image"`` or ``"patches:grid=7"``.
        content_id: of the image, or sha256 of the text.
    """
    parts = (str(SCHEMA), model_fingerprint, site, content_id)
    return hashlib.sha256("".join(f"{len(part)}:{part}," for part in parts).encode()).hexdigest()


def default_path() -> Path:
    """``$PERMAFROST_CACHE`` (a folder, or a file that ends in .sqlite), else ~/.cache/permafrost/features.sqlite."""
    place = Path(os.environ.get("PERMAFROST_CACHE") or "~/.cache/permafrost").expanduser()
    return place if place.suffix == ".sqlite" else place / "features.sqlite"


def default_store() -> FeatureStore:
    """The store at ``default_path()``. Opened on first use."""
    return FeatureStore(default_path())


class _NotNow(UsageError):
    """The store is there, and just now it cannot be used."""


class FeatureStore:
    """Features by key, in one SQLite file.

    Opened on first use. Safe to use from several threads and processes, to fork and to pickle (only the path travels).
    Writing is best effort: if the disk is full, or the file stays locked for BUSY_S, the log says so once and this object
    writes no more, instead of ending a run or making it wait again and again.

    Raises: UsageError: on first use, if the file cannot be made or opened, or belongs to another program or version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        self._forget()

    def _forget(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._writable = True

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._forget()

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.path)!r})"

    def get_many(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """The stored arrays of those ``keys`` that are known. A damaged entry counts as unknown and is removed."""
        unique = list(dict.fromkeys(keys))
        found: dict[str, np.ndarray] = {}
        damaged: list[int] = []
        with self._use() as connection:
            for start in range(0, len(unique), _CHUNK):
                chunk = unique[start : start + _CHUNK]
                query = f"SELECT id, key, value FROM features WHERE key IN ({','.join('?' * len(chunk))})"
                for number, key, value in connection.execute(query, chunk):
                    array = _unpack(key, value)
                    if array is None:
                        damaged.append(number)
                    else:
                        found[key] = array
        self._remove(damaged)
        return found

    def put_many(self, features: Mapping[str, np.ndarray], *, model: str = "") -> int:
        """Store float32 or float16 arrays of any shape; what is known already stays as it is.

        Arrays with NaN or infinity are left out: a passing fault must not be answered for ever.

        Args:
            model: the model's fingerprint, for ``info`` and ``prune``.
        Returns: the number of new entries.
        Raises: TypeError: for any other dtype.
        """
        now = int(time.time())
        rows = [(key, model, now, _pack(key, array)) for key, array in features.items() if np.isfinite(array).all()]
        added = 0
        for start in range(0, len(rows), _BATCH):
            query = "INSERT OR IGNORE INTO features (key, model, created_s, value) VALUES (?, ?, ?, ?)"
            added += self._write(query, rows[start : start + _BATCH])
        return added

    def info(self) -> dict[str, Any]:
        """``{"path", "exists", "schema", "bytes", "entries", "models": {model: {"entries", "bytes"}}}``; makes no file."""
        exists = self.path.exists()
        result: dict[str, Any] = {"path": str(self.path), "exists": exists, "schema": SCHEMA, "bytes": 0, "entries": 0, "models": {}}
        if not exists:
            return result
        with self._use() as connection:
            query = "SELECT model, COUNT(*), SUM(LENGTH(value)) FROM features GROUP BY model ORDER BY model"
            for model, entries, size in connection.execute(query):
                result["models"][model] = {"entries": entries, "bytes": size}
                result["entries"] += entries
        result["bytes"] = self._file_bytes()
        return result

    def verify(self) -> dict[str, Any]:
        """Check the file's structure and every entry's checksum; damaged entries are removed, to be computed anew.

        Returns: ``{"ok": no damage was found, "entries": checked, "damaged": removed, "structure": "ok" or what is wrong}``.
        """
        if not self.path.exists():
            return {"ok": True, "entries": 0, "damaged": 0, "structure": "ok"}
        entries, damaged, structure = 0, [], "unreadable; see the log"
        with self._use() as connection:
            problems = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
            for number, key, value in connection.execute("SELECT id, key, value FROM features"):
                entries += 1
                if _unpack(key, value) is None:
                    damaged.append(number)
            structure = "; ".join(problems)
        self._remove(damaged)
        return {"ok": structure == "ok" and not damaged, "entries": entries, "damaged": len(damaged), "structure": structure}

    def prune(self, max_bytes: int | None = None, older_than_days: float | None = None, model: str | None = None) -> dict[str, Any]:
        """Remove entries, oldest first, and give the space back to the disk.

        Args:
            max_bytes: the file is at most this large afterwards.
            older_than_days: only (and all) entries stored before that; at least 0.
            model: only entries of this model; not together with ``max_bytes``.
        Returns: ``{"removed", "entries", "bytes_before", "bytes"}``.
        Raises: UsageError: if no limit is given, a limit is negative, or another process keeps the store busy.
        """
        if max_bytes is None and older_than_days is None and model is None:
            raise UsageError("nothing says what to prune", hint="give a size, an age or a model")
        if max_bytes is not None and model is not None:
            raise UsageError("a size counts all models together", hint="prune by size or by model, one after the other")
        if (max_bytes is not None and max_bytes < 0) or (older_than_days is not None and not 0 <= older_than_days < math.inf):
            raise UsageError("a limit for pruning cannot be negative")
        before = self.info()
        if not before["exists"]:
            return {"removed": 0, "entries": 0, "bytes_before": 0, "bytes": 0}
        with self._use() as connection:
            if older_than_days is not None or model is not None:
                latest = time.time() - (older_than_days or 0) * 86_400
                connection.execute("DELETE FROM features WHERE (? IS NULL OR model = ?) AND created_s <= ?", (model, model, latest))
                _shrink(connection)
            if max_bytes is not None:
                _shrink_to(connection, max_bytes)
        after = self.info()
        return {
            "removed": before["entries"] - after["entries"], "entries": after["entries"],
            "bytes_before": before["bytes"], "bytes": after["bytes"],
        }  # fmt: skip

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def _remove(self, numbers: Sequence[int]) -> None:
        if numbers:
            _log.warning("%d damaged entries of %s are removed and will be computed anew", len(numbers), self.path)
            self._write("DELETE FROM features WHERE id = ?", [(number,) for number in numbers])

    def _write(self, query: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run ``query`` for all ``rows`` in one transaction. Returns the number of rows changed, 0 if it cannot be written."""
        changed = 0
        if not self._writable:
            return changed
        try:
            with self._use() as connection:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    before = connection.total_changes
                    connection.executemany(query, rows)
                    connection.execute("COMMIT")
                    changed = connection.total_changes - before
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
        except _NotNow as error:
            _log.warning("%s; from here on nothing is stored, and features are computed anew next time", error)
            self._writable = False
        return changed

    def _file_bytes(self) -> int:
        files = (self.path, Path(f"{self.path}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    @contextlib.contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time. Damage found inside the block ends it and moves the file aside."""
        if self._pid != os.getpid():  # forked: neither the connection nor the lock may be shared with the parent
            if self._connection is not None:
                _inherited.append(self._connection)
            self._forget()
        with self._lock:
            if self._connection is None:
                self._connection = self._open()
            try:
                yield self._connection
            except sqlite3.DatabaseError as error:
                if _is_damage(error):
                    self.close()
                    self._connection = self._open(check=True)
                elif isinstance(error, sqlite3.OperationalError):  # locked for too long, disk full, disk failing
                    raise _NotNow(f"cannot use the feature cache {self.path}: {error}", hint=_HINT) from error
                else:
                    raise

    def _open(self, *, check: bool = False) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # One process at a time makes, checks or replaces the file; a second one then finds the new one.
            with FileLock(f"{self.path}.lock", timeout=BUSY_S):
                try:
                    return self._connect(check)
                except sqlite3.DatabaseError as error:
                    if not _is_damage(error):
                        raise
                    damaged = Path(f"{self.path}.damaged")
                    os.replace(self.path, damaged)
                    for suffix in ("-wal", "-shm"):
                        Path(f"{self.path}{suffix}").unlink(missing_ok=True)
                    reason = " ".join(str(error).split())
                    _log.warning("the feature cache %s was damaged (%s); it was moved to %s and is filled anew", self.path, reason, damaged)
                    return self._connect(check)
        except (OSError, Timeout, sqlite3.Error) as error:
            raise UsageError(f"cannot open the feature cache {self.path}: {error}", hint=_HINT) from error

    def _connect(self, check: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.text_factory = lambda text: text.decode(errors="replace")  # damaged text is for the checksums to find
        try:
            connection.execute("PRAGMA page_size = 8192")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (owner,) = connection.execute("PRAGMA application_id").fetchone()
            (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            if tables and (owner, version) != (APPLICATION_ID, SCHEMA):
                what = "another version's feature cache" if owner == APPLICATION_ID else "another program's database"
                raise UsageError(f"{self.path} is {what}", hint="set PERMAFROST_CACHE to another folder, or delete the file")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            if not tables:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
                connection.execute(_TABLE)
            elif check or self.path.stat().st_size <= CHECK_ON_OPEN_BYTES:
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if verdict != "ok":
                    raise sqlite3.DatabaseError(f"malformed: {verdict}")
            return connection
        except BaseException:
            connection.close()
            raise


def _shrink(connection: sqlite3.Connection) -> int:
    """Give free pages back to the disk. Returns: the bytes of the file once its log is written back."""
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # does nothing while others read; the last one to close does it then
    pages, page_bytes = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(pages * page_bytes)


def _shrink_to(connection: sqlite3.Connection, max_bytes: int) -> None:
    oldest_beyond = """
    DELETE FROM features WHERE id IN (
        SELECT id FROM (SELECT id, SUM(LENGTH(value) + 150) OVER (ORDER BY created_s DESC, id DESC) AS total FROM features)
        WHERE total > ?)"""
    while (size := _shrink(connection)) > max_bytes:
        (payload,) = connection.execute("SELECT SUM(LENGTH(value) + 150) FROM features").fetchone()
        if not payload:  # an empty store still has its few pages
            return
        connection.execute(oldest_beyond, (int(payload * max_bytes / size * 0.98),))


def _is_damage(error: sqlite3.Error) -> bool:
    text = str(error)
    return not isinstance(error, sqlite3.ProgrammingError) and ("malformed" in text or "not a database" in text)


def _pack(key: str, array: np.ndarray) -> bytes:
    """checksum (4) | item size (1) | number of axes (1) | axes (4 each) | little-endian values."""
    dtype = _DTYPES.get(array.dtype.itemsize)
    if array.dtype.kind != "f" or dtype is None:
        raise TypeError(f"features are float32 or float16, not {array.dtype}")
    body = struct.pack(f"<BB{array.ndim}I", dtype.itemsize, array.ndim, *array.shape) + array.astype(dtype, copy=False).tobytes()
    return struct.pack("<I", zlib.crc32(body, zlib.crc32(key.encode()))) + body


def _unpack(key: object, value: object) -> np.ndarray | None:
    """The array, writable, or None if the bytes are not those that were stored under ``key``."""
    if not isinstance(key, str) or not isinstance(value, bytes) or len(value) < 6:
        return None
    if int.from_bytes(value[:4], "little") != zlib.crc32(memoryview(value)[4:], zlib.crc32(key.encode())):
        return None
    axes = value[5]
    shape = struct.unpack_from(f"<{axes}I", value, 6)
    return np.frombuffer(value, dtype=_DTYPES[value[4]], offset=6 + 4 * axes).reshape(shape).copy()
