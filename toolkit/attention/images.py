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
    """The views of every row of ``image_mask`` (B, L). A row whose tokens do not fit to what is known of its images has an empty list.

    Args:
        ids: (B, L), or None; models of Idefics' kind say by tokens between the tiles how these lie.
        vision: image sizes and grids that the model was called with, for the images of the whole batch in order.
    """
    image_mask, ids = image_mask.cpu(), None if ids is None else ids.cpu()
    sizes = _sizes_of_images(config, vision)
    rows: list[list[View]] = []
    start = 0
    for row, mask in enumerate(image_mask):
        positions = mask.nonzero().flatten()
        if sizes is not None:
            images = _images_of_row(sizes[start:], len(positions))
            start += len(images)
        else:
            images = _equal_images(positions, None if ids is None else ids[row], config)
        rows.append(_views(positions, images))
    return rows


@dataclass(frozen=True)
class _Part:
    """Tokens of one image that belong together. ``after_row`` and ``at_end``: newline tokens behind each row, and behind the part."""

    kind: str
    tokens: int
    grid: tuple[int, int] | None
    after_row: int = 0
    at_end: int = 0
    box: tuple[float, float, float, float] | None = WHOLE


_Image = tuple[_Part, ...]


def _views(positions: Tensor, images: list[_Image]) -> list[View]:
    """The views of one row, or none if the images have another number of tokens than the row."""
    if sum(part.tokens for image in images for part in image) != len(positions):
        return []
    views, used = [], 0
    for number, image in enumerate(images):
        for part in image:
            taken = positions[used : used + part.tokens - part.at_end]
            if part.after_row and part.grid is not None:
                taken = taken.view(part.grid[0], part.grid[1] + part.after_row)[:, : part.grid[1]].flatten()
            views.append(View(number, part.kind, taken, part.grid, part.box))
            used += part.tokens
    return views


def _images_of_row(images: list[_Image], tokens: int) -> list[_Image]:
    """The first images, as many as have ``tokens`` tokens."""
    count = 0
    while tokens > 0 and count < len(images):
        tokens -= sum(part.tokens for part in images[count])
        count += 1
    return images[:count]


