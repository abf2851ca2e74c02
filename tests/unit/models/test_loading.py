"""Whole models or none: what is unsafe, incomplete or of another configuration is refused, with what to do about it."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny
from toolkit.errors import EXIT_MISSING, ModelConfigError, ModelNotFound, PermafrostError, UnsafeLoadError
from toolkit.models import load_encoder

BUILDERS = {"clip": tiny.tiny_hf_clip, "open_clip": tiny.tiny_open_clip}
SAFE = {"clip": "model.safetensors", "open_clip": "open_clip_model.safetensors"}
UNSAFE = {"clip": "pytorch_model.bin", "open_clip": "open_clip_pytorch_model.bin"}


def refused(folder: Path, error: type[PermafrostError], **settings: Any) -> PermafrostError:
    with pytest.raises(error) as caught:
        load_encoder(f"local:{folder}", cache=False, **settings)
    assert caught.value.exit_code == EXIT_MISSING
    return caught.value


def edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def edit_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def to_pickle(kind: str, folder: Path) -> None:
    torch.save(load_file(folder / SAFE[kind]), folder / UNSAFE[kind])
    (folder / SAFE[kind]).unlink()


class Payload:
    """What an attacker puts into a pickle: loading it would write a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.witness,))


@pytest.mark.parametrize("kind", BUILDERS)
def test_pickled_weights_need_a_word(kind: str, tmp_path: Path) -> None:
    folder = BUILDERS[kind](tmp_path)
    safe = load_encoder(f"local:{folder}", cache=False).encode_texts(["a dog"])
    to_pickle(kind, folder)
    error = refused(folder, UnsafeLoadError)
    assert UNSAFE[kind] in str(error)
    assert "--allow-pickle" in str(error.hint)
    assert torch.equal(load_encoder(f"local:{folder}", cache=False, allow_pickle=True).encode_texts(["a dog"]), safe)


@pytest.mark.parametrize("kind", BUILDERS)
def test_pickles_with_code_are_refused_also_when_allowed(kind: str, tmp_path: Path) -> None:
    folder, witness = BUILDERS[kind](tmp_path / "model"), tmp_path / "was-here"
    (folder / SAFE[kind]).unlink()
    torch.save({"weight": Payload(witness)}, folder / UNSAFE[kind])
    refused(folder, UnsafeLoadError, allow_pickle=True)
    (folder / UNSAFE[kind]).write_bytes(pickle.dumps({"weight": Payload(witness)}, protocol=2))
    refused(folder, UnsafeLoadError, allow_pickle=True)
    assert not witness.exists()


@pytest.mark.parametrize("kind", BUILDERS)
def test_safetensors_win_over_pickles(kind: str, tmp_path: Path) -> None:
    folder = BUILDERS[kind](tmp_path)
    (folder / UNSAFE[kind]).write_bytes(b"never read")
    assert load_encoder(f"local:{folder}", cache=False, allow_pickle=True).dim == 24


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_missing_weight_is_never_random(kind: str, tmp_path: Path) -> None:
    folder = BUILDERS[kind](tmp_path)
    names: list[str] = []
    edit_weights(folder / SAFE[kind], lambda weights: (names.append(sorted(weights)[7]), weights.pop(names[0]))[0])
    assert names[0] in str(refused(folder, ModelConfigError))


@pytest.mark.parametrize("kind", BUILDERS)
def test_weights_of_another_shape(kind: str, tmp_path: Path) -> None:
    folder = BUILDERS[kind](tmp_path)
    edit_weights(folder / SAFE[kind], lambda weights: weights.update({sorted(weights)[3]: torch.zeros(5, 5)}))
    refused(folder, ModelConfigError)


