"""The drawing of a price tag: a card with a hole and a number in digits of our own, the same on every machine."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from evals.bazaar.render import Cutout

_DIGITS = {  # 5 x 7 dots, rows from the top
    "0": "01110 10001 10011 10101 11001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00110 01000 10000 11111",
    "3": "11110 00001 00001 01110 00001 00001 11110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "00110 01000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00010 01100",
}
_OVERSAMPLING = 4
_PAPER, _INK, _RIM = (250, 246, 226), (28, 26, 30), (196, 60, 44)


@lru_cache(maxsize=2048)
def draw_tag(price: int, side: int, ratio: float, angle: float) -> Cutout:
    """A tag of ``side`` x ``side * ratio`` pixels, turned by ``angle`` degrees, in the middle of a square of ``side`` pixels."""
    n = side * _OVERSAMPLING
    height = n * ratio * 0.86
    top = (n - height) / 2
    image = Image.new("RGBA", (n, n), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    edge = max(1, round(n * 0.03))
    card = (n * 0.04, top, n * 0.96, top + height)
    draw.rounded_rectangle(card, radius=height * 0.2, fill=(*_PAPER, 255), outline=(*_RIM, 255), width=edge)
    draw.ellipse((n * 0.09, n * 0.5 - n * 0.035, n * 0.16, n * 0.5 + n * 0.035), fill=(*_RIM, 255))
    dot = height * 0.72 / 7
    text = str(price)
    left = n * 0.57 - (len(text) * 6 - 1) * dot / 2
    for number, digit in enumerate(text):
        for row, bits in enumerate(_DIGITS[digit].split()):
            for column, bit in enumerate(bits):
                if bit == "1":
                    x, y = left + (number * 6 + column) * dot, n * 0.5 + (row - 3.5) * dot
                    draw.rectangle((x, y, x + dot, y + dot), fill=(*_INK, 255))
    image = image.rotate(angle, resample=Image.Resampling.BILINEAR).reduce(_OVERSAMPLING)
    rgba = np.asarray(image, dtype=np.float32)
    alpha = rgba[..., 3] / np.float32(255)
    return Cutout((rgba[..., :3] * alpha[..., None]).astype(np.float32), alpha.astype(np.float32), image.getchannel("A"))
