"""`permafrost eval` is killed at random moments: the run folder always parses, and the same command ends in the same results."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evals.records import read_run
from tests.forks import Server
from toolkit.errors import DataNotFound

IMAGES_A_CLASS = 150
KILLS = 20
SEED = int(os.environ.get("PERMAFROST_TEST_SEED", "0"))


@pytest.fixture(scope="module")
def server(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder / "log.txt")
    assert server.warm([*command, "--output", str(folder / "warm")]) == 4
    yield server
    server.close()


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> list[str]:
    """An evaluation of a few hundred images, one of them broken, in small batches."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for name in ("black cat", "red bag", "white dog"):
        (folder / name).mkdir()
        for index in range(IMAGES_A_CLASS):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / name / f"{index:03d}.png", compress_level=0)
    (folder / "red bag" / "077.png").write_bytes(b"no image")
    return ["eval", "-t", f"folder:{folder}", "-m", f"local:{tiny_model}", "--batch-size", "4", "--workers", "0"]


def unkilled(server: Server, command: list[str], out: Path) -> tuple[dict[str, Any], float]:
    started = time.monotonic()
    assert server.run([*command, "--no-cache", "--output", str(out)]) == 4, server.log.read_text()
    return json.loads((out / "results.json").read_text()), time.monotonic() - started


def assert_same(results: dict[str, Any], expected: dict[str, Any]) -> None:
    """Counts and accuracies to the last bit; what is made of confidences to 1e-6, since batches may be cut differently."""
    assert (results["n"], results["n_failed"]) == (expected["n"], expected["n_failed"])
    assert results["metrics"]["top1"] == expected["metrics"]["top1"]
    for name, metric in expected["metrics"].items():
        assert results["metrics"][name]["value"] == pytest.approx(metric["value"], abs=1e-6)
        assert results["metrics"][name]["n"] == metric["n"]


def parsed_samples(folder: Path) -> int:
    """Every file of the folder must parse, whatever the kill tore; the number of samples that are safe."""
    for path in folder.glob("*.json"):
        json.loads(path.read_text())
    try:
        return len(read_run(folder).samples)
    except DataNotFound:  # killed before the manifest was there
        assert list(folder.glob("samples*.jsonl")) == []
        return 0


def test_twenty_kills_lose_nothing(server: Server, command: list[str], tmp_path: Path) -> None:
    expected, seconds = unkilled(server, command, tmp_path / "whole")
    moments = random.Random(SEED)
    run, in_the_middle, finished = tmp_path / "run-0", 0, 0
    for kill in range(KILLS):
        before = parsed_samples(run)
        cache = [] if kill % 2 else ["--no-cache"]
        pid = server.start([*command, *cache, "--output", str(run)])
        time.sleep(moments.uniform(0.0, 0.7 * seconds))
        os.killpg(pid, signal.SIGKILL)
        code = server.wait(pid)
        assert code in (-signal.SIGKILL, 4), server.log.read_text()
        after = parsed_samples(run)
        assert after >= before, f"kill {kill} with seed {SEED} lost samples"
        in_the_middle += before < after < expected["n"]
        if (run / "results.json").exists():
            assert_same(json.loads((run / "results.json").read_text()), expected)
            finished += 1
            run = tmp_path / f"run-{finished}"
    assert in_the_middle >= 5, "the kills came too early or too late to say anything"
    assert server.run([*command, "--output", str(run)]) == 4
    assert_same(json.loads((run / "results.json").read_text()), expected)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_ctrl_c_keeps_what_was_done(workers: str, server: Server, command: list[str], tmp_path: Path) -> None:
    expected, _ = unkilled(server, command, tmp_path / "whole")
    asked = [*command, "--workers", workers, "--no-cache", "--output", str(tmp_path / "run")]
    pid = server.start(asked)
    samples = tmp_path / "run" / "samples.jsonl"
    deadline = time.monotonic() + 300
    while not samples.exists() or samples.read_bytes().count(b"\n") < 20:
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.005)
    os.killpg(pid, signal.SIGINT)  # as a terminal does: the whole group, workers too
    assert server.wait(pid) == 130, server.log.read_text()
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "interrupted"
    done = parsed_samples(tmp_path / "run")
    assert 20 <= done < expected["n"]
    log = server.log.read_text()
    assert "same command again" in log
    assert "Traceback" not in log
    assert server.run(asked) == 4
    assert_same(json.loads((tmp_path / "run" / "results.json").read_text()), expected)
