"""The table of methods on EuroSAT comes out of one command, with every column filled from predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.tasks import get_task
from recipes.tables import eurosat_methods as table
from toolkit.files import read_json
from toolkit.methods import list_methods
from toolkit.models import load_encoder


def test_every_method_has_a_row() -> None:
    assert {row.method for row in table.ROWS} == set(list_methods("classify"))


def test_the_command_on_a_few_real_photos(
    shared_data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [row for row in table.ROWS if row.method in ("zero-shot", "assigned", "classname-free", "nearest-mean")]
    monkeypatch.setattr(table, "ROWS", [row._replace(shots=[s for s in (0, 2) if s in (0,) or row.shots != (0,)]) for row in kept[:8]])
    monkeypatch.setattr(table, "SHOTS", (0, 2))
    out = tmp_path / "table.md"
    data, model = str(shared_data / "eurosat"), f"local:{tiny_model}"
    table.main(["--data", data, "-m", model, "--limit", "40", "--draws", "2", "--device", "cpu", "--out", str(out)])
    facts = read_json(out.with_suffix(".json"))
    page = out.read_text()
    assert {(row["label"], row["shots"]) for row in facts["rows"]} == {(row.label, shots) for row in table.ROWS for shots in row.shots}
    for row in facts["rows"]:
        assert row["n"] == 40
        assert row["ci95"][0] <= row["accuracy"] <= row["ci95"][1]
        assert np.isclose(np.mean(row["each"]), row["accuracy"])
        assert f"| {row['label']} |" in page
    caption = facts["rows"][0]
    assert caption["gain"] == 0
    task = get_task("eurosat", data=shared_data / "eurosat")
    encoder: Any = load_encoder(f"local:{tiny_model}", cache=False, device="cpu")
    samples = list(task.samples(40))
    again = table.right(table.ROWS[0], encoder, task, samples, (), 0)
    assert np.isclose(again.mean(), caption["accuracy"])
    top = facts["recall_at_3"]
    assert caption["accuracy"] <= top <= 1
    for row in facts["rows"]:
        if row["method"] == "classname-free":
            assert row["accuracy"] <= top + 1e-9
