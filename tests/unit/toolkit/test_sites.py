from __future__ import annotations

import doctest
from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import torch
import transformers
from torch import nn

from tests import tiny_mllm
from toolkit import sites
from toolkit.errors import SiteNotFound, UsageError
from toolkit.sites import Site, SiteMap, known_sites, path_of, resolve

VISION: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 16, "patch_size": 8,
}  # fmt: skip
SPECIAL = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
TEXT: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 50,
    "max_position_embeddings": 12, **SPECIAL,
}  # fmt: skip
LLM: dict[str, Any] = {**TEXT, "num_hidden_layers": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
IMAGE = torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
WORDS = torch.tensor([[0, 5, 6, 7, 1]])


def hf_clip() -> nn.Module:
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8))


def siglip() -> nn.Module:
    return transformers.SiglipModel(transformers.SiglipConfig(text_config=TEXT, vision_config=VISION))


def siglip2() -> nn.Module:
    vision = {**VISION, "num_patches": 4}
    del vision["image_size"]
    return transformers.Siglip2Model(transformers.Siglip2Config(text_config=TEXT, vision_config=vision))


def dual(vision: Any) -> nn.Module:
    config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(vision, transformers.BertConfig(**TEXT), projection_dim=8)
    return transformers.VisionTextDualEncoderModel(config)


OC_TEXT = {"context_length": 12, "vocab_size": 50, "width": 16, "heads": 2, "layers": 2}
OC_VIT = {"layers": 3, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 16}
OC_RESNET = {"layers": [1, 2, 1, 1], "width": 8, "head_width": 8, "image_size": 32, "patch_size": None}
OC_TIMM = {
    "timm_model_name": "vit_tiny_patch16_224",
    "timm_pool": "",
    "timm_proj": "linear",
    "image_size": 32,
    "timm_model_pretrained": False,
}


def llava(kind: str = "Llava") -> nn.Module:
    config = getattr(transformers, f"{kind}Config")(
        vision_config=transformers.CLIPVisionConfig(**VISION), text_config=transformers.LlamaConfig(**LLM), image_token_index=3
    )
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config)


def qwen2_vl() -> nn.Module:
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    vision = {"depth": 3, "embed_dim": 16, "num_heads": 2, "hidden_size": 16, "patch_size": 8}
    config = transformers.Qwen2VLConfig(text_config={**LLM, "rope_parameters": rope}, vision_config=vision)
    return transformers.Qwen2VLForConditionalGeneration(config)


def idefics3() -> nn.Module:
    vision = {**VISION, "image_size": 16}
    config = transformers.Idefics3Config(vision_config=vision, text_config=transformers.LlamaConfig(**LLM), image_token_id=3)
    return transformers.Idefics3ForConditionalGeneration(config)


