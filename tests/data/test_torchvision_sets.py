"""Published sets in torchvision's layout: read, fetched, and refused when damaged."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch

from lth.data import load_dataset
from lth.errors import DataError
from lth.torchvision_import import import_torchvision

datasets = import_torchvision().datasets

TINY = {
    "train-images-idx3-ubyte": np.arange(5 * 28 * 28).reshape(5, 28, 28) % 251,
    "train-labels-idx1-ubyte": np.array([3, 1, 4, 1, 5]),
    "t10k-images-idx3-ubyte": np.arange(2 * 28 * 28).reshape(2, 28, 28) % 241,
    "t10k-labels-idx1-ubyte": np.array([5, 1]),
}


def idx(array: np.ndarray[Any, Any]) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture
def tiny_mnist(tmp_path: Path) -> Path:
    """A root with MNIST of five and two images; returns its raw folder."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, array in TINY.items():
        (raw / name).write_bytes(idx(array))
    return raw


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


# --- MNIST and its successors


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_idx_files_are_read_as_torchvision_reads_them(
    name: str, folder: str, tiny_mnist: Path, tmp_path: Path, network_requests: list[str]
) -> None:
    (tmp_path / "MNIST").rename(tmp_path / folder)
    data = load_dataset(name, tmp_path)
    assert (data.name, data.classes, data.input_shape) == (name, 10, (1, 28, 28))
    train, test = (getattr(datasets, folder)(tmp_path, train=is_train) for is_train in (True, False))
    assert torch.equal(data.train_inputs.squeeze(1), train.data)
    assert torch.equal(data.train_labels, train.targets)
    assert torch.equal(data.test_inputs.squeeze(1), test.data)
    assert data.test_labels.tolist() == [5, 1]
    assert not network_requests


@pytest.mark.parametrize("file", TINY)
def test_a_truncated_file_is_named(file: str, tiny_mnist: Path, tmp_path: Path) -> None:
    content = (tiny_mnist / file).read_bytes()
    for kept in (len(content) - 1, 6, 0):
        (tiny_mnist / file).write_bytes(content[:kept])
        with pytest.raises(DataError, match=f"{file} is damaged.*delete it"):
            load_dataset("mnist", tmp_path)


def test_the_message_about_a_truncated_file_has_the_sizes(tiny_mnist: Path, tmp_path: Path) -> None:
    images = tiny_mnist / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:1016])
    with pytest.raises(DataError, match=r"announces \[5, 28, 28\], 3936 bytes, but it has 1016"):
        load_dataset("mnist", tmp_path)


def test_a_file_of_another_kind_is_named(tiny_mnist: Path, tmp_path: Path) -> None:
    (tiny_mnist / "t10k-images-idx3-ubyte").write_bytes(b"<html>404 Not Found</html>" * 100)
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte is damaged: not an idx file of 3-d bytes"):
        load_dataset("mnist", tmp_path)


def test_a_label_out_of_range_and_a_missing_label_are_refused(tiny_mnist: Path, tmp_path: Path) -> None:
    labels = tiny_mnist / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(np.array([3, 1, 11, 1, 5])))
    with pytest.raises(DataError, match="train split of data set 'mnist' has the label 11"):
        load_dataset("mnist", tmp_path)
    labels.write_bytes(idx(np.array([3, 1, 4, 1])))
    with pytest.raises(DataError, match="train split of data set 'mnist' has 5 images but 4 labels"):
        load_dataset("mnist", tmp_path)


def test_a_file_of_the_original_size_with_other_content_is_damaged(tiny_mnist: Path, tmp_path: Path) -> None:
    victim = tiny_mnist / "t10k-labels-idx1-ubyte"
    victim.write_bytes(idx(np.zeros(10_000, dtype=np.uint8)))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte is damaged: its SHA-256"):
        load_dataset("mnist", tmp_path)


