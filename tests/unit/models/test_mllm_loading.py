"""Loading answerers: only whole and safe checkpoints, on the devices asked for."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny_mllm_folders as folders
from toolkit.errors import ModelConfigError, ModelNotFound, PermafrostError, UnsafeLoadError, UsageError
from toolkit.images import as_source
from toolkit.models import load_answerer
from toolkit.types import Question

PICTURE = as_source(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
QUESTIONS = [Question("what colour?", (PICTURE,)), Question("no?")]
PARTS = ["model.vision_tower", "model.multi_modal_projector", "model.language_model.embed_tokens", "model.language_model.norm",
         "model.language_model.rotary_emb", "lm_head"]  # fmt: skip


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.write("llava", tmp_path_factory.mktemp("llava"))


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


def edit(path: Path, change: Callable[[dict], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def refused(folder: Path, error: type[PermafrostError], words: str) -> None:
    with pytest.raises(error, match=words):
        load_answerer(f"local:{folder}", device="cpu")


def test_names_that_are_no_answerers(tiny_model: Path, tmp_path: Path) -> None:
    for name in ("pocket-clip", "open_clip:ViT-B-32/openai"):
        with pytest.raises(UsageError, match="answers no questions"):
            load_answerer(name)
    with pytest.raises(ModelNotFound, match="pocket-llaba"):
        load_answerer("pocket-llaba")
    refused(tiny_model, ModelConfigError, "clip model, which writes no text")
    refused(tmp_path, ModelNotFound, r"config\.json")


def test_code_and_pickles_are_refused(folder: Path) -> None:
    weights = {name: torch.zeros(1) for name in ("a",)}
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").rename(folder / "elsewhere")
    refused(folder, UnsafeLoadError, "pickled")
    (folder / "elsewhere").rename(folder / "model.safetensors")
    edit(folder / "config.json", lambda value: value.update(auto_map={"AutoModel": "modeling.Model"}))
    refused(folder, UnsafeLoadError, "auto_map")


def test_pickles_that_are_asked_for(folder: Path) -> None:
    from safetensors.torch import load_file

    expected = load_answerer(f"local:{folder}", device="cpu").answer(QUESTIONS, max_new_tokens=3)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    answers = load_answerer(f"local:{folder}", device="cpu", allow_pickle=True).answer(QUESTIONS, max_new_tokens=3)
    assert [answer.tokens for answer in answers] == [answer.tokens for answer in expected]
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UnsafeLoadError, match="not loaded"):
        load_answerer(f"local:{folder}", device="cpu", allow_pickle=True)


@pytest.mark.parametrize("part", ["lm_head.weight", "vision_tower", "multi_modal_projector", "layers.3.mlp"])
def test_nothing_is_random_in_part(folder: Path, part: str) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    lost = next(name for name in sorted(tensors) if part in name)
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, ModelConfigError, "random in part")
    tensors[lost] = torch.zeros(3, 5)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, ModelConfigError, "cannot be loaded|random in part")


def test_damaged_folders(folder: Path) -> None:
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    processor = [name for name in kept if name in ("processor_config.json", "preprocessor_config.json")]
    for name, content, error, words in (
        ("config.json", b"{", ModelConfigError, "config.json"),
        ("config.json", b'{"model_type": "no-such-model"}', ModelConfigError, "transformers does not know"),
        ("model.safetensors", kept["model.safetensors"][:5000], ModelConfigError, "cannot be loaded"),
        ("tokenizer.json", b"{}", ModelConfigError, "processor"),
        *((name, None, ModelConfigError, "processor") for name in processor),
    ):
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
        refused(folder, error, words)
        (folder / name).write_bytes(kept[name])
    assert load_answerer(f"local:{folder}", device="cpu").answer(QUESTIONS, max_new_tokens=2)[0].error is None


def test_spread_over_memory_and_disk(original: Path) -> None:
    whole = load_answerer(f"local:{original}", device="cpu")
    spread = {**dict.fromkeys(PARTS, "cpu"), **{f"model.language_model.layers.{layer}": ["cpu", "disk"][layer % 2] for layer in range(6)}}
    answerer = load_answerer(f"local:{original}", device="cpu", device_map=spread)
    assert answerer.info["devices"] == ["cpu", "disk"]
    assert any(weight.device.type == "meta" for weight in answerer.module.parameters())
    for first, second in zip(whole.answer(QUESTIONS, max_new_tokens=4), answerer.answer(QUESTIONS, max_new_tokens=4), strict=True):
        assert first.tokens == second.tokens
    for first, second in zip(whole.score(QUESTIONS, [["a"], ["b"]]), answerer.score(QUESTIONS, [["a"], ["b"]]), strict=True):
        assert torch.equal(first, second)
    assert answerer.fingerprint == whole.fingerprint
    again = load_answerer(f"local:{original}", device="cpu", device_map=json.dumps(spread))
    assert again.info["devices"] == ["cpu", "disk"]
    assert load_answerer(f"local:{original}", device="cpu", device_map="auto").info["devices"] == ["cpu"]


def test_the_offload_folder_goes_with_the_model(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    answerer = load_answerer(f"local:{original}", device="cpu", device_map={"": "cpu"})
    assert len(list(tmp_path.glob("permafrost-offload-*"))) == 1
    del answerer
    gc.collect()
    assert not list(tmp_path.glob("permafrost-offload-*"))


@pytest.mark.parametrize(
    ("device_map", "words"),
    [
        ("everywhere", "device map called 'everywhere'"),
        ("{model: cpu}", "not JSON"),
        ({"model.vision_towel": "cpu"}, "vision_towel"),
        ({"": "tpu"}, "tpu"),
        ({"model.vision_tower": "cpu"}, "without a device"),
    ],
)
def test_device_maps_that_cannot_be(original: Path, device_map: object, words: str) -> None:
    with pytest.raises(PermafrostError, match=words):
        load_answerer(f"local:{original}", device="cpu", device_map=device_map)  # type: ignore[arg-type]


def test_quantised_weights_are_not_split_or_quantised_again(original: Path, folder: Path) -> None:
    spread = {**dict.fromkeys(PARTS, "cpu"), **{f"model.language_model.layers.{layer}": "disk" for layer in range(6)}}
    with pytest.raises(UsageError, match="partly on the CPU"):
        load_answerer(f"local:{original}", device="cpu", device_map=spread, quantise=8)
    load_answerer(f"local:{original}", device="cpu", quantise=4).module.save_pretrained(folder)
    with pytest.raises(UsageError, match="quantised already"):
        load_answerer(f"local:{folder}", device="cpu", quantise=4)


@pytest.mark.gpu
@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "idefics3", "gemma3"])
def test_an_accelerator_gives_the_same_answers(family: str, tmp_path: Path) -> None:
    folder = folders.write(family, tmp_path)
    slow, fast = (load_answerer(f"local:{folder}", device=device, dtype="float32") for device in ("cpu", "cuda"))
    assert fast.info["devices"] == ["cuda:0"]
    for first, second in zip(slow.score(QUESTIONS, [["a", "b"]] * 2), fast.score(QUESTIONS, [["a", "b"]] * 2), strict=True):
        assert torch.allclose(first, second, atol=1e-2)  # sums of products in another order, and perhaps in TF32
    for bits in (4, 8):
        few = load_answerer(f"local:{folder}", device="cuda", quantise=bits)
        assert few.info["quantised"]["bits"] == bits
        assert all(answer.error is None for answer in few.answer(QUESTIONS, max_new_tokens=3))


@pytest.mark.gpu
def test_half_on_an_accelerator(original: Path) -> None:
    spread = {**dict.fromkeys(PARTS, 0), **{f"model.language_model.layers.{layer}": [0, "cpu"][layer % 2] for layer in range(6)}}
    answerer = load_answerer(f"local:{original}", dtype="float32", device_map=spread)
    assert answerer.info["devices"] == ["cpu", "cuda:0"]
    whole = load_answerer(f"local:{original}", device="cuda", dtype="float32")
    assert [a.tokens for a in answerer.answer(QUESTIONS)] == [a.tokens for a in whole.answer(QUESTIONS)]
