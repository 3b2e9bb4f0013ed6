"""Any image set in Parquet, in the layout in which the Hugging Face hub stores image sets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lth.data.images import ImageData
from lth.data.parquet_files import naming, parquet_folder, parquet_shards
from lth.data.picture import Form, decode, pixels
from lth.data.registry import register_dataset
from lth.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_AT_ONCE = 1024
"""Rows read before they are decoded: bounds the memory that encoded images take."""


@register_dataset("parquet", "Any image set in Parquet: <path>/train*.parquet and test*.parquet", takes_path=True)
def load_parquet(root: Path, path: str) -> ImageData:
    """Read `<root>/<path>/train*.parquet` and `test*.parquet`, several shards in the order of their names.

    Columns: `img` or `image`, a struct with `bytes` (an encoded image, see `lth.data.picture`), and `label`, or failing
    that `fine_label`, an integer that is not negative. The first training image decides the size, and whether images
    are grey [N, 1, H, W] or colour [N, 3, H, W]; grey images in a colour set become colour. Classes are those that the
    files' metadata declare (ClassLabel of Hugging Face), else the labels of the training split in order: {0, 10, 20}
    are three classes. Decoding takes about 0.1 ms an image of 32x32, without threads: at this size Pillow holds the
    interpreter nearly all the time, and two threads were measured to be slower than one.

    Raises:
        DataError: the path leaves `root`, a file is missing, damaged or lacks a column, files differ in their names of
            classes, or an image or a label is unusable; the message names the file, and the row, counted from 0.
    """
    folder = parquet_folder(root, path)
    train_files, test_files = parquet_shards(folder, "train"), parquet_shards(folder, "test")
    names = _class_names([*train_files, *test_files])
    train_inputs, train_labels, form = _read(train_files, None, names)
    test_inputs, test_labels, _ = _read(test_files, form, names)
    if names is None:
        present, train_labels = torch.unique(train_labels, return_inverse=True)
        test_labels = _numbered(test_labels, present, folder)
        names = tuple(map(str, present.tolist()))
    classes = len(names)
    if names == tuple(map(str, range(classes))):
        names = ()
    return ImageData(f"parquet:{path}", train_inputs, train_labels, test_inputs, test_labels, classes, names)


def _numbered(labels: Tensor, present: Tensor, folder: Path) -> Tensor:
    """The place of each test label among those that the training split has."""
    places = torch.searchsorted(present, labels).clamp(max=len(present) - 1)
    strange = (present[places] != labels).nonzero().flatten()
    if len(strange):
        row = int(strange[0])
        raise DataError(
            f"the test split of {folder}, row {row}, has the label {int(labels[row])}, which no training image has: no "
            "network can learn it; split the images anew"
        )
    return places


def _class_names(files: list[Path]) -> tuple[str, ...] | None:
    """What the files' metadata call the classes, in the order of their labels; None where they do not say."""
    from pyarrow.parquet import ParquetFile

    declared: dict[Path, tuple[str, ...]] = {}
    for file in files:
        with naming(file), ParquetFile(file) as shard:
            schema = shard.schema_arrow
        label = _columns(schema, file)[1]
        try:
            features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
            found = tuple(map(str, features[label]["names"])) if features[label]["_type"] == "ClassLabel" else ()
        except (ValueError, LookupError, TypeError):  # no such metadata, or of another shape
            found = ()
        if found:
            declared[file] = found
    for file, found in declared.items():
        first, wanted = next(iter(declared.items()))
        if found != wanted:
            raise DataError(f"{file} names other classes in its metadata than {first}: its labels mean something else")
    return next(iter(declared.values()), None)


def _read(files: list[Path], form: Form | None, names: tuple[str, ...] | None) -> tuple[Tensor, Tensor, Form]:
    """Images uint8 [N, C, H, W] and labels int64 [N] of all files, in order, and the form of the images."""
    from pyarrow.parquet import ParquetFile

    total = 0
    for file in files:
        with naming(file), ParquetFile(file) as shard:
            total += shard.metadata.num_rows
    if total == 0:
        raise DataError(f"{files[0]} has no rows: each split needs at least one image")
    labels: list[np.ndarray[Any, Any]] = []
    inputs: np.ndarray[Any, Any] | None = None
    at = 0
    for file in files:
        row = 0
        with naming(file), ParquetFile(file, page_checksum_verification=True) as shard:
            image, label = _columns(shard.schema_arrow, file)
            for batch in shard.iter_batches(_ROWS_AT_ONCE, columns=[f"{image}.bytes", label]):
                labels.append(_labels(batch.column(label), file, row, names))
                for encoded in batch.column(image).flatten()[0]:
                    picture = decode(encoded.as_py(), f"{file}, row {row}", form)
                    if form is None:
                        form = Form.of(picture)
                    if inputs is None:
                        inputs = _room(total, form, file)
                    inputs[at] = pixels(picture, form, f"{file}, row {row}").transpose(2, 0, 1)
                    row += 1
                    at += 1
    assert inputs is not None and form is not None and at == total
    return torch.from_numpy(inputs), torch.from_numpy(np.concatenate(labels)), form


def _room(images: int, form: Form, file: Path) -> np.ndarray[Any, Any]:
    """uint8 [images, C, H, W] for the pixels of a split; refuses more than half of the machine's memory."""
    shape = (images, form.channels, form.height, form.width)
    needed, memory = float(np.prod(shape, dtype=float)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory / 2:
        raise DataError(
            f"{file} begins {images:,} images of {form.width}x{form.height} pixels, {needed / 1e9:,.1f} GB decoded, "
            f"more than half of this machine's {memory / 1e9:,.1f} GB: make them smaller or fewer"
        )
    return np.empty(shape, dtype=np.uint8)


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


def _labels(column: pa.Array, file: Path, first_row: int, names: tuple[str, ...] | None) -> np.ndarray[Any, Any]:
    """Labels of one batch, int64; `first_row` is its place in the file, `names` what its classes are declared to be."""
    # An unsigned number beyond int64 is no class either: unsafe casting wraps it around to a negative one.
    values: np.ndarray[Any, Any] = column.cast("int64", safe=False).fill_null(-1).to_numpy(zero_copy_only=False)
    if (values < 0).any():
        row = int((values < 0).argmax())
        raise DataError(f"{file}, row {first_row + row}, has the label {column[row]}: labels are integers from 0")
    if names is not None and (values >= len(names)).any():
        row = int((values >= len(names)).argmax())
        wrong = f"the label {column[row]}, but the file's metadata name {len(names)} classes"
        raise DataError(f"{file}, row {first_row + row}, has {wrong}: mend the label, or the names")
    return values
