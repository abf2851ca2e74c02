"""ViCrop with relative attention: where the question looks more than a description of the image would, the image is cut out.

Attention of the last prompt token to the image, divided by the same for a generic instruction, makes a map of what this question is
about. The square that stands out most from it is given to the model once more, behind the original. Two short passes (they end
behind one layer) and one answer; rows of attention are read exactly, without eager attention, for whole batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.attention import AttentionSession, View
from toolkit.attention.images import image_token_id
from toolkit.errors import ImageError, PermafrostError, Refused, UsageError
from toolkit.images import ArrayImage
from toolkit.methods.interventions.base import Intervention
from toolkit.methods.interventions.cropped import CroppedImage, clipped, placed, visible_box
from toolkit.methods.interventions.decoding import check_fraction
from toolkit.methods.interventions.windows import Window, best_window
from toolkit.regions import WHOLE, Box, HeatGrid, merge_grids
from toolkit.sites import known_sites
from toolkit.types import JSON, Answer, Question

if TYPE_CHECKING:
    from toolkit.models.base import Answerer

__all__ = ["Vicrop", "VicropConfig", "relative_attention"]

GENERIC = "Write a general description of the image. Answer the question using a single word or phrase."
PUBLISHED_LAYERS = {("llava", 32): 14, ("qwen2_5_vl", 28): 22}
"""(model type, depth) -> the layer that the authors' code reads, counted from 0."""
SIZES = {"input": (1.0, 1.2, 1.4, 1.6, 1.8, 2.0), "image": (0.3, 0.4, 0.5, 0.6, 0.7)}


def relative_attention(question: np.ndarray, generic: np.ndarray) -> np.ndarray:
    """A_rel = A(question) / A(generic): where a question looks more than a description would.

    Where neither looks (0 / 0, an underflow), the two do not differ: 1.

    Args:
        question, generic: (H, W) float, mean attention of all heads from the last prompt token to the patches, not negative.
    Returns: (H, W) float64, finite.
    Source: Zhang et al., 2025, arXiv 2502.17422, section 4 (relative attention).

    >>> relative_attention(np.array([[0.2, 0.1]]), np.array([[0.1, 0.2]]))
    array([[2. , 0.5]])
    """
    tiny = np.finfo(np.float32).tiny
    result: np.ndarray = (question.astype(np.float64) + tiny) / (generic.astype(np.float64) + tiny)
    return result


@dataclass(frozen=True)
class VicropConfig:
    """Options of ``vicrop``.

    Attributes:
        layer: whose attention is read, from 0. None takes the published one (LLaVA-1.5-7B: 14; Qwen2.5-VL-7B: 22) and refuses other
            models; "scaled" takes the layer at 14/32 of the depth.
        generic_prompt: the instruction that the question is compared with.
        unit: what ``sizes`` are factors of: "input", the side of the model's input in pixels of the original image (the source: a
            crop then loses nothing when it is scaled), or "image", the shorter side of the image, for images no larger than the input.
        sizes: of the square; the one that stands out most is taken. None: 1 to 2 in steps of 0.2, as published, or for "image" 0.3 to 0.7.
        window_px: the side of the model's input for "input"; None asks the model. Models that take any size need it.
        keep_maps: put both attention maps and their ratio into the record.
    """

    layer: int | Literal["scaled"] | None = None
    generic_prompt: str = GENERIC
    unit: Literal["input", "image"] = "input"
    sizes: Sequence[float] | None = None
    window_px: int | None = None
    keep_maps: bool = False

    def __post_init__(self) -> None:
        if self.layer not in (None, "scaled") and (isinstance(self.layer, (bool, str)) or not isinstance(self.layer, int)):
            raise UsageError(f'the option layer is {self.layer!r}; expected a layer from 0, or "scaled"')
        if not isinstance(self.generic_prompt, str) or not self.generic_prompt.strip():
            raise UsageError("the option generic_prompt is empty", hint=f"for example: {GENERIC}")
        if self.unit not in SIZES:
            raise UsageError(f"the option unit is {self.unit!r}; expected one of: {', '.join(SIZES)}")
        if self.sizes is not None:
            high = 1.0 if self.unit == "image" else 100.0
            sizes = sorted({check_fraction("sizes", size, low=0.01, high=high) for size in self.sizes})
            if not sizes:
                raise UsageError("the option sizes is empty", hint="for example: [1, 1.5, 2]")
            object.__setattr__(self, "sizes", tuple(sizes))
        if self.window_px is not None and (isinstance(self.window_px, bool) or not isinstance(self.window_px, int) or self.window_px < 1):
            raise UsageError(f"the option window_px is {self.window_px!r}; expected pixels, 1 or more")


