"""The trained model as an ordinary LLaVA folder of transformers with float16 safetensors."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import CLIPImageProcessor, LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast

from recipes.pocket_clip.data import MEAN, STD
from recipes.pocket_clip.model import IMAGE_SIZE, PATCH
from recipes.pocket_llava.tokenizer import IMAGE, TEMPLATE
from toolkit.files import atomic_write_json


def processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Images to 96 pixels, text with 144 image tokens for every ``<image>``."""
    images = CLIPImageProcessor(
        do_convert_rgb=True,
        do_resize=True,
        resample=3,
        size={"shortest_edge": IMAGE_SIZE},
        do_center_crop=True,
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=list(MEAN),
        image_std=list(STD),
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        image_token=IMAGE,
        num_additional_image_tokens=1,
    )


def write(model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write config, weights, tokenizer and processor; the card (README.md) in ``folder`` is left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    model = model.to("cpu", dtype=torch.float16).eval()
    model.set_attn_implementation("sdpa")
    model.generation_config.update(do_sample=False, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder, safe_serialization=True)
    processor(tokenizer).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("_name_or_path", None)
    atomic_write_json(folder / "config.json", config)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {size / 1e6:.2f} MB")
