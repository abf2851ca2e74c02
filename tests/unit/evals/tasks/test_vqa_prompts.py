"""The prompts of the field, letter by letter, and what is wrong with a prompt file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from evals.tasks.prompts import PROMPTS
from evals.tasks.vqa_prompts import load_vqa_prompt
from toolkit.errors import DataError, UsageError

SHORT = "\nAnswer the question using a single word or phrase."
UNSURE = "\nWhen the provided information is insufficient, respond with 'Unanswerable'.\nAnswer the question using a single word or phrase."


@pytest.mark.parametrize(
    ("name", "post", "question", "tokens"),
    [
        ("vqav2", SHORT, "as-is", 16), ("gqa", SHORT, "as-is", 16), ("okvqa", UNSURE, "as-is", 16), ("vizwiz", UNSURE, "capitalize", 16),
        ("textvqa", SHORT, "capitalize", 32), ("docvqa", SHORT, "as-is", 32), ("jsonl", SHORT, "as-is", 16),
    ],
)  # fmt: skip
def test_usual_prompts_are_those_of_the_field(name: str, post: str, question: str, tokens: int) -> None:
    prompt = load_vqa_prompt(name)
    assert (prompt.variant, prompt.pre, prompt.post, prompt.question, prompt.ocr, prompt.max_new_tokens) == (
        "short", "", post, question, None, tokens,
    )  # fmt: skip
    assert load_vqa_prompt(name, "qwen").post == " Answer:"
    assert load_vqa_prompt(name, "bare").text("Is it NASA's?") == "Is it NASA's?"
    data = (PROMPTS / "vqa" / f"{name}.yaml").read_bytes()
    assert dict(prompt.hashes) == {f"vqa/{name}.yaml": hashlib.sha256(data).hexdigest()}


def test_capitals_are_lost_only_where_the_variant_says_so() -> None:
    assert load_vqa_prompt("textvqa").text("is this NASA?") == "Is this nasa?" + SHORT
    assert load_vqa_prompt("textvqa", "short-as-is").text("is this NASA?") == "is this NASA?" + SHORT
    assert load_vqa_prompt("textvqa", "short-ocr").text("what?", ["A", "b"]) == "What?\nReference OCR token: A, b" + SHORT


GOOD = "name: own\nversion: 1\nsource: x\nlicence: x\nmax_new_tokens: 1\ndefault: a\nvariants: {a: {pre: '', question: as-is, post: ''}}\n"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("version: 1\n", "", "version"), (GOOD, "name: [", "is damaged"), ("name: own", "name: other", "named 'other'"),
        ("default: a", "default: b", "default is 'b'"), ("as-is", "title", "variants.a.question"),
        ("tokens: 1", "tokens: 0", "max_new_tokens"),
    ],
)  # fmt: skip
def test_damaged_prompt_files(tmp_path: Path, old: str, new: str, words: str) -> None:
    (tmp_path / "vqa").mkdir()
    path = tmp_path / "vqa" / "own.yaml"
    path.write_text(GOOD)
    assert load_vqa_prompt("own", root=tmp_path).variant == "a"
    other = tmp_path / "damaged"
    (other / "vqa").mkdir(parents=True)
    (other / "vqa" / "own.yaml").write_text(GOOD.replace(old, new))
    with pytest.raises(DataError, match=r"own\.yaml") as error:
        load_vqa_prompt("own", root=other)
    assert words in str(error.value)


def test_unknown_prompts() -> None:
    with pytest.raises(UsageError, match="no prompt file for questions called 'vqav3'"):
        load_vqa_prompt("vqav3")
    with pytest.raises(UsageError, match="post_prompt must be a text, not 3"):
        load_vqa_prompt("vqav2", post=3)  # type: ignore[arg-type]
