"""Large JSON is read piece by piece, and every piece is what json.loads gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evals.tasks import vqa_files
from evals.tasks.vqa_files import find_file, stream_members, stream_rows
from toolkit.errors import DataError, DataNotFound

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json")


@given(
    st.lists(values, max_size=6), st.dictionaries(st.text(max_size=4), values, max_size=3), st.integers(1, 40), st.sampled_from([None, 2])
)
@settings(max_examples=60)
@example(rows=[], more={"": 0.0}, chunk=1, indent=None)
@example(rows=[1e300, -1.5e-7], more={}, chunk=1, indent=2)
def test_pieces_are_what_the_whole_is(folder: Path, rows: list[Any], more: dict[str, Any], chunk: int, indent: Any) -> None:
    path = folder / "file.json"
    more.pop("rows", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vqa_files, "CHUNK", chunk)
        path.write_text(json.dumps({**more, "rows": rows}, indent=indent), "utf-8")
        assert [row for _, row in stream_rows(path, "rows")] == rows
        path.write_text(json.dumps(rows, indent=indent), "utf-8")
        assert [where for where, _ in stream_rows(path, None)] == [f"{path}, [{index}]" for index in range(len(rows))]
        path.write_text(json.dumps(more, indent=indent), "utf-8")
        assert {name: value for _, name, value in stream_members(path)} == more


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
