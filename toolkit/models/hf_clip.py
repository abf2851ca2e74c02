"""Dual encoders of the transformers library: CLIPModel, SiglipModel, Siglip2Model, VisionTextDualEncoderModel."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.errors import ModelConfigError, ModelNotFound, UsageError
from toolkit.models import weights
from toolkit.models.encoder import Encoder, apply_alone
from toolkit.models.library import first_line, quiet, without_versions
from toolkit.models.text import IDS, Tokens, first_position_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from toolkit.models.vision import Pixels
    from toolkit.types import JSON

CLASSES = {
    "clip": "CLIPModel",
    "siglip": "SiglipModel",
    "siglip2": "Siglip2Model",
    "vision-text-dual-encoder": "VisionTextDualEncoderModel",
}
LEGACY_EOS = 2  # CLIP configurations from before 2023 say 2 and mean: the largest id
_log = logging.getLogger(__name__)


def load_folder(folder: Path, *, name: str, device: torch.device, dtype: torch.dtype, allow_pickle: bool) -> HFEncoder:
    """A dual encoder from a folder as save_pretrained writes it.

    Raises: ModelNotFound, UnsafeLoadError, ModelConfigError: files are missing, unsafe, or do not make a whole model.
    """
    weights.refuse_remote_code(folder)
    kind = weights.read_json(folder / "config.json").get("model_type")
    if kind not in CLASSES:
        raise ModelConfigError(f"{folder} holds a model of type {kind!r}; dual encoders are of type {', '.join(CLASSES)}")
    files = weights.find_weights(folder, ["model.safetensors"], ["pytorch_model.bin"], allow_pickle=allow_pickle)
    pickled = files[0].suffix != ".safetensors"
    for file in files if pickled else ():
        weights.check_pickle(file)
    model = _load_model(folder, CLASSES[kind], pickled=pickled)
    processor, tokenizer = _load_processors(folder)
    text = HFText(model, tokenizer, kind)
    identity = {
        "library": "transformers",
        "config": without_versions(model.config.to_dict()),
        "weights": weights.hash_files(files),
        "tokenizer": weights.hash_tokenizer(folder),
    }
    return HFEncoder(
        kind, name=name, module=model, preprocess=choose_preprocess(processor), text=text, image_size=_image_size(model, processor),
        device=device, dtype=dtype, identity=identity,
    )  # fmt: skip


def _load_model(folder: Path, class_name: str, *, pickled: bool) -> Any:
    import transformers

    with quiet():
        try:
            model, info = getattr(transformers, class_name).from_pretrained(
                folder, dtype=torch.float32, use_safetensors=not pickled, weights_only=True, local_files_only=True,
                trust_remote_code=False, output_loading_info=True,
            )  # fmt: skip
        except Exception as error:  # configuration classes, safetensors and torch each raise errors of their own
            raise ModelConfigError(f"{folder} cannot be loaded as a {class_name}: {first_line(error)}") from error
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if missing:
        raise ModelConfigError(
            f"{folder} lacks {len(missing)} weights of a {class_name}, such as {missing[0]}: they would be random numbers",
            hint="the files belong to another configuration or are incomplete; download or save the model again",
        )
    unused = [key for key in sorted(info["unexpected_keys"]) if not key.endswith("position_ids")]
    if unused:
        _log.warning("%s holds %d weights that a %s has no place for, such as %s", folder, len(unused), class_name, unused[0])
    return model


def _load_processors(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoImageProcessor, AutoTokenizer

    if not any((folder / file).is_file() for file in ("preprocessor_config.json", "processor_config.json")):
        raise ModelNotFound(f"{folder} has no preprocessor_config.json: how images are to be prepared is not known")
    if not any((folder / file).is_file() for file in weights.TOKENIZER_FILES):
        raise ModelNotFound(f"{folder} has no tokenizer files, such as tokenizer.json")
    try:
        with quiet():
            processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a damaged tokenizer.json raises plain Exception
        raise ModelConfigError(f"the tokenizer or image processor in {folder} cannot be loaded: {first_line(error)}") from error
    if tokenizer.pad_token_id is None:
        raise ModelConfigError(f"the tokenizer in {folder} has no padding token, and texts of different lengths need one")
    return processor, tokenizer


def _image_size(model: Any, processor: Any) -> int:
    size = getattr(model.config.vision_config, "image_size", None)
    if size is None:  # native aspect ratio: the side of a square of as many patches
        size = round(processor.max_num_patches**0.5) * processor.patch_size
    return int(size if isinstance(size, int) else size[0])


def choose_preprocess(processor: Any) -> WholeProcessor | SplitProcessor:
    """The fast path where the processor scales and normalises as its last step, else the processor as it is."""
    steps = ("do_rescale", "do_normalize", "resize", "center_crop", "rescale_and_normalize")
    plain = all(getattr(processor, step, None) for step in steps) and not getattr(processor, "do_pad", None)
    splits = plain and getattr(type(processor), "_preprocess", None) is _base_preprocess()
    return SplitProcessor(processor) if splits else WholeProcessor(processor)


def _base_preprocess() -> object:
    try:
        from transformers.image_processing_backends import TorchvisionBackend
    except ImportError:  # another version of the library, with another layout: the whole processor works in all of them
        return object()
    return TorchvisionBackend._preprocess


class WholeProcessor:
    """An image processor as it is, one image at a time, in the worker."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def prepare(self, image: Image) -> Pixels:
        batch = self.processor(images=[image], return_tensors="pt")
        return {key: np.asarray(value[0]) for key, value in batch.items() if isinstance(value, Tensor)}

    def finish(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return batch

    def describe(self) -> JSON:
        return without_versions(self.processor.to_dict())


class SplitProcessor(WholeProcessor):
    """A processor that resizes, crops, then scales and normalises: the first half one by one in the worker, the second batched."""

    def prepare(self, image: Image) -> Pixels:
        batch = self.processor(images=[image], do_rescale=False, do_normalize=False, return_tensors="pt")
        return {"pixel_values": batch["pixel_values"][0].numpy()}

    def finish(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        own = self.processor
        mean, std = tuple(own.image_mean), tuple(own.image_std)
        return {"pixel_values": own.rescale_and_normalize(batch["pixel_values"], True, own.rescale_factor, True, mean, std)}


class HFText:
    """Tokenizer and text tower. Causal towers with EOT pooling (CLIP) and towers with an attention mask may be cut, SigLIP may not."""

    def __init__(self, model: Any, tokenizer: Any, kind: str) -> None:
        self.model, self.tokenizer, self.kind = model, tokenizer, kind
        config = model.config.text_config
        self.dim = int(getattr(model.config, "projection_dim", None) or 0) if kind in ("clip", "vision-text-dual-encoder") else 0
        self.dim = self.dim or int(getattr(config, "projection_size", None) or config.hidden_size)
        self.vocab_size = int(config.vocab_size)
        self.eos = config.eos_token_id
        limit = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
        self.context = min(int(limit), int(tokenizer.model_max_length))

    def tokenize(self, texts: list[str]) -> Tokens:
        padding = True if self.kind == "vision-text-dual-encoder" else "max_length"  # as the library's processors do
        made = self.tokenizer(texts, padding=padding, truncation=True, max_length=self.context, return_tensors="pt")
        tokens = {key: made[key] for key in (IDS, "attention_mask", "token_type_ids") if key in made}
        if self.kind == "clip":  # behind the end of a text nothing counts, mask or not; without a mask attention is faster
            return {IDS: tokens[IDS]}
        return tokens

    def lengths(self, tokens: Tokens) -> Tensor | None:
        ids = tokens[IDS]
        if self.kind == "clip":
            return (ids.argmax(dim=-1) if self.eos == LEGACY_EOS else first_position_of(ids, self.eos)) + 1
        if self.kind == "vision-text-dual-encoder" and "attention_mask" in tokens and self.tokenizer.padding_side == "right":
            return tokens["attention_mask"].sum(dim=-1)
        return None

    def count_cut(self, texts: list[str], tokens: Tokens) -> int:
        full = tokens[IDS][:, -1] != self.tokenizer.pad_token_id
        if self.tokenizer.pad_token_id == self.tokenizer.eos_token_id:
            full = tokens[IDS][:, -2:].ne(self.tokenizer.pad_token_id).any(dim=-1)
        if tokens[IDS].shape[1] < self.context or not full.any():
            return 0
        suspects = [texts[row] for row in full.nonzero().flatten().tolist()]
        return sum(len(ids) > self.context for ids in self.tokenizer(suspects, truncation=False, verbose=False)["input_ids"])

    def features(self, tokens: Tokens) -> Tensor:
        return _pooled(self.model.get_text_features(**tokens))


def _pooled(output: Any) -> Tensor:
    """The embedding: transformers 5 wraps it into an object."""
    pooled: Tensor | None = output if isinstance(output, Tensor) else output.pooler_output
    if pooled is None:
        raise ModelConfigError("this model has no pooled output, hence no joint image-text space")
    return pooled


class HFEncoder(Encoder):
    """A dual encoder of the transformers library."""

    def __init__(self, kind: str, **parts: Any) -> None:
        super().__init__(**parts)
        self.kind = kind

    def _image_features(self, inputs: dict[str, Tensor]) -> Tensor:
        return _pooled(self.module.get_image_features(**inputs))

    def _patch_features(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        output = self.module.get_image_features(**inputs)
        tower = self.module.vision_model
        if isinstance(output, Tensor):
            raise UsageError("patch features need transformers 5.17 or newer")
        tokens, image = output.last_hidden_state, _pooled(output)
        rows, columns = self._grid(inputs, tokens)
        prefix = tokens.shape[1] - rows * columns if "spatial_shapes" not in inputs else 0
        tokens = tokens[:, prefix : prefix + rows * columns]
        patches = self._project(getattr(tower, "vision_model", tower), tokens)
        return patches.reshape(len(tokens), rows, columns, -1), image

    def _grid(self, inputs: dict[str, Tensor], tokens: Tensor) -> tuple[int, int]:
        if "spatial_shapes" in inputs:
            shapes = inputs["spatial_shapes"]
            if not bool((shapes == shapes[0]).all()):
                raise UsageError("the images have patch grids of different shapes", hint="encode images of one aspect ratio at a time")
            return int(shapes[0, 0]), int(shapes[0, 1])
        patch = getattr(self.module.config.vision_config, "patch_size", None)
        if tokens.ndim != 3 or not isinstance(patch, int):
            raise UsageError(f"patch features need a ViT image tower; that of {self.name} is none")
        height, width = inputs["pixel_values"].shape[-2:]
        return height // patch, width // patch

    def _project(self, tower: Any, tokens: Tensor) -> Tensor:
        """Patch tokens (N, P, C) into the joint space, by the way that the pooled token takes."""
        if self.kind in ("siglip", "siglip2"):
            return apply_alone(tokens, tower.head) if self.kind == "siglip" else apply_alone(tokens, lambda alone: tower.head(alone, None))
        if hasattr(tower, "post_layernorm"):
            tokens = tower.post_layernorm(tokens)
        elif isinstance(getattr(tower, "pooler", None), nn.Module):
            tokens = apply_alone(tokens, tower.pooler)
        projected: Tensor = self.module.visual_projection(tokens)
        return projected
