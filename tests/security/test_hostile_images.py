"""Images are the project's most foreign input: whatever the bytes are, the answer is an RGB image or one sentence, soon and cheaply."""

from __future__ import annotations

import io
import os
import resource
import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from toolkit import images
from toolkit.errors import ImageError
from toolkit.images import BytesImage, FileImage, open_image

HUGE = 14_000


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def png_bomb() -> bytes:
    """588 MB of black pixels in 0.6 MB."""
    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * HUGE)
    return png(HUGE, HUGE, b"".join(packer.compress(row) for _ in range(HUGE)) + packer.flush())


def forged(kind: str, width: int, height: int) -> bytes:
    """A small image whose header claims another size."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8))
    if kind == "PNG":
        return png(width, height, zlib.compress(bytes(16 * (1 + 3 * 16))))
    if kind == "WEBP VP8L":
        data = bytearray(encode(noise, "WEBP", lossless=True))
        struct.pack_into("<I", data, 21, (width - 1) | (height - 1) << 14 | struct.unpack_from("<I", data, 21)[0] & 0xF0000000)
        return bytes(data)
    if kind == "WEBP VP8":
        data = bytearray(encode(noise, "WEBP"))
        struct.pack_into("<HH", data, 26, width, height)
        return bytes(data)
    if kind == "WEBP VP8X":
        exif = Image.Exif()
        exif[0x0112] = 1
        data = bytearray(encode(noise, "WEBP", exif=exif))
        assert data[12:16] == b"VP8X"
        data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        return bytes(data)
    if kind.startswith("BMP"):
        data = bytearray(encode(noise, "BMP"))
        struct.pack_into("<ii", data, 18, width, -height if kind == "BMP top down" else height)
        return bytes(data)
    data = bytearray(encode(noise, "JPEG", comment=b"\xff\xc0 not a frame header" * 100))
    place = data.index(b"\xff\xc0\x00\x11")
    struct.pack_into(">HH", data, place + 5, height, width)
    return bytes(data)


KINDS = ["PNG", "JPEG", "WEBP VP8L", "WEBP VP8", "WEBP VP8X", "BMP", "BMP top down"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_checked_from_the_header(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = forged(kind, HUGE, HUGE - 1)
        start = time.process_time()
        with pytest.raises(ImageError, match=r"14,000 x 13,999 pixels; at most 50,000,000 are accepted"):
            open_image(data)
        assert time.process_time() - start < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_is_exact(kind: str) -> None:
    honest = forged(kind, 16, 16)
    assert open_image(honest, max_pixels=256).size == (16, 16)
    with pytest.raises(ImageError, match="at most 255"):
        open_image(honest, max_pixels=255)


def test_a_png_bomb_takes_neither_time_nor_memory(tmp_path: Path) -> None:
    place = tmp_path / "bomb.png"
    place.write_bytes(png_bomb())
    code = f"""
import resource, time
from toolkit.images import FileImage
from toolkit.errors import ImageError
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    FileImage({str(place)!r}).load()
except ImageError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.process_time() - start)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    kibibytes, seconds = (float(word) for word in done.stdout.split())
    scale = 1 / 1024 if sys.platform == "darwin" else 1
    assert kibibytes * scale < 10_000
    assert seconds < 0.05


def test_a_header_that_promises_more_than_there_is_costs_nothing() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for kind in KINDS:
        with pytest.raises(ImageError):
            open_image(forged(kind, 60_000, 60_000) if "WEBP" not in kind else forged(kind, 16_000, 16_000))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 50_000 * (1024 if sys.platform == "darwin" else 1)


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_images_without_pixels_are_refused(size: tuple[int, int]) -> None:
    for kind in ("PNG", "JPEG", "BMP"):
        with pytest.raises(ImageError, match="has no pixels"):
            open_image(forged(kind, *size))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b"just a text, saved as photo.jpg\n", "is a text"),
        (b"<!DOCTYPE html><html>404</html>", "is an SVG, XML or HTML text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
        (b"%PDF-1.7 ...", "is a PDF document"),
        (b"II*\0" + bytes(40), "is a TIFF image"),
        (b"\0\0\0\x20ftypheic" + bytes(40), "is a HEIC or AVIF image"),
        (b"\0\0\0\x20ftypmp42" + bytes(40), "is a video"),
        (bytes(range(128, 192)), "is of an unknown format"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_named(tmp_path: Path, data: bytes, what: str) -> None:
    place = tmp_path / "photo.jpg"
    place.write_bytes(data)
    with pytest.raises(ImageError, match="photo.jpg " + what) as caught:
        FileImage(place).load()
    assert "accepted are JPEG, PNG, WEBP and BMP" in str(caught.value)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "ICO", "PPM", "TGA", "PCX", "JPEG2000", "SGI", "DDS"])
