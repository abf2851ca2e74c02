"""Tiny dual encoders with random weights, written in the formats that real checkpoints have on disk.

Each builder takes an empty folder and a seed and writes weights, configuration, tokenizer and preprocessing: about 70,000
parameters in a tenth of a second. The global random state is left as it was.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

SENTENCE = "a photo of the bad good large small red green blue black white dog cat phone shoe bag with cracked screen and no laces"
WORDS = SENTENCE.split(" ")
VISION: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
}  # fmt: skip
SIGLIP_SPECIALS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
TEXT: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte-level vocabulary and merges of CLIP's kind: any text can be written, WORDS are one token each."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    merges: dict[tuple[str, str], None] = {}
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merges[(pieces[0], pieces[1])] = None
            pieces[:2] = [pieces[0] + pieces[1]]
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += dict.fromkeys(left + right for left, right in merges)
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}, list(merges)


def clip_tokenizer(context: int = 77) -> Any:
    from transformers import CLIPTokenizer

    vocabulary, merges = clip_vocabulary()
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=context)


def _plain_tokenizer(context: int, *, eos: bool, **extra: Any) -> Any:
    """One token a word, in the tokenizer.json format; [UNK] for all other words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    specials = ["[PAD]", "[EOS]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: number for number, word in enumerate([*specials, *WORDS, *"0123456789.,"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    single = "$A [EOS]" if eos else "[CLS] $A [SEP]"
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=[(s, vocabulary[s]) for s in specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=context, pad_token="[PAD]", unk_token="[UNK]",
        eos_token="[EOS]" if eos else None, cls_token=None if eos else "[CLS]", sep_token=None if eos else "[SEP]", **extra,
    )  # fmt: skip


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _stir(module: torch.nn.Module, seed: int) -> None:
    """Weights large enough that the embeddings of different inputs differ clearly."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(module.named_parameters()):
            if "logit" in name:
                weight.fill_(3.0 if "scale" in name else -1.0)
            elif weight.ndim >= 2:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
            else:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.05)


def _write_hf(folder: Path, model: Any, seed: int, processors: list[Any], shard_size: str = "1GB") -> Path:
    _stir(model, seed)
    model.save_pretrained(folder, max_shard_size=shard_size)
    for processor in processors:
        processor.save_pretrained(folder)
    return folder


def tiny_hf_clip(folder: Path, *, seed: int = 0, activation: str = "quick_gelu", shard_size: str = "1GB", context: int = 77) -> Path:
    """A transformers CLIPModel folder: 32 px, patch 8, D = 24, causal text tower with EOT pooling."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    tokenizer = clip_tokenizer(context)
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    text = {**TEXT, **special, "vocab_size": len(tokenizer), "max_position_embeddings": context, "hidden_act": activation}
    with _seeded(seed):
        model = CLIPModel(CLIPConfig(text_config=text, vision_config={**VISION, "hidden_act": activation}, projection_dim=24))
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return _write_hf(Path(folder), model, seed, [tokenizer, images], shard_size)


def tiny_siglip(folder: Path, *, seed: int = 0) -> Path:
    """A transformers SiglipModel folder: 32 px, patch 8, D = 32, bidirectional text tower that pools the last position."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    tokenizer = _plain_tokenizer(64, eos=True, model_input_names=["input_ids"])
    text = {**TEXT, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 32, **SIGLIP_SPECIALS}
    with _seeded(seed):
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))
    return _write_hf(Path(folder), model, seed, [tokenizer, SiglipImageProcessor(size={"height": 32, "width": 32})])


def tiny_siglip2(folder: Path, *, seed: int = 0) -> Path:
    """A transformers Siglip2Model folder (native aspect ratio): at most 16 patches of 8 px, D = 32."""
    from transformers import Siglip2Config, Siglip2ImageProcessor, Siglip2Model, Siglip2Tokenizer

    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = {token: number for number, token in enumerate([*specials, "▁", *"abcdefghijklmnopqrstuvwxyz0123456789.,"])}
    tokenizer = Siglip2Tokenizer(vocab=letters, merges=[], padding_side="right", model_max_length=64, model_input_names=["input_ids"])
    text = {**TEXT, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 32, **SIGLIP_SPECIALS}
    vision = {**VISION, "num_patches": 16}
    del vision["image_size"]
    with _seeded(seed):
        model = Siglip2Model(Siglip2Config(text_config=text, vision_config=vision))
    return _write_hf(Path(folder), model, seed, [tokenizer, Siglip2ImageProcessor(patch_size=8, max_num_patches=16)])


def tiny_vtde(folder: Path, *, seed: int = 0) -> Path:
    """A VisionTextDualEncoderModel folder: ViT and BERT towers with linear projections, D = 24."""
    from transformers import BertConfig, VisionTextDualEncoderConfig, VisionTextDualEncoderModel, ViTConfig, ViTImageProcessor

    tokenizer = _plain_tokenizer(64, eos=False)
    text = BertConfig(**TEXT, vocab_size=len(tokenizer), max_position_embeddings=64, pad_token_id=0)
    config = VisionTextDualEncoderConfig.from_vision_text_configs(ViTConfig(**VISION), text, projection_dim=24)
    with _seeded(seed):
        model = VisionTextDualEncoderModel(config)
    return _write_hf(Path(folder), model, seed, [tokenizer, ViTImageProcessor(size={"height": 32, "width": 32})])


def open_clip_config(*, context: int = 77, quick_gelu: bool = False, **text: Any) -> dict[str, Any]:
    """The model_cfg of a tiny ViT with CLIP's own tokenizer replaced by the tiny one."""
    tokenizer = clip_tokenizer(context)
    return {
        "embed_dim": 24,
        "quick_gelu": quick_gelu,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "mlp_ratio": 2.0},
        "text_cfg": {
            "context_length": context, "vocab_size": len(tokenizer), "width": 32, "heads": 2, "layers": 2, "mlp_ratio": 2.0,
            "hf_tokenizer_name": "tiny", "pool_type": "eos", "eos_id": tokenizer.eos_token_id, **text,
        },
    }  # fmt: skip


def tiny_open_clip(folder: Path, *, seed: int = 0, model_cfg: dict[str, Any] | None = None, preprocess: dict[str, Any] | None = None,
                   pickled: bool = False) -> Path:  # fmt: skip
    """An open_clip folder as push_to_hf_hub writes it: open_clip_config.json, open_clip_model.safetensors, tokenizer files."""
    import open_clip
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = model_cfg or open_clip_config()
    default = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "shortest"}
    whole = {"model_cfg": config, "preprocess_cfg": preprocess or default}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    if config["text_cfg"].get("hf_tokenizer_name"):
        clip_tokenizer(config["text_cfg"].get("context_length", 77)).save_pretrained(folder)
    kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    with _seeded(seed):
        model = kind(**{key: value for key, value in copy.deepcopy(config).items() if key != "custom_text"})
    _stir(model, seed)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if pickled:
        torch.save(weights, folder / "open_clip_pytorch_model.bin")
    else:
        save_file(weights, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    return folder
