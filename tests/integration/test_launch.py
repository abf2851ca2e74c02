"""Several processes give the results of one, and a run may go on with another number of processes."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.forks import ROOT, Server
from toolkit.errors import UsageError

PORTS = itertools.count(20_000 + os.getpid() % 20_000)  # sockets are blocked in tests: the kernel cannot be asked for a free one


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> list[str]:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in ("black cat", "red bag", "white dog"):
        (folder / name).mkdir()
        for index in range(100):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / name / f"{index:03d}.png", compress_level=0)
    (folder / "red bag" / "077.png").write_bytes(b"no image")
    options = ["--batch-size", "4", "--workers", "0", "--no-cache", "--json"]
    return ["eval", "-t", f"folder:{folder}", "-m", f"local:{tiny_model}", *options]


@pytest.fixture(scope="module")
def server(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder / "log.txt")
    assert server.warm([*command, "--output", str(folder / "warm")]) == 4
    yield server
    server.close()


@pytest.fixture(scope="module")
def alone(server: Server, command: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("alone")
    assert server.run([*command, "--output", str(out)]) == 4
    return results(out)


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text())


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert (found["n"], found["n_failed"]) == (expected["n"], expected["n_failed"])
    assert found["metrics"]["top1"] == expected["metrics"]["top1"]
    for name, metric in expected["metrics"].items():
        assert found["metrics"][name]["value"] == pytest.approx(metric["value"], abs=1e-6)


def start_two(server: Server, command: list[str]) -> list[int]:
    """Two forks with the variables that a launcher sets."""
    port = next(PORTS)
    places = [{"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} for rank in "01"]
    return [server.start(command, **place, ACCELERATE_USE_CPU="true") for place in places]


def test_two_processes_give_the_results_of_one(server: Server, command: list[str], alone: dict[str, Any], tmp_path: Path) -> None:
    pids = start_two(server, [*command, "--output", str(tmp_path / "two")])
    assert [server.wait(pid) for pid in pids] == [4, 0], server.log.read_text()
    assert_same(results(tmp_path / "two"), alone)
    lines = [json.loads(line) for line in (tmp_path / "two" / "samples.jsonl").read_text().splitlines()]
    assert len({line["id"] for line in lines}) == len(lines) == alone["n"]
    assert list((tmp_path / "two").glob("samples.r*")) == []


def test_begun_with_two_and_finished_with_one(server: Server, command: list[str], alone: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    pids = start_two(server, [*command, "--output", str(out)])
    deadline = time.monotonic() + 300
    shares = [out / f"samples.r{rank}of2.jsonl" for rank in range(2)]
    while not all(share.exists() and share.read_bytes().count(b"\n") >= 10 for share in shares):
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.005)
    for pid in pids:
        os.killpg(pid, signal.SIGKILL)
    assert [server.wait(pid) for pid in pids] == [-signal.SIGKILL] * 2
    assert server.run([*command, "--output", str(out)]) == 4, server.log.read_text()
    assert_same(results(out), alone)


def test_begun_with_one_and_finished_with_two(server: Server, command: list[str], alone: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    pid = server.start([*command, "--output", str(out)])
    deadline = time.monotonic() + 300
    while not (out / "samples.jsonl").exists() or (out / "samples.jsonl").read_bytes().count(b"\n") < 30:
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.005)
    os.killpg(pid, signal.SIGKILL)
    assert server.wait(pid) == -signal.SIGKILL
    pids = start_two(server, [*command, "--output", str(out)])
    assert [server.wait(pid) for pid in pids] == [4, 0], server.log.read_text()
    assert_same(results(out), alone)


@pytest.mark.slow
def test_accelerate_launch(command: list[str], alone: dict[str, Any], tmp_path: Path) -> None:
    """The real launcher: only the first process prints, and what it prints is the results."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    launcher += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(next(PORTS))]
    launcher += ["-m", "cli", *command, "--output", str(tmp_path / "run")]
    done = subprocess.run(launcher, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert_same(json.loads(done.stdout), alone)
    assert_same(results(tmp_path / "run"), alone)
    assert done.returncode != 0  # one sample failed: exit code 4, which the launcher reports as a failed worker


def test_one_device_for_two_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.launch import place

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="cuda:0"):
        place("cuda:0")
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UsageError, match="WORLD_SIZE"):
        place()


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.launch import place

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert place() is None
