"""The command line without a model: help, errors and their exit codes, lists, cache, doctor."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner, Result

import cli
from toolkit.errors import DataNotFound, DependencyMissing, UsageError
from toolkit.version import VERSION

ROOT = Path(__file__).resolve().parents[2]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


ALL = list(commands(cli.cli))


@pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(path) or "permafrost")
def test_every_command_has_help_with_an_example_to_copy(path: tuple[str, ...]) -> None:
    result = call(*path, "--help")
    assert result.exit_code == 0
    assert "permafrost " + " ".join(path) in result.stdout.split("Options:")[0].replace("  permafrost", "permafrost")


def test_help_needs_less_than_a_third_of_a_second_and_no_heavy_library() -> None:
    code = """
import resource, sys
import cli
try:
    cli.cli(sys.argv[1:])
except SystemExit:
    pass
used = resource.getrusage(resource.RUSAGE_SELF)
heavy = [name for name in ("torch", "numpy", "transformers", "rich", "pydantic", "PIL") if name in sys.modules]
print(used.ru_utime + used.ru_stime, heavy, file=sys.stderr)
"""
    for path in ((), ("eval",), ("cache",)):
        command = [sys.executable, "-c", code, *path, "--help"]
        calls = [subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True) for _ in range(3)]
        seconds, heavy = min(call.stderr.split(" ", 1) for call in calls)
        assert heavy.strip() == "[]"
        assert float(seconds) < 0.3


def test_version() -> None:
    assert call("--version").stdout == f"permafrost {VERSION}\n"


def test_the_documented_page_is_what_the_commands_say() -> None:
    page = load("recipes/docs/cli_page.py").page(cli.cli)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == page, "run `make docs`"


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def failing(error: BaseException) -> Result:
    """What the command line makes of an exception in a command."""
    group = cli.Permafrost("permafrost")

    @group.command()
    def work() -> None:
        raise error

    return CliRunner().invoke(group, ["work"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("this is wrong", hint="do that"), 2),
        (DataNotFound("this is wrong", hint="do that"), 3),
        (DependencyMissing("this is wrong", hint="do that"), 3),
    ],
)
def test_a_mistake_of_the_user_is_a_sentence_and_a_hint(error: Exception, code: int) -> None:
    result = failing(error)
    assert result.exit_code == code
    assert result.stderr == "error: this is wrong\nhint: do that\n"
    assert result.stdout == ""


def test_a_bug_shows_its_traceback_and_how_to_report_it() -> None:
    result = failing(ValueError("shapes differ"))
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "ValueError: shapes differ" in result.stderr
    assert "permafrost doctor --json" in result.stderr


def test_a_missing_package_is_named_with_its_cure() -> None:
    result = failing(ModuleNotFoundError("No module named 'bitsandbytes'", name="bitsandbytes"))
    assert result.exit_code == 3
    assert result.stderr == "error: the package 'bitsandbytes' is not installed\nhint: pip install bitsandbytes\n"


def test_a_missing_module_of_ours_is_a_bug() -> None:
    assert failing(ModuleNotFoundError("No module named 'toolkit.nope'", name="toolkit.nope")).exit_code == 1


def test_a_full_disk_is_not_a_bug() -> None:
    result = failing(OSError(28, "No space left on device", "runs/x/samples.jsonl"))
    assert result.exit_code == 2
    assert "runs/x/samples.jsonl: No space left on device" in result.stderr


def test_out_of_memory_says_what_to_do() -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch's."""

    result = failing(OutOfMemoryError("CUDA out of memory"))
    assert result.exit_code == 3
    assert "--batch-size" in result.stderr


def test_ctrl_c_says_how_to_go_on() -> None:
    result = failing(KeyboardInterrupt())
    assert result.exit_code == 130
    assert "same command again" in result.stderr
    assert "Traceback" not in result.stderr


def test_unknown_commands_get_near_matches() -> None:
    result = call("evall")
    assert result.exit_code == 2
    assert "eval" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("what", ["models", "methods", "tasks", "prompts"])
def test_lists_as_json_and_as_text(what: str) -> None:
    rows = json.loads(call("ls", what, "--json").stdout)
    assert rows
    assert all(row["name"] for row in rows)
    first = str(rows[0]["name"])
    assert first in call("ls", what, first).stdout


def test_lists_are_filtered() -> None:
    rows = json.loads(call("ls", "models", "vit-b-32-QUICK", "--json").stdout)
    assert rows
    assert all("vit-b-32-quick" in row["name"].lower() for row in rows)


def test_runs_that_are_not_there_are_an_empty_list(tmp_path: Path) -> None:
    assert json.loads(call("ls", "runs", "--dir", tmp_path / "none", "--json").stdout) == []


def test_a_damaged_run_is_listed_as_damaged(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text("{")
    rows = json.loads(call("ls", "runs", "--dir", tmp_path, "--json").stdout)
    assert [row["status"].split(":")[0] for row in rows] == ["damaged"]


def test_cache_info_verify_and_prune() -> None:
    import numpy as np

    from toolkit.cache import default_store

    default_store().put_many({"a" * 64: np.ones(8, dtype=np.float32), "b" * 64: np.zeros(8, dtype=np.float32)})
    info = json.loads(call("cache", "info", "--json").stdout)
    assert info["entries"] == 2
    assert info["path"] == os.environ["PERMAFROST_CACHE"]
    assert json.loads(call("cache", "verify", "--json").stdout)["ok"] is True
    assert call("cache", "prune").exit_code == 2
    assert call("cache", "info", "--max-gb", "1").exit_code == 2
    assert call("cache", "prune", "--max-gb", "0").exit_code == 0
    assert json.loads(call("cache", "info", "--json").stdout)["entries"] == 0


def test_doctor_says_what_is_there(tmp_path: Path) -> None:
    result = call("doctor", "--json", "--output", tmp_path / "runs")
    diagnosis = json.loads(result.stdout)
    assert diagnosis["packages"]["torch"]
    assert diagnosis["devices"][0]["device"] == "cpu"
    assert diagnosis["offline"]["HF_HUB_OFFLINE"] is True
    assert diagnosis["output"]["writable"] is True
    assert not (tmp_path / "runs").exists()
    assert result.exit_code == (3 if diagnosis["problems"] else 0)


def test_doctor_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = call("doctor", "--output", tmp_path / "file" / "runs")
    assert result.exit_code == 3
    assert "results cannot be written" in result.stdout


@pytest.mark.parametrize("command", [("report",), ("score",), ("compare", "other")])
def test_commands_on_runs_that_are_not_there(command: tuple[str, ...], tmp_path: Path) -> None:
    result = call(command[0], tmp_path / "none", *command[1:])
    assert result.exit_code == 3
    assert result.stderr.startswith("error: there is no run folder")
