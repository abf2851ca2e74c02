"""A photo of an item as an ``ImageSource``: a recipe of a few numbers, drawn when it is asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

# The modules whose source decides on pixels.
DRAWING = (
    "backdrop", "canvas", "damage", "defects", "geometry", "goods_gadgets", "goods_home", "items", "lines", "render", "shapes_accessories",
    "scene", "shapes_carry", "shapes_gadgets", "shapes_home", "shapes_wear", "streams", "surface", "tag", "vocabulary", "world",
)  # fmt: skip


@lru_cache(maxsize=1)
def renderer_version() -> str:
    """sha256 (hex) of the source of the drawing modules: any change of the drawing changes it."""
    digest = hashlib.sha256()
    for name in DRAWING:
        source = files("evals.bazaar").joinpath(f"{name}.py").read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{name}:{len(source)}:".encode() + source)
    return digest.hexdigest()


@dataclass(frozen=True)
class RenderedImage:
    """Photo ``view`` of item ``index`` of marketplace ``seed``, ``size`` pixels wide and high."""

    index: int
    seed: int = 0
    size: int = 96
    view: int = 0

    @property
    def name(self) -> str:
        """``bazaar:<seed>:<index>:<view>``."""
        return f"bazaar:{self.seed}:{self.index}:{self.view}"

    def content_id(self) -> str:
        """sha256 (hex) of the renderer's version and the four numbers; nothing is drawn."""
        return hashlib.sha256(f"{renderer_version()}:{self.seed}:{self.index}:{self.size}:{self.view}".encode()).hexdigest()

    def load(self) -> Image:
        """The photo as an RGB image."""
        from PIL import Image as pillow

        from evals.bazaar.items import item
        from evals.bazaar.render import render

        return pillow.fromarray(render(item(self.index, self.seed), self.size, self.view))
