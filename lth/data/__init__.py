"""Data sets as tensors: load one by name, split it, standardise it exactly and augment it in batches.

    from lth.data import channel_statistics, load_dataset, split

    digits = load_dataset("digits")
    train, validation = split(len(digits.train_labels), validation=200, seed=0)
    mean, std = channel_statistics(digits.train_inputs, train)

Whatever is wrong with a data set raises `lth.errors.DataError` with one line that says what to do.
"""

# importing a loader's module registers it
from lth.data import digits, embedded_tables, parquet, parquet_tables, torchvision_sets  # noqa: F401
from lth.data.augment import AugmentationDraw, augment, draw_augmentation
from lth.data.images import ImageData
from lth.data.kinds import restore
from lth.data.registry import DATASETS, data_root, dataset_names, load_dataset, register_dataset
from lth.data.splits import channel_statistics, split
from lth.data.tables import TableData

__all__ = [
    "DATASETS",
    "AugmentationDraw",
    "ImageData",
    "TableData",
    "augment",
    "channel_statistics",
    "data_root",
    "dataset_names",
    "draw_augmentation",
    "load_dataset",
    "register_dataset",
    "restore",
    "split",
]
