"""The model card of pocket-llava, written from measured scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipes.pocket_llava.__main__ import BLIND_STEPS, LR, PARTS, QUESTIONS, ROWS, SCENES, SEED, STEPS
from toolkit.files import atomic_write_text

CARD = Path(__file__).with_suffix(".md")


def write(folder: Path, scores: Mapping[str, Mapping[str, Mapping[str, Any]]], *, hours: str) -> Path:
    """Write README.md into the model folder from its config and the scores of ``evaluate``."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="np") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118 (not a dict)
    parameters = sum(_product(shape) for shape in shapes)
    names = list(scores)
    first = scores[names[0]]
    cells = {kind: [f"{first[kind]['n']:,}", *(_cell(scores[name][kind]) for name in names)] for kind in first}
    rows = "\n".join(f"| {kind} | {' | '.join(own)} |" for kind, own in cells.items())
    text = CARD.read_text(encoding="utf-8").format(
        parameters=parameters / 1e6,
        megabytes=(folder / "model.safetensors").stat().st_size / 1e6,
        vocabulary=json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"],
        steps=STEPS, blind_steps=BLIND_STEPS, rows_a_step=ROWS, questions=QUESTIONS, lr=LR, seed=SEED, scenes=SCENES, parts=PARTS,
        hours=hours, head=" | ".join(names), rule="---|" * len(names), rows=rows,
    )  # fmt: skip
    return atomic_write_text(folder / "README.md", text)


def _cell(score: Mapping[str, Any]) -> str:
    return f"{100 * score['value']:.1f} % ({100 * score['ci95'][0]:.1f} to {100 * score['ci95'][1]:.1f})"


def _product(shape: list[int]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size
