"""Which parameters of unusual networks can be pruned, and what is said of the others."""

from __future__ import annotations

import pytest
import torch
from odd_networks import (
    HIDDEN,
    PIXELS,
    Attention,
    Frozen,
    Functional,
    Mixed,
    Recurrent,
    Scalars,
    Shared,
    layers,
    orthogonal,
    spectral_normed,
    weight_normed,
)
from torch import nn

from lth.errors import InvalidExperiment
from lth.models import build_model, structure_of
from lth.models.computed_weights import let_rows_be_zero
from lth.models.structure import Structure

SHAPE = (1, 8, 8)


def structure(module: nn.Module, **overrides: object) -> Structure:
    return structure_of(module, SHAPE, 10, **overrides)  # type: ignore[arg-type]


def positions(module: nn.Module) -> dict[str, tuple[str, int, int]]:
    return {tensor.name: (tensor.kind, tensor.positions, tensor.fan_in) for tensor in structure(module).prunable}


def left(module: nn.Module) -> dict[str, str]:
    return {each.name: each.reason for each in structure(module).dense if len(each.shape) > 1}


def test_weights_that_no_layer_is_called_with() -> None:
    assert positions(Functional()) == {
        "filters": ("conv", 36, 9),
        "heads": ("dense", 1, 144),
        "layer.weight": ("dense", 1, 24),
        "matrix": ("dense", 1, 12),
    }
    assert [tensor.name for tensor in structure(Functional()).prunable if tensor.output] == ["matrix"]
    assert left(Functional()) == {}


def test_attention_of_every_form() -> None:
    found = positions(Attention())

    assert found == {
        "within.in_proj_weight": ("dense", 8, 8),
        "within.out_proj.weight": ("dense", 8, 8),
        "across.q_proj_weight": ("dense", 3, 12),
        "across.k_proj_weight": ("dense", 8, 8),
        "across.v_proj_weight": ("dense", 8, 8),
        "across.out_proj.weight": ("dense", 3, 12),
        "encoder.self_attn.in_proj_weight": ("dense", 3, 12),
        "encoder.self_attn.out_proj.weight": ("dense", 3, 12),
        "encoder.linear1.weight": ("dense", 3, 12),
        "encoder.linear2.weight": ("dense", 3, 16),
        "head.weight": ("dense", 1, 12),
    }
    reasons = left(Attention())
    assert list(reasons) == ["positions", "queries", "norm.weight", "norm.bias"]
    assert "added" in reasons["positions"]
    assert "given" in reasons["queries"]
    assert "norm" in reasons["norm.weight"]


def test_recurrent_weights_are_applied_at_every_step() -> None:
    found = positions(Recurrent())

    assert found.pop("head.weight") == ("dense", 1, 12)
    assert {kind for kind, _, _ in found.values()} == {"dense"}
    assert {name: count for name, (_, count, _) in found.items()} == dict.fromkeys(found, 8)
    matrices = {name for name, tensor in Recurrent().named_parameters() if tensor.ndim > 1} - {"head.weight"}
    assert set(found) == matrices


def with_zero_rows(module: nn.Module) -> nn.Module:
    let_rows_be_zero(module)  # as `build_model` does
    return module


def test_computed_weights_count_where_their_zeros_stay() -> None:
    new, old = "3.parametrizations.weight.original1", "4.weight_v"
    assert list(positions(with_zero_rows(weight_normed()))) == ["1.weight", new, old, "5.weight"]
    assert left(with_zero_rows(weight_normed())) == {
        "3.parametrizations.weight.original0": "scales a weight",
        "4.weight_g": "scales a weight",
    }
    assert "no number" in left(weight_normed())[new]  # torch's own divides an empty row by nothing
    assert list(positions(spectral_normed())) == [
        "1.weight",
        "3.parametrizations.weight.original",
        "4.weight_orig",
        "5.weight",
    ]
    assert positions(spectral_normed())["4.weight_orig"] == ("dense", 1, 12)


