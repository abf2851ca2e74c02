"""Command lines in forked processes: each starts in milliseconds, and can really be killed.

The server reads one JSON request a line from stdin and answers with one number a line:
{"warm": argv}: run it here, so that the forks find all imports done; the exit code.
{"argv": argv, "log": file, "environment": {...}}: run it in a fork; the process id.
{"wait": pid}: wait for its end; the exit code, negative if a signal killed it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class Server:
    """The other end: starts the server and talks to it. Command lines write to ``log``."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: dict[str, Any]) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def warm(self, argv: list[str]) -> int:
        return self.ask({"warm": argv})

    def start(self, argv: list[str], **environment: str) -> int:
        return self.ask({"argv": argv, "log": str(self.log), "environment": environment})

    def wait(self, pid: int) -> int:
        return self.ask({"wait": pid})

    def run(self, argv: list[str]) -> int:
        return self.wait(self.start(argv))

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=300)
        self.process.stdout.close()


def run(argv: list[str], log: str, environment: dict[str, str]) -> None:
    """In the forked process: its own process group, its own log, then the command line as from a shell."""
    os.environ.update(environment)
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    code = 1
    try:
        import cli

        cli.cli(argv)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def warm_up(argv: list[str]) -> int:
    """Run a command line in this process, so that the forks find everything imported."""
    from click.testing import CliRunner

    import cli

    return CliRunner().invoke(cli.cli, argv).exit_code


def main() -> None:
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
        elif "warm" in request:
            print(warm_up(request["warm"]), flush=True)
        else:
            pid = os.fork()
            if pid == 0:
                run(**request)
            print(pid, flush=True)


if __name__ == "__main__":
    main()
