"""Published image sets in torchvision's own layout and files, fetched through torchvision when they are absent."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lth.data.download import ensure_files, reason
from lth.data.images import ImageData
from lth.data.registry import register_dataset
from lth.errors import DataError
from lth.torchvision_import import import_torchvision

IDX_FILES = {
    "train_inputs": ("train-images-idx3-ubyte", 3),
    "train_labels": ("train-labels-idx1-ubyte", 1),
    "test_inputs": ("t10k-images-idx3-ubyte", 3),
    "test_labels": ("t10k-labels-idx1-ubyte", 1),
}
"""The four files of MNIST and of its successors, with their rank."""


def _load_idx_set(class_name: str, name: str, root: Path) -> ImageData:
    """A set of MNIST's family from the raw files `<root>/<class_name>/raw/*-ubyte`; images [N, 1, 28, 28].

    The files are read here rather than by torchvision, which accepts a damaged header, and which is slow to import.
    """
    raw = Path(class_name, "raw")
    files = {key: raw / file for key, (file, _) in IDX_FILES.items()}
    archives = [file.with_name(f"{file.name}.gz") for file in files.values()]
    ensure_files(name, root, class_name, files.values(), archives)

    for file in files.values() if class_name == "MNIST" else ():
        _check_original(root / file)
    tensors = {key: read_idx(root / files[key], rank) for key, (_, rank) in IDX_FILES.items()}
    return ImageData(
        name,
        tensors["train_inputs"].unsqueeze(1),
        tensors["train_labels"].long(),
        tensors["test_inputs"].unsqueeze(1),
        tensors["test_labels"].long(),
        classes=10,
    )


MNIST_ORIGINALS = {
    "train-images-idx3-ubyte": (47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": (60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": (7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": (10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
"""Bytes and SHA-256 of the original files: a file of that size with other content has been damaged."""


def _check_original(path: Path) -> None:
    size, sha256 = MNIST_ORIGINALS[path.name]
    if path.stat().st_size == size and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise DataError(
            f"{path} is damaged: its SHA-256 is not that of the original MNIST; delete it to have it downloaded again"
        )


def _load_cifar(class_name: str, name: str, classes: int, root: Path) -> ImageData:
    """CIFAR-10 or CIFAR-100 (its fine labels) from the original python files; images [N, 3, 32, 32]."""
    dataset_class = getattr(import_torchvision().datasets, class_name)
    checksums = [*dataset_class.train_list, *dataset_class.test_list]
    checksums.append([dataset_class.meta["filename"], dataset_class.meta["md5"]])
    md5_of = {Path(dataset_class.base_folder, file): md5 for file, md5 in checksums}
    ensure_files(name, root, class_name, md5_of, [Path(dataset_class.filename)])

    with _naming_the_damaged_file(name, root, md5_of):
        train, test = (dataset_class(root, train=is_train) for is_train in (True, False))
    return ImageData(
        name,
        _contiguous(train.data.transpose(0, 3, 1, 2)),
        torch.tensor(train.targets),
        _contiguous(test.data.transpose(0, 3, 1, 2)),
        torch.tensor(test.targets),
        classes,
    )


def read_idx(path: Path, rank: int) -> Tensor:
    """The uint8 tensor of an idx file (http://yann.lecun.com/exdb/mnist), its header and size verified.

    Raises:
        DataError: the file cannot be read, or its header or its size is wrong.
    """
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    header = 4 + 4 * rank
    if content.size < header or content[:4].tolist() != [0, 0, 8, rank]:
        raise DataError(f"{path} is damaged: not an idx file of {rank}-d bytes; delete it to have it downloaded again")
    shape = [int(size) for size in content[4:header].view(">u4")]
    expected = header + math.prod(shape)
    if content.size != expected:
        sizes = f"its header announces {shape}, {expected} bytes, but it has {content.size}"
        raise DataError(f"{path} is damaged: {sizes}; delete it to have it downloaded again")
    return torch.from_numpy(content[header:].reshape(shape))


@contextlib.contextmanager
def _naming_the_damaged_file(name: str, root: Path, md5_of: dict[Path, str]) -> Iterator[None]:
    """Turn whatever a loader raises into a DataError that names the file whose MD5 is not the published one."""
    try:
        yield
    except Exception as error:  # whatever a damaged pickle or MATLAB file provokes
        check_integrity = import_torchvision().datasets.utils.check_integrity
        for file, md5 in md5_of.items():
            if not check_integrity(root / file, md5):
                damage = "its MD5 is not that of the original; delete it to have it downloaded again"
                raise DataError(f"{root / file} is damaged: {damage}") from error
        raise DataError(f"data set {name!r} in {root} cannot be read: {reason(error)}") from error


def _contiguous(array: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


@register_dataset("mnist", "28x28 grey handwritten digits: 60,000 train, 10,000 test")
def load_mnist(root: Path) -> ImageData:
    """MNIST (LeCun, Cortes and Burges), from `<root>/MNIST/raw`."""
    return _load_idx_set("MNIST", "mnist", root)


@register_dataset("fashion-mnist", "28x28 grey articles of clothing: 60,000 train, 10,000 test")
def load_fashion_mnist(root: Path) -> ImageData:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017), from `<root>/FashionMNIST/raw`."""
    return _load_idx_set("FashionMNIST", "fashion-mnist", root)


@register_dataset("kmnist", "28x28 grey cursive Japanese characters: 60,000 train, 10,000 test")
def load_kmnist(root: Path) -> ImageData:
    """Kuzushiji-MNIST (Clanuwat et al., 2018), from `<root>/KMNIST/raw`."""
    return _load_idx_set("KMNIST", "kmnist", root)


@register_dataset("cifar10", "32x32 colour photographs of 10 kinds of things: 50,000 train, 10,000 test")
def load_cifar10(root: Path) -> ImageData:
    """CIFAR-10 (Krizhevsky, 2009), from `<root>/cifar-10-batches-py`."""
    return _load_cifar("CIFAR10", "cifar10", 10, root)


@register_dataset("cifar100", "32x32 colour photographs of 100 kinds of things: 50,000 train, 10,000 test")
def load_cifar100(root: Path) -> ImageData:
    """CIFAR-100 with its 100 fine labels (Krizhevsky, 2009), from `<root>/cifar-100-python`."""
    return _load_cifar("CIFAR100", "cifar100", 100, root)


@register_dataset("svhn", "32x32 colour house numbers: 73,257 train, 26,032 test")
def load_svhn(root: Path) -> ImageData:
    """Street View House Numbers, cropped digits (Netzer et al., 2011), from `<root>/{train,test}_32x32.mat`."""
    dataset_class = import_torchvision().datasets.SVHN
    md5_of = {Path(file): md5 for _, file, md5 in (dataset_class.split_list[part] for part in ("train", "test"))}
    ensure_files("svhn", root, "SVHN", md5_of, [])

    with _naming_the_damaged_file("svhn", root, md5_of):
        train, test = (dataset_class(root, split=part) for part in ("train", "test"))
    train_inputs, test_inputs = _contiguous(train.data), _contiguous(test.data)
    train_labels, test_labels = torch.from_numpy(train.labels), torch.from_numpy(test.labels)
    return ImageData("svhn", train_inputs, train_labels, test_inputs, test_labels, classes=10)
