"""Thumbnails as data URIs: small, of bounded total size, and never a reason for a report to fail."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PIL import Image as pillow

if TYPE_CHECKING:
    from PIL.Image import Image

EDGE = 112  # px
BUDGET = 1_900_000  # characters of base64 for one page, so that the whole page stays under 3 MB

ImageOf = Callable[[str], "Image"]


@dataclass
class Thumbnails:
    """Makes each thumbnail once, until the budget of the page is spent.

    Attributes:
        images: gives the image of a sample id, or None when there are no images at hand.
        left: characters that may still be spent.
        problems: why an image is missing, one sentence per id; each was shown as an empty frame.
    """

    images: ImageOf | None
    left: int = BUDGET
    problems: dict[str, str] = field(default_factory=dict)
    made: dict[str, str | None] = field(default_factory=dict)

    def uri(self, sample_id: str) -> str | None:
        """The data URI of a sample's thumbnail, or None if it has no image (the reason goes to ``problems``)."""
        if self.images is None:
            return None
        if sample_id not in self.made:
            self.made[sample_id] = self._make(sample_id, self.images)
        return self.made[sample_id]

    def picture(self, image: Image) -> str | None:
        """The data URI of a picture that was drawn for this page, or None when the budget is spent."""
        uri = encode(image)
        if len(uri) > self.left:
            return None
        self.left -= len(uri)
        return uri

    def _make(self, sample_id: str, images: ImageOf) -> str | None:
        try:
            uri = encode(images(sample_id))
        except Exception as error:  # whatever a data source raises, one missing picture must not cost the report
            self.problems[sample_id] = f"{type(error).__name__}: {error}"
            return None
        if len(uri) > self.left:
            self.problems[sample_id] = "left out to keep the page small"
            return None
        self.left -= len(uri)
        return uri


def encode(image: Image, edge: int = EDGE) -> str:
    """A WebP data URI of ``image`` at most ``edge`` px wide and high; smaller images keep their pixels (the page enlarges them).

    Raises: TypeError: if it is not a PIL image.
    """
    if not isinstance(image, pillow.Image):
        raise TypeError(f"expected a PIL image, got {type(image).__name__}")
    small = image.convert("RGB")
    small.thumbnail((edge, edge), pillow.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=78, method=4)  # no EXIF, no ICC: nothing but the pixels leaves the data set
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