def test_every_other_format_of_the_decoder_is_refused(kind: str) -> None:
    picture = Image.new("RGB", (8, 8), "red")
    with pytest.raises(ImageError, match="accepted are JPEG, PNG, WEBP and BMP"):
        open_image(encode(picture, kind))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_animated_images_are_refused_in_one_sentence(kind: str) -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    with pytest.raises(ImageError, match="is a GIF image" if kind == "GIF" else f"is an animated {kind} image"):
        open_image(encode(first, kind, save_all=True, append_images=[second]))


NOISE = Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 30, 3), dtype=np.uint8))
WHOLE = {
    "JPEG": encode(NOISE, "JPEG"),
    "progressive JPEG": encode(NOISE, "JPEG", progressive=True),
    "PNG": encode(NOISE, "PNG"),
    "WEBP": encode(NOISE, "WEBP"),
    "WEBP lossless": encode(NOISE, "WEBP", lossless=True),
    "BMP": encode(NOISE, "BMP"),
    "palette PNG": encode(NOISE.convert("P"), "PNG", transparency=3),
    "grey 16-bit PNG": encode(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(40, 30)), "PNG"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_truncated_files_are_refused_wherever_they_end(kind: str) -> None:
    data = WHOLE[kind]
    assert open_image(data).size == (30, 40)
    for end in [*range(64), *range(64, len(data) - 20, max(1, len(data) // 50))]:
        with pytest.raises(ImageError):
            open_image(data[:end])


def opened_or_sentence(data: bytes) -> Image.Image | str:
    try:
        return open_image(data, max_pixels=1_000_000)
    except ImageError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(sorted(WHOLE)),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=6)), min_size=1, max_size=4),
)
def test_damaged_files_give_an_image_or_an_image_error(kind: str, changes: list[tuple[float, bytes]]) -> None:
    data = bytearray(WHOLE[kind])
    for where, piece in changes:
        place = int(where * (len(data) - 1))
        data[place : place + len(piece)] = piece
    outcome = opened_or_sentence(bytes(data))
    if isinstance(outcome, str):
        assert "\n" not in outcome
        assert " at 0x" not in outcome
    else:
        assert outcome.mode == "RGB"
        assert outcome.size[0] * outcome.size[1] <= 1_000_000


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8X", b"BM"]))
def test_garbage_gives_an_image_error(data: bytes, magic: bytes) -> None:
    with pytest.raises(ImageError):
        open_image(magic + data, max_pixels=10_000)


def test_a_decompression_bomb_in_the_colour_profile_is_refused() -> None:
    profile = b"icc\0\0" + zlib.compress(bytes(50_000_000))
    data = WHOLE["PNG"]
    with pytest.raises(ImageError):
        open_image(data[:33] + chunk(b"iCCP", profile) + data[33:])


def test_files_that_are_no_files_do_not_block(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for step in (FileImage.load, FileImage.content_id):
        with pytest.raises(ImageError, match="is not a file"):
            step(FileImage(pipe))
    with pytest.raises(ImageError, match="is not a file"):
        open_image("/dev/zero")
    with pytest.raises(ImageError, match="cannot read"):
        open_image("a\0b.png")


def test_a_file_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    place = tmp_path / "endless.webp"
    with open(place, "wb") as file:
        file.write(WHOLE["WEBP"])
        file.truncate(images.MAX_FILE_BYTES + 1)  # sparse: it takes no room on the disk
    with pytest.raises(ImageError, match="images of at most"):
        FileImage(place).load()


def test_the_decoders_own_limits_stay_as_they_are() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    for data in WHOLE.values():
        BytesImage(data).load()
    with pytest.raises(ImageError):
        open_image(forged("PNG", HUGE, HUGE))
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before
