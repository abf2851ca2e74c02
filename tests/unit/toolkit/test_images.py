from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toolkit.errors import DataError, DataNotFound, ImageError, ImageNotFound, UsageError
from toolkit.images import ArrayImage, BytesImage, FileImage, as_source, find_images, open_image


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(width: int = 48, height: int = 32) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), (x + y) * 2], axis=-1).astype(np.uint8)


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("WEBP", {"lossless": True, "exif": Image.Exif()})]
)
def test_lossless_formats_come_back_exactly(kind: str, options: dict[str, Any]) -> None:
    assert np.array_equal(pixels(open_image(encode(Image.fromarray(gradient()), kind, **options))), gradient())


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"quality": 95}), ("JPEG", {"progressive": True, "quality": 95}), ("WEBP", {"quality": 95})]
)
def test_lossy_formats_come_back_nearly(kind: str, options: dict[str, Any]) -> None:
    decoded = pixels(open_image(encode(Image.fromarray(gradient()), kind, **options)))
    assert np.abs(decoded.astype(int) - gradient()).mean() < 4


def test_the_content_tells_the_format_and_not_the_name(tmp_path: Path) -> None:
    place = tmp_path / "photo.jpg"
    place.write_bytes(encode(Image.fromarray(gradient()), "PNG"))
    assert np.array_equal(pixels(FileImage(place).load()), gradient())


# The EXIF standard: which side of the scene the first stored row and the first stored column show.
FIRST_ROW_AND_COLUMN = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    upright = gradient()
    sides = FIRST_ROW_AND_COLUMN[orientation]
    stored = upright[::-1] if "bottom" in sides else upright
    stored = stored[:, ::-1] if "right" in sides else stored
    stored = np.ascontiguousarray(stored.transpose(1, 0, 2) if sides[0] in ("left", "right") else stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    decoded = pixels(open_image(encode(Image.fromarray(stored), kind, exif=exif, **options)))
    assert decoded.shape == upright.shape
    assert np.abs(decoded.astype(int) - upright).max() <= (4 if kind == "JPEG" else 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_block_leaves_the_image_as_it_is() -> None:
    data = encode(Image.fromarray(gradient()), "WEBP", lossless=True, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff")
    assert np.array_equal(pixels(open_image(data)), gradient())


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    deep = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    assert pixels(open_image(encode(Image.fromarray(deep))))[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_transparency_is_laid_on_white() -> None:
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 3] = (0, 128, 255)
    assert pixels(open_image(encode(Image.fromarray(rgba))))[0, :, 0].tolist() == [255, 127, 0]
    assert pixels(open_image(encode(Image.fromarray(rgba).convert("LA"))))[0, :, 2].tolist() == [255, 127, 0]
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert pixels(open_image(encode(palette, transparency=0)))[0].tolist() == [[255, 255, 255], [40, 50, 60]]
    assert pixels(open_image(encode(palette)))[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    keyed = Image.fromarray(np.array([[7, 8]], dtype=np.uint8))
    assert pixels(open_image(encode(keyed, transparency=7)))[0, :, 0].tolist() == [255, 8]
    deep = Image.fromarray(np.array([[7, 65535 - 257]], dtype=np.uint16))
    assert pixels(open_image(encode(deep, transparency=7)))[0, :, 0].tolist() == [255, 254]


def test_one_bit_and_cmyk_become_rgb() -> None:
    assert pixels(open_image(encode(Image.new("1", (2, 1), 1))))[0, 0].tolist() == [255, 255, 255]
    cmyk = pixels(open_image(encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)))
    assert np.abs(cmyk[4, 4].astype(int) - (255, 0, 0)).max() <= 3


def test_a_photo_with_a_second_picture_in_it_is_the_photo() -> None:
    first, second = Image.fromarray(gradient()), Image.new("RGB", (8, 8))
    both = encode(first, "MPO", save_all=True, append_images=[second])
    assert open_image(both).size == (48, 32)


def test_sources_of_the_same_bytes_have_the_same_content_id(tmp_path: Path) -> None:
    data = encode(Image.fromarray(gradient()))
    place = tmp_path / "a.png"
    place.write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()
    assert FileImage(place).content_id() == BytesImage(data).content_id() == expected
    place.write_bytes(data + b" ")
    assert FileImage(place).content_id() != expected


def test_array_images_are_told_apart_by_shape_and_pixels() -> None:
    wide = np.zeros((2, 6, 3), np.uint8)
    ids = {ArrayImage(array).content_id() for array in (wide, wide.reshape(6, 2, 3), wide.reshape(6, 6), wide + 1)}
    assert len(ids) == 4
    assert ArrayImage(wide[:, ::-1]).content_id() == ArrayImage(wide.copy(), "other name").content_id()


def test_array_images_do_not_change_with_their_source() -> None:
    array = gradient()
    source = ArrayImage(array)
    before = source.content_id()
    array[:] = 0
    assert source.content_id() == before
    assert np.array_equal(pixels(source.load()), gradient())
    assert pixels(ArrayImage(array[:, :, 0]).load()).shape == array.shape


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2, 3), np.float32), np.zeros((3, 2, 2), np.uint8), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 5, 3), np.uint8)]
)
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError):
        ArrayImage(array)


