from __future__ import annotations

import hashlib

import pytest

from lth.errors import StoreError
from lth.store import Unit, unit_name_of
from lth.store import unit as keys


def test_name_as_in_the_layout() -> None:
    digest = hashlib.sha256(b"0,1,2,7").hexdigest()[:8]
    assert Unit("ticket", 0, 3, (0, 1, 2, 7)).name == f"ticket-L03-s0-7-{digest}"
    assert Unit("random_mask", 2, 12, (5,)).name.startswith("random_mask.2-L12-s5-5-")
    assert Unit("ticket", 0, 100, (5,)).name.startswith("ticket-L100-")


def test_units_of_other_seeds_have_other_names() -> None:
    names = {Unit("ticket", 0, 0, seeds).name for seeds in [(0, 1, 3), (0, 2, 3), (0, 1, 2, 3), (0, 3)]}
    assert len(names) == 4


@pytest.mark.parametrize("seeds", [(), (1, 0), (0, 0), (-1, 0)])
def test_seeds_must_be_increasing(seeds: tuple[int, ...]) -> None:
    with pytest.raises(StoreError, match="increasing"):
        Unit("ticket", 0, 0, seeds)


def test_an_arm_cannot_look_like_another_arms_draw() -> None:
    with pytest.raises(StoreError, match=r"a\.1"):
        Unit("a.1", 0, 0, (0,))


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "a..b", "a b", "a\n", "é", "x" * 129, "a=b", "a*", "~", "\x00"],
)
def test_names_that_could_leave_the_store_are_refused(name: str) -> None:
    with pytest.raises(StoreError):
        keys.levels_key(name, "u")
    with pytest.raises(StoreError):
        keys.unit_key("masks", "e", name)
    with pytest.raises(StoreError):
        Unit(name, 0, 0, (0,))


@pytest.mark.parametrize("name", ["../x", "a//b", "/a", "a/", "a/../b", "a/.b", "a b"])
def test_report_names_stay_in_the_experiments_folder(name: str) -> None:
    with pytest.raises(StoreError):
        keys.report_key("e", name)


def test_keys() -> None:
    assert keys.levels_key("e-1", "u") == "levels/experiment=e-1/u.parquet"
    assert keys.unit_key("metrics", "e-1", "u") == "metrics/experiment=e-1/u.parquet"
    assert keys.unit_key("masks", "e-1", "u") == "masks/experiment=e-1/u.parquet"
    assert keys.checkpoint_key("e-1", "u") == "checkpoints/experiment=e-1/u.safetensors"
    assert keys.experiment_key("e-1") == "experiments/e-1/experiment.yaml"
    assert keys.sweep_key("e-1", "01234567") == "experiments/e-1/sweeps/01234567.json"
    assert keys.report_key("e-1", "figures/a.svg") == "reports/experiment=e-1/figures/a.svg"
    assert (
        keys.quarantine_key("masks/experiment=e/u.parquet", b"abc")
        == "quarantine/masks/experiment=e/u.parquet.ba7816bf"
    )
    assert (
        unit_name_of("checkpoints/experiment=e-1/ticket.2-L00-s0-1-01234567.safetensors")
        == "ticket.2-L00-s0-1-01234567"
    )
