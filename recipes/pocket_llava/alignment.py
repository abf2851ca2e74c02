"""The first stage of pocket-llava: the projector learns to say, of each image token, the words of what lies under it.

As LLaVA's first stage does with captions, but for every patch by itself, since the masks of a scene are known; no decoder is needed for it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from evals.bazaar.scene import Placed, scene, scene_masks
from recipes.pocket_clip.regions import cover
from recipes.pocket_llava.data import TRAIN_SEED

SCENES, STEPS, BATCH, LR = 2500, 700, 2048, 3e-3
LEAST = 100  # of 255: how much of a patch a thing covers to lend it its words


def words_of(placed: Placed) -> list[str]:
    """What is said of a thing, wherever one looks at it."""
    thing = placed.item
    return [thing.category, thing.colour, thing.pattern, thing.material]


def targets(tokenizer: PreTrainedTokenizerFast, count: int) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
    """Scene and patch of each labelled patch of ``count`` scenes, and the token ids of its words."""
    known: dict[str, list[int]] = {}

    def tokens(word: str) -> list[int]:
        if word not in known:
            known[word] = tokenizer(f" {word}", add_special_tokens=False).input_ids
        return known[word]

    where: list[tuple[int, int]] = []
    ids: list[list[int]] = []
    for index in range(count):
        shown = scene(index, TRAIN_SEED)
        found = scene_masks(shown)
        words: dict[int, list[str]] = {}
        for placed, mask, defects in zip(shown.things, found.things, found.defects, strict=True):
            for patch in np.flatnonzero(cover(mask) >= LEAST):
                words[int(patch)] = words_of(placed)
            for defect, hurt in zip(placed.item.defects, defects, strict=True):
                for patch in np.flatnonzero(cover(hurt) >= LEAST):
                    words[int(patch)] = [*words.get(int(patch), [placed.item.category]), defect.type]
        if shown.tag is not None and found.tag is not None:
            for patch in np.flatnonzero(cover(found.tag) >= LEAST):
                words[int(patch)] = ["price tag", str(shown.tag.price)]
        for patch, said in words.items():
            where.append((index, patch))
            ids.append([token for word in said for token in tokens(word)])
    scenes, patches = np.array(where).T
    return scenes, patches, ids


def align(model: LlavaForConditionalGeneration, pictures: np.ndarray, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> float:
    """Train the projector; returns the last loss, the cross entropy against the words of a patch less its own entropy."""
    scenes, patches, ids = targets(tokenizer, min(SCENES, len(pictures)))
    longest = max(map(len, ids))
    padded = torch.tensor([own + [-1] * (longest - len(own)) for own in ids])
    seen = torch.from_numpy(pictures[: int(scenes.max()) + 1][scenes, patches].astype(np.float32))
    words = F.normalize(model.get_input_embeddings().weight.detach(), dim=-1)
    projector = model.model.multi_modal_projector
    optimiser = torch.optim.AdamW(projector.parameters(), lr=LR, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=STEPS)
    draws = torch.Generator().manual_seed(seed)
    loss = torch.zeros(())
    for _ in range(STEPS):
        chosen = torch.randint(len(padded), (BATCH,), generator=draws)
        out = projector(seen[chosen])
        log_p = (12 * F.normalize(out, dim=-1) @ words.T).log_softmax(dim=-1)
        said = padded[chosen]
        count = (said >= 0).sum(dim=1)
        fit = (log_p.gather(1, said.clamp(min=0)) * (said >= 0)).sum(dim=1) / count + count.float().log()
        size = out.pow(2).mean(dim=-1)
        loss = -fit.mean() + 0.1 * (size - 1).pow(2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return float(loss.detach())
