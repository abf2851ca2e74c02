"""CPU time of `permafrost --help`, interpreter start included: the ratio is to the limit of 0.3 s.

python -m benchmarks.bench_help
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.common import speak

LIMIT_S = 0.3
ROOT = Path(__file__).resolve().parents[1]


def cpu_seconds() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "cli", "--help"], cwd=ROOT, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    speak("help", usual_s=LIMIT_S, ours_s=min(cpu_seconds() for _ in range(5)), target=1.0, meaning="usual_s is the limit")


if __name__ == "__main__":
    main()
