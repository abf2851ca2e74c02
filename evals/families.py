"""The kinds of task: which model and method each is evaluated with when nothing else is asked for, and what does not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.errors import UsageError

if TYPE_CHECKING:
    from evals.session import EvalRequest


class Usual(NamedTuple):
    """What is usual for a kind of task. ``what`` completes "a method that ..." and ``asks`` "a task that ..."."""

    model: str
    method: str
    batch_size: int
    what: str
    asks: str


USUAL = {
    "classify": Usual("pocket-clip", "zero-shot", 32, "classifies images", "asks for classes"),
    "vqa": Usual("pocket-llava", "plain", 8, "answers questions", "asks questions"),
}


def family_of(method: Any) -> str:
    """The kind of task that a method is for: one that answers questions has ``answer``."""
    return "vqa" if hasattr(method, "answer") else "classify"


def check_fit(request: EvalRequest, method: Any, family: str) -> None:
    """Raises: UsageError: if the method or an option is for another kind of task; found before a model is loaded."""
    usual, kind = USUAL[family], family_of(method)
    if kind != family:
        raise UsageError(
            f"the method {request.method!r} {USUAL[kind].what}, and {request.task} is a task that {usual.asks}",
            hint=f"the usual method there is {usual.method}; `permafrost ls methods` says what each one is for",
        )
    given: dict[str, object]
    if family == "classify":
        if request.quantise is not None:
            raise UsageError("image-text encoders are not quantised: they are small", hint="use --dtype bfloat16 to halve their memory")
        given = {"--device-map": request.device_map, "--max-new-tokens": request.max_new_tokens}
    else:
        given = {
            "--shots": request.shots,
            "--support": request.support,
            "--template": request.templates,
            "--classnames": request.classnames,
            "--workers": request.workers,
        }
    for option, value in given.items():
        if value:
            raise UsageError(f"{option} does nothing for {request.task}, which is a task that {usual.asks}", hint="leave it out")
