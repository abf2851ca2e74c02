"""Paths out of data files stay under the data folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import DataError
from toolkit.images import safe_join


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("x")
    (tmp_path / "data-other").mkdir()
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.png").write_bytes(b"x")
    return folder


@pytest.mark.parametrize("relative", ["images/a.png", "./images/a.png", "images//a.png", "images/new.png", "..a/b..png", "images/ä ö.png"])
def test_paths_inside_are_joined(root: Path, relative: str) -> None:
    assert safe_join(root, relative) == root.resolve() / relative
    assert safe_join(str(root), Path(relative)) == root.resolve() / relative


@pytest.mark.parametrize(
    "relative",
    [
        "..", "../secret.txt", "images/../../secret.txt", "images/../a.png", "../data-other/x", "../data/images/a.png",
        "/etc/passwd", "//host/share/x", "C:\\x.png", "C:x.png", "\\\\host\\share\\x", "\\x.png", "images\\..\\..\\secret.txt",
    ],
)  # fmt: skip
def test_paths_that_lead_out_are_refused(root: Path, relative: str) -> None:
    with pytest.raises(DataError, match="leads out of the data folder") as caught:
        safe_join(root, relative)
    assert caught.value.hint


@pytest.mark.parametrize("relative", ["", "a\0.png"])
def test_what_is_no_path_is_refused(root: Path, relative: str) -> None:
    with pytest.raises(DataError, match="is not a path"):
        safe_join(root, relative)


def test_symlinks_do_not_lead_out(root: Path) -> None:
    os.symlink(root.parent / "secret.txt", root / "file.png")
    os.symlink(root.parent, root / "up", target_is_directory=True)
    os.symlink("/", root / "images" / "disk", target_is_directory=True)
    for relative in ("file.png", "up/secret.txt", "images/disk/etc/passwd", "up/data/images/../../secret.txt"):
        with pytest.raises(DataError, match="leads out of the data folder"):
            safe_join(root, relative)
    os.symlink("images", root / "alias", target_is_directory=True)
    assert safe_join(root, "alias/a.png") == root.resolve() / "images" / "a.png"
    os.symlink(root, root.parent / "link-to-data", target_is_directory=True)
    assert safe_join(root.parent / "link-to-data", "images/a.png") == root.resolve() / "images" / "a.png"


def joined_or_refused(root: Path, relative: str) -> bool:
    """Whether the path was refused; if it was not, it is inside."""
    try:
        joined = safe_join(root, relative)
    except DataError:
        return True
    assert joined.is_relative_to(root.resolve())
    return False


def test_loops_of_symlinks_and_names_too_long_do_no_harm(root: Path) -> None:
    os.symlink(root / "b", root / "a")
    os.symlink(root / "a", root / "b")
    os.symlink(root.parent, root / "up", target_is_directory=True)
    joined_or_refused(root, "a/x")
    joined_or_refused(root, "x" * 5_000)
    assert joined_or_refused(root, "up/" + "x" * 5_000)


@given(st.lists(st.sampled_from(["..", ".", "images", "a.png", "", "/", "\\", "C:", "~", "\0", "up"]), max_size=6))
def test_no_combination_gets_out(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("jail")
    os.symlink("..", folder / "up", target_is_directory=True)
    joined_or_refused(folder, "/".join(parts))
