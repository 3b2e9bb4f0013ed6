"""Prefect's graph of a run is the DAG of its units, edge by edge, as its server tells it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

from flows.connectivity import connectivity
from flows.sweep import sweep
from lth.data import load_dataset
from lth.experiment import Execution, Experiment, load_experiment
from lth.store import Store
from lth.sweep.here import run_here
from lth.sweep.transfer import taking_over_experiment

pytestmark = pytest.mark.usefixtures("two_cores")
Edge = tuple[str, str]
PREPARE = "prepare · digits"


def graph_of(run: str, nodes: int) -> tuple[list[str], list[Edge]]:
    """Labels and edges (parent, child) of the newest run of that name once its server knows so many ended `nodes`."""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(like_=run)))
        newest = max(runs, key=lambda run: run.created)
        found: list[tuple[str, dict[str, Any]]] = []
        for _ in range(120):  # it records with a delay
            found = client._client.get(f"/flow_runs/{newest.id}/graph-v2").json()["nodes"]
            if len(found) >= nodes and all(node["state_type"] == "COMPLETED" for _, node in found):
                break
            time.sleep(0.5)
    names = {identity: node["label"] for identity, node in found}
    edges = [(names[parent["id"]], node["label"]) for _, node in found for parent in node["parents"]]
    children = [(node["label"], names[child["id"]]) for _, node in found for child in node["children"]]
    assert sorted(edges) == sorted(children)
    # Prefect's server names a parent once for each parent that it has itself, and at least once.
    above = Counter(child for _, child in set(edges))
    assert Counter(edges) == {edge: max(1, above[edge[0]]) for edge in edges}
    return sorted(names.values()), sorted(set(edges))


def named(stage: str, level: int, seeds: str, arm: str = "ticket") -> str:
    return f"{stage} · level {level} · {arm} · seeds {seeds}"


def within(level: int, seeds: str, arm: str = "ticket") -> list[Edge]:
    """The edges of a unit's own stages."""
    stages = ["prune"] * (arm == "ticket" and level > 0) + ["rewind", "train", "evaluate"]
    names = [named(stage, level, seeds, arm) for stage in stages]
    return list(zip(names, names[1:], strict=False))


def swept(experiment: Experiment, seeds: str, store: Store, expected: Iterable[Edge], size: int = 1) -> None:
    """The graph of a sweep has exactly these edges, each once, and no node that none of them names."""
    edges = sorted(expected)
    labels = sorted({label for edge in edges for label in edge})
    sweep(experiment, seeds, store.url, Execution(cores=2, cohort_size=size))
    assert graph_of(f"{experiment.id} · seeds {seeds}", len(labels)) == (labels, edges)


def smoke(*settings: str) -> Experiment:
    return load_experiment("smoke", settings)


def test_rounds_follow_each_other_and_controls_their_ticket(tmp_path: Path) -> None:
    """Two cohorts, which are two graphs that have only the data in common."""
    expected: list[Edge] = []
    for seed in ("0", "1"):
        expected += [
            *((PREPARE, named("rewind", 0, seed)), *within(0, seed)),
            *((named("evaluate", 0, seed), named("prune", 1, seed)), *within(1, seed)),
            *((named("evaluate", 1, seed), named("prune", 2, seed)), *within(2, seed)),
        ]
        for arm, level in (("reinit", 1), ("reinit", 2), ("random_mask", 1), ("random_mask", 2)):
            expected += [(named("evaluate", level, seed), named("rewind", level, seed, arm)), *within(level, seed, arm)]
    swept(smoke("name=rounds"), "0-1", Store(tmp_path), expected)


def test_one_shot_levels_hang_on_the_dense_network(tmp_path: Path) -> None:
    expected = [(PREPARE, named("rewind", 0, "0")), *within(0, "0")]
    for level in (1, 2):
        expected += [(named("evaluate", 0, "0"), named("prune", level, "0")), *within(level, "0")]
    swept(smoke("name=one-shot", "pruning.schedule=one_shot", "arms=[ticket]"), "0", Store(tmp_path), expected)


