"""Reads prompts/vqa: what is said around a question, in named variants, with the hash of the file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evals.tasks.prompts import PROMPTS
from toolkit.errors import DataError, UsageError, unknown_name
from toolkit.types import JSON


@dataclass(frozen=True)
class VqaPrompt:
    """What is said around a question; the chat template comes around it later.

    Attributes:
        question: "as-is", or "capitalize": first letter large and all others small, as some harnesses do. Names and acronyms are then lost.
        ocr: what stands before the words that an OCR system read, or None to leave them out.
        max_new_tokens: how long an answer may be.
        hashes: file name -> sha256 of its bytes.
    """

    name: str
    variant: str
    version: int
    pre: str
    post: str
    question: str = "as-is"
    ocr: str | None = None
    max_new_tokens: int = 16
    hashes: tuple[tuple[str, str], ...] = ()

    def text(self, question: str, words: Sequence[str] = ()) -> str:
        """The whole prompt of one question. ``words`` are those of the OCR system."""
        read = "" if self.ocr is None else self.ocr + ", ".join(words)
        return self.pre + (question.capitalize() if self.question == "capitalize" else question) + read + self.post

    def describe(self) -> dict[str, JSON]:
        """What the manifest of a run says of the prompt."""
        return {field: getattr(self, field) for field in ("name", "variant", "version", "pre", "question", "ocr", "post")}


class _Variant(BaseModel):
    model_config = ConfigDict(extra="forbid")
    pre: str
    question: Literal["as-is", "capitalize"]
    post: str
    ocr: str | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    version: int
    source: str
    licence: str
    max_new_tokens: int = Field(ge=1)
    default: str
    variants: dict[str, _Variant] = Field(min_length=1)


def load_vqa_prompt(
    name: str,
    variant: str | None = None,
    *,
    pre: str | None = None,
    post: str | None = None,
    max_new_tokens: int | None = None,
    root: Path = PROMPTS,
) -> VqaPrompt:
    """The prompt of a set of questions.

    Args:
        variant: its name in the file; None takes the usual one. pre, post: texts of one's own; the variant is then called "own".
        max_new_tokens: instead of the file's.
    Raises: UsageError: for an unknown set or variant. DataError: if the file is damaged.
    """
    file, digest = _read(name, root)
    variant = file.default if variant is None else variant
    if variant not in file.variants:
        raise unknown_name(f"prompt of {name}", str(variant), file.variants)
    if max_new_tokens is not None and (isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int) or max_new_tokens < 1):
        raise UsageError(f"max_new_tokens must be a number from 1, not {max_new_tokens!r}")
    for option, value in (("pre_prompt", pre), ("post_prompt", post)):
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{option} must be a text, not {value!r}")
    chosen = file.variants[variant]
    length = file.max_new_tokens if max_new_tokens is None else max_new_tokens
    hashes = ((f"vqa/{name}.yaml", digest),)
    prompt = VqaPrompt(name, variant, file.version, chosen.pre, chosen.post, chosen.question, chosen.ocr, length, hashes)
    if pre is None and post is None:
        return prompt
    return replace(prompt, variant="own", pre=prompt.pre if pre is None else pre, post=prompt.post if post is None else post)


@cache
def _read(name: str, root: Path) -> tuple[_File, str]:
    known = sorted(path.stem for path in (root / "vqa").glob("*.yaml"))
    if name not in known:
        raise unknown_name("prompt file for questions", name, known)
    path = root / "vqa" / f"{name}.yaml"
    try:
        data = path.read_bytes()
        file = _File.model_validate(yaml.safe_load(data))
        if file.default not in file.variants or file.name != name:
            raise ValueError(f"it is named {file.name!r} and its default is {file.default!r}")
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path} is not a prompt file: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"prompt file {path} is damaged: {error}", hint="install the package again") from error
    return file, hashlib.sha256(data).hexdigest()
