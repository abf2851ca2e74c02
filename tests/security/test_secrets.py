"""Tokens in the environment reach no file and no output."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import cli
from tests.tiny import tiny_hf_clip

SECRET = "hf_secret0123456789abcdefghij"
NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "WANDB_API_KEY", "MY_PASSWORD")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    photos = tmp_path / "photos"
    for label, colour in enumerate(("red", "green", "blue")):
        (photos / colour).mkdir(parents=True)
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[:, :, label] = 200
        Image.fromarray(pixels).save(photos / colour / "a.png")
    (photos / "red" / "broken.png").write_bytes(b"no image")
    return photos, tiny_hf_clip(tmp_path / "model")


def test_no_secret_is_written_or_printed(folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, model = folders
    for name in NAMES:
        monkeypatch.setenv(name, SECRET)
    run = tmp_path / "out" / "run"
    commands = (
        ["eval", "-t", f"folder:{photos}", "-m", f"local:{model}", "--output", str(run)],
        ["eval", "-t", f"folder:{photos}", "-m", "local:nowhere", "--output", str(tmp_path / "out" / "other")],
        ["embed", str(photos), "-m", f"local:{model}", "-o", str(tmp_path / "out" / "embedded")],
        ["report", str(run)],
        ["doctor", "--json"],
    )
    codes = []
    for command in commands:
        result = CliRunner().invoke(cli.cli, command)
        codes.append(result.exit_code)
        assert SECRET not in result.output
        assert SECRET not in repr(result.exception)
    assert codes[:4] == [4, 3, 4, 0], "the commands ran as far as they should"
    files = [path for path in tmp_path.rglob("*") if path.is_file() and photos not in path.parents and model not in path.parents]
    assert {"manifest.json", "samples.jsonl", "results.json", "report.html"} <= {path.name for path in files}
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_the_manifest_names_neither_user_nor_machine(folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platform

    photos, model = folders
    for name in ("USER", "LOGNAME", "USERNAME", "HOSTNAME"):
        monkeypatch.setenv(name, "somebody-unlikely")
    monkeypatch.setattr(platform, "node", lambda: "somebody-unlikely")
    CliRunner().invoke(cli.cli, ["eval", "-t", f"folder:{photos}", "-m", f"local:{model}", "--output", str(tmp_path / "run")])
    manifest = (tmp_path / "run" / "manifest.json").read_text()
    assert json.loads(manifest)["status"]
    assert "somebody-unlikely" not in manifest
