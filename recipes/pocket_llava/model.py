"""The architecture of pocket-llava and its training forward pass."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from recipes.pocket_clip.model import TOKENS
from recipes.pocket_llava.tokenizer import IMAGE

WIDTH, LAYERS, HEADS, INNER = 160, 8, 5, 400


def build(clip: CLIPModel, tokenizer: PreTrainedTokenizerFast, *, blind: bool = False) -> LlavaForConditionalGeneration:
    """A model whose vision tower is that of ``clip``, frozen, and the rest freshly initialised; ``blind`` models never get images."""
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    config = LlavaConfig(
        vision_config=clip.config.vision_config,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        projector_hidden_act="gelu",
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=TOKENS,
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration._from_config(config, attn_implementation="eager")
    tower = model.model.vision_tower
    weights = {name.removeprefix("vision_model."): tensor for name, tensor in clip.state_dict().items() if name.startswith("vision_model.")}
    own = tower.state_dict()
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in own) else ""  # differs between versions
    tower.load_state_dict({prefix + name: tensor for name, tensor in weights.items()})
    tower.requires_grad_(False)
    if blind:
        model.model.multi_modal_projector.requires_grad_(False)
    return model


@torch.no_grad()
def initialise(model: LlavaForConditionalGeneration, seen: Tensor | None) -> None:
    """A start from which a narrow decoder learns to look at once: residuals of size 1, queries that find their like, heads that copy.

    Args:
        seen: (N, D) patch features of some pictures; the projector starts by whitening them, since a few of their directions are far
            larger than those that tell things apart. None: no images.
    Source: Trockman and Kolter 2023, arXiv 2305.09828 (weights of query and key alike, value and output near the identity).
    """
    language = model.model.language_model
    language.embed_tokens.weight.normal_(std=1.0)
    model.lm_head.weight.copy_(0.05 * language.embed_tokens.weight)
    for layer in language.layers:
        attention, mlp = layer.self_attn, layer.mlp
        attention.q_proj.weight.normal_(std=1.5 * WIDTH**-0.5)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH)).Q
        attention.v_proj.weight.copy_(turn)
        attention.o_proj.weight.copy_(0.3 * turn.T)
        for parameter in mlp.parameters():
            parameter.normal_(std=parameter.shape[1] ** -0.5)
        mlp.down_proj.weight.mul_((2 * LAYERS) ** -0.5)
    if seen is None:
        return
    first, second = model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2
    mean = seen.mean(dim=0)
    values, directions = torch.linalg.eigh(torch.cov((seen - mean).T))
    values, directions = values[-WIDTH:], directions[:, -WIDTH:]
    whiten = (directions / (values + 0.01 * values.mean()).sqrt()).T  # (W, D)
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH)).Q
    first.weight.copy_(turn @ whiten)
    first.bias.copy_(-(turn @ whiten) @ mean)
    second.weight.normal_(std=1.7 * WIDTH**-0.5)
    second.bias.zero_()


@torch.no_grad()
def features(model: LlavaForConditionalGeneration, pixels: Tensor) -> Tensor:
    """(B, P, D) patch features of the tower as the projector gets them, of pixels (B, 3, S, S)."""
    hidden: Tensor = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
    return hidden[:, 1:]


def answer_loss(model: LlavaForConditionalGeneration, batch: dict[str, Tensor]) -> Tensor:
    """Mean cross entropy of the answers' tokens.

    Args:
        batch: ``ids``, ``positions``, ``segments`` (B, L): token, its position, and its question (0: what all share; -1: padding);
            ``labels`` (B, L): the next token where it is part of an answer, else -100; ``features`` (B, I, P, D) of a row's I images.
    """
    ids, segments = batch["ids"], batch["segments"]
    embeddings = model.get_input_embeddings()(ids)
    if "features" in batch:
        seen = model.model.multi_modal_projector(batch["features"].to(embeddings.dtype)).flatten(1, 2)
        is_image = ids == model.config.image_token_index
        embeddings = embeddings.masked_scatter(is_image[..., None], seen.to(embeddings.dtype))
    length = ids.shape[1]
    order = torch.arange(length, device=ids.device)
    allowed = (order[None, :] <= order[:, None])[None] & ((segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None]))
    kind = torch.get_autocast_dtype(ids.device.type) if torch.is_autocast_enabled(ids.device.type) else embeddings.dtype
    mask = torch.zeros(allowed.shape, device=ids.device, dtype=kind).masked_fill(~allowed, torch.finfo(kind).min)[:, None]
    hidden = model.model.language_model(
        inputs_embeds=embeddings, attention_mask=mask, position_ids=batch["positions"], use_cache=False
    ).last_hidden_state
    counted = batch["labels"] >= 0
    logits = model.lm_head(hidden[counted])
    return F.cross_entropy(logits.float(), batch["labels"][counted])
