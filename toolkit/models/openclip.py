"""Dual encoders of the open_clip library: every architecture that its create_model builds, with weights or not at all."""

from __future__ import annotations

import copy
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.errors import ModelConfigError, ModelNotFound, UsageError, near_matches, unknown_name
from toolkit.models import hub, weights
from toolkit.models.encoder import Encoder, apply_alone
from toolkit.models.text import IDS, Tokens, first_position_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from toolkit.models.vision import Pixels
    from toolkit.types import JSON

SAFE = ["open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors"]
UNSAFE = ["open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth", "pytorch_model.bin"]
QUICK = "-quickgelu"


def list_names() -> list[str]:
    """All pretrained models that open_clip knows, as open_clip:ARCH/PRETRAINED, without those that would compute another activation."""
    import open_clip

    return sorted(f"open_clip:{architecture}/{tag}" for architecture, tag in open_clip.list_pretrained() if _belong(architecture, tag))


def _belong(architecture: str, tag: str) -> bool:
    try:
        find_record(architecture, tag)
    except ModelConfigError:
        return False
    return True


def load_builtin(architecture: str, tag: str | None, *, offline: bool, allow_pickle: bool, **settings: Any) -> OpenClipEncoder:
    """A built-in architecture with the weights of a pretrained tag, or of a file.

    Raises: ModelNotFound: unknown architecture or tag, or weights that cannot be had. ModelConfigError: no tag, or a QuickGELU mismatch.
    UnsafeLoadError: only pickled weights.
    """
    import open_clip

    if architecture not in open_clip.list_models():
        raise unknown_name("open_clip architecture", architecture, open_clip.list_models(), ModelNotFound)
    config = open_clip.get_model_config(architecture)
    record: dict[str, Any] = {}
    if tag and Path(tag).suffix in (".safetensors", *weights.PICKLED) and os.path.isfile(tag):
        folder, file = Path(tag).parent, Path(tag).name
        safe = Path(tag).suffix == ".safetensors"
        path = weights.find_weights(folder, [file] if safe else [], [] if safe else [file], allow_pickle=allow_pickle)[0]
    else:
        record = find_record(architecture, tag)
        path = _fetch(record, offline=offline, allow_pickle=allow_pickle)
    return _build(config, record, path, text_folder=None, offline=offline, **settings)


def load_folder(folder: Path, *, offline: bool, allow_pickle: bool, **settings: Any) -> OpenClipEncoder:
    """A folder as open_clip's push_to_hf_hub writes it. Raises: ModelNotFound, UnsafeLoadError, ModelConfigError."""
    whole = weights.read_json(folder / "open_clip_config.json")
    config = whole.get("model_cfg")
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
        raise ModelConfigError(f"{folder / 'open_clip_config.json'} lacks model_cfg with embed_dim, vision_cfg and text_cfg")
    safe = SAFE[:2] if (folder / "config.json").is_file() else SAFE  # beside a config.json, model.safetensors is in transformers' layout
    path = weights.find_weights(folder, safe, UNSAFE, allow_pickle=allow_pickle)[0]
    return _build(config, whole.get("preprocess_cfg") or {}, path, text_folder=folder, offline=offline, **settings)


