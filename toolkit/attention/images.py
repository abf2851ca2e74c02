"""Where the tokens of images stand in a prompt, and which part of which image each of them shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["View", "image_token_id", "views_of_row"]


@dataclass(frozen=True)
class View:
    """One picture as the model sees it.

    Attributes:
        image: which image of the row, from 0.
        kind: "whole" (the only view of its image), "base" (the whole image at low resolution), "detail" (the whole image at high
            resolution) or "tile" (a part of it).
        positions: (n,) long, key positions of its tokens, row by row where there is a grid. Newline tokens are left out.
        grid: (rows, columns) of the tokens, or None: queries of a resampler have no place in the picture.
        box: (left, top, right, bottom) of the picture that the image processor made, as fractions, or None where inputs do not tell.
    """

    image: int
    kind: str
    positions: Tensor
    grid: tuple[int, int] | None
    box: tuple[float, float, float, float] | None


WHOLE = (0.0, 0.0, 1.0, 1.0)


def image_token_id(config: Any) -> int | None:
    """The id of the placeholder of images, or None for a model without one."""
    for name in ("image_token_id", "image_token_index"):
        token = getattr(config, name, None)
        if isinstance(token, int):
            return token
    return None


def views_of_row(image_mask: Tensor, ids: Tensor | None, config: Any, vision: Mapping[str, Any]) -> list[list[View]]:
    """The views of every row of ``image_mask`` (B, L). A row whose tokens do not fit to what is known of its images has an empty list."""
    sizes = _sizes(config, vision)
    rows: list[list[View]] = []
    start = 0
    for mask in image_mask.cpu():
        positions = mask.nonzero().flatten()
        views, start = _split(positions, sizes, start)
        rows.append(views)
    return rows


@dataclass(frozen=True)
class _Part:
    kind: str
    tokens: int
    grid: tuple[int, int] | None
    newline: bool = False


def _sizes(config: Any, vision: Mapping[str, Any]) -> tuple[list[tuple[_Part, ...]] | None, _Part | None]:
    """The parts of every image of the batch in order, or the one part that all images have."""
    if vision.get("image_grid_thw") is not None:
        merge = int(getattr(config.vision_config, "spatial_merge_size", 1))
        return [
            tuple(_Part("whole", height // merge * (width // merge), (height // merge, width // merge)) for _ in range(time))
            for time, height, width in vision["image_grid_thw"].tolist()
        ], None
    if vision.get("image_sizes") is not None and getattr(config, "image_grid_pinpoints", None):
        return [_any_resolution(config, int(height), int(width)) for height, width in vision["image_sizes"].tolist()], None
    tokens = _tokens_of_an_image(config)
    if tokens is None:
        return None, None
    side = math.isqrt(tokens)
    grid = (side, side) if side * side == tokens and getattr(config, "qformer_config", None) is None else None
    return None, _Part("whole", tokens, grid)


def _tokens_of_an_image(config: Any) -> int | None:
    """Tokens of one image, or of one tile."""
    if getattr(config, "qformer_config", None) is not None:
        return int(config.num_query_tokens)
    if getattr(config, "scale_factor", None) and getattr(config, "vision_config", None) is not None:
        return int((config.vision_config.image_size // config.vision_config.patch_size) ** 2 // config.scale_factor**2)
    for name in ("mm_tokens_per_image", "image_seq_length"):
        if isinstance(getattr(config, name, None), int):
            return int(getattr(config, name))
    vision = getattr(config, "vision_config", None)
    size, patch = getattr(vision, "image_size", None), getattr(vision, "patch_size", None)
    return (size // patch) ** 2 if isinstance(size, int) and isinstance(patch, int) else None


def _any_resolution(config: Any, height: int, width: int) -> tuple[_Part, ...]:
    """LLaVA-NeXT and LLaVA-OneVision: the image as a square, then the image at high resolution without its padding, a newline a row."""
    from transformers.image_processing_utils import select_best_resolution

    side = config.vision_config.image_size // config.vision_config.patch_size
    best_height, best_width = select_best_resolution((height, width), config.image_grid_pinpoints)
    rows, columns = best_height // config.vision_config.image_size * side, best_width // config.vision_config.image_size * side
    if width / height > columns / rows:  # as wide as the grid: padding above and below is cut
        kept = round(height * (columns / width), 7)
        rows -= 2 * ((rows - int(kept)) // 2)
    else:
        kept = round(width * (rows / height), 7)
        columns -= 2 * ((columns - int(kept)) // 2)
    aspect = getattr(config, "vision_aspect_ratio", "")
    if aspect.startswith("anyres_max_"):
        ratio = math.sqrt(rows * columns / (int(aspect.removeprefix("anyres_max_")) * side**2))
        if ratio > 1.1:
            rows, columns = int(rows // ratio), int(columns // ratio)
    return _Part("base", side * side, (side, side)), _Part("detail", rows * (columns + 1), (rows, columns), newline=True)


def _split(positions: Tensor, sizes: tuple[list[tuple[_Part, ...]] | None, _Part | None], start: int) -> tuple[list[View], int]:
    """The views of one row, and the number of the first image that belongs to the next row."""
    images, part = sizes
    total = len(positions)
    if images is None:
        if part is None or total % part.tokens:
            return [], start
        images, start = [(part,)] * (total // part.tokens), 0
    views: list[View] = []
    used = image = 0
    while used < total and start + image < len(images):
        for piece in images[start + image]:
            taken = positions[used : used + piece.tokens]
            if len(taken) < piece.tokens:
                return [], start + image + 1
            if piece.newline and piece.grid is not None:
                taken = taken.view(piece.grid[0], piece.grid[1] + 1)[:, :-1].flatten()
            views.append(View(image, piece.kind, taken, piece.grid, WHOLE))
            used += piece.tokens
        image += 1
    return (views if used == total else []), start + image
