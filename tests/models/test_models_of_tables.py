"""Networks for tables: what takes features of any number, and what takes images only."""

from __future__ import annotations

import pytest
import torch

from lth.errors import InvalidExperiment
from lth.models import build_model, model_names, prunable_tensors


def test_an_mlp_takes_the_features_of_a_table() -> None:
    network = build_model("mlp", (30,), 2, {"hidden": [100, 50]})

    assert network(torch.zeros(5, 30)).shape == (5, 2)
    tensors = prunable_tensors(network, (30,), 2)
    assert [(tensor.shape, tensor.output) for tensor in tensors] == [
        ((100, 30), False),
        ((50, 100), False),
        ((2, 50), True),
    ]


@pytest.mark.parametrize("name", sorted(set(model_names()) - {"mlp"}))
def test_networks_of_images_refuse_a_table_in_one_line(name: str) -> None:
    arguments = {"resnet": {"depth": 20}, "torchvision": {"architecture": "resnet18"}}.get(name)

    with pytest.raises(InvalidExperiment) as refused:
        build_model(name, (30,), 2, arguments)

    assert str(refused.value) == f"model {name!r} takes images, but the data set is a table of 30 features; use mlp"
