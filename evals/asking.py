"""One question about one's own images: ask a frozen model with a method, say what was decided, draw where it looked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.families import USUAL, family_of
from toolkit.config import to_json
from toolkit.errors import Refused, UsageError
from toolkit.files import atomic_write_bytes
from toolkit.images import FileImage
from toolkit.types import JSON, Answer, Question


@dataclass(frozen=True)
class AskRequest:
    """What to ask whom. The field names are those of the command line.

    Attributes:
        images: files; all of them belong to the one question, in this order.
        plain: also answer without the method.
        show: the PNG that maps are drawn into.
    """

    images: tuple[Path, ...]
    question: str
    model: str = USUAL["vqa"].model
    method: str = USUAL["vqa"].method
    options: Mapping[str, JSON] = field(default_factory=dict)
    plain: bool = False
    show: Path | None = None
    max_new_tokens: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    offline: bool = False
    allow_pickle: bool = False
    quantise: int | None = None
    device_map: str | None = None


LONGEST = 64  # tokens of an answer when nothing else is asked for: a person reads it, no scorer does


def ask(request: AskRequest, *, load_answerer: Callable[..., Any], build_method: Callable[..., Any]) -> Iterator[dict[str, JSON]]:
    """The answers one by one: without the method first, if that is wanted. Each is the JSON that ``--json`` prints.

    Raises: PermafrostError: all that a user can get wrong, before the model is loaded where that is possible.
    """
    if not request.question.strip():
        raise UsageError("the question is empty", hint='write it behind the images: permafrost answer photo.jpg "What is this?"')
    sources = tuple(FileImage(path) for path in request.images)
    for source in sources:
        source.load()  # a wrong path or a broken file is found before a model is loaded
    method = _method(request, build_method)
    methods = [build_method(USUAL["vqa"].method, {})] if request.plain and method.name != USUAL["vqa"].method else []
    how = {name: getattr(request, name) for name in ("device", "dtype", "offline", "allow_pickle", "quantise", "device_map")}
    answerer = load_answerer(request.model, **how)
    question = Question(request.question, sources, "question")
    for each in [*methods, method]:
        answer: Answer = each.answer(answerer, [question], max_new_tokens=request.max_new_tokens or LONGEST, batch_size=1)[0]
        told = _told(request, answerer.name, each, answer)
        if each is method and request.show is not None and answer.error is None:
            told["maps"] = [str(path) for path in draw(request, told)]
        yield told


def _method(request: AskRequest, build_method: Callable[..., Any]) -> Any:
    """The method, with maps in its decisions if they are to be drawn."""
    method = build_method(request.method, request.options)
    if family_of(method) != "vqa":
        raise UsageError(f"the method {request.method!r} classifies images and answers no questions", hint="see `permafrost ls methods`")
    if request.show is None:
        return method
    if request.show.suffix.lower() != ".png":
        raise UsageError(f"{request.show} is not a .png file", hint="maps are written as PNG: --show maps.png")
    if "keep_maps" in {one.name for one in dataclasses.fields(method.Config)}:
        return build_method(request.method, {"keep_maps": True, **request.options})
    raise UsageError(f"the method {request.method!r} has no maps to show", hint="--method contrastive-attention has them")


def _told(request: AskRequest, model: str, method: Any, answer: Answer) -> dict[str, JSON]:
    facts = dict(answer.info)
    return {
        "question": request.question,
        "images": [str(path) for path in request.images],
        "model": model,
        "method": {"name": method.name, "config": to_json(method.config)},
        "answer": answer.text,
        "error": answer.error,
        "tokens": list(answer.tokens),
        "seconds": round(answer.seconds, 3),
        "decision": facts.pop("decision", None),
        "info": to_json(facts),
    }


def draw(request: AskRequest, told: Mapping[str, JSON]) -> list[Path]:
    """Write the maps of each image that has some: maps.png, or maps-1.png, maps-2.png ... for several.

    Raises: Refused: if no image has maps with a place in the picture.
    """
    from toolkit.heatmaps import has_maps, maps_png

    assert request.show is not None
    decision, numbers = told["decision"] or {}, range(len(request.images))
    drawn = [number for number in numbers if has_maps(decision, number)]
    if not drawn:
        raise Refused(f"the image tokens of {told['model']} have no known place in the image: nothing to draw", hint="leave --show away")
    written = []
    for number in drawn:
        picture = FileImage(request.images[number]).load()
        number_tail = f"-{number + 1}" if len(request.images) > 1 else ""
        path = request.show.with_name(request.show.stem + number_tail + request.show.suffix)
        title = f"{request.question} - {told['answer']}"
        written.append(atomic_write_bytes(path, maps_png(picture, decision, title=title, image=number)))
    return written


def lines(told: Mapping[str, JSON], several: bool) -> list[str]:
    """What a person wants to see of one answer; what could steer a terminal is shown as a replacement character."""
    who = f"{told['method']['name']}: " if several else ""
    said = "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in told["answer"] or "")
    found = [f"{who}{said.strip() or '(an empty answer)'}"]
    decided = sentence(told["decision"] or {})
    return [*found, *([f"  {decided}"] if decided else []), *(f"  maps: {path}" for path in told.get("maps") or ())]


def sentence(decision: Mapping[str, JSON]) -> str:
    """The decision of a method in one line, from what methods record: layers, masked tokens, crop, notes."""
    parts: list[str] = []
    base = (decision.get("layers") or {}).get("layer_base", 0)
    if decision.get("i_star") is not None:
        late = (decision.get("layers") or {}).get("late")
        parts.append(f"compared layer {decision['i_star'] + base} with layer {late + base if isinstance(late, int) else '?'}")
    elif "layer" in decision:
        parts.append(f"compared this question with any other in layer {decision['layer']} (from 0)")
    if decision.get("mode") == "mask" and decision.get("image_tokens"):
        parts.append(f"masked {decision.get('masked', 0)} of {decision['image_tokens']} image tokens")
    box = (decision.get("crop") or {}).get("box")
    if box:
        parts.append("showed again the part from {:.0%}, {:.0%} to {:.0%}, {:.0%} (left, top, right, bottom)".format(*box))
    parts += [str(note) for note in decision.get("notes") or ()]
    return "; ".join(parts)
