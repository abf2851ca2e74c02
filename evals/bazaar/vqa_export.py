"""Writes Bazaar VQA as the official files of VQAv2, so that whatever reads VQAv2 reads it: ``vqav2:DIR`` and the public VQA tools."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evals.bazaar.export import MARK, SIZES, is_done, line, png
from evals.bazaar.image import renderer_version
from evals.bazaar.scene import SceneImage
from evals.bazaar.vqa import DEFAULT_COUNT, MARKET, VqaQuestion, evidence_mask, vqa_split
from evals.bazaar.vqa_annotators import Annotation, consensus
from toolkit.errors import UsageError, unknown_name
from toolkit.files import atomic_write_bytes, atomic_write_json, atomic_write_text

SUBSETS = {"test": "val2014", "train": "train2014"}
PICTURES = ("png", "jpg")
JPEG_QUALITY = 95

_ABOUT = {
    "description": "Bazaar VQA: questions about rendered second-hand goods, in the format of VQA v2.0",
    "url": "",
    "version": "1",
    "year": 2026,
    "contributor": "Permafrost",
    "date_created": "",
}
_LICENCE = {"url": "http://www.apache.org/licenses/LICENSE-2.0", "name": "Apache License 2.0"}


def export_vqa(
    folder: str | Path,
    split: str = "test",
    limit: int | None = None,
    size: int = 96,
    *,
    seed: int | None = None,
    picture: str = "png",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a split: questions, annotations, and a folder of pictures with COCO's names.

    The test split takes the place of val2014 and the train split that of train2014. Beside the official files lie ``evidence.jsonl``
    (for each question its form, the truth, and which things, defects and tag it is about) and ``masks/<question_id>.png`` (white where
    the picture shows the answer; only where something does). The same call resumes an export that was cut off.

    Args:
        limit: how many questions; None is 2,000. seed: of the marketplace; None is the split's own.
        picture: "png", or "jpg" for tools that know no other ending; a model may then answer otherwise than on the scene itself.
        progress: called with (done, all) for each picture.
    Returns: the folder.
    Raises: UsageError: for an unknown split or picture, or a bad number. DataError: if the folder holds something else.
    """
    folder = Path(folder)
    if split not in SUBSETS:
        raise unknown_name("split", split, SUBSETS)
    if picture not in PICTURES:
        raise unknown_name("kind of picture", picture, PICTURES)
    if not max(SIZES[0], 48) <= size <= SIZES[1]:
        raise UsageError(f"size must be a number of pixels from {max(SIZES[0], 48)} to {SIZES[1]}, not {size}")
    market = MARKET[split] if seed is None else seed
    asked = vqa_split(market, DEFAULT_COUNT if limit is None else limit)
    drawn = {"size": size, "picture": picture, "renderer": renderer_version()}
    mark = {"task": "vqa", "split": split, "limit": len(asked), "seed": market, **drawn}
    if is_done(folder, mark):
        return folder
    atomic_write_json(folder / MARK, {**mark, "complete": False})
    subset = SUBSETS[split]
    by_scene: dict[int, list[VqaQuestion]] = {}
    for each in asked:
        by_scene.setdefault(each.scene, []).append(each)
    for done, (index, about) in enumerate(by_scene.items(), start=1):
        file = folder / subset / f"COCO_{subset}_{index:012d}.{picture}"
        if not file.exists():
            _write_masks(folder, about, size)
            atomic_write_bytes(file, _picture(SceneImage(index, market, size), picture))
        if progress is not None:
            progress(done, len(by_scene))
    atomic_write_text(folder / "evidence.jsonl", "".join(line(_evidence(folder, each)) for each in asked))
    atomic_write_json(folder / f"v2_OpenEnded_mscoco_{subset}_questions.json", _questions(asked, subset))
    atomic_write_json(folder / f"v2_mscoco_{subset}_annotations.json", _annotations(asked, subset))
    atomic_write_json(folder / MARK, {**mark, "complete": True})
    return folder


def _questions(asked: Sequence[VqaQuestion], subset: str) -> dict[str, Any]:
    rows = [{"image_id": each.scene, "question": each.text, "question_id": each.id} for each in asked]
    return {**_head(subset), "task_type": "Open-Ended", "questions": rows}


def _annotations(asked: Sequence[VqaQuestion], subset: str) -> dict[str, Any]:
    rows = []
    for each in asked:
        said = each.annotations()
        rows.append(
            {
                "question_type": each.type,
                "multiple_choice_answer": consensus(said),
                "answers": [_answer(number, one) for number, one in enumerate(said, start=1)],
                "image_id": each.scene,
                "answer_type": each.answer_type,
                "question_id": each.id,
            }
        )
    return {**_head(subset), "annotations": rows}


def _answer(number: int, said: Annotation) -> dict[str, Any]:
    return {"answer": said.answer, "answer_confidence": said.confidence, "answer_id": number}


def _head(subset: str) -> dict[str, Any]:
    return {"info": _ABOUT, "license": _LICENCE, "data_type": "mscoco", "data_subtype": subset}


def _mask_file(each: VqaQuestion) -> str:
    return f"masks/{each.id}.png"


def _evidence(folder: Path, each: VqaQuestion) -> dict[str, Any]:
    mask = _mask_file(each)
    seen = {"mask": mask if (folder / mask).is_file() else None, "evidence": each.evidence.to_json()}
    return {"question_id": each.id, "question_type": each.type, "form": each.form, "answer": each.answer, **seen}


def _write_masks(folder: Path, asked: Sequence[VqaQuestion], size: int) -> None:
    for each in asked:
        mask = evidence_mask(each.evidence, size)
        if mask is not None:
            buffer = io.BytesIO()
            Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).save(buffer, "PNG")
            atomic_write_bytes(folder / _mask_file(each), buffer.getvalue())


def _picture(source: SceneImage, kind: str) -> bytes:
    if kind == "png":
        return png(source)
    buffer = io.BytesIO()
    source.load().save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