TOWER = {"vision.block": 3, "vision.attn": 3, "vision.patch_embed": 0, "vision.norm": 0}
WORDY = {"text.block": 2, "text.attn": 2, "text.embed": 0, "text.norm": 0}
JOINT = {"vision.proj": 0, "text.proj": 0}
LANGUAGE = {
    "lm.block": 4, "lm.attn": 4, "lm.mlp": 4, "lm.input_norm": 4, "lm.q": 4, "lm.k": 4, "lm.v": 4,
    "lm": 0, "lm.embed": 0, "lm.norm": 0, "lm.head": 0,
}  # fmt: skip
NO_TEXT_NORM = {name: layers for name, layers in WORDY.items() if name != "text.norm"}
NO_VISION_NORM = {name: layers for name, layers in TOWER.items() if name != "vision.norm"}

ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "CLIPModel": (hf_clip, {**TOWER, **WORDY, **JOINT}),
    "SiglipModel": (siglip, {**TOWER, **WORDY, **JOINT}),
    "Siglip2Model": (siglip2, {**TOWER, **WORDY, **JOINT}),
    "VTDE ViT+BERT": (lambda: dual(transformers.ViTConfig(**VISION)), {**TOWER, **NO_TEXT_NORM, **JOINT}),
    "VTDE CLIP+BERT": (lambda: dual(transformers.CLIPVisionConfig(**VISION)), {**TOWER, **NO_TEXT_NORM, **JOINT}),
    "open_clip CLIP": (lambda: open_clip.CLIP(8, OC_VIT, OC_TEXT), {**TOWER, **WORDY, "vision.proj": 0}),
    "open_clip CustomTextCLIP": (lambda: open_clip.CustomTextCLIP(8, OC_VIT, OC_TEXT), {**TOWER, **WORDY, **JOINT}),
    "open_clip ResNet": (
        lambda: open_clip.CLIP(8, OC_RESNET, OC_TEXT), {"vision.block": 5, "vision.patch_embed": 0, "vision.proj": 0, **WORDY},
    ),
    "open_clip timm": (
        lambda: open_clip.CLIP(8, OC_TIMM, OC_TEXT), {**TOWER, "vision.block": 12, "vision.attn": 12, **WORDY, "vision.proj": 0},
    ),
    "Llava": (llava, {**TOWER, **LANGUAGE, "projector": 0}),
    "LlavaNext": (lambda: llava("LlavaNext"), {**TOWER, **LANGUAGE, "projector": 0}),
    "Qwen2VL": (qwen2_vl, {**NO_VISION_NORM, **LANGUAGE, "projector": 0}),
    "Idefics3": (idefics3, {**TOWER, **LANGUAGE, "projector": 0}),
    "Llama alone": (lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLM)), LANGUAGE),
    "CLIP tower alone": (lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VISION)), TOWER),
    "BERT alone": (lambda: transformers.BertModel(transformers.BertConfig(**TEXT)), NO_TEXT_NORM),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sites_of_every_architecture(name: str) -> None:
    build, expected = ARCHITECTURES[name]
    model = build()
    assert known_sites(model) == expected
    paths = dict(model.named_modules())
    for site, layers in expected.items():
        found = [path_of(model, Site(site, layer if layers else None)) for layer in range(max(layers, 1))]
        assert len(set(found)) == max(layers, 1)
        assert all(paths[path] is resolve(model, Site(site, layer if layers else None)) for layer, path in enumerate(found))


@pytest.mark.parametrize("family", tiny_mllm.FAMILIES)
def test_every_family_of_multimodal_language_models(family: str) -> None:
    """The sites that methods need, at the layers of the decoder; vision towers and projectors for whoever must leave them alone."""
    model = tiny_mllm.build(family)
    sites = SiteMap(model)
    known = sites.known()
    assert known == known_sites(model)
    decoder = model.get_decoder()
    assert sites.resolve("lm") is decoder
    assert [sites.resolve(f"lm.block:{layer}") for layer in range(len(decoder.layers))] == list(decoder.layers)
    crossing = [3, 6] if family == "mllama" else []
    attending = [layer for layer in range(len(decoder.layers)) if layer not in crossing]
    for name, attribute in (("lm.attn", ""), ("lm.q", "q_proj"), ("lm.k", "k_proj"), ("lm.v", "v_proj")):
        expected = {layer: decoder.layers[layer].self_attn.get_submodule(attribute) for layer in attending}
        assert sites.layers(name) == expected
    assert list(sites.layers("lm.k_norm")) == (attending if family in ("qwen3_vl", "gemma3") else [])
    assert sites.resolve("lm.embed") is model.get_input_embeddings()
    assert sites.resolve("lm.head") is model.get_output_embeddings()
    assert known["lm.input_norm"] == len(decoder.layers)
    assert {"vision.block", "vision.patch_embed", "projector"} <= known.keys()


def test_layers_without_a_part_are_said() -> None:
    model = tiny_mllm.build("mllama")
    with pytest.raises(SiteNotFound, match=r"layer 3 has no 'lm\.attn'") as caught:
        resolve(model, "lm.attn:3")
    assert caught.value.hint == "layers that have it: 0, 1, 2, 4, 5, 7"
    assert path_of(model, "lm.attn:4").endswith("layers.4.self_attn")
    assert SiteMap(model).layers("lm.nothing") == {}


def test_the_whole_model_is_a_site() -> None:
    model = nn.Linear(2, 2)
    assert resolve(model, "model") is model
    assert path_of(model, "model") == ""


def test_layers_are_in_the_order_of_the_forward_pass() -> None:
    for build in (ARCHITECTURES["open_clip ResNet"][0], hf_clip):
        model = build().eval()
        seen: list[int] = []
        count = known_sites(model)["vision.block"]
        for layer in reversed(range(count)):
            resolve(model, Site("vision.block", layer)).register_forward_hook(lambda *_, seen=seen, layer=layer: seen.append(layer))
        size = 32 if build is not hf_clip else 16
        image = torch.zeros(1, 3, size, size)
        model.encode_image(image) if hasattr(model, "encode_image") else model.get_image_features(image)
        assert seen == list(range(count))


