"""What is quantised: decoder blocks and nothing else, on every family, on the CPU, looked at after loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests import tiny_mllm, tiny_mllm_folders
from toolkit import quantize
from toolkit.errors import ModelConfigError, UsageError
from toolkit.images import as_source
from toolkit.models import load_answerer
from toolkit.models.generative import load_folder
from toolkit.models.language import KINDS
from toolkit.types import Question


@pytest.mark.parametrize("family", tiny_mllm.FAMILIES)
def test_the_plan_of_every_family(family: str) -> None:
    model = tiny_mllm.build(family)
    spec = quantize.plan(model, 4)
    modules = dict(model.named_modules())
    linear = {name for name, module in modules.items() if type(module) is nn.Linear}
    decoder = model.get_decoder()
    inside = {name for name in linear for layer in decoder.layers for module in layer.modules() if modules[name] is module}
    assert set(spec.targets) == inside
    assert len(inside) == 7 * len(decoder.layers)
    below_skipped = {name for name in linear if any(name == place or name.startswith(place + ".") for place in spec.skip)}
    assert below_skipped == linear - inside
    assert len(spec.skip) <= 4, "whole towers, not their parts one by one"
    # the library's own rule of matching must agree with what was planned
    from transformers.quantizers.quantizers_utils import should_convert_module

    assert {name for name in linear if should_convert_module(name, list(spec.skip))} == inside


def test_settings() -> None:
    model = tiny_mllm.build("llava")
    four = quantize.plan(model, 4, torch.bfloat16).config()
    assert (four.load_in_4bit, four.bnb_4bit_quant_type, four.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert four.bnb_4bit_compute_dtype == torch.bfloat16
    assert sorted(four.llm_int8_skip_modules) == ["lm_head", "model.multi_modal_projector", "model.vision_tower"]
    eight = quantize.plan(model, 8).config()
    assert (eight.load_in_8bit, eight.load_in_4bit) == (True, False)
    with pytest.raises(UsageError, match="3 bits"):
        quantize.plan(model, 3)
    with pytest.raises(ModelConfigError, match="cannot be quantised"):
        quantize.plan(nn.Linear(4, 4), 4)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "idefics3", "instructblip"])
def test_answers_with_few_bits_on_the_cpu(family: str, bits: int, tmp_path: Path) -> None:
    folder = tiny_mllm_folders.write(family, tmp_path)
    exact = load_answerer(f"local:{folder}", device="cpu")
    rough = load_answerer(f"local:{folder}", device="cpu", quantise=bits)
    spec = quantize.plan(exact.module, bits)
    kinds = {name: type(module).__name__ for name, module in rough.module.named_modules()}
    assert {name for name, kind in kinds.items() if kind == {4: "Linear4bit", 8: "Linear8bitLt"}[bits]} == set(spec.targets)
    assert rough.info["quantised"] == {"bits": bits, "quantised": len(spec.targets), "kept": len(_linear(exact.module)) - len(spec.targets)}
    left_alone = {name: weight for name, weight in exact.module.named_parameters() if not _is_target(name, spec)}
    for name, weight in rough.module.named_parameters():
        if not _is_target(name, spec):
            assert torch.equal(weight, left_alone[name]), name
    question = Question("what colour is the thing?", (as_source(torch.arange(4800).remainder(251).byte().view(40, 40, 3).numpy()),))
    options = ["red", "green", "blue", "two"]
    first, second = (answerer.score([question], [options])[0] for answerer in (exact, rough))
    difference = float((first - second).abs().max())
    assert 0 < difference < {4: 4.0, 8: 0.5}[bits], "other numbers, but not another model"  # log-probabilities spread over about 5 nats
    assert rough.answer([question], max_new_tokens=3)[0].text is not None


def _linear(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if type(module) is nn.Linear]


def _is_target(name: str, spec: quantize.QuantSpec) -> bool:
    return name.rpartition(".")[0] in spec.targets


def test_widths_that_cannot_be_packed(tmp_path: Path) -> None:
    """In-features of 96: not a multiple of a quantisation block, which some processors need for their fast path."""

    def narrow(model: Any) -> None:
        for layer in model.model.language_model.layers:
            layer.mlp.gate_proj = nn.Linear(tiny_mllm.WIDTH, 96, bias=False)
            layer.mlp.up_proj = nn.Linear(tiny_mllm.WIDTH, 96, bias=False)
            layer.mlp.down_proj = nn.Linear(96, tiny_mllm.WIDTH, bias=False)
        model.config.text_config.intermediate_size = 96

    folder = tiny_mllm_folders.write("llava", tmp_path, change=narrow)
    answerer = load_answerer(f"local:{folder}", device="cpu", quantise=4)
    assert answerer.answer([Question("what?")], max_new_tokens=2)[0].text is not None


class Linear4bit(nn.Linear):
    """Stands for the class of that name in bitsandbytes."""


def _quantised(model: Any, names: set[str]) -> Any:
    for name, module in list(model.named_modules()):
        if name in names:
            model.set_submodule(name, Linear4bit(module.in_features, module.out_features))
    return model


def test_the_audit_sees_what_went_wrong() -> None:
    spec = quantize.plan(tiny_mllm.build("llava"), 4)
    everything = set(spec.targets)
    assert quantize.audit(_quantised(tiny_mllm.build("llava"), everything), spec)["quantised"] == len(everything)
    tower = next(name for name in _linear(tiny_mllm.build("llava")) if "vision_tower" in name)
    for names, words in (
        (everything | {tower}, f"1 layers were quantised against the plan, such as {tower}"),
        (everything | {"lm_head"}, "lm_head"),
        (everything - {spec.targets[5]}, f"1 of 42 layers were not quantised to 4 bits, such as {spec.targets[5]}"),
        (set(), "42 of 42 layers were not quantised"),
    ):
        with pytest.raises(ModelConfigError, match=words):
            quantize.audit(_quantised(tiny_mllm.build("llava"), names), spec)


def test_short_names_are_the_trap_that_full_paths_avoid(tmp_path: Path) -> None:
    """The library ignores a skip list of names that do not start at the root; this is why the plan has full paths."""
    from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

    folder = tiny_mllm_folders.write("llava", tmp_path)
    settings = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["vision_tower"])
    model = AutoModelForImageTextToText.from_pretrained(folder, quantization_config=settings, device_map={"": "cpu"})
    with pytest.raises(ModelConfigError, match="against the plan"):
        quantize.audit(model, quantize.plan(tiny_mllm.build("llava"), 8))


def test_text_models_too(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    LlamaForCausalLM(LlamaConfig(**tiny_mllm.TEXT)).save_pretrained(tmp_path)
    loaded = load_folder(tmp_path, KINDS, device="cpu", quantise=4)
    assert loaded.info["quantised"] == {"bits": 4, "quantised": 42, "kept": 1}
