"""Five questions of each VQA set in the shape of its official files, made by hand, with images. A test spoils one row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Spoil = Callable[[list[Any]], None]
QUESTIONS = ("What colour is it?", "How many?", "Is there a NASA logo?", "Where?", "What does the sign say?")


def nothing(rows: list[Any]) -> None:
    """Leave the rows as they are."""


def picture(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8, 3), shade, np.uint8)).save(path)


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def ten(text: str, other: str = "other") -> list[str]:
    return [text] * 7 + [other] * 3


def coco(root: Path, prefix: str, subset: str, spoil: Spoil = nothing, spoil_truth: Spoil = nothing, truth: bool = True) -> Path:
    """VQAv2 and OK-VQA. Two questions are about one image."""
    header = {"info": {"version": "2.0"}, "data_type": "mscoco", "data_subtype": subset, "license": {}}
    questions = [{"question_id": 1000 + i, "image_id": 42 + i // 2, "question": text} for i, text in enumerate(QUESTIONS)]
    rows = []
    for i, question in enumerate(questions):
        answers = [{"answer_id": k + 1, "answer": text, "answer_confidence": "yes"} for k, text in enumerate(ten(f"a{i}"))]
        kinds = {"question_type": "what" if i % 2 else "is", "answer_type": "other", "multiple_choice_answer": f"a{i}"}
        rows.append({"question_id": question["question_id"], "image_id": question["image_id"], **kinds, "answers": answers})
    rows = rows[::-1]  # the two files need not have one order
    spoil(questions)
    spoil_truth(rows)
    write(root / f"{prefix}OpenEnded_mscoco_{subset}_questions.json", {**header, "task_type": "Open-Ended", "questions": questions})
    if truth:
        write(root / f"{prefix}mscoco_{subset}_annotations.json", {**header, "annotations": rows})
    folder = "test2015" if subset.startswith("test") else subset
    for image in (42, 43, 44):
        picture(root / folder / f"COCO_{folder}_{image:012d}.jpg", image)
    return root


def gqa(root: Path, split: str = "testdev_balanced", spoil: Spoil = nothing, truth: bool = True) -> Path:
    rows: list[Any] = []
    for i, text in enumerate(QUESTIONS):
        asked = {"imageId": f"n{i}", "question": text, "isBalanced": True, "groups": {"global": None, "local": "06-x"}, "entailed": []}
        more = {"answer": f"a{i}", "fullAnswer": f"It is a{i}.", "semantic": [{"operation": "select", "argument": "x", "dependencies": []}]}
        kinds = {"types": {"detailed": "d", "semantic": "attr" if i % 2 else "obj", "structural": "query"}}
        rows.append((f"2007{i}", asked | kinds | (more if truth else {})))
        picture(root / "images" / f"n{i}.jpg", i)
    spoil(rows)
    text = ", ".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows)  # by hand: a spoilt file may hold a name twice
    (root / "questions").mkdir(parents=True, exist_ok=True)
    (root / "questions" / f"{split}_questions.json").write_text("{" + text + "}", "utf-8")
    return root


def vizwiz(root: Path, split: str = "val", spoil: Spoil = nothing, truth: bool = True) -> Path:
    rows = []
    for i, text in enumerate(QUESTIONS):
        row: dict[str, Any] = {"image": f"VizWiz_{split}_0000000{i}.jpg", "question": text}
        if truth:
            answers = [{"answer": answer, "answer_confidence": "maybe"} for answer in ten(f"a{i}", "" if i == 1 else "unanswerable")]
            row |= {"answers": answers, "answerable": i % 2, "answer_type": "other"}
        rows.append(row)
        picture(root / split / row["image"], i)
    spoil(rows)
    write(root / "Annotations" / f"{split}.json", rows)
    return root


def textvqa(root: Path, split: str = "val", spoil: Spoil = nothing, truth: bool = True) -> Path:
    rows, words = [], []
    for i, text in enumerate(QUESTIONS):
        image = f"00a{i}"
        row: dict[str, Any] = {"question_id": 34602 + i, "question": text, "image_id": image, "image_classes": ["Sign"], "set_name": split}
        row |= {"image_width": 8, "image_height": 6, "flickr_original_url": "x", "flickr_300k_url": "x", "question_tokens": text.split()}
        rows.append(row | ({"answers": ten(f"a{i}")} if truth else {}))
        words.append({"image_id": image, "ocr_tokens": ["STOP", f"no{i}"], "ocr_info": []})
        picture(root / ("test_images" if split == "test" else "train_images") / f"{image}.jpg", i)
    spoil(rows)
    header = {"dataset_type": split, "dataset_name": "textvqa", "dataset_version": "0.5.1"}
    write(root / f"TextVQA_0.5.1_{split}.json", {**header, "data": rows})
    write(root / f"TextVQA_Rosetta_OCR_v0.2_{split}.json", {**header, "data": words})
    return root


def docvqa(root: Path, split: str = "val", spoil: Spoil = nothing, truth: bool = True) -> Path:
    rows = []
    for i, text in enumerate(QUESTIONS):
        row: dict[str, Any] = {"questionId": 49153 + i, "question": text, "image": f"documents/p{i}.png", "data_split": split}
        row |= {"docId": 14465, "ucsf_document_id": "pybv0228", "ucsf_document_page_no": "81"}
        if truth:
            row |= {"question_types": ["handwritten", "form"] if i % 2 else ["layout"], "answers": [f"a{i}", f"Answer {i}"][: 1 + i % 2]}
        rows.append(row)
        picture(root / split / "documents" / f"p{i}.png", i)
    spoil(rows)
    name = f"{split}_v1.0_withQT.json" if truth else f"{split}_v1.0.json"
    write(root / split / name, {"dataset_name": "docvqa", "dataset_version": "1.0", "dataset_split": split, "data": rows})
    return root


def jsonl(root: Path, spoil: Spoil = nothing) -> Path:
    rows: list[Any] = []
    for i, text in enumerate(QUESTIONS):
        rows.append({"id": f"q{i}", "question": text, "image": f"pictures/{i}.png", "answers": ten(f"a{i}"), "question_type": "what"})
        picture(root / "pictures" / f"{i}.png", i)
    spoil(rows)
    path = root / "questions.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), "utf-8")  # no line end after the last
    return path


def vqav2(root: Path, **how: Any) -> Path:
    return coco(root, "v2_", "val2014", **how)


def okvqa(root: Path, **how: Any) -> Path:
    return coco(root, "", "val2014", **how)


MAKERS: dict[str, Callable[..., Path]] = {
    "vqav2": vqav2, "okvqa": okvqa, "gqa": gqa, "vizwiz": vizwiz, "textvqa": textvqa, "docvqa": docvqa, "jsonl": jsonl,
}  # fmt: skip