def find_record(architecture: str, tag: str | None) -> dict[str, Any]:
    """open_clip's record of a pretrained tag, after checking that tag and architecture belong together."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not tag:
        raise ModelConfigError(
            f"open_clip:{architecture} names no pretrained weights, and a random model is never used",
            hint=f"known weights: {', '.join(tags)}" if tags else "open_clip has no weights for this architecture",
        )
    sibling = architecture.removesuffix(QUICK) if architecture.endswith(QUICK) else architecture + QUICK
    if tag not in tags:
        if tag in open_clip.list_pretrained_tags_by_model(sibling):
            raise ModelConfigError(
                f"the weights {tag!r} were not trained with the architecture {architecture}", hint=f"use open_clip:{sibling}/{tag}"
            )
        error = unknown_name(f"pretrained tag of {architecture}", tag, tags, ModelNotFound)
        others = near_matches(f"{architecture}/{tag}", (f"{name}/{other}" for name, other in open_clip.list_pretrained()))
        if not near_matches(tag, tags) and others:
            error.hint = f"{error.hint}; did you mean open_clip:{others[0]}?" if tags else f"did you mean open_clip:{others[0]}?"
        raise error
    record = dict(open_clip.get_pretrained_cfg(architecture, tag))
    trained, built = record.get("quick_gelu"), bool(open_clip.get_model_config(architecture).get("quick_gelu"))
    # A tag without an entry was trained with plain GELU, unless it belongs to an architecture that exists only with QuickGELU.
    mismatch = built != trained if trained is not None else built and architecture.endswith(QUICK)
    if mismatch:
        raise ModelConfigError(
            f"the weights {tag!r} were trained with {'QuickGELU' if trained else 'GELU'}, and {architecture} computes with "
            f"{'QuickGELU' if built else 'GELU'}: the results would be silently wrong",
            hint=f"use open_clip:{sibling}/{tag}",
        )
    return record


def _fetch(record: dict[str, Any], *, offline: bool, allow_pickle: bool) -> Path:
    """The weights of a record, from the Hub or its cache."""
    repo, _, file = str(record.get("hf_hub") or "").rpartition("/")
    if not repo:
        raise ModelNotFound(
            "these weights are not on the Hugging Face Hub", hint=f"download {record.get('url')} and give the file as the tag"
        )
    safe = [Path(file).with_suffix(".safetensors").name] if file else SAFE[:2]
    return hub.fetch_weights(repo, safe, [file] if file else UNSAFE[:2], offline=offline, allow_pickle=allow_pickle)


def _build(
    config: dict[str, Any], preprocess: dict[str, Any], path: Path, *, text_folder: Path | None, offline: bool, name: str,
    device: torch.device, dtype: torch.dtype,
) -> OpenClipEncoder:  # fmt: skip
    """Architecture, weights, preprocessing and tokenizer: all of one checkpoint."""
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    config = copy.deepcopy(config)
    tokenizer, tokenizer_identity = _load_tokenizer(config["text_cfg"], text_folder, offline=offline)
    model = _construct(config, text_folder, offline=offline)
    _load_weights(model, path)
    chosen = merge_preprocess_dict(asdict(PreprocessCfg()), preprocess)
    chosen["size"] = getattr(model.visual, "image_size", chosen["size"])
    transform = OpenClipPreprocess(chosen)
    hashes = sorted(weights.hash_files([path]).values())
    identity = {"library": "open_clip", "config": config, "weights": hashes, "tokenizer": tokenizer_identity}
    text = OpenClipText(model, tokenizer, int(config["embed_dim"]), int(config["text_cfg"].get("context_length", 77)))
    return OpenClipEncoder(
        name=name, module=model, preprocess=transform, text=text, image_size=transform.side, device=device, dtype=dtype, identity=identity
    )


def _construct(config: dict[str, Any], text_folder: Path | None, *, offline: bool) -> Any:
    """The model with random weights, by open_clip's own rules; the global random state stays as it was."""
    import open_clip

    settings = copy.deepcopy(config)
    text, vision = settings["text_cfg"], settings["vision_cfg"]
    if text.get("hf_model_name"):
        text["hf_model_name"] = str(_text_source(text["hf_model_name"], text_folder, "config.json", offline=offline))
        text["hf_model_pretrained"] = False
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False
    custom = settings.pop("custom_text", False) or bool(text.get("hf_model_name"))
    kind = open_clip.CLIP if not custom else open_clip.CoCa if "multimodal_cfg" in settings else open_clip.CustomTextCLIP
    try:
        with torch.random.fork_rng(devices=[]):
            return kind(**settings)
    except Exception as error:  # constructors of three libraries, fed with a file's numbers: anything may come
        raise ModelConfigError(f"open_clip cannot build this architecture: {type(error).__name__}: {error}") from error