def test_computed_weights_stay_dense_where_their_zeros_do_not_and_each_is_named() -> None:
    name = "3.parametrizations.weight.original"
    found = structure(orthogonal())

    assert name not in {tensor.name for tensor in found.prunable}
    assert [tensor.name for tensor in found.elsewhere] == [name]  # it multiplies all the same
    assert "not zero where it is" in left(orthogonal())[name]
    reasons = left(Mixed())
    assert {name: reasons[name].split()[1] for name in reasons} == {
        "filters.weight": "mixed",
        "base.weight": "frozen",
        "down": "mixed",
        "up": "mixed",
        "rows": "a",
    }
    assert "no number" in reasons["rows"]
    assert list(positions(Mixed())) == ["head.weight"]


def test_frozen_weights_are_said_to_be_and_count_as_multiplications() -> None:
    found = structure(Frozen())

    assert [tensor.name for tensor in found.prunable] == ["layers.1.weight", "layers.6.weight"]
    assert [tensor.name for tensor in found.elsewhere] == ["layers.3.weight"]
    assert {each.name for each in found.dense if not each.trained} == {
        "layers.3.weight",
        "layers.3.bias",
        "doubles",
        "halves",
        "whole",
    }


def test_a_shared_weight_is_one_and_counts_in_every_use() -> None:
    assert positions(Shared()) == {
        "a.weight": ("dense", 3, 12),
        "table.weight": ("dense", 1, 12),
        "head.weight": ("dense", 1, 17),
    }


def test_what_takes_no_part_is_named() -> None:
    assert list(positions(Scalars())) == ["features.0.weight", "by_name.to/classes"]
    assert left(Scalars()) == {
        "empty": "has no entries",
        "dead.weight": "takes no part in the outputs for blank examples",
    }


def test_every_parameter_is_either_prunable_or_left() -> None:
    for module in (Functional(), Attention(), Recurrent(), Mixed(), Frozen(), Shared(), Scalars(), orthogonal()):
        found = structure(module)
        names = [each.name for each in (*found.prunable, *found.dense)]
        assert sorted(names) == sorted(name for name, _ in module.named_parameters())


@pytest.mark.parametrize(
    ("module", "name", "wanted"),
    [
        (Frozen(), "layers.3.weight", "frozen"),
        (orthogonal(), "3.parametrizations.weight.original", "computed weight"),
        (Mixed(), "rows", "no number"),
        (Scalars(), "empty", "no entries"),
    ],
)
def test_what_cannot_be_pruned_cannot_be_named(module: nn.Module, name: str, wanted: str) -> None:
    with pytest.raises(InvalidExperiment, match=wanted) as caught:
        structure(module, prunable=[name])
    assert repr(name) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64])
def test_trained_parameters_of_another_type_are_refused_by_name(dtype: torch.dtype) -> None:
    module = layers()
    module[3].weight = nn.Parameter(module[3].weight.detach().to(dtype))
    with pytest.raises(InvalidExperiment, match=r"'3\.weight'.*float32") as caught:
        structure(module)
    assert str(dtype).removeprefix("torch.") in str(caught.value)


def test_torchvisions_swin_is_prunable_but_for_its_tables() -> None:
    module = build_model("torchvision", (3, 64, 64), 10, {"architecture": "swin_t"})
    found = structure_of(module, (3, 64, 64), 10)
    matrices = [name for name, tensor in module.named_parameters() if tensor.ndim > 1]

    assert {tensor.name for tensor in found.prunable} == {name for name in matrices if "table" not in name}
    assert sum(tensor.size for tensor in found.prunable) > 27e6
    assert all("added" in each.reason for each in found.dense if "table" in each.name)


def test_weight_norm_of_an_empty_row_is_zero() -> None:
    module = weight_normed()
    new, old, eye = module[3], module[4], torch.eye(HIDDEN)
    before = [layer(eye).detach() for layer in (new, old)]
    let_rows_be_zero(module)
    assert all(torch.allclose(layer(eye), was, atol=1e-6) for layer, was in zip((new, old), before, strict=True))
    with torch.no_grad():
        new.parametrizations.weight.original1[3] = 0
        old.weight_v[5] = 0
    output = module(torch.randn(4, PIXELS))
    output.sum().backward()

    assert (new.weight[3] == 0).all()
    assert (old.weight[5] == 0).all()
    assert output.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())
