"""The options of contrastive attention, checked when they are given."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import UsageError, unknown_name

PRESETS = Path(__file__).resolve().parents[3] / "prompts" / "contrastive_attention.yaml"

CHOICES: dict[str, tuple[str, ...]] = {
    "mode": ("mask", "crop", "maps"),
    "query": ("last_prompt", "mean_question", "first_generated"),
    "normalise": ("image_after_mean", "image_per_head", "none"),
    "contrast": ("auto", "abs", "signed", "relu"),
    "selection": ("per_sample", "per_batch", "fixed"),
    "where": ("logit_bias", "residual", "attn_input", "kv", "value"),
    "until": ("review", "onward"),
    "phase": ("auto", "prefill", "all"),
    "image_scope": ("all", "base_view", "per_view"),
    "crop_rule": ("bbox", "window"),
    "backend": ("interface", "hook"),
    "on_no_image": ("refuse", "skip"),
}
RULES = ("preset", "scaled", "shallow", "deep", "all")

__all__ = ["ContrastiveAttentionConfig", "presets"]


@dataclass(frozen=True)
class ContrastiveAttentionConfig:
    """Options of ``contrastive-attention``. What the source leaves open, and why each default: docs/contrastive_attention.md.

    Attributes:
        preset: "default" or "paper-literal": the values of ``where``, ``normalise``, ``rho`` and ``lam`` that are not given.
        mode: "mask" (in the same prefill), "crop" (a second pass sees the region), "maps" (changes nothing).
        layer_base: the number of the first layer in ``candidates``, ``late``, ``review`` and ``heads``: 1 or 0.
        candidates: C, layers in which fusion happens. "preset" (of the backbone), "scaled" (that of a 32-layer model, by depth),
            "shallow" (the first half), "deep" (the second), "all" (before ``late``), a list of numbers, or the path of a calibration
            file, whose indices are 0-based whatever ``layer_base`` says.
        late: k, the layer where fusion is over; None takes that of the backbone or of the calibration file.
        review: r, the layer that is masked; likewise.
        query: whose attention is read: "last_prompt", "mean_question", "first_generated".
        heads: "mean", "max", a list of heads, or {layer: heads} (layers that are not named: the mean of all).
        normalise: of the contrast: "image_after_mean" (distributions), "image_per_head", "none" (raw mass).
        contrast: "abs", "signed", "relu"; "auto" is abs for masks and signed otherwise.
        selection: of i*: "per_sample", "per_batch" (one for all, by their mean distance), "fixed" (the only candidate).
        rho: fraction of image tokens below the quantile, in [0, 1).
        lam: what is left of masked tokens, in [0, 1].
        where: what lam is applied to: "logit_bias", "residual", "attn_input", "kv", "value".
        until: "review" (that layer only) or "onward" (all from there on); "residual" is onward by nature.
        phase: "prefill" or "all" (decoding as well); "auto" is all for logit_bias and prefill otherwise.
        image_scope: "all" image tokens, "base_view" alone, or "per_view" quantiles.
        crop_rule: "bbox" of the largest hot group, or the best "window".
        crop_window: sides of that window, as a fraction of the image's.
        backend: how attention is read: "interface" or "hook".
        on_no_image: "refuse" or "skip" (recorded) a prompt without an image.
        keep_maps: write the maps into every decision, so that they can be drawn.
    """

    preset: str = "default"
    mode: str = "mask"
    layer_base: int = 1
    candidates: str | Sequence[int] = "preset"
    late: int | None = None
    review: int | None = None
    query: str = "last_prompt"
    heads: str | Sequence[int] | Mapping[str, Sequence[int]] = "mean"
    normalise: str | None = None
    contrast: str = "auto"
    selection: str = "per_sample"
    rho: float | None = None
    lam: float | None = None
    where: str | None = None
    until: str = "review"
    phase: str = "auto"
    image_scope: str = "all"
    crop_rule: str = "bbox"
    crop_window: float = 0.5
    backend: str = "interface"
    on_no_image: str = "refuse"
    keep_maps: bool = False

    def __post_init__(self) -> None:
        known = presets()["presets"]
        if self.preset not in known:
            raise unknown_name("preset", str(self.preset), known)
        for name, value in known[self.preset].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown_name(f"value of {name}", str(getattr(self, name)), choices)
        if self.layer_base not in (0, 1) or isinstance(self.layer_base, bool):
            raise UsageError(f"layer_base is {self.layer_base!r}", hint="1 if the first layer has the number 1, 0 if it has the number 0")
        if not isinstance(self.keep_maps, bool):
            raise UsageError(f"keep_maps is {self.keep_maps!r}", hint="use true or false")
        object.__setattr__(self, "rho", _fraction("rho", self.rho, below_one=True))
        object.__setattr__(self, "lam", _fraction("lam", self.lam))
        object.__setattr__(self, "crop_window", _fraction("crop_window", self.crop_window))
        for name in ("late", "review"):
            if getattr(self, name) is not None:
                _layer(name, getattr(self, name), self.layer_base)
        object.__setattr__(self, "candidates", _candidates(self.candidates, self.layer_base))
        object.__setattr__(self, "heads", _heads(self.heads, self.layer_base))

    @property
    def contrast_kind(self) -> str:
        """``contrast`` with "auto" decided."""
        return ("abs" if self.mode == "mask" else "signed") if self.contrast == "auto" else self.contrast

    @property
    def is_neutral(self) -> bool:
        """Whether the options leave every answer as it is: rho = 0 or lam = 1 in mode mask, and mode maps."""
        return self.mode == "maps" or (self.mode == "mask" and (self.rho == 0 or self.lam == 1))


@functools.cache
def presets() -> Mapping[str, Any]:
    """The data file: ``presets``, ``backbones``, ``no_review``."""
    import yaml

    data: dict[str, Any] = yaml.safe_load(PRESETS.read_text(encoding="utf-8"))
    return data


def _fraction(name: str, value: Any, *, below_one: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UsageError(f"{name} is {value!r}; expected a number", hint=f"for example: {name}=0.2")
    if not 0 <= value <= 1 or (below_one and value == 1):
        more = f"{name} is a fraction, not percent: {value / 100:g}" if 1 < value <= 100 else f"for example: {name}=0.2"
        raise UsageError(f"{name} is {value:g}; expected a fraction from 0 to 1{' (without 1)' if below_one else ''}", hint=more)
    return float(value)


def _layer(name: str, value: Any, base: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < base:
        raise UsageError(f"{name} names the layer {value!r}; layers are whole numbers from {base} on", hint="layer_base=0 counts from 0")
    return value


def _candidates(value: Any, base: int) -> str | tuple[int, ...]:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, Sequence) or not value:
        raise UsageError(
            f"candidates is {value!r}; expected layers, a calibration file or one of {', '.join(RULES)}", hint="candidates=[2,4,8]"
        )
    return tuple(sorted({_layer("candidates", layer, base) for layer in value}))


def _heads(value: Any, base: int) -> Any:
    if value in ("mean", "max"):
        return value
    if isinstance(value, Mapping):
        layers = [int(key) if str(key).isdigit() else key for key in value]
        return {str(_layer("heads", layer, base)): _head_list(heads) for layer, heads in zip(layers, value.values(), strict=True)}
    return _head_list(value)


def _head_list(value: Any) -> tuple[int, ...]:
    heads = [value] if isinstance(value, int) else value
    if isinstance(heads, str) or not isinstance(heads, Sequence) or not heads:
        raise UsageError(f"heads is {value!r}; expected mean, max or a list of heads", hint='heads=[0,3], or {"28": [0,3]} for one layer')
    if any(isinstance(head, bool) or not isinstance(head, int) or head < 0 for head in heads):
        raise UsageError(f"heads is {value!r}; heads are whole numbers from 0 on", hint="heads=[0,3]")
    return tuple(heads)
