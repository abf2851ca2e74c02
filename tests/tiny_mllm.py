"""Tiny multimodal language models with random weights, one of each family, and inputs for them without a processor.

Six decoder layers (Mllama: eight, two of them cross-attention), four heads, built from configuration classes in well under half
a second. Weights are scaled up, so that attention is far from uniform and two images never give the same logits. The global
random state is left as it was. ``tests.tiny_mllm_folders`` writes whole checkpoint folders with tokenizer and processor.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.tiny import _seeded as seeded

VOCABULARY = 512
PAD, BOS, EOS, IMAGE, VIDEO, VISION_START, VISION_END, BEGIN_IMAGE, END_IMAGE = range(9)
FIRST_WORD = 16  # ids below are special
SIDE, PATCH = 48, 8  # pixels: 6 x 6 patches
LAYERS, WIDTH, HEADS, KV_HEADS = 6, 64, 4, 2
ANY_RES = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]

TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 128, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS, "max_position_embeddings": 4096, "pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS,
}  # fmt: skip
VISION: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": SIDE, "patch_size": PATCH,
}  # fmt: skip


def _llava(kind: str, vision: str = "CLIPVisionConfig", text: str = "LlamaConfig", **settings: Any) -> Callable[[], Any]:
    def build() -> Any:
        import transformers

        config = getattr(transformers, f"{kind}Config")(
            vision_config=getattr(transformers, vision)(**VISION), text_config=getattr(transformers, text)(**TEXT, **_heads(text)),
            image_token_index=IMAGE, **settings,
        )  # fmt: skip
        return getattr(transformers, f"{kind}ForConditionalGeneration")(config)

    return build


def _heads(text: str) -> dict[str, Any]:
    return {"head_dim": WIDTH // HEADS} if text in ("GemmaConfig", "Gemma2Config") else {}


def _qwen(kind: str, vision: dict[str, Any], rope: dict[str, Any], **text: Any) -> Callable[[], Any]:
    def build() -> Any:
        import transformers

        common = {"depth": 3, "num_heads": 2, "patch_size": PATCH, "spatial_merge_size": 2, "temporal_patch_size": 2}
        config = getattr(transformers, f"{kind}Config")(
            vision_config={**common, **vision}, text_config={**TEXT, "rope_parameters": rope, **text}, image_token_id=IMAGE,
            video_token_id=VIDEO, vision_start_token_id=VISION_START, vision_end_token_id=VISION_END,
        )  # fmt: skip
        return getattr(transformers, f"{kind}ForConditionalGeneration")(config)

    return build


def _internvl() -> Any:
    from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, Qwen2Config

    vision = InternVLVisionConfig(**{**VISION, "image_size": [SIDE, SIDE], "patch_size": [PATCH, PATCH]})
    return InternVLForConditionalGeneration(
        InternVLConfig(vision_config=vision, text_config=Qwen2Config(**TEXT), image_token_id=IMAGE, image_seq_length=9)
    )


def _idefics(kind: str) -> Callable[[], Any]:
    def build() -> Any:
        import transformers

        text = transformers.LlamaConfig(**TEXT)
        config = getattr(transformers, f"{kind}Config")(
            vision_config=VISION, text_config=text, image_token_id=IMAGE, scale_factor=2, pad_token_id=PAD
        )
        return getattr(transformers, f"{kind}ForConditionalGeneration")(config)

    return build


def _gemma3() -> Any:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, SiglipVisionConfig

    kinds = ["full_attention", "sliding_attention"] * (LAYERS // 2)
    text = Gemma3TextConfig(**TEXT, head_dim=WIDTH // HEADS, sliding_window=64, layer_types=kinds, query_pre_attn_scalar=WIDTH // HEADS)
    return Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config=text, vision_config=SiglipVisionConfig(**VISION), mm_tokens_per_image=9, image_token_index=IMAGE,
            boi_token_index=BEGIN_IMAGE, eoi_token_index=END_IMAGE,
        )
    )  # fmt: skip


def _instructblip() -> Any:
    from transformers import InstructBlipConfig, InstructBlipForConditionalGeneration, LlamaConfig

    qformer = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "encoder_hidden_size": 32,
    }  # fmt: skip
    text = LlamaConfig(**TEXT)
    return InstructBlipForConditionalGeneration(
        InstructBlipConfig(vision_config=VISION, qformer_config=qformer, text_config=text, num_query_tokens=8, image_token_index=IMAGE)
    )


def _mllama() -> Any:
    from transformers import MllamaConfig, MllamaForConditionalGeneration

    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 2,
        "image_size": SIDE, "patch_size": PATCH, "vision_output_dim": 64, "intermediate_layers_indices": [1], "max_num_tiles": 1,
        "supported_aspect_ratios": [[1, 1]],
    }  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    text = {**TEXT, "num_hidden_layers": 8, "cross_attention_layers": [3, 6], "rope_parameters": rope}
    return MllamaForConditionalGeneration(MllamaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE))


def _mrope(*section: int, **more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": list(section), **more}


FAMILIES: dict[str, Callable[[], Any]] = {
    "llava": _llava("Llava", image_seq_length=36),
    "llava_next": _llava("LlavaNext", image_seq_length=36, image_grid_pinpoints=ANY_RES),
    "vipllava": _llava("VipLlava", image_seq_length=36, vision_feature_layers=[-2, -3]),
    "llava_onevision": _llava("LlavaOnevision", "SiglipVisionConfig", "Qwen2Config", video_token_index=VIDEO, image_grid_pinpoints=ANY_RES),
    "qwen2_vl": _qwen("Qwen2VL", {"embed_dim": 32, "hidden_size": WIDTH}, _mrope(2, 3, 3)),
    "qwen2_5_vl": _qwen(
        "Qwen2_5_VL",
        {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": WIDTH, "window_size": 32, "fullatt_block_indexes": [1]},
        _mrope(2, 3, 3),
    ),
    "qwen3_vl": _qwen(
        "Qwen3VL",
        {
            "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": WIDTH, "num_position_embeddings": 36,
            "deepstack_visual_indexes": [0, 1],
        },
        _mrope(4, 2, 2, mrope_interleaved=True), head_dim=WIDTH // HEADS,
    ),
    "internvl": _internvl,
    "smolvlm": _idefics("SmolVLM"),
    "idefics3": _idefics("Idefics3"),
    "paligemma": _llava("PaliGemma", "SiglipVisionConfig", "GemmaConfig", projection_dim=WIDTH),
    "gemma3": _gemma3,
    "instructblip": _instructblip,
    "mllama": _mllama,
}  # fmt: skip
CROSS_ATTENTION = ("mllama",)  # images do not stand among the tokens
IMAGES_FIRST = ("paligemma", "instructblip")


def build(family: str, seed: int = 0, *, scale: float = 0.15, **config: Any) -> Any:
    """A model of ``family`` with random weights, fp32 on the CPU, in eval mode.

    Args:
        scale: standard deviation of the matrices; attention gets sharper with it.
        config: attributes of the text configuration that are set after building, such as ``sliding_window``.
    """
    with seeded(seed):
        model = FAMILIES[family]()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.ndim >= 2:
                weight.copy_(torch.randn(weight.shape, generator=generator) * scale * (4.0 if "embed_tokens" in name else 1.0))
            elif "gate" in name:
                weight.fill_(0.5)  # Mllama starts with closed gates
            else:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.05)
    for key, value in config.items():
        setattr(model.config.get_text_config(), key, value)
    model.tie_weights()
    return model.eval().requires_grad_(False)


def inputs(
    family: str, model: Any, batch: int = 2, padding: str | None = "left", *, seed: int = 0, images: int = 1, words: int = 7
) -> dict[str, torch.Tensor]:
    """A batch ready for ``model(**inputs)`` and ``model.generate(**inputs)``: words, images, words.

    Args:
        padding: side of the padding; row i has ``2 * i`` words less than row 0, down to 2. None: equal lengths, and the mask is all ones.
        images: pictures in every row, each with pixels of its own.
        words: text tokens behind the images; up to three stand before them, none where the family puts images first.
    """
    generator = torch.Generator().manual_seed(1000 + seed)
    vision, counts = _vision(family, model, batch * images, generator)
    before = 0 if family in IMAGES_FIRST else 3
    rows = []
    for row in range(batch):
        tokens = torch.randint(FIRST_WORD, VOCABULARY, (before + words,), generator=generator).tolist()
        length = words if padding is None else max(2, words - 2 * row)
        pictures = [_placeholders(family, count) for count in counts[row * images : (row + 1) * images]]
        rows.append([BOS, *tokens[:before], *(token for picture in pictures for token in picture), *tokens[before : before + length]])
        if family in IMAGES_FIRST:
            rows[-1].remove(BOS)
            rows[-1].insert(sum(counts[row * images : (row + 1) * images]), BOS)
    ids, mask = _pad(rows, padding or "left")
    made = {"input_ids": ids, "attention_mask": mask, **_folded(family, vision, batch, images)}
    if family in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl"):
        made["mm_token_type_ids"] = (ids == IMAGE).int()
    if family in ("gemma3", "paligemma"):
        made["token_type_ids"] = (ids == IMAGE).long() if family == "gemma3" else torch.zeros_like(ids)
    if family == "instructblip":
        made["qformer_input_ids"] = torch.randint(FIRST_WORD, VOCABULARY, (batch, 5), generator=generator)
        made["qformer_attention_mask"] = torch.ones(batch, 5, dtype=torch.long)
    if family == "mllama":
        seen = (ids == IMAGE).cumsum(-1).clamp(max=1)
        made["cross_attention_mask"] = seen[:, :, None, None].expand(-1, -1, images, 1).clone()
    return made


def _vision(family: str, model: Any, count: int, generator: torch.Generator) -> tuple[dict[str, torch.Tensor], list[int]]:
    """Pixels of ``count`` images, and how many placeholders each of them needs."""
    if family.startswith("qwen"):
        grid = (1, 6, 8) if count else (1, 0, 0)
        patches = torch.randn(count * 48, 3 * 2 * PATCH * PATCH, generator=generator)
        return {"pixel_values": patches, "image_grid_thw": torch.tensor([grid] * count)}, [12] * count
    if family in ("llava_next", "llava_onevision"):
        pixels = torch.randn(count, 3, 3, SIDE, SIDE, generator=generator)
        sizes = torch.tensor([[SIDE, 2 * SIDE]] * count)
        with torch.no_grad():
            features = model.get_image_features(pixels, sizes)
        features = getattr(features, "pooler_output", features)
        return {"pixel_values": pixels, "image_sizes": sizes}, [len(feature) for feature in features]
    pixels = torch.randn(count, 3, SIDE, SIDE, generator=generator)
    tokens = {"internvl": 9, "smolvlm": 9, "idefics3": 9, "gemma3": 9, "instructblip": 8, "mllama": 1}.get(family, 36)
    return {"pixel_values": pixels}, [tokens] * count


def _folded(family: str, vision: dict[str, torch.Tensor], batch: int, images: int) -> dict[str, torch.Tensor]:
    """The pixels in the shape that the family's forward takes."""
    if family in ("smolvlm", "idefics3"):
        pixels = vision["pixel_values"].view(batch, images, 3, SIDE, SIDE)
        return {"pixel_values": pixels, "pixel_attention_mask": torch.ones(batch, images, SIDE, SIDE, dtype=torch.bool)}
    if family == "mllama":
        return {
            "pixel_values": vision["pixel_values"].view(batch, images, 1, 3, SIDE, SIDE),
            "aspect_ratio_ids": torch.ones(batch, images, dtype=torch.long),
            "aspect_ratio_mask": torch.ones(batch, images, 1, dtype=torch.long),
        }
    return vision


def _placeholders(family: str, count: int) -> list[int]:
    if family.startswith("qwen"):
        return [VISION_START, *[IMAGE] * count, VISION_END]
    if family == "gemma3":
        return [BEGIN_IMAGE, *[IMAGE] * count, END_IMAGE]
    return [IMAGE] * count


def _pad(rows: list[list[int]], side: str) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), PAD)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for row, tokens in enumerate(rows):
        place = slice(longest - len(tokens), longest) if side == "left" else slice(0, len(tokens))
        ids[row, place] = torch.tensor(tokens)
        mask[row, place] = 1
    return ids, mask


def write_llava(folder: Path, seed: int = 0) -> Path:
    """A LLaVA-1.5 checkpoint folder in the real format: configuration, safetensors, tokenizer, processor, chat template."""
    return write("llava", folder, seed)


def write(family: str, folder: Path, seed: int = 0) -> Path:
    """The same of any family of ``tests.tiny_mllm_folders.FOLDERS``."""
    from tests import tiny_mllm_folders

    return tiny_mllm_folders.write(family, Path(folder), seed)
