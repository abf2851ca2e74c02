"""All options of class-name-free descriptions in one place, with the authors' values as a preset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from toolkit.errors import UsageError
from toolkit.methods.descriptions.prototypes import check_temperature, one_template
from toolkit.methods.descriptions.selection import CHOICES, SelectionOptions, one_of
from toolkit.methods.descriptions.weight import W_MAX

FIRST_N = 1000
CAPTION = "A photo of a {}."

OURS: dict[str, Any] = {
    "w_cls": "loo",
    "support": "all",
    "fallback": "assigned",
    "empty_list": "pool_mean",
    "pool_order": "appearance",
    "dedupe": "normalised",
    "caption_templates": (CAPTION,),
}
PUBLISHED: dict[str, Any] = {
    "w_cls": "oracle",
    "support": "first_n",
    "fallback": "assigned_pool_order",
    "empty_list": "other_pool",
    "pool_order": "published",
    "dedupe": "exact",
    "caption_templates": (CAPTION,),
}
"""Where the authors' code does something else than we do by default. It also computes in float16, which loses up to a third of the
selections; that stays an option (``dtype="float16"``), and its order of ties is undefined."""
PRESETS: dict[str, dict[str, Any]] = {"": OURS, "published": PUBLISHED}

WORDS: dict[str, tuple[str, ...]] = {
    "support": ("all", "first_n"),
    "empty_list": ("pool_mean", "other_pool"),
    "pool_order": ("appearance", "published"),
    "dedupe": ("normalised", "exact", "none"),
    "leaks": ("report", "drop", "error"),
    "conventional": ("no", "mean", "max"),
}
WEIGHTS = ("loo", "prequential", "oracle")


@dataclass(frozen=True)
class Options:
    """Options of ``classname-free``. Empty ones take the value of the preset.

    Attributes:
        k, m, keep, rank, fallback, neighbourhood, row_norm, size_norm, dtype: see ``SelectionOptions``.
        w_cls: weight of the class name: "loo" (exact leave-one-out on the support), "prequential" (each batch is scored before it is
            learnt), a number, or "oracle" (chosen on test labels by ``sweep``; labelled so everywhere).
        w_max: the largest weight that is looked at.
        w_text: the weight where there is no support at all, so that none can be chosen.
        support: "all" images, or the "first_n" of each class, equally many for all.
        first_n: at most so many a class for ``support="first_n"``.
        empty_list: what a class without own descriptions falls back on.
        pool_order: texts are numbered by first "appearance", or after sorting each class's list ("published").
        dedupe: which texts count as one.
        leaks: class names in descriptions are a "report", "drop" or "error".
        conventional: for comparison only: "mean" or "max" of texts that also say the class name; there is then no weight.
        desc_template: sentence around each description. caption_templates: sentences around class names, averaged.
        temperature: of probabilities, which are not calibrated; None takes the model's.
        preset: "" or "published".
    """

    k: int = 3
    m: int = 5
    w_cls: float | str = ""
    keep: str = "ge"
    rank: str = "mean"
    support: str = ""
    first_n: int = FIRST_N
    fallback: str = ""
    empty_list: str = ""
    size_norm: str = "none"
    pool_order: str = ""
    dedupe: str = ""
    desc_template: str = "{}"
    caption_templates: Sequence[str] = ()
    neighbourhood: str = "caption"
    conventional: str = "no"
    dtype: str = "float32"
    leaks: str = "report"
    row_norm: str = "none"
    w_max: float = W_MAX
    w_text: float = 1.0
    temperature: float | None = None
    preset: str = ""

    def __post_init__(self) -> None:
        one_of("preset", self.preset, tuple(PRESETS))
        for name, value in PRESETS[self.preset].items():
            if getattr(self, name) in ("", (), []):
                object.__setattr__(self, name, value)
        if isinstance(self.caption_templates, str):
            object.__setattr__(self, "caption_templates", (self.caption_templates,))
        object.__setattr__(self, "caption_templates", tuple(map(one_template, self.caption_templates)))
        one_template(self.desc_template)
        for name, choices in WORDS.items():
            one_of(name, getattr(self, name), choices)
        check_temperature(self.temperature)
        _check_weight("w_cls", self.w_cls, WEIGHTS)
        _check_weight("w_text", self.w_text, ())
        _check_weight("w_max", self.w_max, ())
        if self.w_max == 0 or isinstance(self.first_n, bool) or not isinstance(self.first_n, int) or self.first_n < 1:
            raise UsageError("w_max and first_n must be larger than 0")
        self.selection  # noqa: B018  # checks the rest

    @property
    def selection(self) -> SelectionOptions:
        """The part that decides which descriptions are chosen."""
        return SelectionOptions(**{f.name: getattr(self, f.name) for f in fields(SelectionOptions)})


def _check_weight(name: str, value: object, words: Sequence[str]) -> None:
    if isinstance(value, str) and value in words:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        more = "".join(f'"{word}", ' for word in words)
        raise UsageError(f"{name}={value!r} is not possible", hint=f"{name} is {more}a number from 0 up".replace(", a ", " or a "))


def options_from(given: Mapping[str, Any]) -> Options:
    """Options from keyword arguments; unknown names get near matches. Raises: UsageError."""
    from toolkit.config import build_config

    return build_config(Options, given)


__all__ = ["CHOICES", "OURS", "PRESETS", "PUBLISHED", "Options", "options_from"]
