"""The judge of the gates, on made-up tables: it can say no. Part of the quick suite."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest
from at_init_claims import small_vgg_claims, snip_claims
from lenet_claims import claims

from lth.store import LEVELS


def table(ticket: float, reinit: float, random_mask: float, dense: float, stops: tuple[int, int, int]) -> pa.Table:
    """Five seeds around the given accuracies; `stops` are the early stops of dense, ticket and re-init."""
    rows = []
    for seed in range(5):
        for level in (0, 7, 9, 15, 19):
            for arm, value, stop in (
                ("ticket", ticket, stops[1]),
                ("reinit", reinit, stops[2]),
                ("random_mask", random_mask, stops[2]),
            ):
                if level == 0 and arm != "ticket":
                    continue
                found = dict.fromkeys(LEVELS.names)
                value, stop = (dense, stops[0]) if level == 0 else (value, stop)
                found.update(
                    experiment_id="made-up",
                    arm=arm,
                    seed=seed,
                    draw=0,
                    level=level,
                    density=0.8**level,
                    weights_remaining=1,
                    weights_total=1,
                    dataset="mnist",
                    model="mlp",
                    steps=1,
                    early_stop_step=stop + seed,
                    test_accuracy_at_early_stop=value + 0.0001 * seed,
                    status="ok",
                    device="cpu",
                    cohort_size=5,
                    threads=1,
                    precision="float32",
                    code_version="0",
                    finished_at=datetime.datetime.now(datetime.UTC),
                )
                rows.append(found)
    return pa.Table.from_pylist(rows, LEVELS)


def test_good_tickets_pass_every_claim() -> None:
    found = claims(table(0.98, 0.965, 0.94, 0.979, (5000, 3000, 6000)))
    assert len(found) == 9 and all(claim.holds for claim in found)
    assert found[0].found.startswith("+0.10 pp") and found[8].found.startswith("+4.00 pp")


@pytest.mark.parametrize(
    ("values", "failing"),
    [
        ((0.977, 0.96, 0.94, 0.979, (5000, 3000, 6000)), [0, 1, 2]),
        ((0.98, 0.9795, 0.94, 0.979, (5000, 3000, 6000)), [3, 4, 5]),
        ((0.98, 0.96, 0.94, 0.979, (2000, 3000, 4000)), [6, 7]),
        ((0.98, 0.96, 0.97, 0.979, (5000, 3000, 6000)), [8]),
    ],
)
def test_each_claim_can_fail(
    values: tuple[float, float, float, float, tuple[int, int, int]], failing: list[int]
) -> None:
    found = claims(table(*values))
    assert [position for position, claim in enumerate(found) if not claim.holds] == failing


def finals(values: dict[tuple[str, int], float]) -> pa.Table:
    """Three seeds with the given final test accuracies by arm and level, each seed a little off."""
    rows = []
    for (arm, level), value in values.items():
        for seed in range(3):
            found = dict.fromkeys(LEVELS.names)
            found.update(
                experiment_id="made-up",
                arm=arm,
                seed=seed,
                draw=0,
                level=level,
                weights_total=1,
                dataset="mnist",
                model="mlp",
                steps=1,
                test_accuracy=value + 0.0001 * seed,
                status="ok",
                device="cpu",
                cohort_size=3,
                threads=1,
                precision="float32",
                code_version="0",
                finished_at=datetime.datetime.now(datetime.UTC),
            )
            rows.append(found)
    return pa.Table.from_pylist(rows, LEVELS)


@pytest.mark.parametrize(
    ("at_95", "at_98", "holds"),
    [
        (0.982, 0.976, [True, True]),
        (0.979, 0.976, [False, True]),
        (0.982, 0.971, [True, False]),
        (0.982, 0.981, [True, False]),
    ],
)
def test_snip_must_be_near_dense_at_95_and_near_its_published_error_at_98(
    at_95: float, at_98: float, holds: list[bool]
) -> None:
    found = snip_claims(finals({("ticket", 0): 0.983, ("ticket", 1): at_95, ("ticket", 2): at_98}))
    assert [claim.holds for claim in found] == holds


def test_the_claims_about_criteria_can_fail_one_by_one() -> None:
    def holds(
        synflow: float = 0.6,
        snip: float = 0.55,
        random: float = 0.3,
        magnitude: float = 0.7,
        moved: tuple[float, float, float] = (0.65, 0.695, 0.695),
    ) -> list[bool]:
        shuffled = dict(zip(("magnitude", "snip", "synflow"), moved, strict=True))
        tens = {"synflow": 0.7, "snip": 0.7, "magnitude": magnitude}
        tables = {
            "10%": {
                name: finals({("ticket", 1): ticket, ("shuffled_mask", 1): shuffled[name]})
                for name, ticket in tens.items()
            },
            "1%": {
                "synflow": finals({("ticket", 2): synflow}),
                "snip": finals({("ticket", 1): snip}),
                "random": finals({("ticket", 1): random}),
            },
        }
        return [claim.holds for claim in small_vgg_claims(tables)]

    assert holds() == [True] * 5
    assert holds(synflow=0.54) == [False, True, True, True, True]
    assert holds(random=0.55) == [True, False, True, True, True]
    assert holds(magnitude=0.65) == [True, True, False, True, True]
    assert holds(moved=(0.65, 0.68, 0.695)) == [True, True, True, False, True]
    assert holds(moved=(0.65, 0.695, 0.68)) == [True, True, True, True, False]