def test_a_pil_image_is_treated_like_its_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(gradient()), exif=exif)
    assert np.array_equal(pixels(as_source(Image.open(io.BytesIO(data))).load()), pixels(open_image(data)))
    with pytest.raises(ImageError, match="broken or truncated"):
        as_source(Image.open(io.BytesIO(data[: len(data) // 2])))


def test_as_source_takes_all_that_a_caller_may_call_an_image(tmp_path: Path) -> None:
    data = encode(Image.fromarray(gradient()))
    place = tmp_path / "a.png"
    place.write_bytes(data)
    source = FileImage(place)
    assert as_source(source) is source
    for image in (place, str(place), data, bytearray(data), memoryview(data), gradient(), Image.fromarray(gradient())):
        assert np.array_equal(pixels(as_source(image).load()), gradient())
    assert as_source(str(place)).name == str(place)
    assert as_source(data).name == as_source(bytes(data)).name


@pytest.mark.parametrize("url", ["https://example.org/a.jpg", "file:///etc/passwd", "data:image/png;base64,AAAA", "s3://bucket/a.jpg"])
def test_urls_are_refused_with_a_hint(url: str) -> None:
    with pytest.raises(UsageError, match="is a URL") as caught:
        as_source(url)
    assert caught.value.hint == "download it and give its path"


def test_anything_else_is_refused() -> None:
    for thing in (None, 3, ["a.png"], object()):
        with pytest.raises(UsageError, match="is not an image"):
            as_source(thing)


def test_sources_travel_to_other_processes(tmp_path: Path) -> None:
    data = encode(Image.fromarray(gradient()))
    (tmp_path / "a.png").write_bytes(data)
    for source in (FileImage(tmp_path / "a.png"), BytesImage(data, "row 3"), ArrayImage(gradient(), "mine")):
        copy = pickle.loads(pickle.dumps(source))
        assert (copy.name, copy.content_id()) == (source.name, source.content_id())
        assert np.array_equal(pixels(copy.load()), gradient())


def test_a_missing_file_is_a_clear_sentence(tmp_path: Path) -> None:
    for step in (FileImage.load, FileImage.content_id):
        with pytest.raises(ImageNotFound, match=r"there is no image file .*gone\.png"):
            step(FileImage(tmp_path / "gone.png"))
        with pytest.raises(ImageError, match="is not a file"):
            step(FileImage(tmp_path))


def test_find_images_is_sorted_recursive_and_leaves_hidden_files_out(tmp_path: Path) -> None:
    names = ["b/2.JPG", "b/10.png", "a.webp", "b-c/x.bmp", "z.gif", "deep/er/y.TIFF", ".hidden.png", ".git/x.png", "b/notes.txt", "c.jpeg"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a.webp", "b/10.png", "b/2.JPG", "b-c/x.bmp", "c.jpeg", "deep/er/y.TIFF", "z.gif"]
    assert find_images(tmp_path / ".git") == [tmp_path / ".git" / "x.png"]


def test_find_images_follows_no_link_out_of_the_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (outside / "secret.png").write_bytes(b"x")
    (folder / "a.png").write_bytes(b"x")
    os.symlink(folder / "a.png", folder / "b.png")
    os.symlink(outside / "secret.png", folder / "c.png")
    os.symlink(outside, folder / "d", target_is_directory=True)
    os.symlink(folder, folder / "loop", target_is_directory=True)
    with caplog.at_level(logging.WARNING):
        assert [path.name for path in find_images(folder)] == ["a.png", "b.png"]
    assert "1 links" in caplog.text
    os.symlink(folder, tmp_path / "alias", target_is_directory=True)
    assert [path.name for path in find_images(tmp_path / "alias")] == ["a.png", "b.png"]


def test_find_images_in_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="there is no folder"):
        find_images(tmp_path / "gone")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        find_images(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert find_images(tmp_path / "empty") == []


def test_real_photos_decode_like_the_plain_library(shared_data: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install pyarrow")
    batch = next(parquet.ParquetFile(shared_data / "eurosat" / "test-00000-of-00001.parquet").iter_batches(batch_size=20))
    photos = [row["bytes"] for row in batch.column("image").to_pylist()]
    assert len(photos) == 20
    for photo in photos:
        with Image.open(io.BytesIO(photo)) as plain:
            assert np.array_equal(pixels(BytesImage(photo).load()), np.asarray(plain.convert("RGB")))
