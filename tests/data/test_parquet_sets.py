"""Image sets in Parquet: layouts that are read, and mistakes that are named."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from lth.data import channel_statistics, load_dataset
from lth.errors import DataError


def encoded(pixels: np.ndarray[Any, Any], form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, form)
    return buffer.getvalue()


def pictures(n: int, *shape: int) -> list[np.ndarray[Any, Any]]:
    generator = np.random.default_rng(len(shape))
    return [generator.integers(0, 256, shape, dtype=np.uint8) for _ in range(n)]


def write(file: Path, images: Sequence[bytes | None], labels: Any, image: str = "img", label: str = "label") -> None:
    column = pa.array(
        [None if content is None else {"bytes": content, "path": f"{i}.png"} for i, content in enumerate(images)],
        type=pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({image: column, label: labels}), file, row_group_size=4)


def write_set(folder: Path, n: int = 6) -> list[np.ndarray[Any, Any]]:
    """`n` grey training images and two test images; labels 0, 1, 2, 0, 1, ..."""
    images = pictures(n + 2, 5, 4)
    write(folder / "train.parquet", [encoded(picture) for picture in images[:n]], [i % 3 for i in range(n)])
    write(folder / "test.parquet", [encoded(picture) for picture in images[n:]], [2, 0])
    return images


def test_grey_images(tmp_path: Path) -> None:
    images = write_set(tmp_path / "set")
    data = load_dataset("parquet", tmp_path, "set")
    assert data.name == "parquet:set"
    assert data.classes == 3
    assert data.input_shape == (1, 5, 4)
    assert np.array_equal(data.train_inputs.numpy()[:, 0], images[:6])
    assert np.array_equal(data.test_inputs.numpy()[:, 0], images[6:])
    assert data.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.test_labels.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("column_type", "label"), [(pa.int64(), "label"), (pa.uint8(), "label"), (pa.int32(), "fine_label")]
)
def test_colour_images_in_shards_of_the_hub(column_type: pa.DataType, label: str, tmp_path: Path) -> None:
    images = pictures(5, 6, 7, 3)
    contents = [encoded(picture) for picture in images]
    folder = tmp_path / "a" / "b"
    for shard, (first, last) in enumerate(((0, 1), (1, 3), (3, 4))):
        numbers = pa.array(range(first, last), type=column_type)
        write(folder / f"train-{shard:05d}-of-00003.parquet", contents[first:last], numbers, "image", label)
    write(folder / "test-00000-of-00001.parquet", contents[4:], pa.array([3], type=column_type), "image", label)
    data = load_dataset("parquet", tmp_path, "a/b")
    assert data.train_labels.tolist() == [0, 1, 2, 3]
    assert np.array_equal(data.train_inputs.numpy(), np.stack(images[:4]).transpose(0, 3, 1, 2))
    assert data.classes == 4


def test_label_goes_before_fine_label(tmp_path: Path) -> None:
    write_set(tmp_path)
    table = pq.read_table(tmp_path / "train.parquet")
    pq.write_table(table.append_column("fine_label", pa.array([5] * 6)), tmp_path / "train.parquet")
    assert load_dataset("parquet", tmp_path, ".").classes == 3


def test_more_rows_than_are_decoded_at_once(tmp_path: Path) -> None:
    shades = np.arange(2500) % 256
    contents = [encoded(np.full((2, 2), shade)) for shade in range(256)]
    write(tmp_path / "train.parquet", [contents[shade] for shade in shades], np.arange(2500) % 7)
    write(tmp_path / "test.parquet", contents[:1], [0])
    data = load_dataset("parquet", tmp_path, ".")
    assert np.array_equal(data.train_inputs.numpy()[:, 0, 1, 1], shades)
    assert np.array_equal(data.train_labels.numpy(), np.arange(2500) % 7)


def test_grey_images_join_a_colour_set_but_not_the_other_way(tmp_path: Path) -> None:
    colour, grey = encoded(pictures(1, 5, 4, 3)[0]), encoded(pictures(1, 5, 4)[0])
    write(tmp_path / "train.parquet", [colour, grey], [0, 1])
    write(tmp_path / "test.parquet", [grey], [0])
    inputs = load_dataset("parquet", tmp_path, ".").train_inputs
    assert torch.equal(inputs[1, 0], inputs[1, 2])
    write(tmp_path / "train.parquet", [grey, colour], [0, 1])
    with pytest.raises(DataError, match=r"train\.parquet, row 1: the image has mode RGB, but the first training image"):
        load_dataset("parquet", tmp_path, ".")


@pytest.mark.parametrize("path", ["../outside", "inside/../../outside", "/etc", ".."])
def test_a_path_out_of_the_root_is_refused(path: str, tmp_path: Path) -> None:
    write_set(tmp_path / "outside")
    (tmp_path / "root").mkdir()
    with pytest.raises(DataError, match="leads out of"):
        load_dataset("parquet", tmp_path / "root", path)


def test_an_absolute_path_below_the_root_is_fine(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    assert load_dataset("parquet", tmp_path, str(tmp_path / "set")).classes == 3


def test_missing_folders_splits_and_shards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path / 'set'} is no folder"):
        load_dataset("parquet", tmp_path, "set")
    write_set(tmp_path / "set")
    (tmp_path / "set" / "test.parquet").unlink()
    with pytest.raises(DataError, match=r"has no test\*\.parquet"):
        load_dataset("parquet", tmp_path, "set")
    (tmp_path / "set" / "train.parquet").rename(tmp_path / "set" / "train-00000-of-00002.parquet")
    with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet is missing"):
        load_dataset("parquet", tmp_path, "set")


def test_two_copies_of_a_split_are_not_joined(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / "train-00000-of-00001.parquet").write_bytes((tmp_path / "train.parquet").read_bytes())
    with pytest.raises(DataError, match=r"train\.parquet does not belong to its 1 train shards"):
        load_dataset("parquet", tmp_path, ".")


@pytest.mark.parametrize("split_name", ["train", "test"])
def test_truncated_and_empty_files_are_named(split_name: str, tmp_path: Path) -> None:
    write_set(tmp_path)
    file = tmp_path / f"{split_name}.parquet"
    content = file.read_bytes()
    for kept in (len(content) // 2, 4, 0):
        file.write_bytes(content[:kept])
        with pytest.raises(DataError, match=rf"{split_name}\.parquet cannot be read as Parquet"):
            load_dataset("parquet", tmp_path, ".")
    write(file, [], pa.array([], pa.int64()))
    with pytest.raises(DataError, match=rf"{split_name}\.parquet has no rows"):
        load_dataset("parquet", tmp_path, ".")


def test_an_undecodable_image_is_named_with_its_row(tmp_path: Path) -> None:
    images = write_set(tmp_path)
    whole = [encoded(picture) for picture in images[:6]]
    jpeg = encoded(pictures(1, 5, 4)[0], "JPEG")
    for broken in (b"no image", b"", whole[0][:-30], jpeg[: len(jpeg) - 20]):
        write(tmp_path / "train.parquet", [*whole[:5], broken], [0, 1, 2, 0, 1, 2])
        with pytest.raises(DataError, match=r"train\.parquet, row 5: the image cannot be decoded"):
            load_dataset("parquet", tmp_path, ".")
    write(tmp_path / "train.parquet", [*whole[:4], None, whole[5]], [0, 1, 2, 0, 1, 2])
    with pytest.raises(DataError, match=r"train\.parquet, row 4, has no image bytes"):
        load_dataset("parquet", tmp_path, ".")


def test_images_of_another_size_or_depth_are_named_with_their_row(tmp_path: Path) -> None:
    write_set(tmp_path)
    good = encoded(pictures(1, 5, 4)[0])
    write(tmp_path / "test.parquet", [good, encoded(pictures(1, 4, 5)[0])], [0, 1])
    with pytest.raises(
        DataError, match=r"test\.parquet, row 1: the image has 5x4 pixels, the first training image 4x5"
    ):
        load_dataset("parquet", tmp_path, ".")
    deep = io.BytesIO()
    Image.fromarray(np.full((5, 4), 40_000, np.uint16)).save(deep, "PNG")
    write(tmp_path / "test.parquet", [deep.getvalue()], [0])
    with pytest.raises(DataError, match=r"test\.parquet, row 0: the image has mode I;16 with more than 8 bits"):
        load_dataset("parquet", tmp_path, ".")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pa.array([0, 1, 2, 0, 1, -1]), r"train\.parquet, row 5, has the label -1"),
        (pa.array([0, 1, None, 0, 1, 2]), r"train\.parquet, row 2, has the label None"),
        (
            pa.array([0, 1, 2, 0, 1, 2**64 - 1], pa.uint64()),
            r"train\.parquet, row 5, has the label 18446744073709551615",
        ),
        (pa.array([0.0, 1.0, 2.0, 0.0, 1.0, 2.0]), r"train\.parquet has label of type double"),
    ],
)
def test_unusable_labels_are_named(labels: pa.Array, message: str, tmp_path: Path) -> None:
    images = write_set(tmp_path)
    write(tmp_path / "train.parquet", [encoded(picture) for picture in images[:6]], labels)
    with pytest.raises(DataError, match=message):
        load_dataset("parquet", tmp_path, ".")


def declared(names: Sequence[str], label: str = "label") -> dict[bytes, bytes]:
    """Metadata of a Parquet file that the Hugging Face hub makes."""
    features = {label: {"names": list(names), "_type": "ClassLabel"}, "img": {"_type": "Image"}}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def write_labels(folder: Path, train: Sequence[int], test: Sequence[int], *metadata: dict[bytes, bytes]) -> None:
    """Grey images with these labels; metadata of the training split, and of the test split."""
    for number, (split, labels) in enumerate((("train", train), ("test", test))):
        file = folder / f"{split}.parquet"
        write(file, [encoded(picture) for picture in pictures(len(labels), 5, 4)], pa.array(labels, pa.int64()))
        if number < len(metadata):
            pq.write_table(pq.read_table(file).replace_schema_metadata(metadata[number]), file)


def test_labels_with_gaps_are_the_classes_that_there_are(tmp_path: Path) -> None:
    write_labels(tmp_path, [30, 10, 0, 20, 10, 30, 20, 0], [20, 0])
    data = load_dataset("parquet", tmp_path, ".")
    assert (data.classes, data.labels) == (4, ("0", "10", "20", "30"))
    assert (data.train_labels.tolist(), data.test_labels.tolist()) == ([3, 1, 0, 2, 1, 3, 2, 0], [2, 0])
    assert [note for note in data.caveats() if "not numbered without gaps: they are 4 classes" in note]
    assert [note for note in data.caveats() if "The test split has no example of 2 of 4 classes ('10', '30')" in note]
    write_labels(tmp_path, [0, 1, 2, 0, 1, 2], [1, 0, 2])
    plain = load_dataset("parquet", tmp_path, ".")
    assert (plain.classes, plain.labels, plain.caveats()) == (3, (), ())


def test_classes_that_metadata_name_are_those(tmp_path: Path) -> None:
    names = declared(["cat", "dog", "emu", "fox"])
    write_labels(tmp_path, [0, 1, 3, 0, 1, 3], [3, 1, 0], names, names)
    data = load_dataset("parquet", tmp_path, ".")
    assert (data.classes, data.labels) == (4, ("cat", "dog", "emu", "fox"))
    assert data.train_labels.tolist() == [0, 1, 3, 0, 1, 3]
    assert "The training split has no example of 1 of 4 classes ('emu'): nothing is learnt of what it lacks." in (
        data.caveats()
    )
    write_labels(tmp_path, [0, 1, 3, 0, 1, 3], [2], names, names)
    with pytest.raises(DataError, match="class 'emu' of data set 'parquet:.' is in the test split only"):
        load_dataset("parquet", tmp_path, ".")
    write_labels(tmp_path, [0, 1, 4], [1], names, names)
    with pytest.raises(DataError, match="row 2, has the label 4, but the file's metadata name 4 classes"):
        load_dataset("parquet", tmp_path, ".")
    write_labels(tmp_path, [0, 1], [1], names, declared(["dog", "cat", "emu", "fox"]))
    with pytest.raises(DataError, match=r"test\.parquet names other classes in its metadata than .*train\.parquet"):
        load_dataset("parquet", tmp_path, ".")


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"info": null}', b'{"info": {"features": {"label": 3}}}'])
def test_metadata_of_another_shape_say_nothing(tmp_path: Path, content: bytes) -> None:
    write_labels(tmp_path, [0, 1], [1], {b"huggingface": content})
    assert load_dataset("parquet", tmp_path, ".").classes == 2


def test_classes_that_cannot_be_learnt_are_refused(tmp_path: Path) -> None:
    write_labels(tmp_path, [0, 1, 0, 1], [1, 7])
    with pytest.raises(DataError, match="row 1, has the label 7, which no training image has"):
        load_dataset("parquet", tmp_path, ".")
    write_labels(tmp_path, [4, 4, 4], [4])
    with pytest.raises(DataError, match="has the one class '4': there is nothing to learn"):
        load_dataset("parquet", tmp_path, ".")


def test_a_set_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 200}[name])
    with pytest.raises(DataError, match=r"train\.parquet begins 6 images of 4x5 pixels, .* half of this machine's"):
        load_dataset("parquet", tmp_path, ".")


def test_splits_that_are_the_same_are_said_to_be(tmp_path: Path) -> None:
    write_labels(tmp_path, [0, 1, 0, 1], [0, 1, 0, 1])
    assert load_dataset("parquet", tmp_path, ".").caveats() == (
        "The test split holds the images of the training split: its scores say nothing of others.",
    )


def test_unusable_columns_are_named(tmp_path: Path) -> None:
    images = write_set(tmp_path)
    contents = [encoded(picture) for picture in images[:6]]
    write(tmp_path / "train.parquet", contents, [0] * 6, image="picture")
    with pytest.raises(DataError, match=r"train\.parquet has the columns picture, label: it needs img or image"):
        load_dataset("parquet", tmp_path, ".")
    pq.write_table(pa.table({"img": contents, "label": [0] * 6}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet has img of type binary: it must be a struct"):
        load_dataset("parquet", tmp_path, ".")


def test_real_cifar10(real_data: Path) -> None:
    if not (real_data / "cifar10" / "train.parquet").is_file():
        pytest.skip("LTH_DATA_DIR has no cifar10/train.parquet")
    data = load_dataset("parquet", real_data, "cifar10")
    assert data.train_inputs.shape == (50_000, 3, 32, 32)
    assert data.test_inputs.shape == (10_000, 3, 32, 32)
    assert torch.bincount(data.train_labels).tolist() == [5000] * 10
    assert torch.bincount(data.test_labels).tolist() == [1000] * 10
    mean, std = channel_statistics(data.train_inputs, torch.arange(50_000))
    # The usual constants of CIFAR-10, in raw pixels; this copy went through JPEG.
    assert mean.tolist() == pytest.approx([125.3, 123.0, 113.9], abs=0.2)
    assert std.tolist() == pytest.approx([63.0, 62.1, 66.7], abs=0.6)
