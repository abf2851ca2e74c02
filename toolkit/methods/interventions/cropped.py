"""A region of an image as an image of its own, and which part of a picture a model gets to see."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.regions import WHOLE, Box, pixel_box
from toolkit.types import ImageSource

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["CroppedImage", "placed", "visible_box"]


@dataclass(frozen=True)
class CroppedImage:
    """The part ``box`` (fractions of the sides) of another image. Nothing is decoded before it is asked for."""

    source: ImageSource
    box: Box

    @property
    def name(self) -> str:
        return f"{self.source.name} [{', '.join(f'{side:.3f}' for side in self.box)}]"

    def content_id(self) -> str:
        """sha256 of the content of the source and the box. Raises: ImageError."""
        return hashlib.sha256(f"crop:{self.box}:{self.source.content_id()}".encode()).hexdigest()

    def load(self) -> Image:
        """The region as RGB. Raises: ImageError: if the source cannot be read."""
        image = self.source.load()
        return image.crop(pixel_box(self.box, image.size))


def visible_box(processor: Any, size: tuple[int, int]) -> Box:
    """The part of an image of ``size`` (width, height) that the model's picture of it shows, in fractions of the image.

    LLaVA-1.5 cuts the middle square out of an image; its tokens show that square and nothing else. A processor that pads an image
    to a square shows more than the image: the box then reaches beyond 0 and 1.

    Args:
        processor: a processor or image processor of transformers. What it does is told from its settings.

    >>> from types import SimpleNamespace
    >>> clip = SimpleNamespace(do_center_crop=True, do_resize=True, size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    >>> visible_box(clip, (672, 336))
    (0.25, 0.0, 0.75, 1.0)
    """
    images = getattr(processor, "image_processor", processor)
    width, height = size
    if getattr(images, "image_grid_pinpoints", None):
        return WHOLE  # any-resolution models squeeze the whole image into their base view and cut their padding off
    if getattr(images, "do_center_crop", False):
        target, crop = dict(images.size), dict(images.crop_size)
        if "shortest_edge" not in target or not getattr(images, "do_resize", True):
            return WHOLE
        scale = target["shortest_edge"] / min(width, height)
        wide, high = crop["width"] / (width * scale), crop["height"] / (height * scale)
        return (1 - wide) / 2, (1 - high) / 2, (1 + wide) / 2, (1 + high) / 2
    if type(images).__name__.startswith("Llava") and getattr(images, "do_pad", False):
        side = max(width, height)
        across, down = (side / width - 1) / 2, (side / height - 1) / 2
        return -across, -down, 1 + across, 1 + down
    return WHOLE


def placed(box: Box, visible: Box) -> Box:
    """A box in the model's picture as a box in the image itself.

    >>> placed((0.0, 0.0, 0.5, 1.0), (0.25, 0.0, 0.75, 1.0))
    (0.25, 0.0, 0.5, 1.0)
    """
    left, top, right, bottom = visible
    width, height = right - left, bottom - top
    return left + box[0] * width, top + box[1] * height, left + box[2] * width, top + box[3] * height


def clipped(box: Box) -> Box:
    """The part of a box that lies in the image."""
    return max(box[0], 0.0), max(box[1], 0.0), min(box[2], 1.0), min(box[3], 1.0)
