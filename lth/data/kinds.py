"""The kinds of data sets that there are, and one way to put any of them together again."""

from __future__ import annotations

from lth.data.arrays import Arrays, Description
from lth.data.examples import DataSet
from lth.data.images import ImageData
from lth.data.tables import TableData
from lth.errors import InvalidExperiment

KINDS: dict[str, type[ImageData] | type[TableData]] = {"images": ImageData, "table": TableData}


def restore(description: Description, arrays: Arrays) -> DataSet:
    """The data set that `to_arrays` took apart, over the same memory. Raises DataError if it does not pass `check`."""
    return KINDS[description["kind"]].from_arrays(description, arrays)


def only_images(data: DataSet) -> ImageData:
    """The data set if it is one of images; raises InvalidExperiment of any other, for what is made for images only."""
    if not isinstance(data, ImageData):
        raise InvalidExperiment(
            f"data set {data.name!r} holds no images, and the engine trains on images only; choose one of images"
        )
    return data
