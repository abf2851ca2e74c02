"""How well pocket-clip sees damage without training for it: AUROC of photos and of pixels, from texts alone."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import rankdata
from torch.nn import functional as F

from evals import bazaar
from evals.bazaar.items import Item
from toolkit.models.base import DualEncoder

GOODS, SEED, DRAWS = 800, 0, 500
SOUND = ("a flawless {}", "an undamaged {}", "a perfect {}", "a photo of a {} without damage", "a photo of a {} in perfect condition")
DAMAGED = ("a damaged {}", "a broken {}", "a photo of a {} with damage", "a photo of a {} with a defect", "a {} with visible damage")


def auroc(scores: np.ndarray, truth: np.ndarray) -> float:
    """The share of (true, false) pairs in the right order; ties count half."""
    ranks = rankdata(scores)
    n = int(truth.sum())
    return float((ranks[truth].sum() - n * (n + 1) / 2) / (n * (len(truth) - n)))


def damage_scores(encoder: DualEncoder) -> dict[str, dict[str, object]]:
    """AUROC of "has damage" over test items and of damaged pixels within damaged photos; bootstrap over photos."""
    goods = _test_items()
    found = encoder.encode_patches([bazaar.RenderedImage(thing.index) for thing in goods], batch_size=64)
    names = sorted({thing.category for thing in goods})
    contrast = torch.stack([_mean(encoder, DAMAGED, name) - _mean(encoder, SOUND, name) for name in names])
    contrast = contrast[[names.index(thing.category) for thing in goods]]
    image = torch.einsum("nd,nd->n", found.image, contrast).numpy()
    damaged = np.array([bool(thing.defects) for thing in goods])
    maps = torch.einsum("nhwd,nd->nhw", found.patches, contrast)[:, None]
    pixels = F.interpolate(maps, size=96, mode="bilinear", align_corners=False)[:, 0].numpy()
    where = [thing for thing in np.flatnonzero(damaged) if any(mask.any() for mask in bazaar.masks(goods[thing]).defects)]
    truth = {thing: np.logical_or.reduce(bazaar.masks(goods[thing]).defects) for thing in where}
    rng = np.random.default_rng(0)
    whole = [auroc(image[draw], damaged[draw]) for draw in rng.integers(0, len(goods), (DRAWS, len(goods)))]
    each = np.array([auroc(pixels[thing].ravel(), truth[thing].ravel()) for thing in where])
    means = each[rng.integers(0, len(each), (DRAWS, len(each)))].mean(axis=1)
    return {
        "damage in a photo, AUROC of texts": _entry(auroc(image, damaged), whole, len(goods)),
        "damaged pixels in a photo, mean AUROC of the patch map": _entry(float(each.mean()), means, len(each)),
    }


def _test_items() -> list[Item]:
    found: list[Item] = []
    index = 0
    while len(found) < GOODS:
        thing = bazaar.item(index, SEED)
        if bazaar.split_of(thing) == "test":
            found.append(thing)
        index += 1
    return found


def _mean(encoder: DualEncoder, templates: tuple[str, ...], name: str) -> torch.Tensor:
    return F.normalize(encoder.encode_texts([template.format(name) for template in templates]).mean(dim=0), dim=0)


def _entry(value: float, draws: object, n: int) -> dict[str, object]:
    low, high = np.quantile(np.asarray(draws), (0.025, 0.975))
    return {"value": round(value, 4), "ci95": [round(float(low), 4), round(float(high), 4)], "n": n}
