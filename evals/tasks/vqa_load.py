"""VQA tasks by name: ``vqav2:DIR`` and the other sets of the field in their official files, and ``jsonl:FILE`` for one's own questions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from evals.metrics.vqa import TEN
from evals.tasks.vqa import TYPES, VqaTask
from evals.tasks.vqa_files import Row, check_unique, file_hash, images_under
from evals.tasks.vqa_prompts import VqaPrompt, load_vqa_prompt
from evals.tasks.vqa_sets import SETS, Entry
from toolkit.config import fingerprint
from toolkit.errors import DataError, DataNotFound, UsageError, unknown_name
from toolkit.images import FileImage
from toolkit.types import Sample

VQA = (*SETS, "jsonl")


def load_vqa(
    kind: str,
    place: str | Path | None,
    *,
    split: str | None = None,
    images: str | None = None,
    prompt: str | None = None,
    pre_prompt: str | None = None,
    post_prompt: str | None = None,
    max_new_tokens: int | None = None,
    scorers: str | Sequence[str] | None = None,
) -> VqaTask:
    """The task of that kind.

    Args:
        kind: a name of ``VQA``. place: its folder or file; a folder may have the split behind a colon, as in ``DIR:val``.
        images: the folder of the images, where it is not the usual one below ``place``.
        prompt: which variant of prompts/vqa. pre_prompt, post_prompt: texts of one's own around the question.
        max_new_tokens: length of an answer instead of the prompt file's.
        scorers: names, the primary one first, instead of those that the field reports.
    Raises: UsageError: for an unknown option value. DataNotFound: if files are not there. DataError: if they are not what they should be.
    """
    if place is None or not str(place):
        raise UsageError(f"{kind} needs its data", hint=f"{kind}:{'FILE' if kind == 'jsonl' else 'DIR'}, or --data")
    said = load_vqa_prompt(kind, prompt, pre=pre_prompt, post=post_prompt, max_new_tokens=max_new_tokens)
    names = tuple(scorers.replace(" ", "").split(",")) if isinstance(scorers, str) else tuple(scorers or ())
    if kind == "jsonl":
        if split is not None:
            raise UsageError(f"jsonl:{place} is one file and has no splits", hint="name the file of that split")
        return _jsonl(Path(place), images, said, names)
    return _official(kind, place, split, images, said, names)


def _official(kind: str, place: str | Path, split: str | None, images: str | None, said: VqaPrompt, names: tuple[str, ...]) -> VqaTask:
    made = SETS[kind]
    folder, behind = _split_behind(str(place), made.splits)
    if split is not None and behind is not None and split != behind:
        raise UsageError(f"{kind}:{place} names the split {behind!r}, and the option split={split} another one")
    asked = split or behind or made.usual
    official = made.splits.get(asked, asked)
    if official not in made.splits.values():
        raise unknown_name(f"split of {kind}", str(asked), made.splits)
    root = Path(folder)
    found = made.read(root, official, said.ocr is not None)
    base = root if images is None else Path(images)
    wanted = [(entry.where, entry.image) for entry in found.entries]
    if not wanted:
        raise DataError(f"{found.files[0]} holds no questions", hint="download it again")
    pictures, where = images_under([base / name for name in dict.fromkeys(found.folders)], found.spellings, wanted, f"images of {kind}")
    short = next(name for name, value in made.splits.items() if value == official)
    return VqaTask(
        name=f"{kind}:{short}",
        items=_samples(found.entries, pictures, said),
        data=f"{root} ({', '.join(path.name for path in found.files)}; images in {where})",
        content=_content(found.files, pictures),
        scorers=names or made.scorers,
        prompt=said,
        breakdowns=made.breakdowns,
        submission=kind,
    )


def _split_behind(place: str, splits: Mapping[str, str]) -> tuple[str, str | None]:
    """``DIR:val`` -> (DIR, val); a folder whose own name holds a colon stays whole."""
    head, colon, tail = place.rpartition(":")
    if not colon or not head or Path(place).exists() or not (tail in splits or Path(head).is_dir()):
        return place, None
    return head, tail


def _jsonl(path: Path, images: str | None, said: VqaPrompt, names: tuple[str, ...]) -> VqaTask:
    """One JSON object a line: ``question``, ``image`` (a path below the file's folder), ``answers`` or ``answer``, ``id``, types."""
    entries: list[Entry] = []
    seen: dict[str, str] = {}
    for number, row in _lines(path):
        name = row.identity("id") if row.values.get("id") is not None else str(number)
        check_unique(seen, name, row.where, "id")
        answers = None
        if row.values.get("answers") is not None or row.values.get("answer") is not None:
            answers = row.answers() if row.values.get("answers") is not None else [row.text("answer", empty=True)]
        types = {kind: row.optional_text(kind) for kind in TYPES if row.values.get(kind) is not None}
        types |= row.rest(("id", "question", "image", "answers", "answer", *TYPES))
        entries.append(Entry(row.where, name, row.text("question"), answers, row.text("image"), types))
    if not entries:
        raise DataError(f"{path} holds no questions", hint='one JSON object a line: {"question": ..., "image": ..., "answers": [...]}')
    base = path.parent if images is None else Path(images)
    pictures, where = images_under([base], (str,), [(entry.where, entry.image) for entry in entries], "images")
    return VqaTask(
        name=f"jsonl:{path}",
        items=_samples(entries, pictures, said),
        data=f"{path} (images in {where})",
        content=_content([path], pictures),
        scorers=names or fitting_scorers([entry.answers for entry in entries]),
        prompt=said,
    )


def fitting_scorers(answers: Sequence[Sequence[str] | None]) -> tuple[str, ...]:
    """The scorers for questions of one's own: those of VQAv2 if each has ten answers, of GQA if each has one, else of DocVQA."""
    counts = {len(each) for each in answers if each is not None}
    if counts == {TEN}:
        return SETS["vqav2"].scorers
    return SETS["gqa"].scorers[:1] + SETS["docvqa"].scorers[:1] if counts == {1} else SETS["docvqa"].scorers


def _lines(path: Path) -> Iterator[tuple[int, Row]]:
    """(line number, row) of each line that is not empty; the last line counts with and without its line end."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    try:
                        value = json.loads(line)
                    except (ValueError, RecursionError) as error:
                        raise DataError(f"{where} is not JSON: {error}") from error
                    yield number, Row.of(where, value)
    except FileNotFoundError as error:
        raise DataNotFound(f"there is no file {path}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _samples(entries: Sequence[Entry], images: dict[str, FileImage], said: VqaPrompt) -> list[Sample]:
    samples = []
    for entry in entries:
        prompt = said.text(entry.question, entry.words)
        meta = {"question": entry.question, "prompt": prompt, "answers": entry.answers, **entry.types}
        samples.append(Sample(entry.id, images[entry.image], None, meta))
    return samples


def _content(files: Sequence[Path], images: dict[str, FileImage]) -> str:
    """Hash of the files of questions, and of the sizes of the images; a missing image fails when it is opened, as one sample."""
    return fingerprint("vqa", [file_hash(path) for path in files], [(name, _size(image.path)) for name, image in sorted(images.items())])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


