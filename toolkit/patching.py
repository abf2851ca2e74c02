"""Putting a method onto a model, and taking it off again.

>>> with patch(model, ContrastiveAttention()) as handle:       # doctest: +SKIP
...     model.generate(**inputs)
>>> handle.decisions                                           # doctest: +SKIP
[{'layer': 3, 'masked': 115, ...}]
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import nn

from toolkit.attention.turns import Turns
from toolkit.errors import UsageError
from toolkit.hooks import HookSession
from toolkit.sites import module_of
from toolkit.types import JSON

__all__ = ["PatchHandle", "patch"]


class Attachable(Protocol):
    """What can be patched onto a model."""

    def attach(self, module: nn.Module) -> AbstractContextManager[Any]: ...


class PatchHandle:
    """A method on a model, from its making until ``remove``, or until its ``with`` block ends, however that happens.

    Several patches may be on one model, and go in any order. A patched model serves one generation at a time: a second thread
    that uses it meanwhile gets an error. The thread may be another one than that of ``patch``.

    Attributes:
        module: the patched transformers model.
        method: the method.
    """

    def __init__(self, module: nn.Module, method: Attachable) -> None:
        self.module = module
        self.method = method
        self._turns = Turns()
        self._guard = HookSession(module)
        self._guard.before("model", self._begin)
        self._guard.after("model", lambda output: self._end(), always=True)
        self._attachment: Any = method.attach(module)
        self._on = True
        try:
            self._guard.__enter__()
            self._attachment.__enter__()
        except BaseException:
            self._guard.close()
            raise

    @property
    def decisions(self) -> list[dict[str, JSON]]:
        """What the method decided: one mapping for every row of every prompt so far, oldest first."""
        decisions: list[dict[str, JSON]] = getattr(self._attachment, "decisions", [])
        return decisions

    def drain(self) -> list[dict[str, JSON]]:
        """The decisions since the last call, which are forgotten."""
        taken = list(self.decisions)
        del self.decisions[: len(taken)]
        return taken

    def remove(self) -> None:
        """Restore the model. Harmless when done twice; the decisions stay."""
        self._leave(None, None, None)

    def __enter__(self) -> PatchHandle:
        if not self._on:
            raise UsageError("this patch has been removed", hint="patch the model again")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        return self._leave(kind, error, trace)

    def _leave(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        if not self._on:
            return None
        self._on = False
        self._guard.close()
        swallowed: bool | None = self._attachment.__exit__(kind, error, trace)
        return swallowed

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():
            return
        tokens = kwargs.get("input_ids", args[0] if args else None)
        self._turns.take(prompt=not (isinstance(tokens, torch.Tensor) and tokens.ndim == 2 and tokens.shape[1] == 1))

    def _end(self) -> None:
        if not torch.compiler.is_compiling():
            self._turns.give_back()


def patch(model: object, method: Attachable) -> PatchHandle:
    """Put ``method`` onto ``model``, at once.

    Args:
        model: a transformers model, or an answerer that holds one.
        method: an intervention, for example ``ContrastiveAttention()``.
    Returns: the handle: a context manager, with ``remove`` for use without a block.
    Raises: UsageError: if one of the two is something else. Refused: if the method cannot work on this model.
    """
    if isinstance(method, type) or not callable(getattr(method, "attach", None)):
        name = method.__name__ if isinstance(method, type) else type(method).__name__
        raise UsageError(f"{name} is not a method that can be put onto a model", hint="for example: patch(model, ContrastiveAttention())")
    return PatchHandle(module_of(model), method)
