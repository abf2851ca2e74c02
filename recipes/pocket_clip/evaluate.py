"""The held-out scores on pocket-clip's card: ``python -m recipes.pocket_clip.evaluate --eurosat DIR``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from evals import bazaar
from evals.bazaar.captions import attribute_caption, line_attribute_texts
from evals.bazaar.lines import LINES
from evals.tasks import get_task
from recipes.pocket_clip import card
from recipes.pocket_clip.__main__ import DEFAULT_STEPS, LR, REGION_LR, REGION_STEPS, SEED
from recipes.pocket_clip.probing import damage_scores
from toolkit.files import atomic_write_json
from toolkit.models import load_encoder
from toolkit.models.base import DualEncoder
from toolkit.stats import wilson

GALLERY = 1000


def share(correct: Tensor) -> dict[str, object]:
    """A proportion with its Wilson interval."""
    low, high = wilson(int(correct.sum()), len(correct))
    return {"value": round(correct.float().mean().item(), 4), "ci95": [round(low, 4), round(high, 4)], "n": len(correct)}


def zero_shot(encoder: DualEncoder, name: str, texts: list[list[str]] | None = None, **options: object) -> dict[str, object]:
    """Top-1 of a task with its first template, or with a list of texts for each class (mean of their embeddings)."""
    task = get_task(name, **options)  # type: ignore[arg-type]
    samples = list(task.samples())
    images = encoder.encode_images([sample.image for sample in samples], batch_size=64)
    texts = texts or [[task.templates[0].format(classname)] for classname in task.classnames]
    weights = torch.stack([encoder.encode_texts(own).mean(dim=0) for own in texts])
    weights = torch.nn.functional.normalize(weights, dim=-1)
    labels = torch.tensor([sample.label for sample in samples])
    return share((images @ weights.T).argmax(dim=1) == labels)


def retrieval(encoder: DualEncoder) -> dict[str, object]:
    """Text-to-image recall@10 of full attribute captions among ``GALLERY`` test items; an item with the same caption counts."""
    items = [bazaar.item(index) for index in range(GALLERY)]  # of marketplace 0: training used marketplace 1
    captions = [attribute_caption(item) for item in items]
    images = encoder.encode_images([bazaar.RenderedImage(item.index) for item in items], batch_size=64)
    top = (encoder.encode_texts(captions) @ images.T).topk(10, dim=1).indices
    return share(torch.tensor([any(captions[k] == caption for k in row) for caption, row in zip(captions, top.tolist(), strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket-clip")
    parser.add_argument("--eurosat", type=Path)
    parser.add_argument("--sign-digits", type=Path)
    parser.add_argument("--fashion-mnist", type=Path)
    parser.add_argument("--out", type=Path, help="write the scores as JSON")
    parser.add_argument("--card", type=Path, help="write README.md into this model folder")
    parser.add_argument("--hours", default="", help="a sentence for the card on where and how long it was trained")
    arguments = parser.parse_args()
    encoder = load_encoder(arguments.model, device="auto", cache=False)
    heldout = get_task("bazaar/lines-heldout").classnames
    lines = [LINES[name] for name in heldout]
    result = {
        "bazaar/category": zero_shot(encoder, "bazaar/category"),
        "bazaar/lines by name": zero_shot(encoder, "bazaar/lines"),
        "bazaar/lines-heldout by name": zero_shot(encoder, "bazaar/lines-heldout"),
        "bazaar/lines-heldout by attribute texts": zero_shot(
            encoder, "bazaar/lines-heldout", [list(line_attribute_texts(line)) for line in lines]
        ),
        "attribute caption retrieval recall@10 of 1000": retrieval(encoder),
        **damage_scores(encoder),
    }
    for name in ("eurosat", "sign_digits", "fashion_mnist"):
        if folder := getattr(arguments, name):
            result[f"{name}, plain class names"] = zero_shot(encoder, name, data=folder)
    print(json.dumps(result, indent=1))
    if arguments.out:
        atomic_write_json(arguments.out, result)
    if arguments.card:
        settings = {"steps": DEFAULT_STEPS, "lr": LR, "seed": SEED, "region_steps": REGION_STEPS, "region_lr": REGION_LR}
        card.write(arguments.card, result, hours=arguments.hours, **settings)


if __name__ == "__main__":
    main()
