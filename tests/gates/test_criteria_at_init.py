"""Pruning at initialisation on real MNIST and CIFAR-10, against what was published. Part of `make gates`.

Like the other gate it resumes from its store and writes what came out into docs/results.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from at_init_claims import AT, small_vgg_claims, snip_claims
from lenet_claims import Claim

from lth.analysis import mean_interval
from lth.analysis.summary import seed_means
from lth.data import data_root
from lth.experiment import load_experiment
from lth.store import Store

pytestmark = [pytest.mark.gates, pytest.mark.timeout(3 * 3600)]
ROOT = Path(__file__).parents[2]
VGG = str(ROOT / "tests" / "gates" / "small-vgg-cifar10.yaml")
SNIP = ["name=snip-gate", "training.duration=20000it", "training.schedule.milestones=[7000it,14000it]"]
# At 10% a network of an eighth of the width is enough. At 1% it is not: one-shot SNIP cuts it in two.
NARROW = ["model.arguments.width=0.125", "pruning.allow_empty_layers=false"]
SPARSE = ["pruning.densities=[0.01]", "pruning.levels=1", "arms=[ticket]"]
SWEEPS = {
    "10%": {
        "synflow": NARROW,
        "snip": [*NARROW, "pruning.criterion=snip"],
        "magnitude": [
            *NARROW,
            "pruning.criterion=magnitude",
            "pruning.when=after_training",
            "pruning.densities=[0.1]",
            "pruning.levels=1",
            "rewinding={kind: step, step: 100it}",
        ],
    },
    "1%": {"synflow": [], "snip": [*SPARSE, "pruning.criterion=snip"], "random": [*SPARSE, "pruning.criterion=random"]},
}
SEEDS = os.environ.get("LTH_GATES_SEEDS", "0-2")


def swept(source: str, settings: list[str], seeds: str) -> pa.Table:
    """What is committed of a sweep after running what is missing of it."""
    store = os.environ.get("LTH_GATES_STORE", str(ROOT / "gates-store"))
    command = [
        sys.executable,
        "-c",
        "from flows.cli import main; main()",
        "run",
        source,
        "--seeds",
        seeds,
        "--store",
        store,
        *(part for setting in settings for part in ("--set", setting)),
    ]
    subprocess.run(command, check=True, cwd=ROOT)
    return Store(store).committed(load_experiment(source, settings).id).rows


@pytest.fixture(scope="session")
def snip() -> pa.Table:
    if not (data_root() / "MNIST" / "raw").is_dir():
        pytest.skip(f"MNIST is not in {data_root()}; set LTH_DATA_DIR")
    levels = swept("lenet-mnist-snip", SNIP, "0-9")
    write(
        "snip",
        [
            _setting(levels, "SNIP, LeNet-300-100, MNIST"),
            *_claims(snip_claims(levels)),
            "",
            "Final test error in %, mean ± half of the 95% t interval:",
            "",
            "| sparsity | SNIP | re-init | shuffled mask |",
            "|---|---|---|---|",
            f"| 0 (dense) | {_error(levels, 'ticket', 0)} | | |",
            *(
                f"| {name} | {_error(levels, 'ticket', level)} | {_error(levels, 'reinit', level)} | "
                f"{_error(levels, 'shuffled_mask', level)} |"
                for level, name in ((1, "95%"), (2, "98%"))
            ),
        ],
    )
    return levels


@pytest.fixture(scope="session")
def vgg() -> dict[str, dict[str, pa.Table]]:
    if (data_root() / "cifar10" / "train.parquet").is_file():
        data = ["dataset.name=parquet", "dataset.path=cifar10"]
    elif (data_root() / "cifar-10-batches-py").is_dir():
        data = []
    else:
        pytest.skip(f"CIFAR-10 is not in {data_root()}; set LTH_DATA_DIR")
    tables = {
        density: {
            name: swept(VGG, [*data, f"name=small-vgg-{name}{_ending(settings)}", *settings], SEEDS)
            for name, settings in sweeps.items()
        }
        for density, sweeps in SWEEPS.items()
    }
    page = [
        _setting(tables["10%"]["synflow"], "At 10%: VGG-11 of width 1/8, CIFAR-10"),
        _setting(tables["1%"]["synflow"], "At 1%: VGG-11 of width 1/4, CIFAR-10"),
        *_claims(small_vgg_claims(tables)),
        "",
        "Final test accuracy in %, mean ± half of the 95% t interval:",
        "",
        "| network | criterion | dense | ticket | shuffled mask |",
        "|---|---|---|---|---|",
    ]
    for density, sweeps in tables.items():
        page += [
            f"| {density} | {name} | {_accuracy(table, 'ticket', 0)} | "
            + " | ".join(_accuracy(table, arm, AT[density][name]) for arm in ("ticket", "shuffled_mask"))
            + " |"
            for name, table in sweeps.items()
        ]
    collapsed = _accuracy(tables["10%"]["snip"], "ticket", 2)
    page += [
        "",
        f"At 1% of the narrower network SNIP in one shot leaves no path from input to output in any seed "
        f"(effective density 0 in the table `layers`): accuracy {collapsed}.",
    ]
    write("small-vgg", page)
    return tables


def _ending(settings: list[str]) -> str:
    return "-sparse" if settings[:1] == SPARSE[:1] else ""


def _setting(levels: pa.Table, what: str) -> str:
    first = levels.slice(0, 1).to_pylist()[0]
    seeds = sorted(set(levels["seed"].to_pylist()))
    hours = sum(levels["train_seconds"].to_pylist()) / 3600
    return (
        f"{what}: experiment `{first['experiment_id']}`, n = {len(seeds)} seeds, {first['steps']:,} steps a "
        f"training, device {first['device']}, {hours:.2f} core-hours, code {first['code_version']}.\n"
    )


def _claims(found: list[Claim]) -> list[str]:
    return [
        "| claim | found: mean [95% t interval] | must be | holds | published |",
        "|---|---|---|---|---|",
        *(
            f"| {claim.text} | {claim.found} | {claim.bound} | {'yes' if claim.holds else '**no**'} | "
            f"{claim.published} |"
            for claim in found
        ),
    ]


def _finals(levels: pa.Table, arm: str, level: int) -> list[float]:
    return [
        100 * row["test_accuracy"]
        for row in seed_means(levels, ["test_accuracy"]).to_pylist()
        if row["arm"] == arm and row["level"] == level
    ]


def _accuracy(levels: pa.Table, arm: str, level: int | None) -> str:
    values = [] if level is None else _finals(levels, arm, level)
    if not values:
        return ""
    interval = mean_interval(values)
    return f"{interval.mean:.2f} ± {(interval.high - interval.low) / 2:.2f}"


def _error(levels: pa.Table, arm: str, level: int) -> str:
    interval = mean_interval([100 - value for value in _finals(levels, arm, level)])
    return f"{interval.mean:.2f} ± {(interval.high - interval.low) / 2:.2f}"


def write(name: str, lines: list[str]) -> None:
    """Put what came out into docs/results.md, between its marks."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = ROOT / "docs" / "results.md"
    before, rest = page.read_text().split(begin)
    page.write_text(before + "\n".join([begin, "", *lines, "", end]) + rest.split(end)[1])


@pytest.mark.xfail(strict=True, reason="not reproduced: half a percentage point is missing (docs/results.md)")
@pytest.mark.parametrize("position", range(2))
def test_snip_reaches_its_published_errors(snip: pa.Table, position: int) -> None:
    claim = snip_claims(snip)[position]
    assert claim.holds, f"{claim.text}: {claim.found}, must be {claim.bound}"


@pytest.mark.parametrize("position", range(5))
def test_a_claim_on_cifar10_holds(vgg: dict[str, dict[str, pa.Table]], position: int) -> None:
    claim = small_vgg_claims(vgg)[position]
    assert claim.holds, f"{claim.text}: {claim.found}, must be {claim.bound}"
