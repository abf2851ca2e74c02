"""`permafrost audit` and `lint-pool` end to end, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import cli

POOL = {
    "black cat": ["pointed ears and a long tail", "dark fur", "a black cat", "whiskers"],
    "red bag": ["two handles", "a zip along the top", "bright leather", "a strap"],
    "white dog": ["a wet nose", "floppy ears", "pale fur", "a collar with a tag"],
}


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    (tmp_path / "pool.json").write_text(json.dumps(POOL))
    return tmp_path / "pool.json"


def test_audit_writes_verdict_answers_and_report(photos: Path, tiny_model: Path, pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "audit"
    given = ("audit", "-t", "bazaar/lines-heldout", "-m", f"local:{tiny_model}", "--shots", 2, "--draws", 2, "--limit", 24, "--seeds", 2)
    result = call(*map(str, given), "--output", out, "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed == json.loads((out / "audit.json").read_text())
    assert printed["draws"] == 2
    assert printed["support"] == [48, 48]
    assert printed["leaks"] == 24  # one planted a class
    assert [facts["draw_seed"] for facts in printed["run"]["support"]] == [0, 1]
    assert printed["verdict"]["name"] in (out / "report.html").read_text()
    with np.load(out / "predictions.npz") as file:
        answers = dict(file)
    assert answers["ids"].shape == answers["labels"].shape == (24,)
    assert answers["random_words"].shape == (2, 2, 24)
    right = (answers["selected"][:, 0] == answers["labels"]).mean()
    assert next(row for row in printed["arms"] if row["name"] == "selected")["accuracy"] == pytest.approx(right)


def test_audit_without_support_from_a_folder_and_a_file(photos: Path, tiny_model: Path, pool: Path, tmp_path: Path) -> None:
    given = ("audit", "-t", f"folder:{photos}", "-m", f"local:{tiny_model}", "--pool", pool, "--shots", 0, "--seeds", 2)
    result = call(*given, "-o", "w_cls=0.5", "--arm", "null", "--output", tmp_path / "audit")
    assert result.exit_code == 0, result.stderr
    assert "verdict:" in result.stdout
    assert "Nearest class mean" not in result.stdout


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--shots", "0", "--pool", "nothing.json"), 3, "nothing.json"),
        (("--shots", "2"), 3, "no images to learn from"),
        (("--shots", "0", "--draws", "3"), 2, "3 draws need --shots"),
        (("--shots", "0", "-o", "w_cls=oracle"), 2, "oracle"),
        (("--shots", "0", "--arm", "nul"), 2, "audit arm"),
    ],
)
def test_what_cannot_be_audited(more: tuple[str, ...], code: int, message: str, photos: Path, tiny_model: Path, pool: Path) -> None:
    result = call("audit", "-t", f"folder:{photos}", "-m", f"local:{tiny_model}", "--pool", pool, "--output", photos.parent / "a", *more)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_lint_pool_shows_leaks_and_cleans(pool: Path, tmp_path: Path) -> None:
    result = call("lint-pool", pool, "--clean", tmp_path / "clean.json")
    assert result.exit_code == 2
    assert "names its class 'black cat'" in result.stdout
    assert "1 texts name a class" in result.stdout or "1 text names a class" in result.stdout
    assert call("lint-pool", tmp_path / "clean.json").exit_code == 0
    assert json.loads((tmp_path / "clean.json").read_text())["black cat"] == [text for text in POOL["black cat"] if text != "a black cat"]
    assert json.loads(call("lint-pool", pool, "--json").stdout)["counts"]["L1"] == 1


def test_lint_pool_against_the_classes_of_a_data_set(pool: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("red bag\nblack cat\nwhite dogs\n")
    result = call("lint-pool", pool, "--classnames", tmp_path / "names.txt")
    assert "did you mean 'white dogs'?" in result.stdout
    assert "missing from the pool" in result.stdout
    assert call("lint-pool", tmp_path / "none.json").exit_code == 3
    assert call("lint-pool", pool, "--classnames", tmp_path / "none.txt").exit_code == 3
