"""The VQA sets of the field, read from their official files: where the files are, what is in them, where the images lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.tasks.vqa_files import Row, check_unique, find_file, stream_members, stream_rows
from toolkit.errors import DataError

PUBLIC_TEN = 10


@dataclass(frozen=True)
class Entry:
    """One question of a file.

    Attributes:
        image: its name in the file. types: what goes into ``meta`` beside question and answers. words: what an OCR system read.
    """

    where: str
    id: str
    question: str
    answers: list[str] | None
    image: str
    types: Mapping[str, Any] = field(default_factory=dict)
    words: Sequence[str] = ()


@dataclass(frozen=True)
class Found:
    """The questions of one split.

    Attributes:
        files: what was read. folders: where images lie below the data folder, the official place first.
        spellings: what the file of an image may be called.
    """

    entries: list[Entry]
    files: tuple[Path, ...]
    folders: tuple[str, ...]
    spellings: tuple[Callable[[str], str], ...]


Reader = Callable[[Path, str, bool], Found]
Truth = tuple[str, int, list[str], dict[str, Any]]
"""Where it stands, image id, ten answers, types."""


@dataclass(frozen=True)
class VqaSet:
    """One set of the field.

    Attributes:
        read: gets the data folder, the split and whether OCR words are wanted.
        splits: name -> the official name. usual: the split that the field reports on.
        scorers: the primary one first, then those that are always reported beside it.
        breakdowns: types by which scores are also given.
    """

    read: Reader
    splits: Mapping[str, str]
    usual: str
    scorers: tuple[str, ...]
    breakdowns: tuple[str, ...] = ()


def _coco(prefix: str) -> Reader:
    """VQAv2 and OK-VQA: a file of questions and one of annotations, images of COCO 2014 or 2015."""

    def read(root: Path, split: str, ocr: bool) -> Found:
        questions = find_file(root, [f"{prefix}OpenEnded_mscoco_{split}_questions.json"], "questions")
        files, truth = [questions], None
        if split.startswith(("train", "val")):
            files.append(find_file(root, [f"{prefix}mscoco_{split}_annotations.json"], "annotations"))
            truth = _annotations(files[1])
        entries = list(_unique(_coco_questions(questions, truth), "question_id"))
        subset = "test2015" if split.startswith("test") else split
        folders = (subset, f"images/{subset}", f"Images/mscoco/{subset}", f"coco/{subset}", f"coco/images/{subset}", f"mscoco/{subset}")
        names = [lambda name, end=end: f"COCO_{subset}_{int(name):012d}{end}" for end in (".jpg", ".png")]
        return Found(entries, tuple(files), (*folders, "images", ""), (*names, lambda name: f"{int(name):012d}.jpg"))

    return read


def _annotations(path: Path) -> dict[str, Truth]:
    """The truth of each question id."""
    known = ("question_id", "image_id", "question_type", "answer_type", "multiple_choice_answer", "answers")
    found: dict[str, Truth] = {}
    seen: dict[str, str] = {}
    for where, value in stream_rows(path, "annotations"):
        row = Row.of(where, value)
        name = str(row.number("question_id"))
        check_unique(seen, name, where, "question_id")
        types = {"question_type": row.text("question_type"), "answer_type": row.text("answer_type"), **row.rest(known)}
        found[name] = (where, row.number("image_id"), row.answers(count=PUBLIC_TEN), types)
    return found


def _coco_questions(path: Path, truth: Mapping[str, Truth] | None) -> Iterator[Entry]:
    for where, value in stream_rows(path, "questions"):
        row = Row.of(where, value)
        name, image, question = str(row.number("question_id")), row.number("image_id"), row.text("question")
        if image < 0:
            raise row.error("image_id", "a whole number from 0")
        types, answers = row.rest(("question_id", "image_id", "question")), None
        if truth is not None:
            if name not in truth:
                raise DataError(f"{where}: the question_id {name} has no annotation", hint="the two files are not of one version")
            beside, other, answers, more = truth[name]
            if other != image:
                raise DataError(f"{beside}: the field 'image_id' is {other}, and {image} in the questions of question_id {name}")
            types = {**more, **types}
        yield Entry(where, name, question, answers, str(image), types)


def _gqa(root: Path, split: str, ocr: bool) -> Found:
    """GQA: one object of questions by id; train_all is a folder of several such files. Images by id."""
    if split == "train_all":
        first = find_file(root, ["train_all_questions/train_all_questions_0.json"], "questions")
        files = tuple(sorted(first.parent.glob("train_all_questions_*.json")))
    else:
        files = (find_file(root, [f"{split}_questions.json"], "questions"),)
    known = split.startswith(("train", "val", "testdev"))
    entries = list(_unique((_gqa_question(*member, known) for path in files for member in stream_members(path)), "question id"))
    return Found(entries, files, ("images", "allImages/images", ""), (lambda name: f"{name}.jpg",))


_GQA_FIELDS = {"imageId", "question", "answer", "fullAnswer", "isBalanced", "groups", "entailed", "equivalent", "types", "annotations"}
_GQA_FIELDS |= {"semantic", "semanticStr"}


def _gqa_question(where: str, name: str, value: Any, known: bool) -> Entry:
    row = Row.of(where, value)
    types: dict[str, Any] = {}
    if known or "types" in row.values:
        kinds = Row(f"{where}, types", row.member("types"))
        types = {"question_type": kinds.optional_text("structural"), "semantic_type": kinds.optional_text("semantic")}
    types |= row.rest(_GQA_FIELDS)
    answers = [row.text("answer")] if known or row.values.get("answer") is not None else None
    return Entry(where, name, row.text("question"), answers, row.identity("imageId"), types)


def _vizwiz(root: Path, split: str, ocr: bool) -> Found:
    """VizWiz: a list; the image's name is the id."""
    path = find_file(root, [f"{split}.json"], "questions")
    entries = list(_unique(_vizwiz_questions(path, split != "test"), "image"))
    return Found(entries, (path,), (split, f"images/{split}", f"Images/{split}", "images", ""), (lambda name: name,))


