"""The one door for foreign images: what comes in is checked from its header before it is decoded, and leaves as RGB.

Accepted are JPEG, PNG, WEBP and BMP with one frame, told by content and not by file name, of at most MAX_PIXELS pixels.
EXIF orientation is applied; transparency is laid on white; 16-bit, CMYK, palette and 1-bit images become 8-bit RGB.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL import WebPImagePlugin as _webp  # noqa: F401  # spares every process PIL's search through all of its plugins

from toolkit.errors import DataError, DataNotFound, ImageError, ImageNotFound, UsageError
from toolkit.types import ImageSource

MAX_PIXELS = 50_000_000
MAX_FILE_BYTES = 512 * 1024 * 1024  # more than 50 M pixels need in any accepted format
FORMATS = "JPEG, PNG, WEBP and BMP"
# What find_images lists: also what is not accepted, so that it is reported as failed instead of being left out in silence.
SUFFIXES = frozenset([".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".avif"])

__all__ = ["MAX_PIXELS", "ArrayImage", "BytesImage", "FileImage", "as_source", "find_images", "open_image", "safe_join"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileImage:
    """An image file. Nothing is read before it is asked for."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @property
    def name(self) -> str:
        return str(self.path)

    def content_id(self) -> str:
        """sha256 of the file's bytes. Raises: ImageNotFound, ImageError."""
        with _open_file(self.path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def load(self) -> Image.Image:
        """Decode to RGB. Raises: ImageNotFound, ImageError."""
        return open_image(self.path)


@dataclass(frozen=True)
class BytesImage:
    """An encoded image in memory: a row of a parquet file, an upload."""

    data: bytes = field(repr=False)
    name: str = "image bytes"

    def content_id(self) -> str:
        """sha256 of the bytes: equal to that of a file with the same content."""
        return hashlib.sha256(self.data).hexdigest()

    def load(self) -> Image.Image:
        """Decode to RGB. Raises: ImageError."""
        return open_image(self.data, name=self.name)


class ArrayImage:
    """An image that is decoded already.

    Args:
        pixels: (H, W, 3) or (H, W) uint8, or a PIL image of any mode. Copied, so that later changes do not reach it.
        name: what messages call it.
    Raises: ImageError: for any other dtype or shape, an empty image, or a PIL image that cannot be decoded.
    """

    def __init__(self, pixels: np.ndarray | Image.Image, name: str = "image in memory") -> None:
        self.name = name
        if isinstance(pixels, Image.Image):
            _check_pixels(pixels.size, name, MAX_PIXELS)
            pixels = np.asarray(_decode(pixels, name))
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
            raise ImageError(
                f"{name} is an array of {pixels.dtype} with shape {tuple(pixels.shape)}; expected uint8 with shape (H, W, 3) or (H, W)",
                hint="scale floats to 0..255 and move channels to the end",
            )
        _check_pixels((pixels.shape[1], pixels.shape[0]), name, MAX_PIXELS)
        self.pixels = np.array(pixels, order="C")
        self.pixels.setflags(write=False)

    def __repr__(self) -> str:
        return f"ArrayImage({self.pixels.shape}, name={self.name!r})"

    def content_id(self) -> str:
        """sha256 of dtype, shape and pixels."""
        digest = hashlib.sha256(f"array:{self.pixels.dtype}:{self.pixels.shape}:".encode())
        digest.update(self.pixels.data)
        return digest.hexdigest()

    def load(self) -> Image.Image:
        """The pixels as RGB."""
        return Image.fromarray(self.pixels).convert("RGB")


def as_source(image: object) -> ImageSource:
    """Whatever a caller may call an image, as an ImageSource.

    Args:
        image: ImageSource, path (str or Path), encoded bytes, PIL image, (H, W, 3) or (H, W) uint8 array.
    Raises: UsageError: for a URL and for anything else. ImageError: for an array or PIL image that cannot be used.
    """
    if isinstance(image, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://|data:", image):
        raise UsageError(f"{image[:80]!r} is a URL, and nothing is fetched from the network here", hint="download it and give its path")
    if isinstance(image, (str, Path)):
        return FileImage(Path(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        data = bytes(image)
        return BytesImage(data, f"bytes:{hashlib.sha256(data).hexdigest()[:12]}")
    if isinstance(image, (np.ndarray, Image.Image)):
        return ArrayImage(image)
    if isinstance(image, ImageSource):
        return image
    raise UsageError(
        f"a {type(image).__name__} is not an image; expected a path, encoded bytes, a PIL image or a (H, W, 3) uint8 array",
        hint="for a tensor: (tensor * 255).byte().permute(1, 2, 0).numpy()",
    )


def open_image(source: bytes | str | os.PathLike[str], *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an untrusted image to RGB.

    Args:
        source: encoded bytes, or the path of a file.
        name: what messages call it; the path by default.
        max_pixels: larger images are refused by their header, before memory is taken for them.
    Returns: PIL image of mode RGB, upright by its EXIF orientation.
    Raises: ImageNotFound: no such file. ImageError: not an accepted format, animated, too large, broken or truncated.
    """
    if isinstance(source, bytes):
        return _open_stream(io.BytesIO(source), name or "image bytes", max_pixels)
    with _open_file(Path(source)) as file:
        return _open_stream(file, name or str(source), max_pixels)


def safe_join(root: str | os.PathLike[str], relative: str | os.PathLike[str]) -> Path:
    """``root / relative`` for a path that comes out of a data file; it cannot lead out of ``root``, not even through a symlink.

    Returns: the resolved path; it need not exist.
    Raises: DataError: if the path is absolute, has ``..`` or a NUL in it, or resolves to a place outside of ``root``.
    """
    text = os.fspath(relative)
    windows = PureWindowsPath(text)
    hint = "paths in data files are relative to the data folder and stay in it"
    if not text or "\0" in text:
        raise DataError(f"{text!r} is not a path", hint=hint)
    if Path(text).is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise DataError(f"the path {text!r} leads out of the data folder", hint=hint)
    base = Path(root).resolve()
    try:
        joined = (base / text).resolve()
    except (OSError, RuntimeError) as error:  # a loop of symlinks, a name too long
        raise DataError(f"the path {text!r} cannot be followed: {error}", hint=hint) from error
    if not joined.is_relative_to(base):
        raise DataError(f"the path {text!r} leads out of the data folder through a symlink", hint=hint)
    return joined


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """All files under ``folder`` that call themselves images, sorted by their path below it: the same list on every machine.

    Hidden files and folders are left out. Symlinked folders are not entered, and links to files outside of ``folder``
    are left out with a warning to the log. Files of formats that are not accepted are listed: opening them says why.

    Raises: DataNotFound: if there is no such folder. DataError: if it is a file, or cannot be read.
    """
    folder = Path(folder)
    if not folder.exists():
        raise DataNotFound(f"there is no folder {folder}")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; expected a folder with images")
    root = folder.resolve()
    found, outside = [], 0
    for path in _walk(folder):
        if path.suffix.lower() not in SUFFIXES:
            continue
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            outside += 1
        else:
            found.append(path)
    if outside:
        _log.warning("%d links in %s lead out of it and are left out", outside, folder)
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DataError(f"cannot read the folder {error.filename}: {error.strerror}") from error

    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in files if not name.startswith("."))


def _open_file(path: Path) -> io.BufferedReader:
    """Open a regular file of a sane size; anything else (a folder, a pipe that would block for ever) is refused."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path} is not a file; expected an image")
        if status.st_size > MAX_FILE_BYTES:
            raise ImageError(f"{path} has {status.st_size:,} bytes; images of at most {MAX_FILE_BYTES:,} bytes are accepted")
        return open(path, "rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageNotFound(f"there is no image file {path}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ImageError(f"cannot read {str(path)!r}: {getattr(error, 'strerror', None) or error}") from error


def _open_stream(file: IO[bytes], name: str, max_pixels: int) -> Image.Image:
    head = file.read(64)
    kind = _accepted_format(head)
    if kind is None:
        raise ImageError(f"{name} is {_guess(head)}; accepted are {FORMATS}", hint="convert it, or leave it out")
    size = _jpeg_size(file) if kind == "JPEG" else _header_size(kind, head)
    if size is None:
        raise ImageError(f"{name} is a broken {kind} image: its header ends before the size")
    _check_pixels(size, name, max_pixels)
    file.seek(0)
    try:
        with Image.open(file, formats=(kind,)) as image:
            _check_pixels(image.size, name, max_pixels)  # in case that PIL and the header scan read two different sizes
            # A JPEG of several pictures is a photo with its preview or depth map; the first is the photo.
            if kind != "JPEG" and getattr(image, "n_frames", 1) > 1:
                raise ImageError(f"{name} is an animated {kind} image; expected a single picture", hint="export one frame of it")
            return _decode(image, name)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # a decoder of hostile bytes may raise anything; all of it means that there is no image
        raise _broken(name, error) from error


def _accepted_format(head: bytes) -> str | None:
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    return "BMP" if head.startswith(b"BM") else None


def _guess(head: bytes) -> str:
    """What a refused file seems to be, for the message."""
    if not head:
        return "empty"
    kinds = {
        b"GIF8": "a GIF image", b"II*\0": "a TIFF image", b"MM\0*": "a TIFF image", b"8BPS": "a Photoshop image",
        b"%PDF": "a PDF document", b"PK\x03\x04": "a zip archive", b"version https://git-lfs": "a Git LFS pointer and not the file itself",
    }  # fmt: skip
    for magic, kind in kinds.items():
        if head.startswith(magic):
            return kind
    if head[4:8] == b"ftyp":
        return "a HEIC or AVIF image" if head[8:11] in (b"hei", b"hev", b"mif", b"avi") else "a video"
    if head.lstrip()[:1] == b"<":
        return "an SVG, XML or HTML text"
    return "a text" if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head) else "of an unknown format"


def _header_size(kind: str, head: bytes) -> tuple[int, int] | None:
    """(width, height) from the first 64 bytes of a PNG, BMP or WEBP file; None if they do not hold it."""
    try:
        if kind == "PNG":
            return struct.unpack_from(">II", head, 16) if head[12:16] == b"IHDR" else None
        if kind == "BMP":
            width, height = struct.unpack_from("<HH" if head[14] == 12 else "<ii", head, 18)
            return abs(width), abs(height)  # a negative height says that rows go from top to bottom
        if head[12:16] == b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        if head[12:16] == b"VP8L":
            (bits,) = struct.unpack_from("<I", head, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    except (struct.error, IndexError):
        return None


def _jpeg_size(file: IO[bytes]) -> tuple[int, int] | None:
    """(width, height) from the frame header of a JPEG file; segments before it are skipped, not read."""
    file.seek(2)
    for _ in range(10_000):
        marker = file.read(1)
        while marker and marker != b"\xff":
            marker = file.read(1)
        while marker == b"\xff":
            marker = file.read(1)
        if not marker:
            return None
        code = marker[0]
        if code == 0x01 or 0xD0 <= code <= 0xD8:  # markers without a body
            continue
        body = file.read(7)
        if len(body) < 7 or code in (0xD9, 0xDA):  # end of image, or the pixels begin
            return None
        length, _precision, height, width = struct.unpack(">HBHH", body)
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            return width, height
        file.seek(length - 7, os.SEEK_CUR)
    return None


def _check_pixels(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width <= 0 or height <= 0:
        raise ImageError(f"{name} has no pixels ({width} x {height})")
    if width * height > max_pixels:
        raise ImageError(f"{name} has {width:,} x {height:,} pixels; at most {max_pixels:,} are accepted", hint="scale it down")


def _decode(image: Image.Image, name: str) -> Image.Image:
    """Load the pixels, make them RGB and turn them upright."""
    try:
        image.load()
        turn = _TURNS.get(_orientation(image))
        rgb = _to_rgb(image)
        return rgb if turn is None else rgb.transpose(turn)
    except MemoryError:
        raise
    except Exception as error:
        raise _broken(name, error) from error


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> Any:
    """The EXIF orientation, 1..8. A broken EXIF block says nothing about the pixels: the image stays as it is."""
    try:
        return image.getexif().get(0x0112, 1)
    except Exception as error:
        _log.debug("EXIF block not readable: %s", error)
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, as "I;16" or, of older decoders, "I"; PIL's own conversion would clip it at 255
        grey = np.asarray(image).astype(np.int64)
        if isinstance(key := image.info.get("transparency"), int):
            grey[grey == key] = 65535
        return Image.fromarray(((grey.clip(0, 65535) + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _broken(name: str, error: Exception) -> ImageError:
    # PIL's words for an unidentified image hold a memory address; a message must be the same in every run.
    reason = "its header cannot be read" if isinstance(error, UnidentifiedImageError) else str(error).strip() or type(error).__name__
    return ImageError(f"{name} is broken or truncated: {reason}")