@pytest.mark.parametrize("kind", BUILDERS)
def test_truncated_weights(kind: str, tmp_path: Path) -> None:
    folder = BUILDERS[kind](tmp_path)
    content = (folder / SAFE[kind]).read_bytes()
    (folder / SAFE[kind]).write_bytes(content[: len(content) // 2])
    refused(folder, ModelConfigError)


@pytest.mark.parametrize("kind", BUILDERS)
def test_no_weights_at_all(kind: str, tmp_path: Path) -> None:
    folder = BUILDERS[kind](tmp_path)
    (folder / SAFE[kind]).unlink()
    assert SAFE[kind] in str(refused(folder, ModelNotFound))


def test_unused_weights_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tiny.tiny_hf_clip(tmp_path)
    edit_weights(folder / "model.safetensors", lambda weights: weights.update({"extra.head": torch.zeros(2)}))
    with caplog.at_level(logging.WARNING):
        load_encoder(f"local:{folder}", cache=False)
    assert "extra.head" in caplog.text


def test_sharded_weights(tmp_path: Path) -> None:
    whole = tiny.tiny_hf_clip(tmp_path / "whole")
    shards = tiny.tiny_hf_clip(tmp_path / "shards", shard_size="60KB")
    assert len(list(shards.glob("model-*.safetensors"))) > 2
    one, many = (load_encoder(f"local:{folder}", cache=False) for folder in (whole, shards))
    assert torch.equal(one.encode_texts(["a dog"]), many.encode_texts(["a dog"]))
    missing = sorted(shards.glob("model-*.safetensors"))[1]
    missing.unlink()
    assert missing.name in str(refused(shards, ModelNotFound))


def test_an_index_cannot_point_out_of_its_folder(tmp_path: Path) -> None:
    folder = tiny.tiny_hf_clip(tmp_path / "model", shard_size="60KB")
    edit_json(folder / "model.safetensors.index.json", lambda index: index["weight_map"].update({"logit_scale": "../other.safetensors"}))
    refused(folder, UnsafeLoadError)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_remote_code_is_refused_in_every_configuration(file: str, tmp_path: Path) -> None:
    folder = tiny.tiny_hf_clip(tmp_path)
    (folder / "modeling.py").write_text("raise SystemExit('code of the model was run')")
    edit_json(folder / file, lambda config: config.update(auto_map={"AutoModel": "modeling.Model"}))
    assert file in str(refused(folder, UnsafeLoadError))


def test_remote_code_in_a_nested_configuration_and_beside_open_clip(tmp_path: Path) -> None:
    folder = tiny.tiny_hf_clip(tmp_path / "hf")
    edit_json(folder / "config.json", lambda config: config["vision_config"].update(auto_map={"AutoModel": "x.Y"}))
    refused(folder, UnsafeLoadError)
    folder = tiny.tiny_open_clip(tmp_path / "oc")
    edit_json(folder / "tokenizer_config.json", lambda config: config.update(auto_map={"AutoTokenizer": ["x.Y", None]}))
    refused(folder, UnsafeLoadError)


def test_folders_that_are_no_dual_encoders(tmp_path: Path) -> None:
    assert "no model folder" in str(refused(tmp_path, ModelConfigError))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "'bert'" in str(refused(tmp_path, ModelConfigError))
    (tmp_path / "config.json").write_text("{")
    refused(tmp_path, ModelConfigError)
    (tmp_path / "config.json").write_text("[]")
    refused(tmp_path, ModelConfigError)
    assert "not there" in str(refused(tmp_path / "gone", ModelNotFound))
    assert "a file" in str(refused(tmp_path / "config.json", ModelNotFound))


@pytest.mark.parametrize("change", [{"vision_cfg": {"layers": "many"}}, {"vision_cfg": {"unknown_option": 1}}, {"embed_dim": None}])
def test_open_clip_configurations_that_cannot_be_built(change: dict[str, Any], tmp_path: Path) -> None:
    folder = tiny.tiny_open_clip(tmp_path)
    edit_json(folder / "open_clip_config.json", lambda whole: whole["model_cfg"].update(change))
    refused(folder, ModelConfigError)


def test_open_clip_configuration_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"embed_dim": 3}}))
    refused(tmp_path, ModelConfigError)


def test_missing_processors(tmp_path: Path) -> None:
    folder = tiny.tiny_hf_clip(tmp_path / "a")
    (folder / "preprocessor_config.json").unlink()
    assert "preprocessor_config.json" in str(refused(folder, ModelNotFound))
    folder = tiny.tiny_hf_clip(tmp_path / "b")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert "tokenizer" in str(refused(folder, ModelNotFound))


def test_a_folder_in_both_formats_is_read_as_transformers(tmp_path: Path, images: list[np.ndarray]) -> None:
    from toolkit.models.hf_clip import HFEncoder
    from toolkit.models.openclip import OpenClipEncoder

    folder = tiny.tiny_open_clip(tmp_path)
    tiny.tiny_hf_clip(tmp_path)
    assert isinstance(load_encoder(f"local:{folder}", cache=False), HFEncoder)
    (folder / "model.safetensors").unlink()
    assert isinstance(load_encoder(f"local:{folder}", cache=False), OpenClipEncoder)


