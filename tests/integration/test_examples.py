"""The examples run as they stand, on a tiny model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(name: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(ROOT / "examples" / name), *(str(argument) for argument in arguments)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_here() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == {"rank_photos.py", "compare_prompts.py"}


@pytest.mark.slow
def test_rank_photos(photos: Path, tiny_model: Path) -> None:
    lines = run("rank_photos.py", photos, "a red bag", "--model", f"local:{tiny_model}", "--most", "3").splitlines()
    scores = [float(line.split()[0]) for line in lines]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)


@pytest.mark.slow
def test_compare_prompts(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    text = run("compare_prompts.py", f"folder:{photos}", "the bad {}", "--model", f"local:{tiny_model}", "--out", tmp_path / "out")
    assert "McNemar" in text
    assert (tmp_path / "out" / "own" / "report.html").exists()
