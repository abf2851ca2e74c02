"""The model card of pocket-clip, written from measured scores: ``python -m recipes.pocket_clip.evaluate ... --card``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.files import atomic_write_text

CARD = Path(__file__).with_suffix(".md")


def write(folder: Path, scores: Mapping[str, Mapping[str, Any]], *, hours: str, **settings: float) -> Path:
    """Write README.md into the model folder from its config and the scores of ``evaluate``."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="np") as weights:
        parameters = sum(int(_size(weights.get_slice(name).get_shape())) for name in weights.keys())  # noqa: SIM118 (not a dict)
    rows = "\n".join(
        f"| {name} | {100 * score['value']:.1f} % | {100 * score['ci95'][0]:.1f} to {100 * score['ci95'][1]:.1f} % | {score['n']:,} |"
        for name, score in scores.items()
    )
    text = CARD.read_text(encoding="utf-8").format(
        parameters=parameters / 1e6,
        megabytes=(folder / "model.safetensors").stat().st_size / 1e6,
        vocabulary=json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"],
        hours=hours,
        **settings,
        rows=rows,
    )
    return atomic_write_text(folder / "README.md", text)


def _size(shape: list[int]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size
