"""The trained model as an ordinary transformers folder with float16 safetensors."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import CLIPModel, PreTrainedTokenizerBase

from recipes.pocket_clip.data import MEAN, STD
from recipes.pocket_clip.model import IMAGE_SIZE
from toolkit.files import atomic_write_json


def write(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write config, weights, tokenizer and processor; the card (README.md) in ``folder`` is left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    model = model.to("cpu", dtype=torch.float16).eval()
    model.set_attn_implementation("sdpa")
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    atomic_write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "resample": 3,
            "size": {"shortest_edge": IMAGE_SIZE},
            "do_center_crop": True,
            "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(MEAN),
            "image_std": list(STD),
        },
    )
    config = json.loads((folder / "config.json").read_text())
    config.pop("_name_or_path", None)
    atomic_write_json(folder / "config.json", config)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {size / 1e6:.2f} MB")
