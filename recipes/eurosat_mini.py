"""The small real data set of the demo: the first photos of each class of a EuroSAT test file, with its licence.

python -m recipes.eurosat_mini DIR/eurosat evals/data/eurosat-mini --per-class 30
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with test-*.parquet and LICENSE")
    parser.add_argument("out", type=Path)
    parser.add_argument("--per-class", type=int, default=30)
    arguments = parser.parse_args()
    table = pa.concat_tables([pq.read_table(file) for file in sorted(arguments.source.glob("test-*.parquet"))])
    taken: dict[int, int] = {}
    rows: list[int] = []
    for row, label in enumerate(table.column("label").to_pylist()):
        if taken.get(label, 0) < arguments.per_class:
            taken[label] = taken.get(label, 0) + 1
            rows.append(row)
    arguments.out.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.take(rows), arguments.out / "test-00000-of-00001.parquet", compression="zstd", row_group_size=100)
    shutil.copyfile(arguments.source / "LICENSE", arguments.out / "LICENSE")
    print(f"{len(rows)} photos of {len(taken)} classes")


if __name__ == "__main__":
    main()
