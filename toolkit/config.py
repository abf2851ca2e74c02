"""Configurations are frozen dataclasses; this file turns them into JSON and into fingerprints."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from toolkit.errors import UsageError, unknown_name
from toolkit.types import JSON

T = TypeVar("T")


def to_json(value: object) -> JSON:
    """A JSON-serialisable copy of dataclasses, mappings, sequences, enums and paths; sets are sorted.

    >>> to_json({"a": (1, 2), "b": Path("x")})
    {'a': [1, 2], 'b': 'x'}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(to_json(item) for item in value)
    if isinstance(value, enum.Enum):
        return to_json(value.value)
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} is not JSON-serialisable")


def fingerprint(*parts: object) -> str:
    """sha256 (hex) of the canonical JSON of ``parts``: the same on every machine and in every process.

    >>> fingerprint({"b": 1, "a": 2}) == fingerprint({"a": 2, "b": 1})
    True
    """
    text = json.dumps([to_json(part) for part in parts], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def parse_options(pairs: tuple[str, ...] | list[str]) -> dict[str, JSON]:
    """``("k=3", "w_cls=loo")`` -> ``{"k": 3, "w_cls": "loo"}``: values are JSON where they parse, else strings.

    Raises: UsageError: if a pair has no ``=``, or a key comes twice.
    >>> parse_options(["k=3", "w_cls=loo"])
    {'k': 3, 'w_cls': 'loo'}
    """
    options: dict[str, JSON] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise UsageError(f"option {pair!r} is not of the form key=value", hint="for example: -o temperature=0.01")
        if key in options:
            raise UsageError(f"option {key!r} is given twice")
        try:
            options[key] = json.loads(text)
        except json.JSONDecodeError:
            options[key] = text
    return options


def build_config(cls: type[T], options: Mapping[str, JSON]) -> T:
    """An instance of the frozen dataclass ``cls`` from user options; unknown names get near matches."""
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in options:
        if name not in known:
            raise unknown_name("option", name, known)
    return cls(**options)