def _vizwiz_questions(path: Path, known: bool) -> Iterator[Entry]:
    fields = ("image", "question", "answers", "answerable", "answer_type")
    for where, value in stream_rows(path, None):
        row = Row.of(where, value)
        types, answers = row.rest(fields), None
        if known:
            if row.number("answerable") not in (0, 1):
                raise row.error("answerable", "0 or 1")
            types["answerable"] = "answerable" if row.number("answerable") else "unanswerable"
            types["answer_type"] = row.optional_text("answer_type")
            answers = row.answers(count=PUBLIC_TEN)
        yield Entry(where, row.text("image"), row.text("question", empty=True), answers, row.text("image"), types)


def _textvqa(root: Path, split: str, ocr: bool) -> Found:
    """TextVQA: ``data`` with ten answers as texts; train and val share one folder of images; OCR words stand in a file of their own."""
    path = find_file(root, [f"TextVQA_0.5.1_{split}.json"], "questions")
    files, read = [path], None
    if ocr:
        files.append(find_file(root, [f"TextVQA_Rosetta_OCR_v0.2_{split}.json"], "OCR words"))
        read = _ocr_words(files[1])
    entries = list(_unique(_textvqa_questions(path, split != "test", read), "question_id"))
    folder = "test_images" if split == "test" else "train_images"
    below = (folder, f"train_val_images/{folder}", f"images/{folder}", f"images/{split}", "images", "")
    return Found(entries, tuple(files), below, (lambda name: f"{name}.jpg", lambda name: f"{name}.png"))


def _textvqa_questions(path: Path, known: bool, read: Mapping[str, list[str]] | None) -> Iterator[Entry]:
    fields = {"question_id", "question", "question_tokens", "image_id", "image_classes", "flickr_original_url", "flickr_300k_url"}
    fields |= {"image_width", "image_height", "answers", "set_name"}
    for where, value in stream_rows(path, "data"):
        row = Row.of(where, value)
        name, image = str(row.number("question_id")), row.identity("image_id")
        answers = row.answers(count=PUBLIC_TEN) if known else None
        if read is not None and image not in read:
            raise DataError(f"{where}: the file of OCR words has no entry for image_id {image!r}", hint="or ask without: prompt=short")
        yield Entry(where, name, row.text("question"), answers, image, row.rest(fields), () if read is None else read[image])


def _ocr_words(path: Path) -> dict[str, list[str]]:
    rows = (Row.of(where, value) for where, value in stream_rows(path, "data"))
    return {row.identity("image_id"): row.texts("ocr_tokens") for row in rows}


def _docvqa(root: Path, split: str, ocr: bool) -> Found:
    """DocVQA: ``data`` with one or more answers; the image's path is relative to the folder of the split."""
    path = find_file(root, [f"{split}_v1.0_withQT.json", f"{split}_v1.0.json"], "questions")
    entries = list(_unique(_docvqa_questions(path, split != "test"), "questionId"))
    near = path.parent.relative_to(root).as_posix()
    folders = tuple(dict.fromkeys((near, split, "", "images", "spdocvqa_images", f"images/{split}")))
    return Found(entries, (path,), folders, (lambda name: name, lambda name: name.rpartition("/")[2]))


def _docvqa_questions(path: Path, known: bool) -> Iterator[Entry]:
    fields = ("questionId", "question", "question_types", "image", "docId", "ucsf_document_id", "ucsf_document_page_no", "answers")
    for where, value in stream_rows(path, "data"):
        row = Row.of(where, value)
        types = row.rest((*fields, "data_split"))
        if row.values.get("question_types") is not None:
            types["question_type"] = row.texts("question_types")
        answers = row.answers() if known else None
        yield Entry(where, row.identity("questionId"), row.text("question"), answers, row.text("image"), types)


def _unique(entries: Iterable[Entry], id_field: str) -> Iterator[Entry]:
    seen: dict[str, str] = {}
    for entry in entries:
        check_unique(seen, entry.id, entry.where, id_field)
        yield entry


_TYPES = ("question_type", "answer_type")
_COCO = {"train": "train2014", "val": "val2014"}
_GQA = {"train": "train_balanced", "val": "val_balanced", "testdev": "testdev_balanced", "test": "test_balanced"} | {
    name: name for name in ("train_all", "val_all", "testdev_all", "test_all", "challenge_all", "challenge_balanced", "submission_all")
}
_THREE = {name: name for name in ("train", "val", "test")}
_EVALAI = ("vqa_evalai", "vqa_normalised")
SETS: Mapping[str, VqaSet] = {
    "vqav2": VqaSet(
        _coco("v2_"), _COCO | {"test": "test2015", "test-dev": "test-dev2015"}, "val", ("vqa_normalised", "vqa_official"), _TYPES
    ),
    "okvqa": VqaSet(_coco(""), _COCO, "val", _EVALAI, _TYPES),
    "gqa": VqaSet(_gqa, _GQA, "testdev", ("gqa_exact", "gqa_llava", "gqa_contains"), ("question_type", "semantic_type")),
    "vizwiz": VqaSet(_vizwiz, _THREE, "val", _EVALAI, ("answerable", "answer_type")),
    "textvqa": VqaSet(_textvqa, _THREE, "val", _EVALAI),
    "docvqa": VqaSet(_docvqa, _THREE, "val", ("anls", "anls_strict"), ("question_type",)),
}
