"""Checkpoint folders of tiny multimodal models, in the format that real ones have: configuration, safetensors, tokenizer, processor.

Tokens of the tokenizer have the ids that the models of ``tests.tiny_mllm`` expect: special ones first, then bytes, then some words.
Any text can be written, and generated ids can always be decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import tiny_mllm as tiny

SENTENCE = "what colour is the thing red green blue yes no how many are there two three USER ASSISTANT answer question in a word"
WORDS = SENTENCE.split(" ")
QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
IDEFICS = ["<pad>", "<|begin_of_text|>", "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>", "<unk>", "<|x7|>"]
LLAMA = ["<pad>", "<s>", "</s>", "<image>", "<video>", "<unk>"]
SPECIALS = {
    "internvl": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<IMG_CONTEXT>", "<video>", "<img>", "</img>"],
    "idefics3": [*IDEFICS, "<row_1_col_1>", "<row_1_col_2>", "<row_2_col_1>", "<row_2_col_2>"],
    "gemma3": [
        "<pad>", "<bos>", "<eos>", "<image_soft_token>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>",
    ],
    "paligemma": ["<pad>", "<bos>", "<eos>", "<image>", "<unk>"],
    "mllama": [
        "<|finetune_right_pad_id|>", "<|begin_of_text|>", "<|eot_id|>", "<|image|>", "<|python_tag|>", "<|start_header_id|>",
        "<|end_header_id|>",
    ],
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl"), QWEN),
}  # fmt: skip
_EACH = "{% for m in messages %}"
_PARTS = "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
_END = "{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"


def _chatml(image: str, before: str = "") -> str:
    return (
        before + _EACH + "{{ '<|im_start|>' + m['role'] + '\\n' }}" + _PARTS
        + "{% if c['type'] == 'image' %}{{ '" + image + "' }}{% endif %}"
        + _END + "{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )  # fmt: skip


_IMAGE_FIRST = "{% for c in m['content'] if c['type'] == 'image' %}<image>\n{% endfor %}"
TEMPLATES = {
    "llava": (
        _EACH + "{% if m['role'] == 'user' %}USER: " + _IMAGE_FIRST
        + "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }} {% endfor %}{% endif %}{% endfor %}"
        + "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    "qwen2_vl": _chatml("<|vision_start|><|image_pad|><|vision_end|>"),
    "internvl": _chatml("<IMG_CONTEXT>\\n"),
    "llava_onevision": _EACH + "USER: " + _PARTS + "{% if c['type'] == 'image' %}<image>\n{% endif %}" + _END + "{% endfor %} ASSISTANT:",
    "idefics3": "<|begin_of_text|>" + _EACH + "{{ m['role'] | capitalize + ': ' }}" + _PARTS
    + "{% if c['type'] == 'image' %}<image>{% endif %}" + _END
    + "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}",
    "gemma3": "{{ bos_token }}" + _EACH + "<start_of_turn>{{ m['role'] }}\n" + _PARTS
    + "{% if c['type'] == 'image' %}<start_of_image>{% endif %}" + _END
    + "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    "mllama": "{{ bos_token }}" + _EACH + "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n" + _PARTS
    + "{% if c['type'] == 'image' %}<|image|>{% endif %}" + _END
    + "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
}  # fmt: skip
TEMPLATES |= {"llava_next": TEMPLATES["llava"], "qwen2_5_vl": TEMPLATES["qwen2_vl"], "qwen3_vl": TEMPLATES["qwen2_vl"]}
TEMPLATES["vipllava"] = TEMPLATES["llava"].replace("USER: ", "###Human: ").replace("ASSISTANT:", "###Assistant:")


def tokenizer(family: str = "llava", **settings: Any) -> Any:
    """A byte-level BPE tokenizer of at most 512 tokens; the families' special tokens have the ids of ``tests.tiny_mllm``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    specials = SPECIALS.get(family, LLAMA)
    specials = [*specials, *(f"<|unused_{number}|>" for number in range(tiny.FIRST_WORD - len(specials)))]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: dict[tuple[str, str], None] = {}
    for word in [*WORDS, *("Ġ" + word for word in WORDS)]:
        pieces = list(word)
        while len(pieces) > 1:
            merges[(pieces[0], pieces[1])] = None
            pieces[:2] = [pieces[0] + pieces[1]]
    names = list(dict.fromkeys([*specials, *letters, *(left + right for left, right in merges)]))[: tiny.VOCABULARY]
    known = {name: number for number, name in enumerate(names)}
    kept = [pair for pair in merges if "".join(pair) in known]
    built = Tokenizer(models.BPE(vocab=known, merges=kept))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    begins = family not in ("internvl", "paligemma") and not family.startswith("qwen") and family != "llava_onevision"
    if begins:
        single = f"{specials[tiny.BOS]} $A"
        built.post_processor = processors.TemplateProcessing(single=single, special_tokens=[(specials[tiny.BOS], tiny.BOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=built, pad_token=specials[tiny.PAD], bos_token=specials[tiny.BOS], eos_token=specials[tiny.EOS],
        extra_special_tokens=_named(family, specials), **{"padding_side": "left", **settings},
    )  # fmt: skip


def _named(family: str, specials: list[str]) -> dict[str, str]:
    if family == "instructblip":  # its processor adds the token itself
        return {}
    if family == "internvl":
        return {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    if family == "gemma3":
        return {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    names = {"image_token": specials[tiny.IMAGE]}
    if family.startswith("qwen"):
        names |= {"video_token": "<|video_pad|>", "vision_bos_token": "<|vision_start|>", "vision_eos_token": "<|vision_end|>"}
    return names


def processor(family: str) -> Any:
    """The family's processor around a tiny tokenizer."""
    import transformers as hf

    side, small = {"height": tiny.SIDE, "width": tiny.SIDE}, {"shortest_edge": tiny.SIDE}
    words, template = tokenizer(family), TEMPLATES.get(family)
    common: dict[str, Any] = {"tokenizer": words, "chat_template": template}
    strategy = {"patch_size": tiny.PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    if family in ("llava", "vipllava"):
        return hf.LlavaProcessor(hf.CLIPImageProcessor(size=small, crop_size=side), **common, **strategy)
    if family == "llava_next":
        images = hf.LlavaNextImageProcessor(size=small, crop_size=side, image_grid_pinpoints=tiny.ANY_RES)
        return hf.LlavaNextProcessor(images, **common, **strategy)
    if family == "llava_onevision":
        images = hf.LlavaOnevisionImageProcessor(size=side, image_grid_pinpoints=tiny.ANY_RES)
        videos = hf.LlavaOnevisionVideoProcessor(size=side)
        return hf.LlavaOnevisionProcessor(
            images, video_processor=videos, num_image_tokens=36, vision_feature_select_strategy="full", **common
        )
    if family.startswith("qwen"):
        bounds = {"patch_size": tiny.PATCH, "temporal_patch_size": 2, "merge_size": 2}
        images = hf.Qwen2VLImageProcessor(size={"shortest_edge": 16 * 16, "longest_edge": 64 * 64}, **bounds)
        kind = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[family]
        videos = (hf.Qwen3VLVideoProcessor if family == "qwen3_vl" else hf.Qwen2VLVideoProcessor)(**bounds)
        return getattr(hf, f"{kind}Processor")(images, video_processor=videos, **common)
    if family == "internvl":
        images = hf.GotOcr2ImageProcessor(size=side, crop_to_patches=True, min_patches=1, max_patches=4)
        return hf.InternVLProcessor(images, video_processor=hf.InternVLVideoProcessor(size=side), image_seq_length=9, **common)
    if family == "idefics3":
        images = hf.Idefics3ImageProcessor(size={"longest_edge": 2 * tiny.SIDE}, max_image_size={"longest_edge": tiny.SIDE})
        return hf.Idefics3Processor(images, image_seq_len=9, **common)
    if family == "paligemma":
        images = hf.SiglipImageProcessor(size=side)
        images.image_seq_length = 36
        return hf.PaliGemmaProcessor(images, **common)
    if family == "gemma3":
        return hf.Gemma3Processor(hf.Gemma3ImageProcessor(size=side), image_seq_length=9, **common)
    if family == "instructblip":
        questions = tokenizer("llava", padding_side="right")
        return hf.InstructBlipProcessor(hf.BlipImageProcessor(size=side), words, questions, num_query_tokens=8)
    images = hf.MllamaImageProcessor(size=side, max_image_tiles=1)
    return hf.MllamaProcessor(images, **common)


FOLDERS = tuple(family for family in tiny.FAMILIES if family != "smolvlm")  # its processor needs a package that is no dependency of ours


def write(family: str, folder: Path, seed: int = 0, change: Callable[[Any], None] | None = None) -> Path:
    """A checkpoint folder of ``family``; ``change`` may alter the model before it is saved."""
    model = tiny.build(family, seed)
    if change is not None:
        change(model)
    model.save_pretrained(folder)
    processor(family).save_pretrained(folder)
    return Path(folder)
