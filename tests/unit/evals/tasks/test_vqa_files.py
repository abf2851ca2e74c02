"""Large JSON is read piece by piece, and every piece is what json.loads gives."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from evals.tasks import vqa_files
from evals.tasks.vqa_files import find_file, stream_members, stream_rows
from toolkit.errors import DataError, DataNotFound


def value(dice: random.Random, depth: int = 0) -> Any:
    """A random JSON value with all that a window can cut: long numbers, escapes, characters of several bytes, nesting."""
    kind = dice.randrange(6 if depth > 2 else 8)
    if kind < 3:
        return [dice.randrange(-(10**6), 10**18), dice.uniform(-1, 1) * 10.0 ** dice.randrange(-300, 300), 0.0][kind]
    if kind < 6:
        return [None, True, "".join(dice.choices('ab"\\\u00e9\u2603\U0001f600\n ,]}', k=dice.randrange(9)))][kind - 3]
    inside = [value(dice, depth + 1) for _ in range(dice.randrange(4))]
    return inside if kind == 6 else {f"k{i}": each for i, each in enumerate(inside)}


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 17, 1000])
@pytest.mark.parametrize("indent", [None, 2])
def test_pieces_are_what_the_whole_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None) -> None:
    path, dice = tmp_path / "file.json", random.Random(chunk)
    monkeypatch.setattr(vqa_files, "CHUNK", chunk)
    for _ in range(25):
        rows, more = [value(dice) for _ in range(dice.randrange(6))], {f"m{i}": value(dice) for i in range(dice.randrange(4))}
        path.write_text(json.dumps({**more, "rows": rows}, indent=indent), "utf-8")
        assert [row for _, row in stream_rows(path, "rows")] == rows
        path.write_text(json.dumps(rows, indent=indent, ensure_ascii=False), "utf-8")
        assert list(stream_rows(path, None)) == [(f"{path}, [{index}]", row) for index, row in enumerate(rows)]
        path.write_text(json.dumps(more, indent=indent), "utf-8")
        assert {name: member for _, name, member in stream_members(path)} == more


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be an object"), ("[1]", "must be an object with a list 'rows'"), ("{}", "has no list 'rows'"),
        ('{"rows": 3}', "'rows' must be a list"), ('{"rows": [1', "expected ',' or ']', found 'the end of the file'"),
        ('{"rows": [1 2]}', "expected ',' or ']', found '2'"),
        ('{"rows": [{"a": ]}', "is not JSON"), ('{"rows" [1]}', "expected ':', found '['"),
        ("{rows: [1]}", "a name in quotes was expected"), ('{"a": 1', "expected ',' or '}'"), ('{"rows": [' + "[" * 100_000, "is not JSON"),
    ],
)  # fmt: skip
def test_what_is_no_such_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        list(stream_rows(path, "rows"))
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_bytes_that_are_no_text_and_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'{"rows": ["\xff"]}')
    with pytest.raises(DataError, match="is not UTF-8 JSON"):
        list(stream_rows(tmp_path / "x.json", "rows"))
    with pytest.raises(DataNotFound, match="there is no file"):
        list(stream_members(tmp_path / "y.json"))
    with pytest.raises(DataError, match="cannot read"):
        list(stream_rows(tmp_path, None))


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert [row for _, row in stream_rows(tmp_path / "x.json", None)] == [1]


def test_only_a_window_of_a_large_file_is_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "large.json"
    path.write_text('{"rows": [' + ", ".join(['{"text": "' + "x" * 1000 + '"}'] * 10_000) + "]}")
    tracemalloc.start()
    assert sum(1 for _ in stream_rows(path, "rows")) == 10_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 10_000_000
    assert peak < 7_000_000  # a window of a megabyte, what is read behind it, and the copies while they are joined


def test_files_are_found_at_most_two_folders_down(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c" / "x.json").write_text("{}")
    with pytest.raises(DataNotFound, match=r"holds no questions: there is no x\.json and no y\.json in it"):
        find_file(tmp_path, ["x.json", "y.json"], "questions")
    (tmp_path / "a" / "b" / "y.json").write_text("{}")
    assert find_file(tmp_path, ["x.json", "y.json"], "questions") == tmp_path / "a" / "b" / "y.json"
    (tmp_path / "a" / "x.json").write_text("{}")
    assert find_file(tmp_path, ["x.json", "y.json"], "questions") == tmp_path / "a" / "x.json"