class Vicrop(Intervention):
    """ViCrop (relative attention). It needs an answerer: a plain model has no images, only pixels.

    Refuses models whose image tokens have no place in the picture (InstructBLIP, Mllama), processors that take one image only, and
    questions with several images or none. A picture that cannot be read is an error answer, and the others go on.
    """

    name = "vicrop"
    source = (
        "Zhang et al., 2025, arXiv 2502.17422 (relative attention, rel_att). Differs from it: batched; the map lies on the part of the "
        "image that the processor shows, where the authors' code spreads a centre crop over the whole image; the variants with gradients "
        "and those that split large images are not offered"
    )
    Config = VicropConfig

    def attach(self, module: nn.Module) -> NoReturn:
        raise Refused(
            "vicrop looks at the image twice, and a plain model has pixels and no image",
            hint="use an answerer: Vicrop().answer(toolkit.wrap_answerer(model, processor), questions)",
        )

    def layer_of(self, module: Any) -> int:
        """The layer that is read on this model. Raises: Refused: if none is published. UsageError: if it does not exist."""
        depth, kind = known_sites(module).get("lm.block", 0), getattr(module.config, "model_type", "")
        if self.config.layer is None:
            if (kind, depth) not in PUBLISHED_LAYERS:
                raise Refused(
                    f"no layer is published for vicrop on a {kind} of {depth} layers", hint='give layer=NUMBER, or layer="scaled"'
                )
            return PUBLISHED_LAYERS[kind, depth]
        layer = round(depth * 14 / 32) if self.config.layer == "scaled" else int(self.config.layer)
        if not 0 <= layer < depth:
            raise UsageError(f"there is no layer {layer}", hint=f"this model has {depth}: 0 to {depth - 1}")
        return layer

    def answer(
        self, answerer: Answerer, questions: Sequence[Question], *, max_new_tokens: int = 16, batch_size: int = 8, **generate_kwargs: Any
    ) -> list[Answer]:
        """The answers to ``questions``, in order; ``info["decision"]`` says which box was cut out. Raises: Refused."""
        for question in questions:
            if len(question.images) != 1:
                raise Refused(
                    f"vicrop asks about one image, and question {question.id!r} has {len(question.images)}",
                    hint="use another method for such questions",
                )
        layer = self.layer_of(answerer.module)
        self._side(answerer)
        _check_two_images(answerer, questions)
        seen = list(self._look(answerer, questions, layer, batch_size))
        asked = [
            question if found is None or isinstance(found, str) else _with_crop(question, found["box"])
            for question, found in zip(questions, seen, strict=True)
        ]
        answers = answerer.answer(asked, max_new_tokens=max_new_tokens, batch_size=batch_size, **generate_kwargs)
        return [_told(answer, found) for answer, found in zip(answers, seen, strict=True)]

    def _look(
        self, answerer: Answerer, questions: Sequence[Question], layer: int, batch_size: int
    ) -> Iterator[dict[str, JSON] | str | None]:
        """For each question the decision, the sentence that says why there is none, or None for an image that cannot be read."""
        start, size = 0, batch_size
        while start < len(questions):
            batch = questions[start : start + size]
            try:
                found: list[dict[str, JSON] | str | None] = self._look_at(answerer, batch, layer)
            except Refused:
                raise
            except (torch.OutOfMemoryError, PermafrostError) as error:
                if len(batch) > 1:
                    size = len(batch) // 2
                    continue
                found = [str(error)]
            yield from found
            start += len(batch)

    def _look_at(self, answerer: Answerer, questions: Sequence[Question], layer: int) -> list[dict[str, JSON] | str | None]:
        loaded = [_loaded(question) for question in questions]
        readable = [question for question in loaded if question is not None]
        if not readable:
            return [None] * len(questions)
        # A picture that several questions are about has one generic map.
        pictures = {question.images[0].content_id(): question.images for question in readable}
        generic_questions = [Question(self.config.generic_prompt, images) for images in pictures.values()]
        generic = dict(zip(pictures, _maps(answerer, generic_questions, layer), strict=True))
        asked = iter(_maps(answerer, readable, layer))
        return [
            None if each is None else self._decide(answerer, each, layer, next(asked), generic[each.images[0].content_id()])
            for each in loaded
        ]

    def _decide(
        self,
        answerer: Answerer,
        question: Question,
        layer: int,
        asked: list[tuple[View, np.ndarray]],
        generic: list[tuple[View, np.ndarray]],
    ) -> dict[str, JSON]:
        size = question.images[0].load().size
        visible = visible_box(answerer.processor, size)
        maps = [merge_grids([HeatGrid(values, view.box or WHOLE) for view, values in each]) for each in (asked, generic)]
        shown = (visible[2] - visible[0]) * size[0], (visible[3] - visible[1]) * size[1]
        whole = max(round(shown[0]), 1), max(round(shown[1]), 1)
        side = float(self._side(answerer) if self.config.unit == "input" else min(whole))
        window = best_window(torch.from_numpy(relative_attention(*maps)), whole, side, self.config.sizes or SIZES[self.config.unit])
        box = clipped(placed(_fractions(window, whole), visible))
        record: dict[str, JSON] = {
            "layer": layer,
            "box": list(box),
            "size": window.size,
            "sharpness": float(f"{window.sharpness:.6g}"),
            "crop": {"image": 0, "box": list(box), "rule": "vicrop"},
        }
        if window.size is None:
            record["notes"] = ["the smallest window covers the image: the crop is all that the model sees of it"]
        if self.config.keep_maps:
            record["maps"] = [_map_record(view, values, other, visible) for (view, values), (_, other) in zip(asked, generic, strict=True)]
        return record

    def _side(self, answerer: Answerer) -> int:
        side = self.config.window_px or answerer.image_size
        if side is None and self.config.unit == "input":
            raise Refused(
                f"{answerer.name} takes images of any size, so there is no input side to make windows of",
                hint='give window_px=448 for example, or unit="image"',
            )
        return int(side or 0)


