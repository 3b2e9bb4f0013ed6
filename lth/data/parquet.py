"""Any image set in Parquet, in the layout in which the Hugging Face hub stores image sets."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lth.data.images import ImageData
from lth.data.parquet_files import naming, parquet_folder, parquet_shards
from lth.data.registry import register_dataset
from lth.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL.Image import Image

_ROWS_AT_ONCE = 1024
"""Rows read before they are decoded: bounds the memory that encoded images take."""
_GREY_MODES = ("1", "L", "LA")
_DEEP_MODES = ("I", "F")


class _Form(NamedTuple):
    """What all images of a set have in common."""

    mode: str
    """`L` (grey) or `RGB`, Pillow's names."""
    width: int
    height: int

    @property
    def channels(self) -> int:
        return len(self.mode)


@register_dataset("parquet", "Any image set in Parquet: <path>/train*.parquet and test*.parquet", takes_path=True)
def load_parquet(root: Path, path: str) -> ImageData:
    """Read `<root>/<path>/train*.parquet` and `test*.parquet`, several shards in the order of their names.

    Columns: `img` or `image`, a struct with `bytes` (an encoded image: PNG, JPEG, ...), and `label`, or failing that
    `fine_label`, an integer from 0. The first training image decides the size, and whether images are grey
    [N, 1, H, W] or colour [N, 3, H, W]; grey images in a colour set become colour. There are as many classes as the
    largest label says. Decoding takes about 0.1 ms an image of 32x32, without threads: at this size Pillow holds the
    interpreter nearly all the time, and two threads were measured to be slower than one.

    Raises:
        DataError: the path leaves `root`, a file is missing, damaged or lacks a column, or an image or a label is
            unusable; the message names the file, and the row, counted from 0.
    """
    folder = parquet_folder(root, path)
    train_files, test_files = parquet_shards(folder, "train"), parquet_shards(folder, "test")
    train_inputs, train_labels, form = _read(train_files, None)
    test_inputs, test_labels, _ = _read(test_files, form)

    classes = 1 + int(max(train_labels.max(), test_labels.max()))
    if classes > len(train_labels):
        trained = f"{len(train_labels)} training images cannot show {classes} classes"
        raise DataError(f"{folder} has the label {classes - 1}, but {trained}: number the classes from 0 without gaps")
    return ImageData(f"parquet:{path}", train_inputs, train_labels, test_inputs, test_labels, classes)


def _read(files: list[Path], form: _Form | None) -> tuple[Tensor, Tensor, _Form]:
    """Images uint8 [N, C, H, W] and labels int64 [N] of all files, in order, and the form of the images."""
    from pyarrow.parquet import ParquetFile

    total = 0
    for file in files:
        with naming(file), ParquetFile(file) as shard:
            total += shard.metadata.num_rows
    if total == 0:
        raise DataError(f"{files[0]} has no rows: each split needs at least one image")

    labels = np.empty(total, dtype=np.int64)
    inputs: np.ndarray[Any, Any] | None = None
    at = 0
    for file in files:
        row = 0
        with naming(file), ParquetFile(file, page_checksum_verification=True) as shard:
            image, label = _columns(shard.schema_arrow, file)
            for batch in shard.iter_batches(_ROWS_AT_ONCE, columns=[f"{image}.bytes", label]):
                stop = at + len(batch)
                labels[at:stop] = _labels(batch.column(label), file, row)
                pictures = []
                for encoded in batch.column(image).flatten()[0].to_pylist():
                    picture = _decode(encoded, file, row)
                    form = form or _Form("L" if picture.mode in _GREY_MODES else "RGB", *picture.size)
                    pictures.append(_pixels(picture, form, file, row))
                    row += 1
                if form is None:  # an empty batch before the first image
                    continue
                if inputs is None:
                    inputs = np.empty((total, form.channels, form.height, form.width), dtype=np.uint8)
                pixels = np.frombuffer(b"".join(pictures), dtype=np.uint8)
                pixels = pixels.reshape(-1, form.height, form.width, form.channels)
                inputs[at:stop] = pixels.transpose(0, 3, 1, 2)
                at = stop
    assert inputs is not None and form is not None and at == total
    return torch.from_numpy(inputs), torch.from_numpy(labels), form


def _columns(schema: pa.Schema, file: Path) -> tuple[str, str]:
    """Names of the image and the label column."""
    import pyarrow.types as types

    image = next((name for name in ("img", "image") if name in schema.names), None)
    label = next((name for name in ("label", "fine_label") if name in schema.names), None)
    if image is None or label is None:
        found = ", ".join(schema.names)
        raise DataError(f"{file} has the columns {found}: it needs img or image, and label or fine_label")
    image_type, label_type = schema.field(image).type, schema.field(label).type
    if not types.is_struct(image_type) or "bytes" not in {field.name for field in image_type}:
        raise DataError(f"{file} has {image} of type {image_type}: it must be a struct with the encoded image in bytes")
    if not types.is_integer(label_type):
        raise DataError(f"{file} has {label} of type {label_type}: labels must be integers, counted from 0")
    return image, label


def _labels(column: pa.Array, file: Path, first_row: int) -> np.ndarray[Any, Any]:
    """Labels of one batch, int64; `first_row` is its place in the file."""
    # An unsigned number beyond int64 is no class either: unsafe casting wraps it around to a negative one.
    values: np.ndarray[Any, Any] = column.cast("int64", safe=False).fill_null(-1).to_numpy(zero_copy_only=False)
    if (values < 0).any():
        row = int((values < 0).argmax())
        raise DataError(f"{file}, row {first_row + row}, has the label {column[row]}: labels are integers from 0")
    return values


def _decode(encoded: bytes | None, file: Path, row: int) -> Image:
    from PIL import Image

    if encoded is None:
        raise DataError(f"{file}, row {row}, has no image bytes: images must be embedded, not referred to by path")
    try:
        picture = Image.open(io.BytesIO(encoded))
        picture.load()
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        what = "unknown format" if "cannot identify" in str(error) else error
        raise DataError(f"{file}, row {row}: the image cannot be decoded ({what}); mend or remove the row") from error
    if picture.mode.startswith(_DEEP_MODES):
        raise DataError(f"{file}, row {row}: the image has mode {picture.mode}; convert the set to 8 bits a channel")
    return picture


def _pixels(picture: Image, form: _Form, file: Path, row: int) -> bytes:
    """Pixels of an image, [H, W, C] in row-major order, if it has the form of the others."""
    if picture.size != (form.width, form.height):
        sizes = f"{picture.width}x{picture.height} pixels, the first training image {form.width}x{form.height}"
        raise DataError(f"{file}, row {row}: the image has {sizes}; make all images the same size")
    if form.mode == "L" and picture.mode not in _GREY_MODES:
        modes = f"mode {picture.mode}, but the first training image is grey"
        raise DataError(f"{file}, row {row}: the image has {modes}; make all images grey or all colour")
    return (picture if picture.mode == form.mode else picture.convert(form.mode)).tobytes()
