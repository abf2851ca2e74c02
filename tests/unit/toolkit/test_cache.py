from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit import cache
from toolkit.cache import FeatureStore, default_store, feature_key
from toolkit.errors import UsageError


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "cache" / "features.sqlite")


def vectors(count: int, width: int = 512, seed: int = 0) -> dict[str, np.ndarray]:
    rows = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return {feature_key("model", "image", str(index)): row for index, row in enumerate(rows)}


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=2, max_size=2, unique=True))
def test_different_parts_give_different_keys(parts: list[tuple[str, str, str]]) -> None:
    assert feature_key(*parts[0]) != feature_key(*parts[1])
    assert len(feature_key(*parts[0])) == 64


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("shape", [(), (0,), (512,), (7, 7, 24), (1, 0, 3)])
def test_what_is_put_comes_back(store: FeatureStore, dtype: type, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    assert store.put_many({"a": np.asarray(array)}) == 1
    back = store.get_many(["a", "b", "a"])["a"]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert np.array_equal(back, array)
    assert back.flags.writeable


def test_views_and_the_other_byte_order_are_stored_by_value(store: FeatureStore) -> None:
    grid = np.arange(12, dtype=np.float32).reshape(3, 4)
    store.put_many({"view": grid[::2, 1:].T, "big endian": grid.astype(">f4")})
    back = store.get_many(["view", "big endian"])
    assert np.array_equal(back["view"], grid[::2, 1:].T)
    assert np.array_equal(back["big endian"], grid)


def test_entries_never_change_and_other_dtypes_are_refused(store: FeatureStore) -> None:
    store.put_many({"a": np.ones(3, np.float32)})
    assert store.put_many({"a": np.zeros(3, np.float32)}) == 0
    assert store.get_many(["a"])["a"].tolist() == [1, 1, 1]
    for array in (np.ones(3), np.ones(3, np.int32), np.array(["x"])):
        with pytest.raises(TypeError):
            store.put_many({"b": array})


def test_a_passing_fault_is_not_remembered(store: FeatureStore) -> None:
    assert (
        store.put_many({"nan": np.array([1, np.nan], np.float32), "inf": np.array([np.inf], np.float32), "good": np.ones(1, np.float32)})
        == 1
    )
    assert list(store.get_many(["nan", "inf", "good"])) == ["good"]


def test_many_more_keys_than_one_query_takes(store: FeatureStore) -> None:
    known = vectors(3_000, width=2)
    assert store.put_many(known) == 3_000
    found = store.get_many([*known, *(f"unknown {number}" for number in range(3_000))])
    assert found.keys() == known.keys()
    assert store.get_many([]) == {}
    assert store.put_many({}) == 0


def test_three_thousand_vectors_come_fast(store: FeatureStore) -> None:
    known = vectors(3_000)
    store.put_many(known)
    keys = list(known)
    times = []
    for _ in range(5):
        start = time.process_time()
        store.get_many(keys)
        times.append(time.process_time() - start)
    assert min(times) < 0.05, f"{min(times) * 1000:.0f} ms"


def test_layout_of_the_file(store: FeatureStore) -> None:
    store.put_many({"a": np.ones(3, np.float32)})
    with sqlite3.connect(store.path) as plain:
        values = {name: plain.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "journal_mode", "user_version")}
        (table,) = plain.execute("SELECT sql FROM sqlite_master WHERE name = 'features'").fetchone()
    assert values == {"page_size": 8192, "journal_mode": "wal", "user_version": cache.SCHEMA}
    assert "UNIQUE" in table
    assert "WITHOUT ROWID" not in table


def test_info_counts_by_model_and_makes_no_file(store: FeatureStore) -> None:
    assert store.info() == {"path": str(store.path), "exists": False, "schema": 1, "bytes": 0, "entries": 0, "models": {}}
    assert store.verify() == {"ok": True, "entries": 0, "damaged": 0, "structure": "ok"}
    assert not store.path.parent.exists()
    store.put_many({"a": np.ones(100, np.float32), "b": np.ones(100, np.float32)}, model="m1")
    store.put_many({"c": np.ones(100, np.float16)}, model="m2")
    info = store.info()
    assert (info["exists"], info["entries"]) == (True, 3)
    assert {model: (row["entries"], row["bytes"]) for model, row in info["models"].items()} == {"m1": (2, 820), "m2": (1, 210)}
    assert info["bytes"] >= 8192