def _maps(answerer: Answerer, questions: Sequence[Question], layer: int) -> list[list[tuple[View, np.ndarray]]]:
    """For each question the views of its image, each with (rows, columns) attention of the last prompt token, mean of all heads."""
    session = AttentionSession(answerer.module)
    rows = session.read([layer])
    session.stop_after(layer)
    module: Any = answerer.module
    inputs = answerer.inputs(questions)
    with torch.no_grad(), session:
        session.run(module, **inputs)
    prefill = session.prefill
    assert prefill is not None  # the session refuses a call without one
    attention: Tensor = rows[layer].mean(dim=1).cpu()
    found = []
    for number, views in enumerate(prefill.views):
        if not views or any(view.grid is None for view in views) or len({view.image for view in views}) != 1:
            raise Refused(
                "the image tokens of this model have no place in the picture, or their grid is not known",
                hint="use a model whose tokens are patches of one image, with tiling switched off",
            )
        found.append([(view, attention[number][view.positions.cpu()].reshape(view.grid or ()).numpy()) for view in views])
    return found


def _fractions(window: Window, size: tuple[int, int]) -> Box:
    left, top, right, bottom = window.box
    return left / size[0], top / size[1], right / size[0], bottom / size[1]


def _map_record(view: View, asked: np.ndarray, generic: np.ndarray, visible: Box) -> dict[str, JSON]:
    """One view in the form in which attention maps are drawn: before (generic), after (question), and what changed (the log ratio)."""

    def digits(values: np.ndarray) -> list[float]:
        return [float(f"{value:.5g}") for value in values.reshape(-1)]

    return {
        "image": view.image, "kind": view.kind, "grid": list(view.grid or ()),
        "box": [round(edge, 6) for edge in placed(view.box or WHOLE, visible)],
        "early": digits(generic), "late": digits(asked), "contrast": digits(np.log(relative_attention(asked, generic))), "masked": [],
    }  # fmt: skip


def _with_crop(question: Question, box: Sequence[float]) -> Question:
    left, top, right, bottom = box
    return replace(question, images=(question.images[0], CroppedImage(question.images[0], (left, top, right, bottom))))


def _told(answer: Answer, found: dict[str, JSON] | str | None) -> Answer:
    if isinstance(found, str):
        return Answer(error=found, seconds=answer.seconds, info=answer.info)
    if found is None or answer.error is not None:
        return answer
    return replace(answer, info={**answer.info, "decision": found})


def _loaded(question: Question) -> Question | None:
    """The question with its image decoded; None if it cannot be read: the answerer says why."""
    try:
        return replace(question, images=tuple(ArrayImage(image.load(), image.name) for image in question.images))
    except ImageError:
        return None


def _check_two_images(answerer: Answerer, questions: Sequence[Question]) -> None:
    """Raises: Refused: if the model gets no tokens of a second image: the crop would be lost."""
    question = next((found for found in map(_loaded, questions) if found is not None), None)
    if question is None:
        return
    token = image_token_id(answerer.module.config)
    doubled = replace(question, images=question.images * 2)
    try:
        one, two = (int((answerer.inputs([each])["input_ids"] == token).sum()) for each in (question, doubled))
    except (PermafrostError, ValueError, IndexError, TypeError) as error:
        raise Refused(f"the processor takes no second image for a crop: {error}", hint="use another method") from error
    if two <= one:
        raise Refused("the processor makes no tokens of a second image, so a crop would be lost", hint="use another method")
