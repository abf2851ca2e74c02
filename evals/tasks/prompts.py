"""Reads prompts/: class names, spellings, templates and descriptions of a data set, with the hash of each file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evals.tasks.labels import match_in_order, read_names
from toolkit.errors import DataError, unknown_name

PROMPTS = Path(__file__).resolve().parents[2] / "prompts"


@dataclass(frozen=True)
class PromptSet:
    """What is said about the classes of one data set.

    Attributes:
        classnames: (C,) in label order. aliases: (C,) other spellings of each.
        templates: the single template first, then the rest of the ensemble.
        descriptions: class name -> texts, or None where there is no pool. Classes of the same name share their texts.
        pools: the name of a folder below ``descriptions`` -> its texts for these classes; ``descriptions`` is one of them.
        hashes: file name -> sha256 of its bytes.
    """

    name: str
    version: int
    classnames: tuple[str, ...]
    aliases: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]
    descriptions: Mapping[str, tuple[str, ...]] | None
    hashes: Mapping[str, str]
    pools: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)


class _Class(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1)
    aliases: tuple[str, ...] = ()


class _Templates(BaseModel):
    model_config = ConfigDict(extra="forbid")
    single: str
    ensemble: tuple[str, ...] = Field(min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    version: int
    sources: dict[str, list[dict[str, str]]]
    templates: _Templates
    descriptions: str | None = None
    classes: tuple[_Class, ...] = Field(min_length=2)


def list_prompts(root: Path = PROMPTS) -> list[str]:
    """The names of all prompt sets for classification."""
    return sorted(path.stem for path in (root / "classify").glob("*") if path.suffix in (".json", ".yaml", ".yml"))


def class_list(given: str, root: Path = PROMPTS) -> tuple[str, ...]:
    """Class names from what was typed: a file of names, the name of a prompt set, or names with commas between them.

    Raises: UsageError: if it is none of these. DataError: if the file is not a list of names.
    """
    if Path(given).is_file():
        names = read_names(Path(given)) or ()
        return tuple(names.values() if isinstance(names, Mapping) else names)
    if given in list_prompts(root):
        return load_prompts(given, root).classnames
    if "," in given:
        return tuple(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    raise unknown_name("file of class names or prompt set", given, list_prompts(root))


@cache
def load_prompts(name: str, root: Path = PROMPTS) -> PromptSet:
    """The prompt set of that name.

    Raises: UsageError: for an unknown name. DataError: if a file is damaged, or its description pool is of other classes.
    """
    known = list_prompts(root)
    if name not in known:
        raise unknown_name("prompt set", name, known)
    path = next(
        root / "classify" / f"{name}{suffix}" for suffix in (".json", ".yaml", ".yml") if (root / "classify" / f"{name}{suffix}").exists()
    )
    value, digest = _read(path)
    try:
        file = _File.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path} is not a prompt file: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    hashes = {f"classify/{path.name}": digest}
    names = tuple(entry.name for entry in file.classes)
    aliases = tuple(entry.aliases for entry in file.classes)
    pools: dict[str, dict[str, tuple[str, ...]]] = {}
    own = [] if file.descriptions is None else [file.descriptions]
    found = sorted(place.relative_to(root).as_posix() for place in (root / "descriptions").glob(f"*/{name}.json"))
    for place in dict.fromkeys([*own, *found]):
        pool, hashes[place] = _read(root / place)
        pools[Path(place).parent.name] = _by_class(pool, names, aliases, str(root / place))
    descriptions = next(iter(pools.values())) if own else None
    ensemble = [template for template in file.templates.ensemble if template != file.templates.single]
    return PromptSet(file.name, file.version, names, aliases, (file.templates.single, *ensemble), descriptions, hashes, pools)


def _by_class(pool: Any, names: tuple[str, ...], aliases: tuple[tuple[str, ...], ...], where: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(pool, dict) or not all(isinstance(texts, list) and all(isinstance(t, str) for t in texts) for texts in pool.values()):
        raise DataError(f"{where} must map class names to lists of texts")
    match_in_order(list(pool), names, aliases, where=where)
    merged: dict[str, tuple[str, ...]] = {}
    for name, texts in zip(names, pool.values(), strict=True):
        merged[name] = tuple(dict.fromkeys((*merged.get(name, ()), *texts)))
    return merged


def _read(path: Path) -> tuple[Any, str]:
    try:
        data = path.read_bytes()
        value = json.loads(data) if path.suffix == ".json" else yaml.safe_load(data)
    except FileNotFoundError as error:
        raise DataError(f"prompt file {path} is missing", hint="install the package again") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"prompt file {path} is damaged: {error}", hint="install the package again") from error
    return value, hashlib.sha256(data).hexdigest()
