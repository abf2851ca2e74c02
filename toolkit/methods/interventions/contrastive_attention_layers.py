"""Which layers contrastive attention reads and masks: presets of backbones, rules, lists and calibration files.

Here and in every record a layer is an index from 0; only options are in the numbering of ``layer_base``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.errors import DataError, Refused, UsageError
from toolkit.files import read_json
from toolkit.methods.interventions.contrastive_attention_config import PRESETS, RULES, ContrastiveAttentionConfig, presets
from toolkit.types import JSON

CALIBRATION_SCHEMA = 1
CALIBRATIONS = PRESETS.parent / "calibrations"
PAPER_DEPTH = 32

__all__ = ["CALIBRATION_SCHEMA", "Backbone", "Layers", "choose_layers", "read_calibration", "shipped_calibrations"]


class Backbone(NamedTuple):
    """What is known of a model before it runs.

    Attributes:
        model_type, text_type: of its configuration and of that of its language model.
        n_layers: decoder layers.
        fingerprint: of the answerer, None for a plain model.
    """

    model_type: str
    text_type: str
    n_layers: int
    fingerprint: str | None = None


@dataclass(frozen=True)
class Layers:
    """The layers of one model, as indices from 0.

    Attributes:
        candidates: C, ascending. late: k. review: r, None where nothing is masked.
        base: the numbering that the options were read in. origin: where the layers come from.
        notes: what a reader of the results must know.
    """

    candidates: tuple[int, ...]
    late: int
    review: int | None
    base: int
    origin: str
    notes: tuple[str, ...] = ()

    @property
    def read(self) -> tuple[int, ...]:
        """The layers whose attention is needed, ascending."""
        return (*self.candidates, self.late)

    def record(self) -> dict[str, JSON]:
        """For results: 0-based indices, and the base that the options were in."""
        return {
            "candidates": list(self.candidates), "late": self.late, "review": self.review, "layer_base": self.base, "from": self.origin,
        }  # fmt: skip


def choose_layers(config: ContrastiveAttentionConfig, backbone: Backbone) -> Layers:
    """The layers that ``config`` means on ``backbone``.

    Raises: Refused: if the backbone has no preset, the calibration says that there are none, or the order max(C) < k < r < n does
        not hold. DataError: for a calibration file of another model.
    """
    found = _named_layers(config, backbone)
    late = found.late if config.late is None else config.late - config.layer_base
    review = found.review if config.review is None else config.review - config.layer_base
    if late is None:
        raise _no_preset(config, backbone)
    candidates, half = found.candidates, backbone.n_layers / 2
    if candidates is None:
        rule = config.candidates
        keep = {"shallow": lambda i: i < half, "deep": lambda i: i >= half, "all": lambda i: True}[str(rule)]
        candidates = tuple(i for i in range(min(late, backbone.n_layers)) if keep(i))
    masks = config.mode == "mask"
    if masks and review is None:
        if found.origin.startswith("calibration"):
            raise Refused(
                "the calibration found no review layer in this model, so there is none to mask at", hint="use mode=crop, or give review=N"
            )
        raise _no_preset(config, backbone)
    notes = list(found.notes)
    if masks and backbone.model_type in presets()["no_review"]:
        notes.append(f"the source found no review layer in {backbone.model_type}: masking has no published basis on this backbone")
    layers = Layers(candidates, late, review if masks else None, config.layer_base, found.origin, tuple(notes))
    _check_order(config, layers, backbone.n_layers)
    return layers


class _Named(NamedTuple):
    candidates: tuple[int, ...] | None
    late: int | None
    review: int | None
    origin: str
    notes: tuple[str, ...] = ()


def _named_layers(config: ContrastiveAttentionConfig, backbone: Backbone) -> _Named:
    """What the option ``candidates`` says, 0-based; what it leaves open is None."""
    chosen = config.candidates
    if isinstance(chosen, str) and chosen not in RULES:
        return _calibrated(shipped_calibrations().get(chosen, Path(chosen)), backbone)
    if chosen == "scaled":
        return _scaled(config, backbone)
    preset = _backbone_preset(config, backbone)
    if not isinstance(chosen, str):
        indices = tuple(number - config.layer_base for number in chosen)
        return _Named(indices, preset.late, preset.review, "options")
    if chosen == "preset":
        if preset.candidates is None:
            raise _no_preset(config, backbone)
        return preset
    return preset._replace(candidates=None, origin=f"{chosen}, {preset.origin}")


def _backbone_preset(config: ContrastiveAttentionConfig, backbone: Backbone) -> _Named:
    for row in presets()["backbones"]:
        same = backbone.model_type in row["model_types"] and backbone.text_type == row["text_type"]
        if same and backbone.n_layers == row["n_layers"]:
            base = config.layer_base
            candidates = tuple(number - base for number in row["candidates"])
            return _Named(candidates, row["late"] - base, row["review"] - base, f"preset of {row['name']}")
    return _Named(None, None, None, "options")


def _scaled(config: ContrastiveAttentionConfig, backbone: Backbone) -> _Named:
    """The published layers as fractions of 32, rounded, then moved as little as needed so that max(C) < k < r < n."""
    row, n, base = presets()["backbones"][0], backbone.n_layers, config.layer_base

    def scale(number: int) -> int:
        return max(int(number * n / PAPER_DEPTH + 0.5) - base, 0)

    review = min(scale(row["review"]), n - 1)
    late = min(scale(row["late"]), review - 1)
    candidates = tuple(sorted({i for i in map(scale, row["candidates"]) if i < late}))
    if not candidates:
        raise Refused(f"a model of {n} layers is too shallow to scale the published layers to", hint="give candidates, late and review")
    note = f"layers are scaled from {PAPER_DEPTH} to {n} by depth, and not calibrated on this model"
    return _Named(candidates, late, review, "scaled", (note,))


def _calibrated(path: Path, backbone: Backbone) -> _Named:
    data = read_calibration(path)
    if data["n_layers"] != backbone.n_layers:
        raise DataError(
            f"{path} was made for {data['n_layers']} layers, and this model has {backbone.n_layers}", hint="permafrost discover"
        )
    if data["model_type"] != backbone.model_type:
        raise DataError(
            f"{path} was made for a {data['model_type']} model, and this is a {backbone.model_type}", hint="permafrost discover"
        )
    notes: tuple[str, ...] = ()
    if backbone.fingerprint is None:
        notes = ("a plain model has no fingerprint: the one of the calibration file was not compared",)
    elif backbone.fingerprint != data["fingerprint"]:
        raise DataError(
            f"{path} was made for other weights of this architecture, or for the same in another form than {data.get('dtype', 'it says')}",
            hint="load the model in that dtype and without quantising it, or make a calibration for it: permafrost discover",
        )
    if data["status"] != "ok":
        raise Refused(
            f"the calibration in {path} is {data['status']}: it names no layers to use", hint="use more samples, or give the layers"
        )
    return _Named(tuple(sorted(data["C"])), data["k"], data["r"], f"calibration {path.name}", notes)


def shipped_calibrations() -> dict[str, Path]:
    """The calibration files that come with Permafrost, by the name of their model."""
    return {path.stem: path for path in sorted(CALIBRATIONS.glob("*.json"))}


def read_calibration(path: Path) -> Mapping[str, Any]:
    """A calibration file, checked for its form. Layers in it are 0-based.

    Raises: UsageError: if there is no such file (candidates may be mistyped). DataError: if it is no calibration file.
    """
    if not path.is_file():
        raise UsageError(
            f"candidates is {str(path)!r}: neither a calibration file nor one of {', '.join((*RULES, *shipped_calibrations()))}",
            hint="or a list: candidates=[2,4,8]",
        )
    data = read_json(path)
    if not isinstance(data, dict) or data.get("schema") != CALIBRATION_SCHEMA or data.get("method") != "contrastive-attention":
        raise DataError(
            f"{path} is no calibration file of contrastive-attention with schema {CALIBRATION_SCHEMA}", hint="permafrost discover"
        )
    kinds: dict[str, Any] = {
        "fingerprint": str,
        "model_type": str,
        "n_layers": int,
        "C": list,
        "k": (int, type(None)),
        "r": (int, type(None)),
        "status": str,
    }
    for name, kind in kinds.items():
        if name not in data or not isinstance(data[name], kind):
            raise DataError(f"{path} has no usable {name!r}", hint="make it anew: permafrost discover")
    return data


def _no_preset(config: ContrastiveAttentionConfig, backbone: Backbone) -> Refused:
    needed = "candidates, late and review" if config.mode == "mask" else "candidates and late"
    return Refused(
        f"there are no published layers for a {backbone.model_type} with a {backbone.text_type} of {backbone.n_layers} layers",
        hint=f"give {needed}, a calibration file (permafrost discover), or candidates=scaled",
    )


def _check_order(config: ContrastiveAttentionConfig, layers: Layers, n_layers: int) -> None:
    base, hint = layers.base, f"layers are numbered from {layers.base} to {n_layers - 1 + layers.base}"
    if not layers.candidates:
        raise Refused("no layer is left as a candidate before the late layer", hint="give candidates as a list")
    if layers.candidates[-1] >= layers.late:
        raise Refused(
            f"the candidate layer {layers.candidates[-1] + base} does not lie before the late layer {layers.late + base}",
            hint=f"candidates must be smaller than late; {hint}",
        )
    last = layers.late if layers.review is None else layers.review
    if last >= n_layers:
        raise Refused(f"layer {last + base} is beyond the depth of a model with {n_layers} layers", hint=hint)
    if layers.review is not None and layers.late >= layers.review:
        raise Refused(
            f"the late layer {layers.late + base} does not lie before the review layer {layers.review + base}: one pass cannot mask there",
            hint="choose late < review, or mode=crop",
        )
    if config.selection == "fixed" and len(layers.candidates) != 1:
        raise Refused(f"selection=fixed needs one candidate layer, and there are {len(layers.candidates)}", hint="give one: candidates=[8]")
