"""A row of packed questions trains exactly what one question through the processor is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from evals.bazaar.scene import render_scene, scene
from evals.bazaar.vqa import training_questions
from toolkit.models.pocket import shipped_folder

SCENES = 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from transformers import CLIPModel

    from recipes.pocket_llava import data, model
    from recipes.pocket_llava.tokenizer import train_tokenizer

    torch.manual_seed(0)
    asked = [pair for index in range(40) for pair in training_questions(scene(index, 1), 4)]
    tokenizer = train_tokenizer(["USER: ", *(f"{q}{data.POST_PROMPTS[0]} ASSISTANT: {a}" for q, a in asked)], 500)
    llava = model.build(CLIPModel.from_pretrained(shipped_folder("pocket-clip"), dtype=torch.float32), tokenizer).eval()
    pixels = np.stack([render_scene(scene(index, 1)) for index in range(SCENES)])
    folder = tmp_path_factory.mktemp("llava")
    pictures = data.encode(llava, pixels, folder / "pictures.npy", crops=False)
    parts = data.encode(llava, pixels, folder / "parts.npy", crops=True)
    rows = data.Rows(tokenizer, pictures, parts, SCENES, rows=2, questions=3, seed=0)
    return {"tokenizer": tokenizer, "llava": llava, "pixels": pixels, "rows": rows}


def one_by_one(made: dict[str, Any], draw: int, images: int) -> float:
    """The loss of the same questions, each alone through processor and model."""
    from PIL import Image

    from recipes.pocket_llava import data, export

    rows, processor = made["rows"], export.processor(made["tokenizer"])
    rng = np.random.default_rng([rows.seed, draw])
    rng.random()
    total, count = 0.0, 0
    for index in np.sort(rng.choice(SCENES, size=rows.rows, replace=False)):
        asked = training_questions(scene(int(index), 1), rows.questions, draw=draw)
        posts = rng.choice(len(data.POST_PROMPTS), size=len(asked), p=data.POST_SHARES)
        photo = Image.fromarray(made["pixels"][index])
        shown = [photo, photo.crop(data.crop_box(int(index))).resize(photo.size, Image.Resampling.BICUBIC)][:images]
        for (question, answer), post in zip(asked, posts, strict=True):
            content = [{"type": "image"}] * images + [{"type": "text", "text": question + data.POST_PROMPTS[post]}]
            prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            inputs = processor(images=shown, text=f"{prompt} {answer}</s>", return_tensors="pt")
            start = processor(images=shown, text=prompt, return_tensors="pt")["input_ids"].shape[1]
            with torch.no_grad():
                logits = made["llava"](**inputs).logits[0, start - 1 : -1]
            total += torch.nn.functional.cross_entropy(logits, inputs["input_ids"][0, start:], reduction="sum").item()
            count += inputs["input_ids"].shape[1] - start
    return total / count


@pytest.mark.parametrize("images", [1, 2])
def test_packed_rows_equal_single_questions(made: dict[str, Any], images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from recipes.pocket_llava import data, model

    monkeypatch.setattr(data, "TWO_IMAGES", float(images - 1))
    with torch.no_grad():
        packed = model.answer_loss(made["llava"], made["rows"]([3])).item()
    assert packed == pytest.approx(one_by_one(made, 3, images), abs=2e-4)  # features are kept in float16


def test_the_tower_is_pocket_clips_and_stays(made: dict[str, Any]) -> None:
    from transformers import CLIPModel

    clip = CLIPModel.from_pretrained(shipped_folder("pocket-clip"), dtype=torch.float32)
    pixels = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        expected = clip.vision_model(pixels, output_hidden_states=True).hidden_states[-1][:, 1:]
        found = made["llava"].get_image_features(pixel_values=pixels, vision_feature_layer=-1, vision_feature_select_strategy="default")
        found = getattr(found, "pooler_output", found)
        projected = made["llava"].model.multi_modal_projector(expected)
    torch.testing.assert_close(torch.stack(list(found)), projected, rtol=1e-5, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in made["llava"].model.vision_tower.parameters())
