"""What a model is to the rest of the toolkit. Architectures are hidden behind these Protocols."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from toolkit.types import EncodedBatch, PatchFeatures

ImageLike = Any  # ImageSource, path, bytes, PIL image or (H, W, 3) uint8 array; see toolkit.images.as_source


@runtime_checkable
class DualEncoder(Protocol):
    """A frozen image tower and a frozen text tower with one joint space (CLIP and its like)."""

    name: str
    """The name it was loaded by, in the grammar of toolkit.models.load_encoder."""
    fingerprint: str
    """sha256 over weights, preprocessing, tokenizer and dtype: equal fingerprints give equal embeddings."""
    dim: int
    """Width D of the joint space."""
    logit_scale: float
    """The trained temperature as a factor on cosines, exp already taken (100 for OpenAI CLIP)."""
    image_size: int
    """Input side in pixels."""
    module: nn.Module
    """The wrapped library model, in eval mode, without gradients."""

    def encode_images(self, images: Sequence[ImageLike], *, batch_size: int = 32) -> Tensor:
        """(N, D) float32 on the CPU, L2 norm 1. Raises ImageError on the first image that cannot be read."""

    def iter_images(self, images: Sequence[ImageLike], *, batch_size: int = 32, workers: int | None = None) -> Iterator[EncodedBatch]:
        """Encode as a stream; images that cannot be read come back as failures and end nothing."""

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 256) -> Tensor:
        """(N, D) float32 on the CPU, L2 norm 1. Every unique text is encoded once."""

    def encode_patches(self, images: Sequence[ImageLike], *, batch_size: int = 32) -> PatchFeatures:
        """Patch tokens through the tower's last norm and projection, and the image embedding. ViT towers only."""
