"""The model as it is: the baseline that every other method is compared with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from torch import nn

from toolkit.methods.interventions.base import Intervention
from toolkit.types import JSON

__all__ = ["Plain", "PlainConfig"]


@dataclass(frozen=True)
class PlainConfig:
    """``plain`` has no options."""


class Plain(Intervention):
    """Nothing is changed, and so it works on every model and refuses nothing. There are no decisions."""

    name = "plain"
    source = "the model itself. Differs from it: nothing"
    Config = PlainConfig

    def attach(self, module: nn.Module) -> contextlib.AbstractContextManager[Any]:
        return _nothing()


@contextlib.contextmanager
def _nothing() -> Iterator[SimpleNamespace]:
    decisions: list[dict[str, JSON]] = []
    yield SimpleNamespace(decisions=decisions)