def test_an_open_clip_text_tower_from_transformers(tmp_path: Path) -> None:
    """hf_model_name: the text tower is built from the configuration in the model's own folder, without the network."""
    from transformers import BertConfig

    folder = tmp_path / "model"
    folder.mkdir()
    tokenizer = tiny._plain_tokenizer(64, eos=False)
    BertConfig(**tiny.TEXT, vocab_size=len(tokenizer), max_position_embeddings=64, pad_token_id=0).save_pretrained(folder)
    text = {"hf_model_name": str(folder), "hf_model_pretrained": False, "hf_tokenizer_name": "x", "hf_proj_type": "linear",
            "hf_pooler_type": "mean_pooler", "context_length": 64}  # fmt: skip
    config = {**tiny.open_clip_config(), "text_cfg": text, "custom_text": True}
    config["vision_cfg"] = {**config["vision_cfg"]}
    tiny.tiny_open_clip(folder, model_cfg=config)
    tokenizer.save_pretrained(folder)
    edit_json(folder / "open_clip_config.json", lambda whole: whole["model_cfg"]["text_cfg"].update(hf_model_name="some/bert"))
    encoder: Any = load_encoder(f"local:{folder}", cache=False)
    assert encoder.encode_texts(["a dog", "a cat and a dog"]).shape == (2, 24)
    assert encoder._text.trim is None


def test_global_random_state_is_left_alone(tmp_path: Path) -> None:
    folders = [build(tmp_path / kind) for kind, build in BUILDERS.items()]
    before = torch.get_rng_state()
    for folder in folders:
        load_encoder(f"local:{folder}", cache=False)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("content", ["{}", "not json", '{"version": "1.0", "model": {"type": "Unknown"}}'])
def test_a_damaged_tokenizer(kind: str, content: str, tmp_path: Path) -> None:
    folder = BUILDERS[kind](tmp_path)
    (folder / "tokenizer.json").write_text(content)
    assert "tokenizer" in str(refused(folder, ModelConfigError))


@pytest.mark.parametrize("change", [{"num_hidden_layers": "two"}, {"hidden_size": 33}, {"hidden_act": "unknown"}])
def test_a_damaged_transformers_configuration(change: dict[str, Any], tmp_path: Path) -> None:
    folder = tiny.tiny_hf_clip(tmp_path)
    edit_json(folder / "config.json", lambda config: config["vision_config"].update(change))
    refused(folder, ModelConfigError)


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_tokenizer_of_another_model(kind: str, tmp_path: Path) -> None:
    """It makes ids that the tower does not know, or ends texts with another token: each would be silently wrong or a crash."""
    folder = BUILDERS[kind](tmp_path)

    def shift(tokenizer: dict[str, Any]) -> None:
        tokenizer["model"]["vocab"]["dog</w>"] = 5_000

    edit_json(folder / "tokenizer.json", shift)
    with pytest.raises(ModelConfigError, match="beyond"):
        load_encoder(f"local:{folder}", cache=False).encode_texts(["a dog"])
    folder = BUILDERS[kind](tmp_path / "endless")
    edit_json(folder / "tokenizer.json", lambda tokenizer: tokenizer["post_processor"].update(sep=["dog</w>", 0]))
    config, where = (
        ("config.json", ["text_config", "eos_token_id"])
        if kind == "clip"
        else ("open_clip_config.json", ["model_cfg", "text_cfg", "eos_id"])
    )

    def another_end(value: dict[str, Any]) -> None:
        for key in where[:-1]:
            value = value[key]
        value[where[-1]] = 3

    edit_json(folder / config, another_end)
    with pytest.raises(ModelConfigError, match="does not end texts"):
        load_encoder(f"local:{folder}", cache=False).encode_texts(["a dog"])


@pytest.mark.parametrize("kind", BUILDERS)
def test_weights_that_are_not_numbers(kind: str, tmp_path: Path, images: list[np.ndarray]) -> None:
    folder = BUILDERS[kind](tmp_path)

    def spoil(weights: dict[str, torch.Tensor]) -> None:
        for name, weight in weights.items():
            if "logit_scale" not in name:
                weight.fill_(float("nan"))

    edit_weights(folder / SAFE[kind], spoil)
    encoder = load_encoder(f"local:{folder}", cache=False)
    for call in (lambda: encoder.encode_texts(["a dog"]), lambda: encoder.encode_images(images[:1])):
        with pytest.raises(ModelConfigError, match="not finite"):
            call()
