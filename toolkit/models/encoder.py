"""What every dual encoder does the same way: batches, workers, precision, normalisation. Libraries fill in the forward passes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from toolkit.config import fingerprint
from toolkit.errors import ModelConfigError, UsageError
from toolkit.images import as_source
from toolkit.models.text import TextEncoder, TextTower, unit
from toolkit.models.vision import PixelBatch, Preprocess, iter_pixels, raise_first_failure
from toolkit.types import JSON, EncodedBatch, PatchFeatures

if TYPE_CHECKING:
    from toolkit.models.base import ImageLike

FORMAT = 1
"""Raised when this code changes embeddings, so that cached ones are not used any more."""


class Encoder(ABC):
    """A frozen dual encoder (toolkit.models.base.DualEncoder).

    Args:
        name: in the grammar of load_encoder.
        module: the library's model; put into eval mode on ``device`` in ``dtype``, gradients off.
        preprocess: the library's image preprocessing.
        text: the library's tokenizer and text tower.
        identity: hashes and configurations of all that was loaded, for the fingerprint.
    """

    def __init__(
        self, *, name: str, module: nn.Module, preprocess: Preprocess, text: TextTower, image_size: int, device: torch.device,
        dtype: torch.dtype, identity: JSON,
    ) -> None:  # fmt: skip
        self.name = name
        self.device, self.dtype = device, dtype
        self.preprocess = preprocess
        self.image_size = image_size
        self.dim = text.dim
        scale, bias = getattr(module, "logit_scale", None), getattr(module, "logit_bias", None)
        if scale is None or not math.isfinite(scale.item()):
            raise ModelConfigError(f"{name} has no usable logit_scale: it is not a model that was trained on image-text pairs")
        self.logit_scale = math.exp(scale.item())
        self.logit_bias = 0.0 if bias is None else float(bias.item())
        # after the scale was read: exp(4.6052) is 100, and 98.8 when rounded to bfloat16 before
        self.module: Any = module.to(device=device, dtype=dtype).eval().requires_grad_(False)
        self.fingerprint = fingerprint(FORMAT, identity, preprocess.describe(), str(dtype))
        self._text = TextEncoder(text, device, dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, dim={self.dim}, device={str(self.device)!r}, dtype={self.dtype})"

    @abstractmethod
    def _image_features(self, inputs: dict[str, Tensor]) -> Tensor:
        """(N, D) image embeddings, not normalised."""

    @abstractmethod
    def _patch_features(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(N, H, W, D) patch embeddings and (N, D) image embeddings, not normalised. Raises: UsageError: not a ViT tower."""

    def encode_images(self, images: Sequence[ImageLike], *, batch_size: int = 32, workers: int | None = None) -> Tensor:
        """(N, D) float32 on the CPU, L2 norm 1. Raises: ImageError: on the first image that cannot be read."""
        result = torch.empty(len(images), self.dim)
        for batch in self.iter_images(images, batch_size=batch_size, workers=workers):
            raise_first_failure(batch.failures)
            result[batch.indices] = batch.embeddings
        return result

    def iter_images(self, images: Sequence[ImageLike], *, batch_size: int = 32, workers: int | None = None) -> Iterator[EncodedBatch]:
        """Encode as a stream, in order; images that cannot be read come back as failures and end nothing.

        Args:
            workers: processes that decode; 0 decodes in this process, None chooses by the number of images and processors.
        """
        for batch in self._iter_pixels(images, batch_size, workers):
            embeddings = torch.empty(0, self.dim)
            if batch.indices:
                with torch.inference_mode():
                    features = self._image_features(self._inputs(batch))
                embeddings = unit(features, self.dtype)
            yield EncodedBatch(batch.indices, embeddings, batch.failures)

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 256) -> Tensor:
        """(N, D) float32 on the CPU, L2 norm 1. Every unique text is encoded once; too long texts lose their end, with a warning."""
        return self._text.encode(texts, batch_size=batch_size)

    def encode_patches(self, images: Sequence[ImageLike], *, batch_size: int = 32, workers: int | None = None) -> PatchFeatures:
        """Patch embeddings in the joint space, row by row as in the image, and the image embeddings.

        A patch embedding is what the tower's last norm, pooling and projection make of that patch's token alone.
        Raises: ImageError: on the first image that cannot be read. UsageError: if the image tower is not a ViT.
        """
        patches: list[Tensor] = []
        pooled: list[Tensor] = []
        for batch in self._iter_pixels(images, batch_size, workers):
            raise_first_failure(batch.failures)
            with torch.inference_mode():
                grid, image = self._patch_features(self._inputs(batch))
            patches.append(unit(grid, self.dtype))
            pooled.append(unit(image, self.dtype))
        if not patches:
            raise UsageError("there are no images to encode")
        if len({part.shape[1:] for part in patches}) > 1:
            raise UsageError("the images have patch grids of different shapes", hint="encode images of one aspect ratio at a time")
        return PatchFeatures(torch.cat(patches), torch.cat(pooled))

    def _iter_pixels(self, images: Sequence[ImageLike], batch_size: int, workers: int | None) -> Iterator[PixelBatch]:
        sources = [as_source(image) for image in images]
        return iter_pixels(sources, self.preprocess, batch_size=batch_size, workers=workers, device=self.device)

    def _inputs(self, batch: PixelBatch) -> dict[str, Tensor]:
        """The model's inputs on its device: pixels in its dtype, masks and shapes as they are."""
        arrays = {key: torch.from_numpy(array).to(self.device, non_blocking=True) for key, array in batch.pixels.items()}
        finished = self.preprocess.finish(arrays)
        return {key: tensor.to(self.dtype) if tensor.is_floating_point() else tensor for key, tensor in finished.items()}


def apply_alone(tokens: Tensor, pool: Callable[[Tensor], Tensor], copies: int = 1) -> Tensor:
    """What a pooling makes of each token alone.

    Args:
        tokens: (N, P, C).
        pool: maps (M, copies, C) sequences to (M, D).
        copies: how often the token is repeated, for poolings that skip prefix positions.
    Returns: (N, P, D).
    """
    count, positions, width = tokens.shape
    alone = tokens.reshape(count * positions, 1, width).expand(-1, copies, -1)
    return pool(alone).reshape(count, positions, -1)
