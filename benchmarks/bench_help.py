"""CPU time of `permafrost --help`, interpreter start included: the ratio is to the limit of 0.3 s.

python -m benchmarks.bench_help
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.common import Seconds, speak

LIMIT_S = 0.3
ROOT = Path(__file__).resolve().parents[1]


def cpu_seconds() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "cli", "--help"], cwd=ROOT, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    limit, least = Seconds(LIMIT_S, LIMIT_S), min(cpu_seconds() for _ in range(5))
    speak("help", usual=limit, ours=Seconds(least, least), target=1.0, meaning="usual is the limit; both are CPU seconds")


if __name__ == "__main__":
    main()
