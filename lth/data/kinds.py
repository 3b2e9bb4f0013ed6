"""The kinds of data sets that there are, and one way to put any of them together again."""

from __future__ import annotations

from lth.data.arrays import Arrays, Description
from lth.data.examples import DataSet
from lth.data.images import ImageData
from lth.data.tables import TableData

KINDS: dict[str, type[ImageData] | type[TableData]] = {"images": ImageData, "table": TableData}


def restore(description: Description, arrays: Arrays) -> DataSet:
    """The data set that `to_arrays` took apart, over the same memory. Raises DataError if it does not pass `check`."""
    return KINDS[description["kind"]].from_arrays(description, arrays)
