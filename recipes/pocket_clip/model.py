"""The architecture of pocket-clip, its training forward pass (with token dropping) and its loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from recipes.pocket_clip.tokenizer import CONTEXT

IMAGE_SIZE, PATCH = 96, 8
TOKENS = (IMAGE_SIZE // PATCH) ** 2


def config(vocab_size: int, bos: int, eos: int) -> CLIPConfig:
    """ViT-S-thin/8 at 96 px (8 blocks of width 192) and a causal text tower (4 blocks of width 160), joint width 192."""
    return CLIPConfig(
        projection_dim=192,
        logit_scale_init_value=math.log(1 / 0.07),
        vision_config={
            "hidden_size": 192,
            "intermediate_size": 768,
            "num_hidden_layers": 8,
            "num_attention_heads": 3,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH,
            "hidden_act": "gelu",
            "projection_dim": 192,
        },
        text_config={
            "vocab_size": vocab_size,
            "hidden_size": 160,
            "intermediate_size": 640,
            "num_hidden_layers": 4,
            "num_attention_heads": 5,
            "max_position_embeddings": CONTEXT,
            "hidden_act": "gelu",
            "projection_dim": 192,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "pad_token_id": eos,
        },
    )


def build(vocab_size: int, bos: int, eos: int) -> CLIPModel:
    """A freshly initialised model. Eager attention: its backward pass is about twice as fast as sdpa's on CPU at these sizes."""
    return CLIPModel._from_config(config(vocab_size, bos, eos), attn_implementation="eager")


def image_embeddings(model: CLIPModel, pixels: Tensor, keep: int) -> Tensor:
    """(B, D) of (B, 3, S, S); trains on ``keep`` random patch tokens (Li et al. 2022, FLIP, arXiv 2212.00794)."""
    tower = model.vision_model
    hidden = tower.embeddings(pixels)
    if keep < TOKENS:
        order = torch.rand(len(pixels), TOKENS, device=pixels.device).argsort(dim=1)[:, :keep] + 1
        order = torch.cat([order.new_zeros(len(pixels), 1), order], dim=1)
        hidden = hidden.gather(1, order[..., None].expand(-1, -1, hidden.shape[-1]))
    hidden = tower.encoder(inputs_embeds=tower.pre_layrnorm(hidden)).last_hidden_state
    return model.visual_projection(tower.post_layernorm(hidden[:, 0]))


def token_embeddings(model: CLIPModel, pixels: Tensor) -> Tensor:
    """(B, 1 + P, D) of (B, 3, S, S): the photo's embedding, then its patches' in the same space."""
    tower = model.vision_model
    hidden = tower.encoder(inputs_embeds=tower.pre_layrnorm(tower.embeddings(pixels))).last_hidden_state
    tokens: Tensor = model.visual_projection(tower.post_layernorm(hidden))
    return tokens


def row_embeddings(tokens: Tensor, row_image: Tensor, row_weights: Tensor) -> Tensor:
    """(R, D): the embedding of the whole photo where a row's weights are all 0, else the weighted mean of its unit patch embeddings.

    Args:
        tokens: (B, 1 + P, D). row_image: (R,) into the photos. row_weights: (R, P), at least 0.
    """
    is_region = row_weights.sum(dim=1) > 0
    rows = tokens[row_image, 0].float()
    unit = F.normalize(tokens[:, 1:].float(), dim=-1)
    share = row_weights[is_region] / row_weights[is_region].sum(dim=1, keepdim=True)
    return rows.index_put((is_region.nonzero()[:, 0],), torch.einsum("rp,rpd->rd", share, unit[row_image[is_region]]).float())


def probe_loss(tokens: Tensor, kind: Tensor, category: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """How well texts about condition tell damaged photos and places from undamaged ones; each error counts, however rare its class.

    Args:
        tokens: (N, 1 + P, D) of photos. kind: (N, P) number of the damage at each patch, 0 for none. category: (N,) of the photos.
        texts: (C + 1, K + 2, D): without a noun, then about each category; undamaged, K kinds of damage, damaged.
    """
    unit = F.normalize(tokens.float(), dim=-1)
    texts = F.normalize(texts.float(), dim=-1)
    places = scale * unit[:, 1:] @ texts[0].T  # (N, P, K + 2)
    damaged = kind > 0
    by_kind = F.cross_entropy(places[..., :-1].flatten(0, 1), kind.flatten(), reduction="none").view_as(kind)
    by_any = F.binary_cross_entropy_with_logits(places[..., -1] - places[..., 0], damaged.float(), reduction="none")
    dense = sum(error[where].mean() for error in (by_kind, by_any) for where in (damaged, ~damaged)) / 4
    whole = scale * torch.einsum("nd,nkd->nk", unit[:, 0], texts[category + 1])
    numbers = torch.arange(1, texts.shape[1] - 1, device=kind.device)
    has = torch.cat([(kind[:, :, None] == numbers).any(dim=1), damaged.any(dim=1, keepdim=True)], dim=1)
    error = F.binary_cross_entropy_with_logits(whole[:, 1:] - whole[:, :1], has.float(), reduction="none")
    return dense + (error[has].mean() + error[~has].mean()) / 2 + error[:, -1].mean()


def text_embeddings(model: CLIPModel, ids: Tensor) -> Tensor:
    """(T, D) of (T, L) token ids, padded with the end-of-text token."""
    out = model.get_text_features(input_ids=ids)
    return out if isinstance(out, Tensor) else out.pooler_output


def multi_positive_loss(images: Tensor, texts: Tensor, positive: Tensor, scale: Tensor) -> Tensor:
    """Contrastive loss in both directions where every true (text, image) pair of the batch is a positive.

    Args:
        images: (B, D), texts: (T, D), raw. positive: (T, B) bool; rows and columns without a True do not count.
        scale: scalar, the factor on cosines.
    Returns: scalar; each direction is the cross entropy against the uniform distribution over the positives, less that
        distribution's own entropy, so 0 is the best value.
    Source: Yang et al. 2022 (UniCL), arXiv 2204.03610, Eq. 3 and 4; truth comes from the facts of captions instead of labels.
    """
    logits = scale * F.normalize(texts.float(), dim=-1) @ F.normalize(images.float(), dim=-1).T
    loss = logits.new_zeros(())
    for values, mask in ((logits, positive), (logits.T, positive.T)):
        known = mask.any(dim=1)
        mask, log_p = mask[known], values[known].log_softmax(dim=1)
        count = mask.sum(dim=1)
        loss = loss - ((log_p * mask).sum(dim=1) / count + count.float().log()).mean() / 2
    return loss


def clamp_scale(model: nn.Module) -> None:
    """CLIP's bound: the factor on cosines never passes 100."""
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))
