from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit import files
from toolkit.errors import DataError, DataNotFound, UsageError


def test_what_is_written_is_read_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "er" / "results.json"
    for value in ({"top1": 0.5, "names": ("ä", "猫")}, {"top1": None}):
        files.atomic_write_json(place, value)
    assert files.read_json(place) == {"top1": None}
    assert os.listdir(place.parent) == ["results.json"]


def test_json_is_strict_and_a_refused_value_leaves_the_old_file(tmp_path: Path) -> None:
    place = files.atomic_write_json(tmp_path / "a.json", [1])
    for value in ([float("nan")], {"x": float("inf")}):
        with pytest.raises(ValueError, match="JSON compliant"):
            files.atomic_write_json(place, value)
    with pytest.raises(TypeError):
        files.atomic_write_json(place, object())
    assert files.read_json(place) == [1]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk full", "ctrl-c"])
def test_a_failure_at_any_step_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    place = files.atomic_write_text(tmp_path / "a.txt", "old")

    def fail(*args: object) -> None:
        raise error

    if step == "write":
        monkeypatch.setattr("builtins.open", fail)
    else:
        monkeypatch.setattr(os, step, fail)
    expected = UsageError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        files.atomic_write_text(place, "new")
    monkeypatch.undo()
    assert place.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_place_that_cannot_be_written_to_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for write in (lambda place: files.atomic_write_text(place, "x"), lambda place: files.append_jsonl(place, [1])):
        with pytest.raises(UsageError, match=r"cannot write .*file/a\.json: .+") as caught:
            write(tmp_path / "file" / "a.json")
        assert caught.value.hint
    with pytest.raises(UsageError, match="cannot write"):
        files.atomic_write_text(tmp_path, "x")


records = st.lists(
    st.dictionaries(st.text(max_size=5), st.one_of(st.text(), st.integers(), st.none(), st.booleans()), max_size=3), max_size=8
)


@given(first=records, second=records, cut=st.integers(min_value=0, max_value=200))
def test_appending_after_a_kill_loses_at_most_the_torn_line(
    tmp_path_factory: pytest.TempPathFactory, first: list[object], second: list[object], cut: int
) -> None:
    place = tmp_path_factory.mktemp("log") / "samples.jsonl"
    files.append_jsonl(place, first)
    data = place.read_bytes()
    place.write_bytes(data[: max(0, len(data) - cut)])
    kept = place.read_bytes().count(b"\n")
    assert list(files.read_jsonl(place)) == first[:kept]
    assert files.append_jsonl(place, second, sync=True) == len(second)
    assert list(files.read_jsonl(place)) == first[:kept] + second


def test_a_torn_line_longer_than_one_block_is_cut_too(tmp_path: Path) -> None:
    place = tmp_path / "samples.jsonl"
    files.append_jsonl(place, [{"i": 1}])
    with open(place, "ab") as file:
        file.write(b'{"text": "' + b"x" * 200_000)
    files.append_jsonl(place, [{"i": 2}])
    assert list(files.read_jsonl(place)) == [{"i": 1}, {"i": 2}]


def test_file_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    place = tmp_path / "samples.jsonl"
    files.append_jsonl(place, [{"image": name}])
    assert next(iter(files.read_jsonl(place)))["image"] == name
    assert files.read_json(files.atomic_write_json(tmp_path / "a.json", name)) == name


def test_reading_says_what_is_wrong_and_where(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match=r"no file .*gone\.json"):
        files.read_json(tmp_path / "gone.json")
    with pytest.raises(DataError, match="cannot read"):
        files.read_json(tmp_path)
    for number, data in enumerate([b"{", b"\xff\xfe", b"[" * 100_000]):
        (tmp_path / f"{number}.json").write_bytes(data)
        with pytest.raises(DataError, match="is not JSON"):
            files.read_json(tmp_path / f"{number}.json")
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n{"a": \n{"a": 2}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 3 is not JSON"):
        list(files.read_jsonl(tmp_path / "a.jsonl"))


def test_a_reader_never_meets_half_a_file_of_a_killed_writer(tmp_path: Path) -> None:
    place = tmp_path / "results.json"
    code = f"""
from toolkit.files import atomic_write_json
number = 0
while True:
    atomic_write_json({str(place)!r}, [number] * 50_000)
    if not number:
        print("ready", flush=True)
    number += 1
"""
    for delay_s in (0.0, 0.003, 0.007, 0.012, 0.02):
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(delay_s)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        value = files.read_json(place)
        assert len(value) == 50_000
        assert len(set(value)) == 1


def test_lines_of_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("\ufeffone\r\n\r\n  two \nthrée".encode())
    assert files.read_lines(tmp_path / "names.txt") == ["one", "two", "thrée"]
    (tmp_path / "latin.txt").write_bytes("thrée".encode("latin-1"))
    with pytest.raises(DataError, match="not a text file in UTF-8"):
        files.read_lines(tmp_path / "latin.txt")
    with pytest.raises(DataNotFound):
        files.read_lines(tmp_path / "none.txt")
