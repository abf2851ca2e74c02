"""Models of the Hugging Face Hub: from its cache when offline, never more files than needed, never pickles unasked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import pytest

from tests import tiny, tiny_mllm
from toolkit.errors import ModelNotFound, UnsafeLoadError
from toolkit.models import load_answerer, load_encoder
from toolkit.types import Question

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Repository -> its snapshot folder in a hub cache of this test, to be filled."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def snapshot(repo: str) -> Path:
        root = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text(COMMIT)
        folder = root / "snapshots" / COMMIT
        folder.mkdir(parents=True)
        return folder

    return snapshot


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """A hub with one repository whose files lie in a folder; and the names of the files that were downloaded."""
    repository, downloaded = tmp_path / "online", []
    repository.mkdir()

    def snapshot_download(
        repo: str, *, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str], local_files_only: bool
    ) -> str:
        assert not local_files_only
        target = tmp_path / "downloads" / COMMIT
        target.mkdir(parents=True, exist_ok=True)
        for path in filter(Path.is_file, repository.iterdir()):
            if any(fnmatch(path.name, pattern) for pattern in allow_patterns) and not (target / path.name).exists():
                downloaded.append(path.name)
                shutil.copy(path, target)
        return str(target)

    class Api:
        def list_repo_files(self, repo: str, revision: str) -> list[str]:
            return [path.name for path in repository.iterdir()]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    return repository, downloaded


@pytest.mark.parametrize("build", [tiny.tiny_hf_clip, tiny.tiny_open_clip])
@pytest.mark.parametrize("name", ["hf:some/model", "hf:some/model@main", f"hf:some/model@{COMMIT}"])
def test_a_cached_repository_loads_offline(build: Callable[[Path], Path], name: str, cached: Any) -> None:
    build(cached("some/model"))
    assert load_encoder(name, offline=True, cache=False).encode_texts(["a dog"]).shape == (1, 24)


def test_another_revision_is_another_model(cached: Any) -> None:
    tiny.tiny_hf_clip(cached("some/model"))
    with pytest.raises(ModelNotFound, match="at revision v2"):
        load_encoder("hf:some/model@v2", offline=True)


def test_cached_pickles_and_cached_configurations_only(cached: Any) -> None:
    folder = tiny.tiny_hf_clip(cached("some/model"))
    (folder / "model.safetensors").rename(folder.parent / "away")
    with pytest.raises(ModelNotFound):
        load_encoder("hf:some/model", offline=True)
    (folder / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UnsafeLoadError):
        load_encoder("hf:some/model", offline=True)


def test_only_one_format_is_downloaded(online: Any) -> None:
    repository, downloaded = online
    tiny.tiny_open_clip(repository)
    tiny.tiny_hf_clip(repository)
    (repository / "pytorch_model.bin").write_bytes(b"x")
    assert load_encoder("hf:some/model", cache=False).dim == 24
    assert "model.safetensors" in downloaded
    assert not {"open_clip_model.safetensors", "pytorch_model.bin"} & set(downloaded)


def test_pickles_of_the_hub_are_not_even_downloaded(online: Any) -> None:
    repository, downloaded = online
    tiny.tiny_hf_clip(repository)
    (repository / "model.safetensors").rename(repository / "pytorch_model.bin")
    with pytest.raises(UnsafeLoadError, match="pickled"):
        load_encoder("hf:some/model")
    assert "pytorch_model.bin" not in downloaded


def test_remote_code_of_the_hub_is_refused_before_weights_come(online: Any) -> None:
    repository, downloaded = online
    tiny.tiny_hf_clip(repository)
    config = repository / "config.json"
    config.write_text(config.read_text().replace("{", '{"auto_map": {"AutoModel": "modeling.Model"},', 1))
    with pytest.raises(UnsafeLoadError, match="auto_map"):
        load_encoder("hf:some/model")
    assert "model.safetensors" not in downloaded


@pytest.fixture
def tiny_tag(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A built-in architecture of open_clip, as small as the others here, with one pretrained tag."""
    record = {
        "hf_hub": "some/weights/",
        "mean": (0.1, 0.2, 0.3),
        "std": (0.3, 0.3, 0.3),
        "interpolation": "bilinear",
        "resize_mode": "squash",
    }
    config = tiny.open_clip_config(hf_tokenizer_name="some/tokenizer")
    monkeypatch.setattr(open_clip, "list_models", lambda: ["tiny"])
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: ["tag"] if name == "tiny" else [])
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: config)
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: record)
    return record