def test_real_mnist(real_data: Path) -> None:
    data = load_dataset("mnist", real_data)
    assert data.train_inputs.shape == (60_000, 1, 28, 28)
    assert data.test_inputs.shape == (10_000, 1, 28, 28)
    train_counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(data.train_labels).tolist() == train_counts
    assert torch.bincount(data.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# --- CIFAR and SVHN


@pytest.fixture
def tiny_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with CIFAR-10 of two training files of two images each, and one test image; returns its folder."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.arange(5 * 3072).reshape(5, 3072) % 256
    contents: dict[str, Any] = {
        "data_batch_1": {"data": pixels[:2].astype(np.uint8), "labels": [7, 2]},
        "data_batch_2": {"data": pixels[2:4].astype(np.uint8), "labels": [0, 9]},
        "test_batch": {"data": pixels[4:].astype(np.uint8), "labels": [9]},
        "batches.meta": {"label_names": list("abcdefghij")},
    }
    sums = {name: md5(pickle.dumps(content)) for name, content in contents.items()}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in (1, 2)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return folder


def test_cifar_has_its_channels_first(tiny_cifar: Path, tmp_path: Path) -> None:
    data = load_dataset("cifar10", tmp_path)
    assert data.train_labels.tolist() == [7, 2, 0, 9]
    assert data.test_labels.tolist() == [9]
    expected = torch.arange(5 * 3072).remainder(256).to(torch.uint8).reshape(5, 3, 32, 32)
    assert torch.equal(data.train_inputs, expected[:4])
    assert torch.equal(data.test_inputs, expected[4:])
    assert data.train_inputs.is_contiguous()


@pytest.mark.parametrize("file", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_damaged_cifar_file_is_named_and_kept(
    file: str, tiny_cifar: Path, tmp_path: Path, network_requests: list[str]
) -> None:
    (tiny_cifar / file).write_bytes(b"damaged")
    with pytest.raises(DataError, match=f"{file} is damaged: its MD5 is not that of the original; delete it"):
        load_dataset("cifar10", tmp_path)
    assert (tiny_cifar / file).read_bytes() == b"damaged"
    assert not network_requests


@pytest.fixture
def tiny_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = {"train": [10, 1, 9], "test": [9, 10]}
    split_list = {}
    for part, labels in rows.items():
        images = np.arange(32 * 32 * 3 * len(labels)).reshape(32, 32, 3, len(labels)) % 256
        file = tmp_path / f"{part}_32x32.mat"
        scipy.io.savemat(file, {"X": images.astype(np.uint8), "y": np.array(labels, np.uint8)[:, None]})
        split_list[part] = ["http://example.invalid/", file.name, md5(file.read_bytes())]
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)
    return tmp_path


def test_svhn_labels_are_digits_and_channels_come_first(tiny_svhn: Path) -> None:
    data = load_dataset("svhn", tiny_svhn)
    assert data.train_labels.tolist() == [0, 1, 9]
    assert data.test_labels.tolist() == [9, 0]
    assert data.train_inputs.shape == (3, 3, 32, 32)
    # In the file the order is height, width, channel, image.
    assert int(data.train_inputs[2, 1, 4, 5]) == (((4 * 32 + 5) * 3 + 1) * 3 + 2) % 256


def test_a_damaged_svhn_file_is_named(tiny_svhn: Path) -> None:
    file = tiny_svhn / "test_32x32.mat"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"test_32x32\.mat is damaged"):
        load_dataset("svhn", tiny_svhn)


# --- Fetching


ALL = ["mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100", "svhn"]


@pytest.mark.parametrize("name", ALL)
def test_absent_and_no_network(name: str, tmp_path: Path, network_requests: list[str]) -> None:
    root = tmp_path / "new"
    with pytest.raises(DataError) as raised:
        load_dataset(name, root)
    message = str(raised.value)
    assert message.startswith(f"data set '{name}' is not in {root} (")
    assert "download failed" in message and "no network in tests" in message and "LTH_DATA_DIR" in message
    assert "\n" not in message
    assert network_requests
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("name", ALL)
def test_no_download_where_it_could_not_be_kept(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network_requests: list[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(DataError, match="is not writable, so it was not downloaded"):
        load_dataset(name, tmp_path / "new")
    assert not network_requests
    assert list(tmp_path.iterdir()) == []


def test_a_parquet_copy_of_cifar_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "train.parquet").touch()
    with pytest.raises(DataError, match=r"--set dataset\.name=parquet --set dataset\.path=cifar10$"):
        load_dataset("cifar10", tmp_path)


class Response(io.BytesIO):
    def __init__(self, content: bytes, url: str) -> None:
        super().__init__(content)
        self.url, self.length = url, len(content)


@pytest.fixture
def archives(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What the mirror of MNIST serves, by file name: the tiny set."""
    served = {f"{name}.gz": gzip.compress(idx(array)) for name, array in TINY.items()}
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://example.invalid/"])
    monkeypatch.setattr(datasets.MNIST, "resources", [(name, md5(content)) for name, content in served.items()])
    return served


@pytest.fixture
def mirror(archives: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    def urlopen(request: urllib.request.Request, *args: Any, **kwargs: Any) -> Response:
        return Response(archives[request.full_url.rpartition("/")[2]], request.full_url)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return archives


def test_a_download_is_kept_and_silent(
    mirror: dict[str, bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "deep" / "new"
    data = load_dataset("mnist", root)
    assert data.train_labels.tolist() == [3, 1, 4, 1, 5]
    assert capfd.readouterr().out == ""
    assert [entry.name for entry in root.iterdir()] == ["MNIST"]
    assert {file.name for file in (root / "MNIST" / "raw").iterdir()} == set(TINY)
    mirror.clear()
    assert load_dataset("mnist", root).fingerprint() == data.fingerprint()


def test_only_what_is_missing_is_replaced(mirror: dict[str, bytes], tiny_mnist: Path, tmp_path: Path) -> None:
    (tiny_mnist / "t10k-labels-idx1-ubyte").unlink()
    other = idx(np.array([5, 1, 5, 1, 1]))
    (tiny_mnist / "train-labels-idx1-ubyte").write_bytes(other)
    data = load_dataset("mnist", tmp_path)
    assert data.test_labels.tolist() == [5, 1]
    assert data.train_labels.tolist() == [5, 1, 5, 1, 1]


def test_a_download_that_breaks_off_leaves_nothing(mirror: dict[str, bytes], tmp_path: Path) -> None:
    mirror["t10k-images-idx3-ubyte.gz"] = mirror["t10k-images-idx3-ubyte.gz"][:-20]
    with pytest.raises(DataError, match=r"its download failed .*t10k-images-idx3-ubyte"):
        load_dataset("mnist", tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_archives_in_place_are_unpacked_without_a_network(
    archives: dict[str, bytes], tmp_path: Path, network_requests: list[str]
) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in archives.items():
        (raw / name).write_bytes(content)
    assert load_dataset("mnist", tmp_path).train_labels.tolist() == [3, 1, 4, 1, 5]
    assert not network_requests