def _sizes_of_images(config: Any, vision: Mapping[str, Any]) -> list[_Image] | None:
    """The images of the whole batch, for models in which they differ in size; None for the others."""
    if vision.get("image_grid_thw") is not None:
        merge = int(getattr(config.vision_config, "spatial_merge_size", 1))
        return [
            tuple(_Part("whole", height // merge * (width // merge), (height // merge, width // merge)) for _ in range(time))
            for time, height, width in vision["image_grid_thw"].tolist()
        ]
    if vision.get("image_sizes") is None or not getattr(config, "image_grid_pinpoints", None):
        return None
    sizes = vision["image_sizes"].tolist()
    counts = vision["batch_num_images"].tolist() if vision.get("batch_num_images") is not None else [1] * len(sizes)
    tiled = [count == 1 for count in counts for _ in range(count)]  # LLaVA-OneVision: several images are seen at low resolution only
    return [_any_resolution(config, *size, tiled=split) for size, split in zip(sizes, tiled, strict=False)]


def _any_resolution(config: Any, height: int, width: int, *, tiled: bool) -> _Image:
    """LLaVA-NeXT and LLaVA-OneVision: the image as a square, then the image at high resolution without its padding, a newline a row."""
    from transformers.image_processing_utils import select_best_resolution

    side = config.vision_config.image_size // config.vision_config.patch_size
    if not tiled:
        return (_Part("whole", side * side + 1, (side, side), at_end=1),)
    best_height, best_width = select_best_resolution((height, width), config.image_grid_pinpoints)
    rows, columns = best_height // config.vision_config.image_size * side, best_width // config.vision_config.image_size * side
    if width / height > columns / rows:  # as wide as the grid: the padding above and below has been cut
        rows -= 2 * ((rows - int(round(height * (columns / width), 7))) // 2)
    else:
        columns -= 2 * ((columns - int(round(width * (rows / height), 7))) // 2)
    most = str(getattr(config, "vision_aspect_ratio", "")).removeprefix("anyres_max_")
    if most.isdigit():  # LLaVA-OneVision shrinks what has too many tokens
        ratio = math.sqrt(rows * columns / (int(most) * side**2))
        rows, columns = (int(rows // ratio), int(columns // ratio)) if ratio > 1.1 else (rows, columns)
    return _Part("base", side * side, (side, side)), _Part("detail", rows * (columns + 1), (rows, columns), after_row=1)


def _equal_images(positions: Tensor, ids: Tensor | None, config: Any) -> list[_Image]:
    """The images of one row, for models in which each image, or each tile of one, has the same number of tokens."""
    tokens = _tokens_of_a_picture(config)
    if tokens is None or len(positions) % tokens:
        return []
    side = math.isqrt(tokens)
    grid = (side, side) if side * side == tokens and getattr(config, "qformer_config", None) is None else None
    starts = positions[::tokens].tolist()
    if getattr(config, "scale_factor", None):
        groups = _idefics_groups(starts, tokens, ids)
    elif getattr(config, "downsample_ratio", None):  # InternVL: the tiles of an image stand together, and so does its thumbnail
        groups = []
        for start in starts:
            if groups and groups[-1][0][-1] + tokens == start:
                groups[-1][0].append(start)
            else:
                groups.append([[start]])
    else:
        groups = [[[start]] for start in starts]
    return [_tiles(rows, tokens, grid, known=bool(getattr(config, "scale_factor", None))) for rows in groups]


def _tiles(rows: list[list[int]], tokens: int, grid: tuple[int, int] | None, *, known: bool) -> _Image:
    """One image from the rows of its tiles; the last tile of all is the whole image, if there is more than one."""
    if sum(map(len, rows)) == 1:
        return (_Part("whole", tokens, grid),)
    tiles = [(row, column) for row, line in enumerate(rows) for column in range(len(line))][:-1]
    high, wide = tiles[-1][0] + 1, max(column for _, column in tiles) + 1
    known = known and len(tiles) == high * wide
    boxes = [(column / wide, row / high, (column + 1) / wide, (row + 1) / high) if known else None for row, column in tiles]
    return (*(_Part("tile", tokens, grid, box=box) for box in boxes), _Part("base", tokens, grid))


def _idefics_groups(starts: list[int], tokens: int, ids: Tensor | None) -> list[list[list[int]]]:
    """Images -> rows of tiles -> where the tile begins, from what stands between the tiles of Idefics 3 and SmolVLM.

    Tiles of a row have an opening token and their name between them (one token or several: Idefics 3 spells names out); a row ends
    with a newline before these. What follows the whole image begins with its closing token, which is the opening one.
    """
    groups: list[list[list[int]]] = []
    behind = starts[-1] + tokens
    opening = None if ids is None or behind >= len(ids) else int(ids[behind])
    for number, start in enumerate(starts):
        between = [] if number == 0 or ids is None else ids[starts[number - 1] + tokens : start].tolist()
        if not between or (between[0] == opening and between.count(opening) > 1):
            groups.append([[start]])
        elif between[0] == opening:
            groups[-1][-1].append(start)
        else:
            groups[-1].append([start])
    return groups


def _tokens_of_a_picture(config: Any) -> int | None:
    """Tokens of one image, or of one tile."""
    if getattr(config, "qformer_config", None) is not None:
        return int(config.num_query_tokens)
    vision = getattr(config, "vision_config", None)
    size, patch = getattr(vision, "image_size", None), getattr(vision, "patch_size", None)
    if getattr(config, "scale_factor", None) and isinstance(size, int) and isinstance(patch, int):
        return (size // patch) ** 2 // int(config.scale_factor) ** 2
    for name in ("mm_tokens_per_image", "image_seq_length"):
        if isinstance(getattr(config, name, None), int):
            return int(getattr(config, name))
    return (size // patch) ** 2 if isinstance(size, int) and isinstance(patch, int) else None
