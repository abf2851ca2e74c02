"""Options and layers: what they mean, what is refused, and that nothing is implicit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from toolkit.config import build_config, to_json
from toolkit.errors import DataError, PermafrostError, Refused, UsageError
from toolkit.files import atomic_write_json
from toolkit.methods.interventions.contrastive_attention_config import CHOICES, ContrastiveAttentionConfig
from toolkit.methods.interventions.contrastive_attention_layers import Backbone, choose_layers

LLAVA = Backbone("llava", "llama", 32, "abc")
TINY = Backbone("llava", "llama", 6, "abc")


def config(**options: Any) -> ContrastiveAttentionConfig:
    return build_config(ContrastiveAttentionConfig, options)


def test_presets_are_the_published_ones() -> None:
    default, literal = config(), config(preset="paper-literal")
    assert (default.mode, default.where, default.normalise, default.rho, default.lam) == (
        "mask",
        "logit_bias",
        "image_after_mean",
        0.2,
        0.1,
    )
    assert (literal.where, literal.normalise) == ("residual", "none")
    assert to_json(default) | {"preset": "paper-literal", "where": "residual", "normalise": "none"} == to_json(literal)
    assert config(preset="paper-literal", where="kv").where == "kv"
    assert (default.contrast_kind, config(mode="crop").contrast_kind, config(mode="crop", contrast="relu").contrast_kind) == (
        "abs", "signed", "relu",
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {}, {"preset": "paper-literal", "lam": 0}, {"candidates": [3, 1], "late": 4, "review": 5, "layer_base": 0},
        {"heads": {"28": [1, 2]}, "mode": "crop", "crop_rule": "window"}, {"heads": [0, 3], "candidates": "scaled"},
    ],
)  # fmt: skip
def test_json_round_trip(options: dict[str, Any]) -> None:
    first = config(**options)
    text = json.dumps(to_json(first))
    second = config(**json.loads(text))
    assert second == first
    assert json.dumps(to_json(second)) == text


def test_twenty_percent_is_told_from_twenty() -> None:
    with pytest.raises(UsageError, match="rho is 20;") as caught:
        config(rho=20)
    assert caught.value.hint == "rho is a fraction, not percent: 0.2"
    for wrong in ({"rho": 1}, {"rho": -0.1}, {"rho": "much"}, {"lam": 1.01}, {"lam": float("nan")}, {"rho": True}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            config(**wrong)
    assert config(lam=1).lam == 1.0


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_every_choice_is_checked(name: str) -> None:
    for value in CHOICES[name]:
        assert getattr(config(**{name: value}), name) == value
    with pytest.raises(UsageError, match=f"value of {name}"):
        config(**{name: CHOICES[name][0] + "s"})


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "papr-literal"}, {"layer_base": 2}, {"layer_base": True}, {"late": 0}, {"late": 2.0}, {"candidates": []},
        {"candidates": [0]}, {"candidates": 2.5}, {"heads": "some"}, {"heads": []},
        {"heads": [-1]}, {"heads": {"x": [1]}}, {"heads": {"2": "mean"}},
        {"keep_maps": "yes"}, {"rhoo": 0.1},
    ],
)  # fmt: skip
def test_impossible_options_are_refused_with_a_hint(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        config(**options)
    assert caught.value.hint


def test_layers_of_the_preset_in_both_numberings() -> None:
    one, zero = choose_layers(config(), LLAVA), choose_layers(config(layer_base=0), LLAVA)
    assert (one.candidates, one.late, one.review) == ((1, 3, 7, 10, 11, 12), 27, 28)
    assert (zero.candidates, zero.late, zero.review) == ((2, 4, 8, 11, 12, 13), 28, 29)
    assert one.record() == {
        "candidates": [1, 3, 7, 10, 11, 12], "late": 27, "review": 28, "layer_base": 1,
        "from": "preset of LLaVA-1.5-7B, LLaVA-1.6-Vicuna-7B",
    }  # fmt: skip
    assert zero.record()["layer_base"] == 0
    assert one.read == (1, 3, 7, 10, 11, 12, 27)


def test_rules_for_candidates() -> None:
    assert choose_layers(config(candidates="shallow"), LLAVA).candidates == tuple(range(16))
    assert choose_layers(config(candidates="deep"), LLAVA).candidates == tuple(range(16, 27))
    assert choose_layers(config(candidates="all"), LLAVA).candidates == tuple(range(27))
    chosen = choose_layers(config(candidates=[4, 2, 4], late=5, review=6), TINY)
    assert (chosen.candidates, chosen.late, chosen.review, chosen.origin) == ((1, 3), 4, 5, "options")
    assert choose_layers(config(candidates=[2], late=5, mode="crop"), TINY).review is None


@pytest.mark.parametrize("base", [0, 1])
def test_scaled_layers_are_in_order_at_every_depth(base: int) -> None:
    for depth in range(3, 81):
        layers = choose_layers(config(candidates="scaled", layer_base=base), Backbone("x", "y", depth))
        assert layers.review is not None
        assert 0 <= layers.candidates[0] <= layers.candidates[-1] < layers.late < layers.review < depth
        assert "scaled from 32" in layers.notes[0]
        if depth == 32:
            preset = choose_layers(config(layer_base=base), LLAVA)
            assert (layers.candidates, layers.late, layers.review) == (preset.candidates, preset.late, preset.review)


def test_another_depth_gets_no_silent_scaling() -> None:
    for options in ({}, {"candidates": "all"}, {"candidates": [2]}, {"candidates": [2], "late": 4}):
        with pytest.raises(Refused, match="no published layers for a llava with a llama of 6 layers") as caught:
            choose_layers(config(**options), TINY)
        assert "candidates=scaled" in (caught.value.hint or "")
    with pytest.raises(Refused, match="mistral"):
        choose_layers(config(), Backbone("llava_next", "mistral", 32))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"candidates": [2, 28]}, "candidate layer 28 does not lie before the late layer 28"),
        ({"late": 29}, "late layer 29 does not lie before the review layer 29"),
        ({"review": 33}, "layer 33 is beyond the depth of a model with 32 layers"),
        ({"mode": "crop", "late": 40}, "layer 40 is beyond"),
        ({"selection": "fixed"}, "needs one candidate"),
        ({"candidates": "deep", "late": 10}, "no layer is left"),
    ],
)
def test_layers_that_cannot_work_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words) as caught:
        choose_layers(config(**options), LLAVA)
    assert caught.value.hint


def test_models_without_a_review_layer_are_masked_with_a_warning() -> None:
    qwen = Backbone("qwen2_5_vl", "qwen2_5_vl_text", 28)
    notes = choose_layers(config(candidates=[4], late=20, review=25), qwen).notes
    assert len(notes) == 1
    assert "no review layer in qwen2_5_vl" in notes[0]
    assert choose_layers(config(candidates=[4], late=20, mode="crop"), qwen).notes == ()


def calibration(path: Path, **changes: Any) -> str:
    data = {
        "schema": 1, "method": "contrastive-attention", "fingerprint": "abc", "model_type": "llava", "n_layers": 6, "C": [3, 1], "k": 4,
        "r": 5, "status": "ok",
    }  # fmt: skip
    atomic_write_json(path, data | changes)
    return str(path)


def test_calibration_files_name_indices_from_zero_whatever_the_base(tmp_path: Path) -> None:
    file = calibration(tmp_path / "tiny.json")
    for base in (0, 1):
        layers = choose_layers(config(candidates=file, layer_base=base), TINY)
        assert (layers.candidates, layers.late, layers.review) == ((1, 3), 4, 5)
        assert layers.origin == "calibration tiny.json"
        assert layers.notes == ()
    assert "not compared" in choose_layers(config(candidates=file), TINY._replace(fingerprint=None)).notes[0]
    assert config(candidates=tmp_path / "tiny.json").candidates == file


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"fingerprint": "other"}, DataError, "other weights"),
        ({"n_layers": 7}, DataError, "7 layers"),
        ({"model_type": "paligemma"}, DataError, "paligemma"),
        ({"schema": 2}, DataError, "no calibration file"),
        ({"C": None}, DataError, "no usable 'C'"),
        ({"status": "inconclusive"}, Refused, "inconclusive"),
        ({"r": None}, Refused, "no review layer"),
        ({"C": [4]}, Refused, "does not lie before"),
        ({"C": []}, Refused, "no layer is left"),
    ],
)
def test_calibration_files_of_something_else_are_errors(
    tmp_path: Path, changes: dict[str, Any], error: type[PermafrostError], words: str
) -> None:
    file = calibration(tmp_path / "tiny.json", **changes)
    with pytest.raises(error, match=words) as caught:
        choose_layers(config(candidates=file), TINY)
    assert caught.value.hint


def test_a_calibration_without_review_layer_still_crops(tmp_path: Path) -> None:
    file = calibration(tmp_path / "tiny.json", r=None)
    assert choose_layers(config(candidates=file, mode="crop"), TINY).review is None
    assert choose_layers(config(candidates=file, review=6), TINY).review == 5


def test_a_mistyped_rule_is_neither_a_rule_nor_a_file() -> None:
    with pytest.raises(UsageError, match="neither a calibration file nor one of preset, scaled"):
        choose_layers(config(candidates="shalow"), LLAVA)
