"""Which token shows which part of which image, against the code of the models and processors that lay them out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import tiny_mllm
from tests.attention_cases import WITH_IMAGE_TOKENS, inputs_of, model_of
from toolkit.attention import AttentionSession, View
from toolkit.attention.images import views_of_row

GRIDS = {
    "llava_next": [("base", (6, 6)), ("detail", (6, 12))], "llava_onevision": [("base", (6, 6)), ("detail", (6, 12))],
    "qwen2_vl": [("whole", (3, 4))], "qwen2_5_vl": [("whole", (3, 4))], "qwen3_vl": [("whole", (3, 4))], "internvl": [("whole", (3, 3))],
    "smolvlm": [("whole", (3, 3))], "idefics3": [("whole", (3, 3))], "gemma3": [("whole", (3, 3))], "instructblip": [("whole", None)],
}  # fmt: skip


# InstructBLIP takes one image a prompt, and InternVL's processor never puts two side by side: they would look like tiles of one.
CASES = [(family, images) for family in WITH_IMAGE_TOKENS for images in (1, 2) if images == 1 or family not in ("internvl", "instructblip")]


@pytest.mark.parametrize(("family", "images"), CASES)
def test_views_of_every_family(family: str, images: int) -> None:
    model, inputs = model_of(family), inputs_of(family, 2, "left", images=images)
    with torch.no_grad(), AttentionSession(model) as session:
        model(**inputs)
    assert session.prefill is not None
    expected = GRIDS.get(family, [("whole", (6, 6))])
    for row, views in enumerate(session.prefill.views):
        assert [(view.image, view.kind, view.grid) for view in views] == [(image, *view) for image in range(images) for view in expected]
        shown = torch.cat([view.positions for view in views])
        assert set(shown.tolist()) <= set(session.prefill.image_mask[row].nonzero().flatten().tolist())
        assert len(set(shown.tolist())) == len(shown)
        for view in views:
            assert view.grid is None or len(view.positions) == view.grid[0] * view.grid[1]


@pytest.mark.parametrize("size", [(48, 96), (96, 48), (60, 96), (96, 60), (50, 50), (30, 200), (200, 31), (77, 53), (48, 48)])
@pytest.mark.parametrize("family", ["llava_next", "llava_onevision"])
def test_any_resolution_grids_are_those_that_the_model_packs(family: str, size: tuple[int, int]) -> None:
    """The model itself lays out numbered patches; each position of the detail grid must hold the patch of its place."""
    model = model_of(family).model
    config = model.config
    parts = config.image_grid_pinpoints
    from transformers.image_processing_utils import select_best_resolution

    height, width = select_best_resolution(size, parts)
    tiles = (height // 48) * (width // 48)
    patches = torch.arange((tiles + 1) * 36, dtype=torch.float32).view(1, tiles + 1, 36, 1)
    newline = torch.full((1,), -1.0)
    options = {"vision_aspect_ratio": "anyres_max_9"} if family == "llava_onevision" else {"vision_feature_select_strategy": "full"}
    packed = model.pack_image_features([patches[0]], torch.tensor([size]), image_newline=newline, **options)[0][0].flatten()
    mask = torch.ones(1, len(packed), dtype=torch.bool)
    (views,) = views_of_row(mask, None, config, {"image_sizes": torch.tensor([size])})
    base, detail = views
    assert packed[base.positions].tolist() == list(range(36))
    assert detail.grid is not None
    grid = packed[detail.positions].view(detail.grid)
    assert (grid >= 36).all()  # no newline, no base
    assert (grid.diff(dim=1) > 0).all()
    assert (grid.diff(dim=0) > 0).all()
    assert len(base.positions) + len(detail.positions) + detail.grid[0] == len(packed)


def test_several_images_of_different_size_are_counted_over_the_batch() -> None:
    config = model_of("qwen2_vl").config
    grids = torch.tensor([[1, 4, 6], [1, 2, 2], [1, 8, 4]])
    mask = torch.zeros(2, 20, dtype=torch.bool)
    mask[0, 1:7] = True
    mask[0, 9:10] = True
    mask[1, 5:13] = True
    first, second = views_of_row(mask, None, config, {"image_grid_thw": grids})
    assert [(view.image, view.grid, view.positions.tolist()) for view in first] == [(0, (2, 3), [1, 2, 3, 4, 5, 6]), (1, (1, 1), [9])]
    assert [(view.image, view.grid) for view in second] == [(0, (4, 2))]


def test_tokens_that_fit_to_no_grid_give_no_views() -> None:
    mask = torch.ones(1, 35, dtype=torch.bool)
    assert views_of_row(mask, None, model_of("llava").config, {}) == [[]]
    assert views_of_row(mask, None, model_of("qwen2_vl").config, {"image_grid_thw": torch.tensor([[1, 4, 6]])}) == [[]]
    assert views_of_row(torch.zeros(1, 5, dtype=torch.bool), None, model_of("llava").config, {}) == [[]]


def idefics_ids(images: list[tuple[int, int]], per_tile: int, gap: list[int]) -> Tensor:
    """Token ids as the processor writes them: its own prompt string, one id for each kind of piece."""
    import re

    from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

    text = "".join(
        "".join(f"[{word}]" for word in gap)
        + get_image_prompt_string(
            rows, columns, per_tile, fake_token_around_image="<fake>", image_token="<image>", global_image_token="<global>"
        )
        for rows, columns in images
    )
    known: dict[str, int] = {"<image>": tiny_mllm.IMAGE}
    pieces = re.findall(r"<[^>]*>|\[\d+\]|\n+", text)
    return torch.tensor([[known.setdefault(piece, 20 + len(known)) for piece in pieces] + [300, 301]])


@pytest.mark.parametrize("gap", [[], [7], [7, 8, 9]])
@pytest.mark.parametrize("images", [[(0, 0)], [(2, 3)], [(1, 2), (0, 0)], [(3, 1), (2, 2)], [(0, 0), (0, 0), (4, 4)]])
@pytest.mark.parametrize("family", ["idefics3", "smolvlm"])
def test_tiles_of_idefics_lie_as_the_processor_says(family: str, images: list[tuple[int, int]], gap: list[int]) -> None:
    config = model_of(family).config
    ids = idefics_ids(images, 9, gap)
    (views,) = views_of_row(ids == tiny_mllm.IMAGE, ids, config, {})
    expected: list[tuple[int, str, Any]] = []
    for number, (rows, columns) in enumerate(images):
        if rows == 0:
            expected.append((number, "whole", (0, 0, 1, 1)))
            continue
        for row in range(rows):
            expected += [(number, "tile", (c / columns, row / rows, (c + 1) / columns, (row + 1) / rows)) for c in range(columns)]
        expected.append((number, "base", (0, 0, 1, 1)))
    assert [(view.image, view.kind, view.box) for view in views] == expected
    assert all(view.grid == (3, 3) and len(view.positions) == 9 for view in views)


def test_tiles_of_internvl_stand_together_and_do_not_say_where_they_lie() -> None:
    config = model_of("internvl").config
    mask = torch.zeros(1, 60, dtype=torch.bool)
    mask[0, 2:29] = True  # two tiles and the thumbnail
    mask[0, 40:49] = True  # an image of one tile
    (views,) = views_of_row(mask, None, config, {})
    assert [(view.image, view.kind, view.box) for view in views] == [
        (0, "tile", None), (0, "tile", None), (0, "base", (0, 0, 1, 1)), (1, "whole", (0, 0, 1, 1)),
    ]  # fmt: skip


def test_images_of_a_fixed_size_that_stand_side_by_side() -> None:
    (views,) = views_of_row(torch.ones(1, 72, dtype=torch.bool), None, model_of("llava").config, {})
    assert [(view.image, view.kind, view.grid) for view in views] == [(0, "whole", (6, 6)), (1, "whole", (6, 6))]
    assert isinstance(views[0], View)


def test_a_model_without_a_known_number_of_tokens_has_no_views() -> None:
    assert views_of_row(torch.ones(1, 4, dtype=torch.bool), None, SimpleNamespace(), {}) == [[]]
