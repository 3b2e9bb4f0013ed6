"""What a decoder does silently to an image is right, or refused with the row."""

from __future__ import annotations

import io
import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from lth.data.picture import Form, decode, pixels
from lth.errors import DataError

WHERE = "train.parquet, row 7"
GREY = np.arange(20, dtype=np.uint8).reshape(4, 5) * 12
COLOUR = np.arange(60, dtype=np.uint8).reshape(4, 5, 3) * 4


def saved(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, kind: int, rows: bytes, extra: bytes = b"", interlace: int = 0) -> bytes:
    """A PNG of raw rows, each after its filter byte."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlace))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def read(encoded: bytes) -> np.ndarray[Any, Any]:
    picture = decode(encoded, WHERE)
    return pixels(picture, Form.of(picture), WHERE)


def palette(*, transparency: int | None = None) -> bytes:
    picture = Image.fromarray(GREY).convert("P")
    picture.putpalette([each for shade in range(256) for each in (shade, 255 - shade, 7)])
    return saved(picture, **({} if transparency is None else {"transparency": transparency}))


def with_alpha(alpha: int, mode: str = "RGBA") -> bytes:
    picture = Image.fromarray(COLOUR if mode == "RGBA" else GREY).convert(mode)
    picture.putalpha(Image.new("L", picture.size, 255))
    picture.putpixel((1, 1), (*((9,) * (len(mode) - 1)), alpha))
    return saved(picture)


GREYS_OF = {
    "1 bit": (png(5, 1, 1, 0, b"\0\b10101000"[:1] + bytes([0b10101000])), [[255, 0, 255, 0, 255]]),
    "2 bits": (png(4, 1, 2, 0, b"\0" + bytes([0b00011011])), [[0, 85, 170, 255]]),
    "4 bits": (png(4, 1, 4, 0, b"\0" + bytes([0x05, 0xAF])), [[0, 85, 170, 255]]),
    "8 bits": (saved(Image.fromarray(GREY)), GREY.tolist()),
    "opaque alpha": (with_alpha(255, "LA"), None),
}


@pytest.mark.parametrize("name", GREYS_OF)
def test_greys_of_any_depth_up_to_8_bits(name: str) -> None:
    encoded, wanted = GREYS_OF[name]
    expected = np.array(wanted) if wanted else np.where(np.arange(20).reshape(4, 5) == 6, 9, GREY)
    assert np.array_equal(read(encoded)[:, :, 0], expected)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_hold_the_same_pixels(form: str) -> None:
    encoded = saved(Image.fromarray(COLOUR), form, **({"lossless": True} if form == "WEBP" else {}))
    assert np.array_equal(read(encoded), COLOUR)


def test_palettes_and_opaque_alpha_are_looked_up() -> None:
    looked_up = np.stack([GREY, 255 - GREY, np.full_like(GREY, 7)], 2)
    assert np.array_equal(read(palette()), looked_up)
    opaque = COLOUR.copy()
    opaque[1, 1] = 9
    assert np.array_equal(read(with_alpha(255)), opaque)
    # a transparent entry of the palette that no pixel has
    assert np.array_equal(read(palette(transparency=255)), looked_up)


def test_an_interlaced_image_is_whole() -> None:
    # 2x2 pixels in the passes of Adam7: (0, 0), (1, 0), then the second row
    assert read(png(2, 2, 8, 0, b"\0\x01\0\x02\0\x03\x04", interlace=1))[:, :, 0].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_images_are_turned_as_their_exif_says(form: str, orientation: int) -> None:
    stored = np.kron(np.array([[0, 80, 160], [40, 120, 240]], np.uint8), np.ones((16, 16), np.uint8))
    upright = {
        1: stored,
        2: np.fliplr(stored),
        3: np.rot90(stored, 2),
        4: np.flipud(stored),
        5: stored.T,
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).T,
        8: np.rot90(stored),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = read(saved(Image.fromarray(stored), form, exif=exif))[:, :, 0].astype(int)
    assert found.shape == upright.shape
    assert np.abs(found - upright.astype(int)).max() < 12  # JPEG and WebP are lossy


def test_a_photograph_with_a_smaller_version_of_itself_is_its_first_picture() -> None:
    large, small = Image.fromarray(np.full((16, 16), 200, np.uint8)), Image.fromarray(np.full((8, 8), 3, np.uint8))
    assert (read(saved(large, "MPO", save_all=True, append_images=[small])) == 200).all()


def frames(form: str) -> bytes:
    first, second = Image.fromarray(COLOUR), Image.fromarray(255 - COLOUR)
    return saved(first, form, save_all=True, append_images=[second])


def sixteen(kind: int, channels: int) -> bytes:
    return png(2, 1, 16, kind, b"\0" + struct.pack(f">{2 * channels}H", *range(1, 2 * channels + 1)))


def damaged(content: bytes) -> bytes:
    """One bit of the pixels of a PNG is flipped."""
    at = content.index(b"IDAT") + 12
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (sixteen(2, 3), "more than 8 bits"),
        (sixteen(6, 4), "more than 8 bits"),
        (sixteen(0, 1), "more than 8 bits"),
        (sixteen(4, 2), "more than 8 bits"),
        (saved(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), "more than 8 bits"),
        (saved(Image.fromarray(np.ones((2, 2), np.int32)), "TIFF"), "more than 8 bits"),
        (with_alpha(254), "transparent pixels; lay"),
        (with_alpha(0, "LA"), "transparent pixels"),
        (palette(transparency=0), "transparent pixels"),
        (saved(Image.fromarray(COLOUR), transparency=(0, 4, 8)), "transparent pixels"),
        (saved(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"), "mode CMYK; convert the set"),
        (saved(Image.fromarray(COLOUR).convert("LAB"), "TIFF"), "mode LAB; convert"),
        (frames("GIF"), "2 frames; make each of them a row"),
        (frames("PNG"), "2 frames"),
        (frames("WEBP"), "2 frames"),
        (frames("TIFF"), "2 frames"),
        (saved(Image.fromarray(COLOUR))[:-40], "cannot be decoded"),
        (saved(Image.fromarray(np.kron(COLOUR, np.ones((9, 9, 1), np.uint8))), "JPEG")[:-60], "cannot be decoded"),
        (damaged(saved(Image.fromarray(COLOUR))), "cannot be decoded"),
        (saved(Image.fromarray(COLOUR), "PPM"), "none of PNG, JPEG, WEBP, GIF, BMP, TIFF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\nshowpage\n", "none of PNG"),
        (b"", "none of PNG"),
        (png(12_000, 12_000, 1, 0, b"\0" * 1501 * 12_000), "12000x12000 pixels; make the images of the set smaller"),
        (png(2**30, 2**30, 1, 0, b""), "more than 16,777,216 pixels"),
    ],
)
def test_what_would_be_changed_silently_is_refused_in_one_line(encoded: bytes, message: str) -> None:
    begun = time.process_time()
    with pytest.raises(DataError, match=rf"^train\.parquet, row 7: .*{message}") as caught:
        decode(encoded, WHERE)
    assert "\n" not in str(caught.value) and time.process_time() - begun < 2


def test_another_size_is_refused_before_it_is_decoded() -> None:
    large = png(4000, 4000, 1, 0, b"\0" * 501 * 4000)
    with pytest.raises(DataError, match="4000x4000 pixels, the first training image 5x4"):
        decode(large, WHERE, Form("L", 5, 4))


def _grey_png(bits: int, pixels: list[int], transparent: int | None) -> bytes:
    """One row of grey pixels of 2, 4 or 8 bits, one value of which may be said to be transparent."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = int("".join(f"{pixel:0{bits}b}" for pixel in pixels).ljust(8, "0"), 2).to_bytes(
        max(1, bits * len(pixels) // 8)
    )
    key = b"" if transparent is None else chunk(b"tRNS", struct.pack(">H", transparent))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", len(pixels), 1, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + key + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [2, 4])
def test_a_transparent_grey_of_few_bits_is_refused(bits: int) -> None:
    assert np.asarray(decode(_grey_png(bits, [1, 3, 0, 2], None), "row 0")).tolist() == [
        [pixel * 255 // (2**bits - 1) for pixel in (1, 3, 0, 2)]
    ]
    with pytest.raises(DataError, match="row 0: the image has 2 or 4 bits of grey, one of them transparent"):
        decode(_grey_png(bits, [1, 3, 0, 2], 3), "row 0")


def test_a_tiff_of_signed_samples_is_refused() -> None:
    file, tags = io.BytesIO(), TiffImagePlugin.ImageFileDirectory_v2()
    tags[339] = 2  # SampleFormat: signed
    Image.fromarray(np.array([[160]], np.uint8)).save(file, "TIFF", tiffinfo=tags)
    with pytest.raises(DataError, match="samples that are signed"):
        decode(file.getvalue(), "row 0")
