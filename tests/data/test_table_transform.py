"""Columns to inputs: by hand, against scikit-learn, on the training split only, the same bits in any cohort."""

from __future__ import annotations

from dataclasses import replace
from math import nan, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from small_tables import small_table, with_numbers

from lth.data import TableData, load_dataset, split
from lth.data.examples import TARGET, Column, Tensors
from lth.data.table_transform import FEATURES
from lth.objectives import Target

FIRST_FOUR = torch.arange(4)


def inputs_of(data: TableData, splits: list[torch.Tensor], raw: Tensors, standardise: str = "channel") -> torch.Tensor:
    """float32 [seeds, rows, features]: all of `raw` as each seed sees it, fitted to its split."""
    transform = data.transform(standardise)
    fitted = [transform.fit(data.examples().train, indices) for indices in splits]
    stacked = {name: torch.stack([each[name] for each in fitted]) for name in fitted[0]}
    repeated = {name: tensor.repeat(len(splits), *[1] * (tensor.ndim - 1)) for name, tensor in raw.items()}
    out = torch.full((len(splits), len(raw[FEATURES]), *data.input_shape), nan)
    assert transform.inputs(repeated, stacked, (), out) is out
    return out


def test_by_hand() -> None:
    """Ages 1, 3 and 5 of the first four rows: mean 3, variance 8/3. The fifth row, of age 100, does not train."""
    data, far = small_table(), 2 / sqrt(8 / 3)
    train = inputs_of(data, [FIRST_FOUR], data.examples().train)[0]
    # age, city Bonn, city Rome, empty; age missing, city missing
    expected = [
        [-far, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 1, 0, 0, 1, 0],
        [far, 0, 1, 0, 0, 0],
        [97 / sqrt(8 / 3), 1, 0, 0, 0, 0],
    ]
    assert torch.equal(train, torch.tensor(expected, dtype=torch.float64).float())

    test = inputs_of(data, [FIRST_FOUR], data.examples().test)[0]
    # a missing city, then one that the training split does not have: no city, but not missing
    assert torch.equal(test, torch.tensor([[0, 0, 0, 0, 0, 1], [4 / sqrt(8 / 3), 0, 0, 0, 0, 0]]))


def test_none_leaves_numbers_as_they_are() -> None:
    data = small_table()
    train = inputs_of(data, [FIRST_FOUR], data.examples().train, "none")[0]
    assert train[:, 0].tolist() == [1, 3, 0, 5, 100]
    assert train[:, 4].tolist() == [0, 0, 1, 0, 0]


def test_a_number_to_learn_is_standardised_on_the_training_split() -> None:
    """10, 20, 30 and 40: mean 25, variance 125."""
    data = with_numbers()
    for standardise in ("channel", "none"):
        transform = data.transform(standardise)
        fitted = transform.fit(data.examples().train, FIRST_FOUR)
        stacked = {name: tensor.unsqueeze(0) for name, tensor in fitted.items()}
        targets = transform.targets(data.train_target.unsqueeze(0), stacked)
        assert targets.dtype == torch.float32 and targets.shape == (1, 5)
        assert torch.allclose(targets[0], (torch.tensor([10.0, 20, 30, 40, 1000]) - 25) / sqrt(125))
        _, units = transform.module(fitted)
        assert torch.allclose(units(targets.view(5, 1)).flatten(), data.train_target.float())


def test_classes_stay_classes() -> None:
    data = small_table()
    transform = data.transform()
    fitted = transform.fit(data.examples().train, FIRST_FOUR)
    assert set(fitted) == {"mean", "scale"}
    assert transform.targets(data.train_target, fitted) is data.train_target
    logits = torch.randn(3, 2)
    assert transform.module(fitted)[1](logits) is logits
    assert transform.draw(7, torch.Generator()) == ()


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-200, 1e20])
def test_a_constant_column_is_zero(value: float) -> None:
    """In float64 the mean of three times 0.1 is not 0.1."""
    features = torch.full((7, 1), value, dtype=torch.float64)
    data = small_table(
        columns=(Column("same"),),
        train_features=features,
        test_features=features,
        train_target=torch.arange(7) % 2,
        test_target=torch.arange(7) % 2,
    )
    data.check()
    assert not inputs_of(data, [torch.arange(3), torch.arange(7)], data.examples().test).any()


def test_what_does_not_train_is_not_measured() -> None:
    data = small_table()
    other = data.train_features.clone()
    other[4, 0] = -1e9
    changed = replace(data, train_features=other, test_features=data.test_features * 3)
    for name, tensor in data.transform().fit(data.examples().train, FIRST_FOUR).items():
        assert torch.equal(changed.transform().fit(changed.examples().train, FIRST_FOUR)[name], tensor)


def test_statistics_do_not_depend_on_the_order_of_rows() -> None:
    data = load_dataset("breast-cancer")
    train, _ = split(456, 76, seed=3)
    shuffled = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))]
    transform = data.transform("channel", 0, False)
    one, other = (transform.fit(data.examples().train, indices) for indices in (train, shuffled))
    assert torch.equal(one["mean"], other["mean"]) and torch.equal(one["scale"], other["scale"])


