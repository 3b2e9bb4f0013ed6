"""Removing an experiment, or what is kept of it: planned first, nothing in use, finished after any interruption."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lth.results
from lth import yaml_text
from lth.errors import LthError, StoreError
from lth.experiment import load_experiment
from lth.store import Store, Unit
from lth.store.curated import Curated, compact
from lth.store.removal import clean, delete_experiment, plan_cleaning, plan_deletion
from lth.store.verify import verify

from .cohorts import EXPERIMENT, tables
from .test_commits import checkpoint_of
from .test_curated import Killed, assert_delta_is_published, killed_after

OTHER, TAKES_OVER = "other-0123456789", "taker-0123456789"
UNITS = (Unit("ticket", 0, 0, (0, 1)), Unit("ticket", 0, 1, (0, 1)))


def fill(store: Store) -> Store:
    for identifier in (EXPERIMENT, OTHER):
        store.put_experiment(identifier, "data_sha256: ab\n")
        store.put_sweep(identifier, {"seeds": "0-1", "levels": 1, "arms": []})
        for unit in UNITS:
            store.commit(identifier, unit, *tables(unit, identifier), checkpoint_of(unit))
        store.put_progress(identifier, UNITS[1], UNITS[1], {"weights": torch.zeros(3)}, "begun")
        store.put_report(identifier, "report.html", b"<html></html>")
    compact(store)
    return store


@pytest.fixture
def filled(store: Store) -> Store:
    return fill(store)


def keys_of(store: Store, identifier: str) -> list[str]:
    return [key for key in all_keys(store) if identifier in key]


def all_keys(store: Store) -> list[str]:
    kinds = "levels metrics masks checkpoints progress claims reports layers experiments curated quarantine tickets"
    return [key for kind in kinds.split() for key in store.objects.sizes(kind)]


def test_an_experiment_goes_and_the_others_stay(filled: Store) -> None:
    before = keys_of(filled, OTHER)
    plan = plan_deletion(filled, EXPERIMENT)
    assert len(plan) == len(keys_of(filled, EXPERIMENT)) and plan.bytes > 0 and plan.losses == ()
    assert keys_of(filled, EXPERIMENT), "a plan removes nothing"
    delete_experiment(filled, EXPERIMENT)
    assert keys_of(filled, EXPERIMENT) == [] and keys_of(filled, OTHER) == before
    assert filled.experiments() == [OTHER]
    assert set(Curated(filled).read("levels")["experiment_id"].to_pylist()) == {OTHER}
    assert lth.results.open(filled.url).metrics.num_rows == 24
    assert {each.trouble for each in verify(filled).findings} == {"extra"}  # its training in progress
    assert len(plan_deletion(filled, EXPERIMENT)) == 0
    delete_experiment(filled, EXPERIMENT)


def test_a_deletion_that_is_killed_anywhere_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(Store(tmp_path / "begun"))
    for writes in range(100):
        folder = tmp_path / f"store{writes}"
        shutil.copytree(tmp_path / "begun", folder)
        store = Store(folder)
        other = keys_of(store, OTHER)
        killed_after(monkeypatch, writes)
        try:
            delete_experiment(store, EXPERIMENT)
        except Killed:
            monkeypatch.undo()
        else:
            monkeypatch.undo()
            break
        results = lth.results.open(store.url)
        assert results.damaged == {}, "what has a commit mark is whole"
        ours = [row for row in results.levels["experiment_id"].to_pylist() if row == EXPERIMENT]
        assert len(ours) in (0, 2, 4)
        assert not [each for each in verify(store).findings if each.trouble in ("damaged", "contradictory")]
        delete_experiment(store, EXPERIMENT)
        assert keys_of(store, EXPERIMENT) == [] and keys_of(store, OTHER) == other
        assert_delta_is_published(store)
    assert writes > 10


def a_process_that_has_ended() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_sweep_is_at_stays(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = {"checkpoints": True, "progress": True, "quarantine": True}
    with filled.claims(EXPERIMENT) as claims:
        assert claims.take(UNITS[1].name) is None
        with pytest.raises(LthError, match=f"in use by a sweep that runs, process {os.getpid()}"):
            delete_experiment(filled, EXPERIMENT)
        plan = plan_cleaning(filled, EXPERIMENT, **everything)
        assert len(plan) == 0 and any("may need them" in line for line in plan.kept)
        assert any("1 trainings that a sweep is at" in line for line in plan.kept)
        other = plan_cleaning(filled, OTHER, **everything)
        assert {kind: len(found) for kind, found in other.objects.items() if found} == {"checkpoints": 2, "progress": 1}
        # One that takes tickets over from the other is at work: its rewind points are needed.
        again = load_experiment(
            "smoke", ["pruning={levels: 1, fraction: {dense: 0.2, conv: 0.1}}", f"transfer.experiment={EXPERIMENT}"]
        )
        spec = {"data_sha256": "ab", "experiment": again.model_dump(mode="json")}
        filled.put_experiment(again.id, yaml_text.dump(spec))
        assert plan_deletion(filled, OTHER).losses == ()
    assert "takes its tickets over" in plan_deletion(filled, EXPERIMENT).losses[0]
    plan = plan_cleaning(filled, EXPERIMENT, **everything)
    with filled.claims(EXPERIMENT) as claims:
        claims.take(UNITS[1].name)
        with pytest.raises(StoreError, match="has begun meanwhile"):
            clean(filled, plan)
    claims.give_back(UNITS[1].name)
    clean(filled, plan)
    assert [key for key in keys_of(filled, EXPERIMENT) if key.startswith(("checkpoints", "progress"))] == []
    assert filled.committed(EXPERIMENT).damaged == {} and len(filled.committed(EXPERIMENT).where) == 4


def test_claims_of_a_process_that_has_ended_are_no_trouble_and_are_removed(filled: Store) -> None:
    claims = filled.claims(EXPERIMENT)
    claims.take(UNITS[1].name)
    claims._count(3)
    live = [each.key for each in verify(filled).findings if each.key.startswith("claims/")]
    assert len(live) == 2, "this process runs"
    from dataclasses import replace

    from lth.store.checksum import sealed
    from lth.store.unit import claim_key, sweep_claim_key

    dead = replace(claims.owner, process=a_process_that_has_ended())
    filled.objects.replace(claim_key(EXPERIMENT, UNITS[1].name), sealed(vars(dead)))
    filled.objects.replace(sweep_claim_key(EXPERIMENT, dead.sweep), sealed({**vars(dead), "count": 3}))
    found = verify(filled)
    assert not [each for each in found.findings if each.key.startswith("claims/")]
    assert any("2 claims of sweeps that have ended" in note for note in found.notes)
    plan = plan_cleaning(filled, EXPERIMENT)
    assert len(plan.objects["claims"]) == 2
    clean(filled, plan)
    assert filled.objects.sizes("claims") == {}


def test_only_what_is_old_goes(file_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(file_store)
    root = Path(file_store.objects.location.root)
    old, young = sorted((root / "checkpoints" / f"experiment={EXPERIMENT}").iterdir())
    then = young.stat().st_mtime - 40 * 86400
    os.utime(old, (then, then))
    plan = plan_cleaning(file_store, EXPERIMENT, checkpoints=True, older_than=30 * 86400)
    assert [Path(key).name for key in plan.objects["checkpoints"]] == [old.name]
    assert any("level 0" in line for line in plan.losses) and any("rewind points" in line for line in plan.losses)
    # Whatever this machine's clock says: objects are dated by who holds them.
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert plan_cleaning(file_store, EXPERIMENT, checkpoints=True, older_than=30 * 86400).objects == plan.objects
