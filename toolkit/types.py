"""The types that the rooms of the house hand to each other. No torch, no numpy: importing this costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

JSON = Any  # what json.dumps accepts: None, bool, int, float, str, lists and string-keyed mappings of these


@runtime_checkable
class ImageSource(Protocol):
    """An image that has not been decoded yet. Must be picklable: worker processes open it."""

    @property
    def name(self) -> str:
        """What to call it in messages: a path, a row, an item id."""

    def content_id(self) -> str:
        """sha256 (hex) of all that determines the pixels: the file's bytes, or the recipe of a rendered image."""

    def load(self) -> Image:
        """Decode to RGB. Raises ImageError with one sentence if that cannot be done safely."""


@dataclass(frozen=True)
class Sample:
    """One question of a task. ``id`` is unique within the task and stable between runs."""

    id: str
    image: ImageSource | None = None
    label: int | None = None
    meta: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """One answer. Exactly one of ``output`` and ``error`` is set; an error is counted, never scored."""

    id: str
    output: Mapping[str, JSON] | None = None
    error: str | None = None
    seconds: float = 0.0


Predictor = Callable[[Sequence[Sample]], Iterable[Prediction]]


class PatchFeatures(NamedTuple):
    """Patch features of a ViT tower in the joint image-text space.

    Attributes:
        patches: (N, H, W, D) float32, L2 norm 1 over D.
        image: (N, D) float32, L2 norm 1; equals ``encode_images`` of the same images.
    """

    patches: Tensor
    image: Tensor


class EncodedBatch(NamedTuple):
    """What one decoded and encoded batch gives.

    Attributes:
        indices: positions in the input sequence, one for each row of ``embeddings``.
        embeddings: (n, D) float32 on the CPU, L2 norm 1.
        failures: (position, sentence) of each image that could not be read.
    """

    indices: list[int]
    embeddings: Tensor
    failures: list[tuple[int, str]]


@dataclass(frozen=True)
class Metric:
    """A number with its interval. Values are fractions, not percent.

    Attributes:
        value: the estimate, or None where it is not defined.
        ci95: the 95 % interval (low, high), or None where none is defined.
        n: number of samples behind it.
    """

    value: float | None
    ci95: tuple[float, float] | None
    n: int


class Task(Protocol):
    """A set of samples and the rule that scores answers to them."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def metrics(self) -> tuple[str, ...]: ...

    def samples(self, limit: int | None = None, seed: int = 0) -> Iterator[Sample]: ...

    def score(self, sample: Sample, prediction: Prediction) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class ClassifyProblem:
    """What a classification method is told about a task. It sees no test label.

    Attributes:
        classnames: one name a class; a prediction's label is the position in here.
        templates: sentences with one "{}" slot for the class name.
        descriptions: class name -> texts about that class, or None where the task has none.
        pools: name -> further pools of the same form as ``descriptions``.
        support: labelled images, for methods that use some; empty for zero-shot.
    """

    classnames: tuple[str, ...]
    templates: tuple[str, ...] = ("a photo of a {}.",)
    descriptions: Mapping[str, tuple[str, ...]] | None = None
    support: Sequence[Sample] = ()
    pools: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """What an answerer is asked.

    Attributes:
        text: the whole prompt as a person would type it, with pre- and post-prompt, without chat template and image tokens.
        images: in the order in which the text speaks of them; placed before the text.
        id: to find the answer again.
    """

    text: str
    images: tuple[ImageSource, ...] = ()
    id: str = ""


@dataclass(frozen=True)
class Answer:
    """What an answerer said. Exactly one of ``text`` and ``error`` is set: a failure is never an empty answer.

    Attributes:
        text: the new tokens decoded without special tokens and otherwise untouched.
        tokens: their ids, the end token included where there was one.
        seconds: the share of its batch.
        info: facts about this answer: prompt length, batch size, the decision of a method.
    """

    text: str | None = None
    error: str | None = None
    tokens: tuple[int, ...] = ()
    seconds: float = 0.0
    info: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True)
class AnswerProblem:
    """What an answering method is told about a task. The prompt of a sample is its ``meta["prompt"]``; no method sees reference answers."""

    max_new_tokens: int = 16
