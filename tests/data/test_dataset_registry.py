"""Data sets by name: choosing, adding, refusing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lth.data import DATASETS, ImageData, data_root, dataset_names, load_dataset, register_dataset
from lth.errors import DataError, InvalidExperiment


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATASETS, "_entries", dict(DATASETS._entries))


def one_image(label: int = 0) -> ImageData:
    inputs, labels = torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([label, 1])
    return ImageData("one", inputs, labels, inputs, labels, classes=2)


def test_every_data_set_has_a_one_line_description() -> None:
    names = dataset_names()
    assert [name for name in names if name not in ("cifar10", "cifar100", "fashion-mnist", "kmnist", "svhn")] == [
        "breast-cancer",
        "diabetes",
        "digits",
        "mnist",
        "parquet",
        "table",
    ]
    assert all(text and "\n" not in text for text in names.values())


def test_unknown_name_suggests_the_nearest_and_lists_all() -> None:
    with pytest.raises(DataError, match=r"unknown data set 'fashion_mnist'; did you mean 'fashion-mnist'.*cifar10, ci"):
        load_dataset("fashion_mnist")
    with pytest.raises(DataError, match="unknown data set 'zzz'; known: breast-cancer"):
        load_dataset("zzz")


def test_a_path_is_for_parquet_and_parquet_needs_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.path belongs to `parquet` and `table` only.*leave 'here' out"):
        load_dataset("digits", tmp_path, "here")
    with pytest.raises(DataError, match=r"'parquet' needs dataset\.path, its folder"):
        load_dataset("parquet", tmp_path)


def test_a_target_is_for_tables_and_tables_need_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.target belongs to `table` only.*leave 'label' out"):
        load_dataset("digits", tmp_path, target="label")
    with pytest.raises(DataError, match=r"'table' needs dataset\.target, the column to learn"):
        load_dataset("table", tmp_path, "here")


def test_a_registered_data_set_loads_from_the_root(tmp_path: Path) -> None:
    roots = []

    @register_dataset("one", "One black image")
    def load_one(root: Path) -> ImageData:
        roots.append(root)
        return one_image()

    assert load_dataset("one", tmp_path).classes == 2
    assert roots == [tmp_path]
    assert dataset_names()["one"] == "One black image"
    register_dataset("one", "One black image, described anew")(load_one)
    assert dataset_names()["one"].endswith("anew")


def test_a_name_is_given_once() -> None:
    with pytest.raises(InvalidExperiment, match="a data set named 'digits' is registered already"):
        register_dataset("digits", "Others")(lambda root: one_image())


def test_what_a_loader_returns_is_checked(tmp_path: Path) -> None:
    register_dataset("one", "A label out of range")(lambda root: one_image(label=7))
    with pytest.raises(DataError, match="has the label 7"):
        load_dataset("one", tmp_path)


def test_root_is_the_argument_or_the_environment_or_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LTH_DATA_DIR", "~/sets")
    assert data_root(Path("given")) == Path("given")
    assert data_root() == tmp_path / "sets"
    for absent in ("", None):
        monkeypatch.delenv("LTH_DATA_DIR") if absent is None else monkeypatch.setenv("LTH_DATA_DIR", absent)
        assert data_root() == tmp_path / ".cache" / "lth" / "data"


def test_importing_the_registry_is_light() -> None:
    heavy = "{'torchvision', 'sklearn', 'scipy', 'pyarrow', 'PIL'}"
    code = f"import sys, lth.data; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