def output_of(model: nn.Module, site: str, call: Callable[[], Any]) -> torch.Tensor:
    kept: list[Any] = []
    handle = resolve(model, site).register_forward_hook(lambda module, args, output: kept.append(output))
    with torch.no_grad():
        call()
    handle.remove()
    return kept[0]


@pytest.mark.parametrize("build", [hf_clip, siglip, lambda: dual(transformers.ViTConfig(**VISION))], ids=["CLIP", "SigLIP", "VTDE"])
def test_projections_give_the_joint_embedding_in_transformers(build: Callable[[], nn.Module]) -> None:
    model = build().eval()
    for site, call in (("vision.proj", lambda: model.get_image_features(IMAGE)), ("text.proj", lambda: model.get_text_features(WORDS))):
        with torch.no_grad():
            expected = call()
        expected = expected if isinstance(expected, torch.Tensor) else expected.pooler_output
        assert torch.equal(output_of(model, site, call), expected)


def test_projections_give_the_joint_embedding_in_open_clip() -> None:
    model = open_clip.CustomTextCLIP(8, OC_VIT, OC_TEXT).eval()
    words = torch.nn.functional.pad(WORDS, (0, 7))
    for site, call in (("vision.proj", lambda: model.encode_image(IMAGE)), ("text.proj", lambda: model.encode_text(words))):
        with torch.no_grad():
            assert torch.equal(output_of(model, site, call), call())


def test_older_layouts_are_found_too() -> None:
    """Before transformers 5 a LLaVA kept its towers on top, and its CLIP tower had an inner model."""
    new = llava()
    old = nn.Module()
    old.vision_tower = nn.Module()
    old.vision_tower.vision_model = new.get_submodule("model.vision_tower")
    old.multi_modal_projector = new.get_submodule("model.multi_modal_projector")
    old.language_model = nn.Module()
    old.language_model.model = new.get_submodule("model.language_model")
    old.language_model.lm_head = new.get_submodule("lm_head")
    assert known_sites(old) == known_sites(new) | {"lm.whole": 0}
    assert resolve(old, "lm.attn:-1") is resolve(new, "lm.attn:3")
    assert path_of(old, "vision.block:0") == "vision_tower.vision_model.encoder.layers.0"


def test_negative_layers_count_from_the_end() -> None:
    model = hf_clip()
    assert resolve(model, Site("vision.block", -1)) is resolve(model, "vision.block:2")
    assert resolve(model, "vision.block:-3") is resolve(model, "vision.block:0")
    for layer in (3, -4):
        with pytest.raises(SiteNotFound, match=f"no layer {layer} ") as caught:
            resolve(model, Site("vision.block", layer))
        assert caught.value.hint == "this model has 3: 0 to 2"


def test_unknown_sites_list_near_names() -> None:
    model = hf_clip()
    with pytest.raises(SiteNotFound, match=r"no site called 'vision\.blocks'") as caught:
        resolve(model, "vision.blocks:1")
    assert "'vision.block'" in str(caught.value.hint)
    with pytest.raises(SiteNotFound) as caught:
        resolve(model, "qqq")
    assert "text.attn" in str(caught.value.hint)
    with pytest.raises(SiteNotFound, match="architecture of Linear is not known"):
        resolve(nn.Linear(2, 2), "vision.block:0")
    assert known_sites(nn.Linear(2, 2)) == {}


def test_layers_where_they_do_not_belong() -> None:
    model = hf_clip()
    with pytest.raises(UsageError, match="needs a layer"):
        resolve(model, "vision.block")
    with pytest.raises(UsageError, match="has no layers"):
        resolve(model, "vision.norm:0")
    with pytest.raises(UsageError, match="not a whole number"):
        resolve(model, "vision.block:last")
    with pytest.raises(UsageError, match="is not a model"):
        resolve("hf:openai/clip", "vision.block:0")


def test_an_encoder_stands_for_its_module() -> None:
    class Holder:
        module = hf_clip()

    assert resolve(Holder(), "vision.block:0") is resolve(Holder.module, "vision.block:0")


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(sites).failed == 0
    assert str(Site("lm.attn", -1)) == "lm.attn:-1"