def _text_source(repo: str, folder: Path | None, file: str, *, offline: bool) -> Path:
    """The folder of a Hugging Face text tower's configuration or tokenizer: the model's own folder, else its repository."""
    if folder is not None and (folder / file).is_file():
        return folder
    return hub.fetch_configuration(repo.removeprefix("hf-hub:"), offline=offline)


def _load_weights(model: nn.Module, path: Path) -> None:
    import open_clip
    from safetensors import SafetensorError

    if path.suffix != ".safetensors":
        weights.check_pickle(path)
    try:
        open_clip.load_checkpoint(model, str(path), strict=True, weights_only=True)
    except (RuntimeError, KeyError, ValueError, AssertionError, SafetensorError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise ModelConfigError(
            f"{path} does not hold the weights of this architecture: {' '.join(lines[:2])[:300]}",
            hint="architecture and weights belong to different models, or the file is incomplete",
        ) from error


def _load_tokenizer(text: dict[str, Any], folder: Path | None, *, offline: bool) -> tuple[Any, JSON]:
    """open_clip's tokenizer for a text_cfg, and what identifies it."""
    import open_clip
    from open_clip.tokenizer import HFTokenizer, default_bpe

    context, extra = int(text.get("context_length", 77)), dict(text.get("tokenizer_kwargs") or {})
    mode = text.get("tokenizer_mode")
    identity = {"context": context, "mode": mode, "options": extra}
    if not text.get("hf_tokenizer_name"):
        files = weights.hash_files([Path(default_bpe())])
        return open_clip.SimpleTokenizer(context_length=context, **extra), {"kind": "simple", "files": files, **identity}
    source = _text_source(text["hf_tokenizer_name"], folder, "tokenizer_config.json", offline=offline)
    weights.refuse_remote_code(source)
    try:
        tokenizer = HFTokenizer(str(source), context_length=context, tokenizer_mode=mode, **extra)
    except Exception as error:  # a damaged tokenizer.json raises plain Exception
        raise ModelConfigError(f"the tokenizer in {source} cannot be loaded: {str(error)[:300]}") from error
    return tokenizer, {"kind": "hf", "files": weights.hash_tokenizer(source), **identity}


class OpenClipPreprocess:
    """open_clip's own transform: resizing and cropping in the worker, scaling and normalising on whole batches."""

    def __init__(self, config: dict[str, Any]) -> None:
        from open_clip.transform import MaybeToTensor, PreprocessCfg, image_transform_v2

        self.config = config
        steps = image_transform_v2(PreprocessCfg(**config), is_train=False).transforms
        cut = next(number for number, step in enumerate(steps) if isinstance(step, MaybeToTensor))
        self.geometry, self.normalise = steps[:cut], steps[cut + 1 :]

    @property
    def side(self) -> int:
        size = self.config["size"]
        return int(size if isinstance(size, int) else size[0])

    def prepare(self, image: Image) -> Pixels:
        for step in self.geometry:
            image = step(image)
        return {"pixels": np.array(image).transpose(2, 0, 1)}

    def finish(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        pixels = batch["pixels"].to(torch.float32).div(255)
        for step in self.normalise:
            pixels = step(pixels)
        return {"pixels": pixels}

    def describe(self) -> JSON:
        return self.config


class OpenClipText:
    """Tokenizer and text tower. Causal transformers that pool at the end-of-text token may be cut; all others run at full length."""

    def __init__(self, model: Any, tokenizer: Any, dim: int, context: int) -> None:
        self.model, self.tokenizer, self.dim, self.context = model, tokenizer, dim, context
        self.vocab_size = int(getattr(model, "vocab_size", 0) or model.text.vocab_size)
        tower = getattr(model, "text", model)  # the plain CLIP class keeps the parts of its text tower to itself
        self.pool = getattr(tower, "pool_type", getattr(model, "text_pool_type", None))
        self.eos = int(getattr(tower, "eos_id", getattr(model, "text_eos_id", -1)))
        causal = getattr(tower, "attn_mask", None) is not None and getattr(tower, "cls_emb", None) is None
        self.tower = tower if causal and self.pool in ("argmax", "eos") and not getattr(tower, "use_pad_mask", False) else None

    def tokenize(self, texts: list[str]) -> Tokens:
        return {IDS: self.tokenizer(texts)}

    def lengths(self, tokens: Tokens) -> Tensor | None:
        if self.tower is None:
            return None
        ids = tokens[IDS]
        return (ids.argmax(dim=-1) if self.pool == "argmax" else first_position_of(ids, self.eos)) + 1

    def count_cut(self, texts: list[str], tokens: Tokens) -> int:
        """Texts whose last position is taken are counted again without a limit."""
        ids = tokens[IDS]
        wrapped = getattr(self.tokenizer, "tokenizer", None)
        pad = getattr(wrapped, "pad_token_id", 0) if wrapped is not None else 0
        last = ids[:, -2:] if wrapped is not None and pad == getattr(wrapped, "eos_token_id", None) else ids[:, -1:]
        suspects = [texts[row] for row in (last != pad).any(dim=-1).nonzero().flatten().tolist()]
        if wrapped is None:
            return sum(len(self.tokenizer.encode(text)) + 2 > self.context for text in suspects)
        cleaned = [self.tokenizer.clean_fn(text) for text in suspects]
        return sum(len(found) > self.context for found in wrapped(cleaned, truncation=False, verbose=False)["input_ids"]) if cleaned else 0

    def features(self, tokens: Tokens) -> Tensor:
        ids = tokens[IDS]
        if self.tower is None or ids.shape[1] == self.context:
            whole: Tensor = self.model.encode_text(ids, normalize=False)
            return whole
        return self._cut_features(ids)

    def _cut_features(self, ids: Tensor) -> Tensor:
        """The forward pass of a causal tower on texts cut to L < context positions, which the library does not offer."""
        tower: Any = self.tower
        length, dtype = ids.shape[1], tower.transformer.get_cast_dtype()
        states = tower.token_embedding(ids).to(dtype) + tower.positional_embedding[:length].to(dtype)
        states = tower.ln_final(tower.transformer(states, attn_mask=tower.attn_mask[:length, :length]))
        last = ids.argmax(dim=-1) if self.pool == "argmax" else first_position_of(ids, self.eos)
        pooled: Tensor = states[torch.arange(len(ids), device=ids.device), last]
        projection = tower.text_projection
        if projection is not None:
            pooled = projection(pooled) if isinstance(projection, nn.Module) else pooled @ projection
        return pooled


class OpenClipEncoder(Encoder):
    """A dual encoder of the open_clip library."""

    def _image_features(self, inputs: dict[str, Tensor]) -> Tensor:
        features: Tensor = self.module.encode_image(inputs["pixels"], normalize=False)
        return features

    def _patch_features(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        from open_clip.transformer import VisionTransformer

        visual: Any = self.module.visual
        if isinstance(visual, VisionTransformer):
            rows, columns = visual.grid_size
            tokens = visual.transformer(visual._embeds(inputs["pixels"]))
            pooled = visual._pool(tokens)[0]
            patches = apply_alone(tokens[:, -rows * columns :], lambda alone: visual._pool(alone)[0], copies=2)
            if visual.proj is not None:
                pooled, patches = pooled @ visual.proj, patches @ visual.proj
        elif hasattr(visual, "trunk") and hasattr(visual.trunk, "patch_embed") and hasattr(visual.trunk, "num_prefix_tokens"):
            trunk = visual.trunk
            rows, columns = trunk.patch_embed.grid_size
            tokens = trunk.forward_features(inputs["pixels"])
            pooled = visual.head(trunk.forward_head(tokens))
            copies = trunk.num_prefix_tokens + 1
            patches = apply_alone(tokens[:, -rows * columns :], lambda alone: visual.head(trunk.forward_head(alone)), copies=copies)
        else:
            raise UsageError(f"patch features need a ViT image tower; that of {self.name} is a {type(visual).__name__}")
        return patches.reshape(len(patches), rows, columns, -1), pooled
