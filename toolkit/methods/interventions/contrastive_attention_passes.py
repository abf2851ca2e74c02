"""Contrastive attention in two passes through an answerer: look, decide, and answer with the region or with the mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from toolkit.attention import AttentionSession
from toolkit.attention.images import image_token_id
from toolkit.errors import ImageError, PermafrostError, Refused
from toolkit.images import ArrayImage
from toolkit.methods.interventions.contrastive_attention import Attached, ContrastiveAttention, record_of
from toolkit.methods.interventions.contrastive_attention_decide import Decision, decide
from toolkit.methods.interventions.contrastive_attention_layers import Layers
from toolkit.methods.interventions.cropped import CroppedImage, clipped, placed, visible_box
from toolkit.patching import patch
from toolkit.regions import WHOLE, Box, crop_region
from toolkit.types import JSON, Answer, ImageSource, Question

if TYPE_CHECKING:
    from toolkit.models.base import Answerer

__all__ = ["answer_in_two_passes", "look", "place_maps"]


@dataclass(frozen=True)
class Look:
    """What the first pass found about one question. One of ``record`` and ``error`` is set, unless an image could not be read.

    Attributes:
        record: the decision as JSON. error: why there is none.
        masked: (1, L) bool for mode mask. crop: (image, box in that image) for mode crop.
    """

    record: dict[str, JSON] | None = None
    error: str | None = None
    masked: Tensor | None = None
    crop: tuple[int, Box] | None = None


def answer_in_two_passes(
    method: ContrastiveAttention,
    answerer: Answerer,
    questions: Sequence[Question],
    max_new_tokens: int,
    batch_size: int,
    generate_kwargs: Mapping[str, Any],
) -> list[Answer]:
    """The answers of mode crop, or of a query that has to be generated first. Broken images and prompts that fail are error answers.

    Raises: Refused: before anything is generated, if the model or its processor cannot do it.
    """
    config = method.config
    if config.mode == "crop":
        _check_two_images(answerer, questions)
    alone = config.query == "first_generated"  # decoding a token is done prompt by prompt
    looks = list(look(method, answerer, questions, batch_size=1 if alone else batch_size))
    common: dict[str, Any] = {"max_new_tokens": max_new_tokens, **generate_kwargs}
    if config.mode == "mask":
        answers = []
        for question, seen in zip(questions, looks, strict=True):
            with patch(answerer, _Forced(method, seen.masked)) if seen.masked is not None else _nothing():
                answers += answerer.answer([question], batch_size=1, **common)
    else:
        asked = [_with_crop(question, seen) for question, seen in zip(questions, looks, strict=True)]
        answers = answerer.answer(asked, batch_size=batch_size, **common)
    return [_told(answer, seen) for answer, seen in zip(answers, looks, strict=True)]


def look(method: ContrastiveAttention, answerer: Answerer, questions: Sequence[Question], *, batch_size: int) -> Iterator[Look]:
    """The first pass, in order. It stops after the late layer and computes no logits. Halves a batch that does not fit into memory."""
    layers = method.layers(answerer.module)
    start, size = 0, batch_size
    while start < len(questions):
        batch = questions[start : start + size]
        try:
            found = _look_at(method, layers, answerer, batch)
        except Refused:
            raise
        except (torch.OutOfMemoryError, PermafrostError) as error:
            if len(batch) > 1:
                size = len(batch) // 2
                continue
            found = [Look(error=str(error))]
        yield from found
        start += len(batch)


def _look_at(method: ContrastiveAttention, layers: Layers, answerer: Answerer, questions: Sequence[Question]) -> list[Look]:
    loaded = [_loaded(question) for question in questions]
    readable = [question for question in loaded if question is not None]
    decisions: Iterator[Decision | None] = iter(_decisions(method, layers, answerer, readable) if readable else ())
    return [Look() if question is None else _judged(method, layers, answerer, question, next(decisions)) for question in loaded]


def _loaded(question: Question) -> Question | None:
    """The question with its images decoded; None if one cannot be read: the answerer says why."""
    try:
        return replace(question, images=tuple(ArrayImage(image.load(), image.name) for image in question.images))
    except ImageError:
        return None


def _decisions(method: ContrastiveAttention, layers: Layers, answerer: Answerer, questions: Sequence[Question]) -> list[Decision | None]:
    config, module, inputs = method.config, answerer.module, answerer.inputs(questions)
    session = AttentionSession(module, backend=config.backend, on_no_image=config.on_no_image)
    rows = session.read(layers.read, query=config.query)
    run: Any = module
    arguments: dict[str, Any] = dict(inputs)
    if config.query == "first_generated":
        # One step of decoding, whatever the first token is: the end token must not end it.
        run, more = module.generate, {"max_new_tokens": 2, "do_sample": False, "eos_token_id": -1, "pad_token_id": 0}
        arguments |= more
    else:
        session.stop_after(layers.late)
    with torch.no_grad(), session:
        session.run(run, **arguments)
    prefill = session.prefill
    assert prefill is not None  # the session refuses a call without one
    return decide(rows, prefill.image_mask, prefill.views, config, layers)


def _judged(method: ContrastiveAttention, layers: Layers, answerer: Answerer, question: Question, decision: Decision | None) -> Look:
    record = record_of(decision, method.config, layers)
    if decision is None:
        return Look(record)
    if "maps" in record:
        _place(record, [_visible(answerer, image) for image in question.images])
    if method.config.mode == "crop":
        return _cropped(method, answerer, question, decision, record)
    if method.config.mode == "mask":
        length = int(decision.positions.max()) + 1
        masked = torch.zeros(1, length, dtype=torch.bool)
        masked[0, decision.positions[decision.masked].cpu()] = True
        return Look(record, masked=masked)
    return Look(record)


def _cropped(method: ContrastiveAttention, answerer: Answerer, question: Question, decision: Decision, record: dict[str, JSON]) -> Look:
    if decision.images != len(question.images):
        raise Refused(
            f"the {len(question.images)} images of a question reach the model as {decision.images} pictures, whose places are not known",
            hint="switch tiling off in the processor (do_image_splitting=False, crop_to_patches=False), or use mode=mask",
        )
    heats = [decision.heat(image) for image in range(decision.images)]
    # Of several images, the one that gained most attention is shown again.
    image = max(range(len(heats)), key=lambda number: (float(heats[number].clip(min=0).sum()), -number))
    region = crop_region(heats[image], method.config.crop_rule, window=method.config.crop_window)
    box = clipped(placed(region, _visible(answerer, question.images[image])))
    record["crop"] = {"image": image, "box": [round(side, 6) for side in box], "rule": method.config.crop_rule}
    if region == WHOLE:
        record["notes"] = [*record["notes"], "no region stands out: the crop is the whole picture"]
    return Look(record, crop=(image, box))


def _with_crop(question: Question, seen: Look) -> Question:
    """The question with the region placed directly behind its image."""
    if seen.crop is None:
        return question
    image, box = seen.crop
    images = question.images
    return replace(question, images=(*images[: image + 1], CroppedImage(images[image], box), *images[image + 1 :]))


def _told(answer: Answer, seen: Look) -> Answer:
    if seen.error is not None:
        return Answer(error=seen.error, seconds=answer.seconds, info=answer.info)
    if answer.error is not None or seen.record is None:
        return answer
    return replace(answer, info={**answer.info, "decision": seen.record})


def place_maps(answerer: Answerer, questions: Sequence[Question], answers: Sequence[Answer]) -> list[Answer]:
    """Maps in the decisions of ``answers``, placed in the images themselves, of which a processor may show a part."""
    placed_answers = []
    for question, answer in zip(questions, answers, strict=True):
        decision = answer.info.get("decision")
        if answer.error is None and isinstance(decision, Mapping) and decision.get("maps"):
            record = dict(decision)
            _place(record, [_visible(answerer, image) for image in question.images])
            answer = replace(answer, info={**answer.info, "decision": record})
        placed_answers.append(answer)
    return placed_answers


def _place(record: dict[str, JSON], visible: Sequence[Box]) -> None:
    views = record["maps"]
    if len({view["image"] for view in views}) != len(visible):
        record["notes"] = [*record["notes"], "the model sees other pictures than the images of the question: maps are in theirs"]
        return
    record["maps"] = [{**view, "box": [round(side, 6) for side in placed(tuple(view["box"]), visible[view["image"]])]} for view in views]


def _visible(answerer: Answerer, image: ImageSource) -> Box:
    return visible_box(answerer.processor, image.load().size)


def _check_two_images(answerer: Answerer, questions: Sequence[Question]) -> None:
    """Raises: Refused: if the processor takes no second image: the crop would be lost."""
    question = next((found for found in map(_loaded, questions) if found is not None and found.images), None)
    if question is None:
        return
    token = image_token_id(answerer.module.config)
    doubled = replace(question, images=(question.images[0], *question.images))
    try:
        one, two = (int((answerer.inputs([each])["input_ids"] == token).sum()) for each in (question, doubled))
    except (PermafrostError, ValueError, IndexError, TypeError) as error:
        raise Refused(f"the processor takes no second image for a crop: {error}", hint="use mode=mask") from error
    if two <= one:
        raise Refused("the processor makes no tokens of a second image, so a crop would be lost", hint="use mode=mask")


class _Forced:
    """The mask of an earlier pass, as a method that can be patched in."""

    def __init__(self, method: ContrastiveAttention, masked: Tensor) -> None:
        self.name, self.method, self.masked = method.name, method, masked

    def attach(self, module: nn.Module) -> Attached:
        return Attached(module, self.method.config, self.method.layers(module), forced=self.masked)


def _nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()
