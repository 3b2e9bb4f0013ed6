"""One encoded image as pixels, exactly as it was meant; what a decoder would change silently is refused.

It is turned as its EXIF orientation says, palettes are looked up, pixels of 1, 2 and 4 bits spread over 0..255. Colour
profiles are not applied: pixels are the numbers that the file holds. What is deeper than 8 bits, transparent, animated,
in other colours than grey or RGB, or of more than LARGEST pixels is refused.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lth.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Pillow's names. It knows more, one of which (EPS) starts an interpreter of programs."""
LARGEST = 2**24
"""Pixels of an image: 4,096 x 4,096."""
GREY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("P", "RGB", "RGBA")
_ORIENTATION = 0x0112


class Form(NamedTuple):
    """What all images of a set have in common."""

    mode: str
    """`L` (grey) or `RGB`, Pillow's names."""
    width: int
    height: int

    @property
    def channels(self) -> int:
        return len(self.mode)

    @classmethod
    def of(cls, picture: Image) -> Form:
        return cls("L" if picture.mode in GREY_MODES else "RGB", *picture.size)


def decode(encoded: bytes | None, where: str, form: Form | None = None) -> Image:
    """The image that the bytes hold, upright, in one of few modes. One that is not of `form` is refused before it is
    decoded, where its header tells. Raises DataError, which begins with `where`."""
    from PIL import Image

    if encoded is None:
        raise DataError(f"{where}, has no image bytes: images must be embedded, not referred to by path")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow's: damaged EXIF, large images; here errors or nothing
        try:
            opened = Image.open(io.BytesIO(encoded), formats=FORMATS)
            odd = _oddity(opened, form)
            if odd is None:
                if opened.format == "PNG":  # whose checksums are not read when it is loaded
                    Image.open(io.BytesIO(encoded), formats=FORMATS).verify()
                opened.load()
                picture = _upright(opened)
                odd = _see_through(picture)
        except Image.DecompressionBombError:
            odd = f"more than {LARGEST:,} pixels; make the images of the set smaller"
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
            what = f"it is none of {', '.join(FORMATS)}" if "cannot identify" in str(error) else error
            raise DataError(f"{where}: the image cannot be decoded ({what}); mend or remove the row") from error
    if odd is not None:
        raise DataError(f"{where}: the image has {odd}")
    return picture


def pixels(picture: Image, form: Form, where: str) -> np.ndarray[Any, Any]:
    """uint8 [H, W, C] of an image, if it has the form of the others."""
    if picture.size != (form.width, form.height):
        sizes = f"{picture.width}x{picture.height} pixels, the first training image {form.width}x{form.height}"
        raise DataError(f"{where}: the image has {sizes}; make all images the same size")
    if form.mode == "L" and picture.mode not in GREY_MODES:
        modes = f"mode {picture.mode}, but the first training image is grey"
        raise DataError(f"{where}: the image has {modes}; make all images grey or all colour")
    content = np.asarray(picture if picture.mode == form.mode else picture.convert(form.mode))
    return content.reshape(form.height, form.width, form.channels)


def _oddity(picture: ImageFile, form: Form | None) -> str | None:
    """What makes an image unusable, as far as its header tells; None if nothing does."""
    width, height = picture.size
    if width * height > LARGEST:
        return f"{width}x{height} pixels; make the images of the set smaller, at most {LARGEST:,} pixels"
    if form is not None and sorted(picture.size) != sorted((form.width, form.height)):
        other = f"the first training image {form.width}x{form.height}"
        return f"{width}x{height} pixels, {other}; make all images the same size"
    if _deeper_than_8_bits(picture):
        return f"mode {picture.mode} with more than 8 bits a channel; convert the set to 8 bits a channel"
    if picture.mode not in (*GREY_MODES, *_COLOUR_MODES):
        return f"mode {picture.mode}; convert the set to 8 bits a channel, grey or RGB"
    if any(int(each) != 1 for each in getattr(picture, "tag_v2", {}).get(339, ())):  # SampleFormat, of TIFF
        return "samples that are signed or no whole numbers; convert the set to 8 bits a channel"
    if "transparency" in picture.info and _raw_modes(picture) & {"L;2", "L;4"}:  # Pillow scales pixels, not that grey
        return "2 or 4 bits of grey, one of them transparent; convert the set to 8 bits a channel"
    # A photograph of a telephone (MPO) holds smaller versions of itself besides.
    frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    if frames > 1:
        return f"{frames} frames; make each of them a row, or keep one"
    return None


def _deeper_than_8_bits(picture: ImageFile) -> bool:
    """Pillow drops the lower bits of deep colours, and leaves those of grey alone."""
    if picture.mode.startswith(("I", "F")):
        return True
    if picture.format == "BMP":  # its 15 and 16 bits are those of a pixel
        return False
    bits = getattr(picture, "tag_v2", {}).get(258, ())  # BitsPerSample, of TIFF
    return any(re.search(r";(1[0-6]|32|64)", mode) for mode in _raw_modes(picture)) or any(
        int(each) > 8 for each in bits
    )


def _raw_modes(picture: ImageFile) -> set[str]:
    """How the file's pixels lie, in Pillow's words, e.g. `L;4`."""
    return {str(args[0] if isinstance(args, tuple) and args else args) for *_, args in picture.tile}


def _upright(picture: ImageFile) -> Image:
    from PIL import ImageOps

    if picture.getexif().get(_ORIENTATION, 1) == 1:
        return picture
    return ImageOps.exif_transpose(picture)


def _see_through(picture: Image) -> str | None:
    """What is wrong with an image of which something is transparent: what colour it has there is not said."""
    if picture.mode in ("LA", "RGBA"):
        alpha = picture.getchannel("A")
    elif "transparency" in picture.info:
        alpha = picture.convert("RGBA").getchannel("A")
    else:
        return None
    lowest, _ = alpha.getextrema()
    return None if lowest == 255 else "transparent pixels; lay the images of the set on a background"
