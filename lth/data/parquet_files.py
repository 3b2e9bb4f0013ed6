"""Parquet files of a data set: train*.parquet and test*.parquet of a folder below the data root."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from lth.errors import DataError

_NUMBERED = re.compile(r"-\d{5}-of-(\d{5})\.parquet$")


def parquet_folder(root: Path, path: str) -> Path:
    """`root/path`, refusing to look elsewhere: an experiment comes from a file that somebody else may have written."""
    folder = root / path
    if ".." in Path(path).parts or not folder.absolute().is_relative_to(root.absolute()):
        raise DataError(f"dataset.path {path!r} leads out of {root}: give a folder below it")
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: put train*.parquet and test*.parquet there, or set LTH_DATA_DIR")
    return folder


def parquet_shards(folder: Path, split_name: str) -> list[Path]:
    """The files of a split in the order of their names; refuses an incomplete set of numbered shards."""
    files = sorted(folder.glob(f"{split_name}*.parquet"))
    if not files:
        raise DataError(f"{folder} has no {split_name}*.parquet: both a train and a test split are needed")
    numbered = [found for file in files if (found := _NUMBERED.search(file.name))]
    if numbered:
        total = int(numbered[0][1])
        expected = {f"{split_name}-{index:05d}-of-{total:05d}.parquet" for index in range(total)}
        odd = sorted(expected.symmetric_difference(file.name for file in files))
        if odd:
            problem = "is missing" if odd[0] in expected else f"does not belong to its {total} {split_name} shards"
            raise DataError(f"{folder / odd[0]} {problem}: keep exactly one complete set of shards")
    return files


@contextlib.contextmanager
def naming(file: Path) -> Iterator[None]:
    """Turn what Arrow raises about a damaged file into a DataError that names it."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        what = " ".join(str(error).split()).rstrip(".")
        raise DataError(f"{file} cannot be read as Parquet ({what}): fetch it again") from error