@pytest.mark.parametrize("data", [small_table(), with_numbers()], ids=["classes", "numbers"])
def test_a_seed_has_the_same_bits_alone_and_in_a_cohort(data: TableData) -> None:
    splits = [torch.tensor(chosen) for chosen in ([0, 1, 2, 3], [0, 1, 4], [1, 2, 3, 4])]
    raw = data.examples().train
    together = inputs_of(data, splits, raw)
    for row, indices in enumerate(splits):
        assert torch.equal(inputs_of(data, [indices], raw)[0], together[row])


@pytest.mark.parametrize("standardise", ["channel", "none"])
@pytest.mark.parametrize("data", [small_table(), with_numbers()], ids=["classes", "numbers"])
def test_the_module_makes_the_same_inputs(data: TableData, standardise: str) -> None:
    transform = data.transform(standardise)
    module, _ = transform.module(transform.fit(data.examples().train, FIRST_FOUR))
    for raw in (data.examples().train, data.examples().test):
        outside = module(raw[FEATURES].float())
        assert outside.dtype == torch.float32
        assert torch.equal(outside, inputs_of(data, [FIRST_FOUR], raw, standardise)[0])


def test_the_module_runs_in_onnxruntime() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    data = with_numbers()
    transform = data.transform()
    encode, units = transform.module(transform.fit(data.examples().train, FIRST_FOUR))
    torch.manual_seed(0)
    network = torch.nn.Sequential(encode, torch.nn.Linear(6, 1), units).eval()
    raw = data.train_features.float()
    program = torch.onnx.export(
        network, (raw,), input_names=["columns"], dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (raw, raw[:2]):
        (found,) = session.run(None, {"columns": batch.numpy()})
        assert np.allclose(found, network(batch).detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    ("path", "target", "features"), [("framingham", "label", 22), ("framingham", "sysBP", 22), ("caravan", "label", 85)]
)
def test_numbers_as_scikit_learn_has_them(path: str, target: str, features: int, real_data: Path) -> None:
    """Imputing the training mean and then standardising is standardising and then 0."""
    from sklearn.impute import MissingIndicator
    from sklearn.preprocessing import StandardScaler

    data = load_dataset("table", real_data, path, target)
    assert isinstance(data, TableData) and data.input_shape == (features,)
    examples = data.examples()
    train, _ = split(len(examples.train[TARGET]), 500, seed=1)
    scaler = StandardScaler().fit(examples.train[FEATURES][train].numpy())
    everything = np.concatenate([examples.train[FEATURES], examples.test[FEATURES]])
    indicator = MissingIndicator(features="missing-only").fit(everything)

    for raw in (examples.train, examples.test):
        values = raw[FEATURES].numpy()
        expected = np.concatenate([np.nan_to_num(scaler.transform(values)), indicator.transform(values)], 1)
        assert np.allclose(inputs_of(data, [train], raw)[0], expected, rtol=1e-6, atol=1e-6)
    if data.target == Target("number"):
        transform = data.transform()
        fitted = {name: tensor.unsqueeze(0) for name, tensor in transform.fit(examples.train, train).items()}
        learnt = StandardScaler().fit(data.train_target[train].numpy()[:, None])
        expected = learnt.transform(data.test_target.numpy()[:, None])[:, 0]
        assert np.allclose(transform.targets(data.test_target.unsqueeze(0), fitted)[0], expected, rtol=1e-6, atol=1e-6)


def test_categories_as_scikit_learn_has_them(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    generator = np.random.default_rng(0)
    splits = {}
    for name, rows, cities in (("train", 200, ["Bonn", "Rome", "Oslo"]), ("test", 50, ["Rome", "Oslo", "Nice"])):
        city = [None if generator.random() < 0.1 else str(generator.choice(cities)) for _ in range(rows)]
        size = [None if generator.random() < 0.2 else float(generator.normal(50, 9)) for _ in range(rows)]
        splits[name] = (city, size)
        table = pa.table({"city": city, "size": size, "ill": [row % 3 for row in range(rows)]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    data = load_dataset("table", tmp_path, ".", "ill")
    train, _ = split(200, 40, seed=0)
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit([["Bonn"], ["Oslo"], ["Rome"]])
    numbers = make_pipeline(SimpleImputer(strategy="mean"), StandardScaler())
    sizes = {name: np.array([[nan if x is None else x] for x in size]) for name, (_, size) in splits.items()}
    numbers.fit(sizes["train"][train])
    # the imputer fills in before the deviation is measured: that one is ours by the share of values that are there
    present = ~np.isnan(sizes["train"][train])
    share = sqrt(present.mean())
    for name, raw in (("train", data.examples().train), ("test", data.examples().test)):
        city = np.array([["?" if each is None else each] for each in splits[name][0]])
        missing = np.concatenate([city == "?", np.isnan(sizes[name])], 1)
        expected = np.concatenate([encoder.transform(city), numbers.transform(sizes[name]) * share, missing], 1)
        assert isinstance(data, TableData)
        assert np.allclose(inputs_of(data, [train], raw)[0], expected, rtol=1e-6, atol=1e-6)