def test_masks_from_nothing_but_the_seed_hang_on_the_data(tmp_path: Path) -> None:
    settings = ["name=at-init", "pruning.when=at_initialisation", "pruning.criterion=snip", "pruning.schedule=one_shot"]
    expected = [(PREPARE, named("rewind", 0, "0")), *within(0, "0")]
    for level in (1, 2):
        expected += [(PREPARE, named("prune", level, "0")), *within(level, "0")]
    swept(smoke(*settings, "arms=[ticket]"), "0", Store(tmp_path), expected)


def test_late_rewinding_reads_the_dense_network_at_every_level(tmp_path: Path) -> None:
    """Once at level 1, whose mask is cut after it, too. Fresh weights are not rewound."""
    dense = named("evaluate", 0, "0")
    expected = [(PREPARE, named("rewind", 0, "0")), *within(0, "0")]
    expected += [(dense, named("prune", 1, "0")), *within(1, "0")]
    expected += [(named("evaluate", 1, "0"), named("prune", 2, "0")), *within(2, "0")]
    expected += [(dense, named("rewind", 2, "0"))]
    for level in (1, 2):
        for arm in ("reinit", "random_mask"):
            expected += [(named("evaluate", level, "0"), named("rewind", level, "0", arm)), *within(level, "0", arm)]
        expected += [(dense, named("rewind", level, "0", "random_mask"))]
    swept(smoke("name=late", "rewinding={kind: step, step: 5it}"), "0", Store(tmp_path), expected)


def test_a_resumed_run_shows_the_units_that_it_builds_on(tmp_path: Path) -> None:
    """They were cut into other cohorts: the larger one has an edge from each of those that it reads."""
    store = Store(tmp_path)
    run_here(
        smoke("name=resumed", "arms=[ticket]", "pruning.levels=1"), (0, 1), store, load_dataset("digits"), cohort_size=1
    )
    expected = within(2, "0-1") + within(1, "0-1", "reinit") + within(2, "0-1", "reinit")
    for seed in ("0", "1"):
        before = named("committed", 1, seed)
        expected += [
            (PREPARE, before),
            (before, named("prune", 2, "0-1")),
            (before, named("rewind", 1, "0-1", "reinit")),
        ]
    expected += [(named("evaluate", 2, "0-1"), named("rewind", 2, "0-1", "reinit"))]
    swept(smoke("name=resumed", "arms=[ticket, reinit]"), "0-1", store, expected, size=2)


def test_tickets_of_another_experiment_say_whose_they_are(tmp_path: Path) -> None:
    source, store = smoke("arms=[ticket]", "pruning.levels=1"), Store(tmp_path)
    run_here(source, (0,), store, load_dataset("digits"))
    taken = load_experiment(
        "smoke",
        ["training.batch_size=16", "name=taken", "arms=[ticket, reinit]"],
        taking_over_experiment(store, source.id),
    )
    theirs = f"{named('committed', 1, '0')} · of {source.id}"
    expected = [(PREPARE, named("rewind", 0, "0")), *within(0, "0"), (PREPARE, theirs)]
    expected += [(theirs, named("prune", 1, "0")), *within(1, "0")]
    expected += [(named("evaluate", 1, "0"), named("rewind", 1, "0", "reinit")), *within(1, "0", "reinit")]
    swept(taken, "0", store, expected)


def test_connectivity_hangs_on_the_tickets_that_it_reads(tmp_path: Path) -> None:
    experiment, store = smoke("name=graph-lines", "pruning.levels=2", "arms=[ticket, random_mask]"), Store(tmp_path)
    run_here(experiment, (0, 1), store, load_dataset("digits"), cohort_size=2)
    options: dict[str, Any] = {"levels": [0, 1], "copies": 2, "points": 3, "arms": ["ticket", "random_mask"]}
    connectivity(experiment, "0-1", store.url, execution=Execution(cores=2, cohort_size=1), **options)
    edges = [(PREPARE, named("committed", 1, "0-1"))]
    for seed in ("0", "1"):
        edges.append((PREPARE, f"{named('connect', 0, seed)} · from step 0"))
        for arm in ("ticket", "random_mask"):
            edges.append((named("committed", 1, "0-1"), f"{named('connect', 1, seed, arm)} · from step 0"))
    labels = sorted({label for edge in edges for label in edge})
    assert graph_of(f"connectivity of {experiment.id} · seeds 0-1", len(labels)) == (labels, sorted(edges))