def test_a_tag_of_open_clip_takes_weights_preprocessing_and_tokenizer_from_the_cache(cached: Any, tiny_tag: Any, tmp_path: Path) -> None:
    whole = tiny.tiny_open_clip(tmp_path / "whole")
    shutil.copy(whole / "open_clip_model.safetensors", cached("some/weights"))
    with pytest.raises(ModelNotFound, match="some/tokenizer"):
        load_encoder("open_clip:tiny/tag", offline=True)
    tokenizer = cached("some/tokenizer")
    for file in whole.glob("tokenizer*"):
        shutil.copy(file, tokenizer)
    encoder: Any = load_encoder("open_clip:tiny/tag", offline=True, cache=False)
    assert encoder.encode_texts(["a dog"]).equal(load_encoder(f"local:{whole}", cache=False).encode_texts(["a dog"]))
    described = encoder.preprocess.describe()
    assert (described["mean"], described["resize_mode"], described["interpolation"]) == ((0.1, 0.2, 0.3), "squash", "bilinear")
    assert described["size"] == (32, 32)


def test_a_tag_with_pickled_weights(cached: Any, tiny_tag: Any, tmp_path: Path) -> None:
    tiny_tag["hf_hub"] = "some/weights/pytorch_model.bin"
    whole = tiny.tiny_open_clip(tmp_path / "whole", pickled=True)
    shutil.copy(whole / "open_clip_pytorch_model.bin", cached("some/weights") / "pytorch_model.bin")
    tokenizer = cached("some/tokenizer")
    for file in whole.glob("tokenizer*"):
        shutil.copy(file, tokenizer)
    with pytest.raises(UnsafeLoadError, match="pickled"):
        load_encoder("open_clip:tiny/tag", offline=True)
    assert load_encoder("open_clip:tiny/tag", offline=True, allow_pickle=True, cache=False).dim == 24


def test_answerers_come_with_processor_and_chat_template(online: Any, cached: Any) -> None:
    repository, downloaded = online
    tiny_mllm.write_llava(repository)
    (repository / "pytorch_model.bin").write_bytes(b"x")
    answerer = load_answerer("hf:llava-hf/tiny", device="cpu")
    assert answerer.answer([Question("what?")], max_new_tokens=2)[0].error is None
    assert {"model.safetensors", "chat_template.jinja", "processor_config.json", "tokenizer.json"} <= set(downloaded)
    assert "pytorch_model.bin" not in downloaded


def test_the_second_tokenizer_of_instructblip_is_fetched(online: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    repository, _ = online
    tiny_mllm.write("instructblip", repository)
    inner = huggingface_hub.snapshot_download

    def with_folders(repo: str, *, allow_patterns: list[str], **settings: Any) -> str:
        target = inner(repo, allow_patterns=allow_patterns, **settings)
        if "qformer_tokenizer/*" in allow_patterns and "*/*" not in settings["ignore_patterns"]:
            shutil.copytree(repository / "qformer_tokenizer", Path(target) / "qformer_tokenizer", dirs_exist_ok=True)
        return target

    monkeypatch.setattr(huggingface_hub, "snapshot_download", with_folders)
    (repository / "onnx").mkdir()
    assert load_answerer("hf:some/instructblip", device="cpu").processor.qformer_tokenizer is not None


def test_cached_answerers_load_offline(cached: Any) -> None:
    folder = tiny_mllm.write_llava(cached("llava-hf/tiny"))
    name = "hf:llava-hf/tiny"
    assert load_answerer(name, device="cpu", offline=True).fingerprint == load_answerer(f"local:{folder}", device="cpu").fingerprint
    with pytest.raises(ModelNotFound, match="not whole in the local cache"):
        load_answerer("hf:llava-hf/other", offline=True)
