"""From rows of attention to the decision about one prompt: i*, maps, contrast and masked tokens. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toolkit.attention import View
from toolkit.errors import Refused, UsageError
from toolkit.methods.interventions.contrast import (
    contrast,
    distribution,
    hellinger,
    masked_tokens,
    merge_heads,
    pre_integrated_layer,
    value_map,
)
from toolkit.methods.interventions.contrastive_attention_config import ContrastiveAttentionConfig
from toolkit.methods.interventions.contrastive_attention_layers import Layers
from toolkit.regions import WHOLE, HeatGrid, merge_grids
from toolkit.types import JSON

__all__ = ["Decision", "decide", "scope_groups"]


@dataclass(frozen=True)
class Decision:
    """What was found about one prompt. Tensors have one entry for each of the V image tokens, in the order of the prompt.

    Attributes:
        layers: which were read.
        distances: candidate i -> H(P(i), P(k)).
        pre: i*.
        positions: (V,) long, key positions of the image tokens.
        early, late: (V,) float, A(i*) and A(k); 0 outside of the image scope.
        importance: (V,) float, the contrast I; 0 outside of the image scope.
        masked: (V,) bool.
        views: the pictures as the model sees them; empty where that is not known.
    """

    layers: Layers
    distances: Mapping[int, float]
    pre: int
    positions: Tensor
    early: Tensor
    late: Tensor
    importance: Tensor
    masked: Tensor
    views: Sequence[View]

    @property
    def images(self) -> int:
        """How many images the prompt has; 0 where that is not known."""
        return len({view.image for view in self.views})

    @property
    def placed_views(self) -> list[View]:
        """The views whose place in the picture is known. Of tiles some models do not tell it; the whole image is always among the views."""
        return [view for view in self.views if view.box is not None]

    def grids(self, values: Tensor, image: int = 0, kinds: Sequence[str] | None = None) -> list[HeatGrid]:
        """The views of one image as grids of ``values`` (V,), for drawing and cropping. Raises: Refused: if a view has no grid."""
        chosen = [view for view in self.placed_views if view.image == image and (kinds is None or view.kind in kinds)]
        if not chosen or any(view.grid is None for view in chosen):
            raise Refused(
                "the image tokens of this model have no place in the picture, or their grid is not known",
                hint="mode=mask needs no grid; or use a model whose tokens are patches",
            )
        places = self.positions.cpu()
        grids = []
        for view in chosen:
            index = torch.searchsorted(places, view.positions.cpu())
            grids.append(HeatGrid(values.detach().cpu().float()[index].reshape(view.grid or ()).numpy(), view.box or WHOLE))
        return grids

    def heat(self, image: int = 0) -> np.ndarray:
        """(rows, columns): the contrast over the picture of one image, all of its views added up. Raises: Refused: without a grid."""
        return merge_grids(self.grids(self.importance, image))

    def maps(self) -> list[dict[str, JSON]]:
        """For records: every placed view with its grid and box; early, late, contrast and masked row by row (five digits)."""
        places = self.positions.cpu()
        early, late, importance = (values.detach().cpu().float() for values in (self.early, self.late, self.importance))
        masked, rows = self.masked.cpu(), []
        for view in self.placed_views:
            index = torch.searchsorted(places, view.positions.cpu())
            row: dict[str, JSON] = {"image": view.image, "kind": view.kind, "grid": None if view.grid is None else list(view.grid)}
            row |= {"box": list(view.box or WHOLE), "early": _digits(early[index]), "late": _digits(late[index])}
            rows.append(row | {"contrast": _digits(importance[index]), "masked": masked[index].nonzero().flatten().tolist()})
        return rows

    def record(self) -> dict[str, JSON]:
        """What every result says about this prompt; numbers only."""
        return {
            "layers": self.layers.record(),
            "i_star": self.pre,
            "hellinger": {str(layer): float(f"{value:.7g}") for layer, value in self.distances.items()},
            "image_tokens": len(self.positions),
            "images": [int(sum(len(v.positions) for v in self.views if v.image == i)) for i in range(self.images)],
            "masked": int(self.masked.sum()),
        }


def _digits(values: Tensor) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]


def scope_groups(positions: Tensor, views: Sequence[View], scope: str) -> list[Tensor]:
    """The image tokens that make one distribution, as indices into ``positions``: one group, or one for each view.

    Args:
        positions: (V,) long, ascending key positions of all image tokens.
        scope: "all" of them, "base_view" (whole images and base views), "per_view".
    Raises: Refused: if the views are not known.
    """
    if scope == "all":
        return [torch.arange(len(positions), device=positions.device)]
    if not views:
        raise Refused(f"image_scope={scope} needs to know which token belongs to which view, and this prompt does not tell", hint="use all")
    kinds = ("whole", "base") if scope == "base_view" else None
    groups = [
        torch.searchsorted(positions, view.positions.to(positions.device).sort().values)
        for view in views
        if kinds is None or view.kind in kinds
    ]
    if not groups:
        raise Refused("no view of this prompt shows a whole image", hint="use image_scope=all or per_view")
    return [torch.cat(groups).sort().values] if scope == "base_view" else groups


@dataclass(frozen=True)
class _Measured:
    attention: Mapping[int, Tensor]  # layer -> (H, V)
    positions: Tensor
    groups: list[Tensor]
    views: Sequence[View]
    distances: Tensor  # (C,)


def decide(
    rows: Mapping[int, Tensor],
    image_mask: Tensor,
    views: Sequence[Sequence[View]],
    config: ContrastiveAttentionConfig,
    layers: Layers,
) -> list[Decision | None]:
    """The decisions about the prompts of a batch. Each depends on its own prompt alone, unless ``selection`` is "per_batch".

    Args:
        rows: layer -> (B, H, L) float32, the attention of the query to every position.
        image_mask: (B, L) bool, where image tokens stand.
        views: for every prompt, the pictures that it holds.
    Returns: None for a prompt without image tokens.
    Raises: UsageError, Refused: for heads that do not exist, or views that are not known.
    Source: arXiv 2601.08151, the choice of the pre-integrated layer and the contrast; options as in ``ContrastiveAttentionConfig``.
    """
    measured = [_measure(rows, mask, views[row], row, config, layers) for row, mask in enumerate(image_mask)]
    found = [each for each in measured if each is not None]
    if not found:
        return [None] * len(measured)
    # One transfer for the whole batch.
    table = iter(torch.stack([each.distances for each in found]).tolist())
    distances = [dict(zip(layers.candidates, next(table), strict=True)) if each is not None else None for each in measured]
    if config.selection == "per_batch":
        known = [each for each in distances if each is not None]
        shared = pre_integrated_layer({layer: sum(each[layer] for each in known) / len(known) for layer in layers.candidates})
    decisions: list[Decision | None] = []
    for each, distance in zip(measured, distances, strict=True):
        if each is None or distance is None:
            decisions.append(None)
            continue
        pre = shared if config.selection == "per_batch" else pre_integrated_layer(distance)
        decisions.append(_decision(each, distance, pre, config, layers))
    return decisions


def heads_of(config: ContrastiveAttentionConfig, layer: int) -> Any:
    """What ``heads`` says about one layer (counted from 0)."""
    if isinstance(config.heads, Mapping):
        return config.heads.get(str(layer + config.layer_base), "mean")
    return config.heads


def _measure(
    rows: Mapping[int, Tensor], mask: Tensor, views: Sequence[View], row: int, config: ContrastiveAttentionConfig, layers: Layers
) -> _Measured | None:
    positions = mask.nonzero().flatten()
    if not len(positions):
        return None
    device = rows[layers.late].device
    attention = {layer: rows[layer][row][:, positions.to(rows[layer].device)].to(device) for layer in layers.read}
    positions = positions.to(device)
    groups = scope_groups(positions, views, config.image_scope)
    merged = torch.stack([_merge(attention[layer], config, layer) for layer in layers.read])
    distances = []
    for group in groups:
        p = distribution(merged[:, group])
        distances.append(hellinger(p[:-1], p[-1]))
    return _Measured(attention, positions, groups, views, torch.stack(distances).mean(dim=0))


def _merge(attention: Tensor, config: ContrastiveAttentionConfig, layer: int) -> Tensor:
    try:
        return merge_heads(attention, heads_of(config, layer))
    except UsageError as error:
        raise Refused(f"layer {layer + config.layer_base}: {error}", hint=error.hint) from None


def _decision(each: _Measured, distance: Mapping[int, float], pre: int, config: ContrastiveAttentionConfig, layers: Layers) -> Decision:
    early = torch.zeros(len(each.positions), device=each.positions.device)
    late, importance = early.clone(), early.clone()
    masked = torch.zeros_like(early, dtype=torch.bool)
    normalise = str(config.normalise)
    for group in each.groups:
        early[group] = value_map(each.attention[pre][:, group], normalise, heads_of(config, pre))
        late[group] = value_map(each.attention[layers.late][:, group], normalise, heads_of(config, layers.late))
        importance[group] = contrast(late[group], early[group], config.contrast_kind)
        if config.mode != "crop":
            masked[group] = masked_tokens(importance[group], float(config.rho or 0))
    return Decision(layers, distance, pre, each.positions, early, late, importance, masked, each.views)