def damage_value(store: FeatureStore, key: str) -> None:
    """Flip one byte in the middle of a stored value, as a failing disk would; the structure of the file stays whole."""
    value = np.asarray(store.get_many([key])[key]).tobytes()
    store.close()
    data = bytearray(store.path.read_bytes())
    place = data.index(value)
    data[place + len(value) // 2] ^= 0xFF
    store.path.write_bytes(data)


def test_a_damaged_entry_is_never_answered(store: FeatureStore, caplog: pytest.LogCaptureFixture) -> None:
    known = vectors(50)
    first, second, *_ = known
    store.put_many(known)
    damage_value(store, first)
    with caplog.at_level(logging.WARNING):
        assert first not in store.get_many(list(known))
    assert "1 damaged entries" in caplog.text
    assert store.put_many({first: known[first]}) == 1
    damage_value(store, second)
    assert store.verify() == {"ok": False, "entries": 50, "damaged": 1, "structure": "ok"}
    assert store.verify() == {"ok": True, "entries": 49, "damaged": 0, "structure": "ok"}


def test_a_value_under_another_key_is_not_answered(store: FeatureStore) -> None:
    store.put_many({"a": np.ones(3, np.float32)})
    store.close()
    with sqlite3.connect(store.path) as plain:
        plain.execute("UPDATE features SET key = 'b'")
    assert store.get_many(["b"]) == {}


@pytest.mark.parametrize("how", ["text", "empty pages", "truncated"])
def test_a_damaged_file_is_moved_aside_and_filled_anew(store: FeatureStore, caplog: pytest.LogCaptureFixture, how: str) -> None:
    known = vectors(200)
    store.put_many(known)
    store.close()
    data = store.path.read_bytes()
    store.path.write_bytes(
        {"text": b"hello " * 5_000, "empty pages": data[:8192] + bytes(len(data) - 8192), "truncated": data[: len(data) // 2]}[how]
    )
    with caplog.at_level(logging.WARNING):
        assert len(store.get_many(list(known))) < 200
    assert caplog.text.count("was damaged") == 1
    assert Path(f"{store.path}.damaged").exists()
    store.put_many(known)
    assert len(store.get_many(list(known))) == 200
    assert store.verify()["ok"]


def test_damage_in_a_large_file_is_found_in_use(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache, "CHECK_ON_OPEN_BYTES", 0)
    known = vectors(500)
    store.put_many(known)
    store.close()
    data = store.path.read_bytes()
    store.path.write_bytes(data[: 4 * 8192] + os.urandom(len(data) - 4 * 8192))
    with caplog.at_level(logging.WARNING):
        store.get_many(list(known))
        assert store.put_many(known) == 500
    assert "moved to" in caplog.text
    assert len(store.get_many(list(known))) == 500


def test_other_databases_and_versions_are_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "places.sqlite"
    with sqlite3.connect(foreign) as plain:
        plain.execute("CREATE TABLE bookmarks (url)")
    before = foreign.read_bytes()
    with pytest.raises(UsageError, match="another program's database"):
        FeatureStore(foreign).get_many(["a"])
    assert foreign.read_bytes() == before
    ours = FeatureStore(tmp_path / "ours.sqlite")
    ours.put_many({"a": np.ones(1, np.float32)})
    ours.close()
    with sqlite3.connect(ours.path) as plain:
        plain.execute("PRAGMA user_version = 99")
    with pytest.raises(UsageError, match="another version's feature cache"):
        ours.get_many(["a"])


def test_a_place_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "features.sqlite", tmp_path):
        with pytest.raises(UsageError, match="cannot open the feature cache") as caught:
            FeatureStore(path).get_many(["a"])
        assert "PERMAFROST_CACHE" in str(caught.value.hint)


def test_a_store_that_stays_locked_ends_no_run(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache, "BUSY_S", 0.05)
    store.put_many({"a": np.ones(1, np.float32)})
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with caplog.at_level(logging.WARNING):
        assert store.put_many({"b": np.ones(1, np.float32)}) == 0
        assert store.put_many({"c": np.ones(1, np.float32)}) == 0
    assert caplog.text.count("database is locked") == 1
    assert list(store.get_many(["a", "b"])) == ["a"]
    with pytest.raises(UsageError, match="locked"):
        store.prune(model="x")
    other.execute("ROLLBACK")
    assert FeatureStore(store.path).put_many({"b": np.ones(1, np.float32)}) == 1


def age(store: FeatureStore, keys: list[str], days: float) -> None:
    with sqlite3.connect(store.path) as plain:
        plain.executemany("UPDATE features SET created_s = ? WHERE key = ?", [(int(time.time() - days * 86_400), key) for key in keys])


def test_prune_by_age_by_model_and_by_size(store: FeatureStore) -> None:
    known = vectors(2_000)
    keys = list(known)
    store.put_many(dict(list(known.items())[:1_000]), model="m1")
    store.put_many(dict(list(known.items())[1_000:]), model="m2")
    age(store, keys[:200], 40)
    result = store.prune(older_than_days=30)
    assert (result["removed"], result["entries"]) == (200, 1_800)
    assert store.prune(older_than_days=30, model="m1")["removed"] == 0
    assert store.prune(model="m1")["entries"] == 1_000
    age(store, keys[1_000:1_500], 1)
    result = store.prune(max_bytes=1_000_000)
    assert result["bytes"] <= 1_000_000 < result["bytes_before"]
    assert 250 <= result["entries"] < 500
    assert not store.get_many(keys[1_000:1_500]), "the oldest go first"
    assert store.prune(max_bytes=10**12)["removed"] == 0
    assert store.prune(max_bytes=0)["entries"] == 0
    assert store.verify()["ok"]


def test_prune_needs_one_sensible_limit(store: FeatureStore) -> None:
    for limits in ({}, {"max_bytes": -1}, {"older_than_days": -1.0}, {"older_than_days": float("nan")}, {"max_bytes": 1, "model": "m"}):
        with pytest.raises(UsageError):
            store.prune(**limits)
    assert store.prune(max_bytes=0) == {"removed": 0, "entries": 0, "bytes_before": 0, "bytes": 0}


def _fill(path: Path, seed: int) -> None:
    store = FeatureStore(path)
    for start in range(0, 600, 50):
        store.put_many(dict(list(vectors(600, width=64).items())[start : start + 50]), model=str(seed))
        store.put_many({feature_key(str(seed), "text", str(start)): np.full(64, seed, np.float32)})


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_several_processes_write_at_once(store: FeatureStore, method: str) -> None:
    context = multiprocessing.get_context(method)
    workers = [context.Process(target=_fill, args=(store.path, seed)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert store.verify() == {"ok": True, "entries": 600 + 4 * 12, "damaged": 0, "structure": "ok"}


def test_a_forked_child_uses_a_connection_of_its_own(store: FeatureStore) -> None:
    store.put_many({"parent": np.ones(1, np.float32)})
    child = multiprocessing.get_context("fork").Process(target=store.put_many, args=({"child": np.ones(1, np.float32)},))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    store.put_many({"after": np.ones(1, np.float32)})
    assert sorted(store.get_many(["parent", "child", "after"])) == ["after", "child", "parent"]
    assert store.verify()["ok"]


def test_several_threads_share_a_store(store: FeatureStore) -> None:
    known = vectors(400, width=16)
    keys = list(known)
    threads = [threading.Thread(target=lambda part=part: store.put_many({key: known[key] for key in keys[part::4]})) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.get_many(keys)) == 400


def test_a_killed_writer_leaves_a_whole_store(store: FeatureStore) -> None:
    code = f"""
import numpy as np
from toolkit.cache import FeatureStore
store = FeatureStore({str(store.path)!r})
number = 0
while True:
    store.put_many({{f"{{number}} {{index}}": np.full(64, index, np.float32) for index in range(20)}})
    number += 1
    print(number, flush=True)
"""
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(5):
            writer.stdout.readline()
        writer.kill()
        writer.wait()
        writer.stdout.close()
        report = store.verify()
        assert report["ok"]
        assert report["entries"] % 20 == 0, "a batch is stored whole or not at all"
        store.close()


def test_a_store_travels_as_its_path(store: FeatureStore) -> None:
    store.put_many({"a": np.ones(1, np.float32)})
    assert list(pickle.loads(pickle.dumps(store)).get_many(["a"])) == ["a"]


@pytest.mark.parametrize(("value", "expected"), [("{}/x", "{}/x/features.sqlite"), ("{}/mine.sqlite", "{}/mine.sqlite")])
def test_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, expected: str) -> None:
    monkeypatch.setenv("PERMAFROST_CACHE", value.format(tmp_path))
    assert default_store().path == Path(expected.format(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PERMAFROST_CACHE")
    assert default_store().path == tmp_path / ".cache" / "permafrost" / "features.sqlite"
