"""What a model is to the rest of the toolkit. Architectures are hidden behind these Protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import BatchEncoding

    from toolkit.types import JSON, Answer, EncodedBatch, PatchFeatures, Question

    Notes = Callable[[], Sequence[Mapping[str, JSON]]]

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


@runtime_checkable
class Answerer(Protocol):
    """A frozen multimodal language model that answers questions about pictures."""

    name: str
    """The name it was loaded by, in the grammar of toolkit.models.load_answerer."""
    module: nn.Module
    """The transformers model, in eval mode, without gradients: what toolkit.patch changes."""
    processor: Any
    """The transformers processor of the model."""
    info: Mapping[str, JSON]
    """Facts for records: dtype, devices, what was quantised."""

    @property
    def fingerprint(self) -> str:
        """sha256 over weights, processor, quantisation and dtype: equal fingerprints give equal answers."""

    @property
    def image_size(self) -> int | None:
        """Input side of the vision tower in pixels; None for towers that take any size."""

    def answer(
        self, questions: Sequence[Question], *, max_new_tokens: int = 16, batch_size: int = 8, notes: Notes | None = None,
        **generate_kwargs: Any,
    ) -> list[Answer]:  # fmt: skip
        """One answer for every question, in order; greedy by default. What failed has an error and ends nothing."""

    def iter_answers(
        self, questions: Sequence[Question], *, max_new_tokens: int = 16, batch_size: int = 8, notes: Notes | None = None,
        **generate_kwargs: Any,
    ) -> Iterator[tuple[int, Answer]]:  # fmt: skip
        """The same as a stream of (index of the question, answer), as they get ready."""

    def score(
        self, questions: Sequence[Question], continuations: Sequence[Sequence[str]], *, normalise: str = "sum", batch_size: int = 8
    ) -> list[Tensor]:
        """Log-probability of each continuation behind its question's prompt: (K,) float32 for every question."""

    def inputs(self, questions: Sequence[Question]) -> BatchEncoding:
        """What ``generate`` gets for these questions: one left-padded batch on the model's device."""
