"""Seeds are added until the claim is decided: what is run, what is said, and where it goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lth
from lth.errors import InvalidExperiment
from lth.experiment import load_experiment
from lth.store import Store
from lth.until_decided import UntilDecided, run_until_decided, settled, so_far

FAST = ["pruning.levels=1", "arms=[ticket]", "training.duration=20it"]


def test_which_seeds_are_added() -> None:
    until = UntilDecided(at_most=12)
    assert until.more((0, 1, 2, 3, 4), 5) == tuple(range(10))
    assert until.more(tuple(range(10)), 5) == tuple(range(12)) and until.more(tuple(range(12)), 5) == tuple(range(12))
    assert UntilDecided(batch=2).more((3, 8), 2) == (3, 8, 9, 10)
    assert UntilDecided(at_most=5).all_seeds((3, 8)) == (3, 8, 9, 10, 11)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"at_most": 1}, "at_most is 1, fewer than the 2 seeds to begin with"),
        ({"batch": 0}, "batch is 0; add at least 1 seed"),
        ({"seeds": [2**31 - 2]}, "no seeds can be added after 2147483646"),
        ({"at_most": 10**7}, "10,000,000 seeds are"),
    ],
    ids=str,
)
def test_mistakes_are_one_line_before_anything_trains(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(InvalidExperiment, match=message):
        lth.run("smoke", **{"seeds": "0-1", "store": tmp_path, "until_decided": True, **arguments})
    assert not Store(tmp_path).experiments()


def test_it_stops_at_the_bound_says_each_look_and_goes_on_from_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fewer than nine seeds can never be decided once some were added: the e-value of six is 20 at most."""
    found = lth.run("smoke", "0-1", store=tmp_path, settings=FAST, until_decided=True, at_most=6, batch=2)
    said = capsys.readouterr().err
    assert sorted(set(found.levels["seed"].to_pylist())) == [0, 1, 2, 3, 4, 5]
    assert "is undecided with n = 2:" in said and "Adding seeds 2-3." in said and "Adding seeds 4-5." in said
    assert "It may have 6 seeds at most, and has them: it stays undecided." in said
    assert set(found.verdicts["rule"].to_pylist()) == {"anytime"} and "seeds were added" in caveats_of(found)
    store, experiment = Store(tmp_path), load_experiment("smoke", FAST)
    places = {record["seeds"]: record["place"] for record in store.sweeps(experiment.id)}
    assert places == {"0-1": 0, "0-3": 1, "0-5": 2}

    # It goes on with the seeds that it had added, and runs nothing that is committed.
    until, ran = UntilDecided(8, 2), []
    assert so_far(experiment, (0, 1), store, until) == (0, 1, 2, 3, 4, 5)
    assert run_until_decided(experiment, (0, 1), store, until, ran.append) == tuple(range(8))
    assert ran == [tuple(range(6)), tuple(range(8))]
    assert settled(experiment, (0, 1), store, UntilDecided(6, 2)) and not settled(experiment, (0, 1), store, until)


def caveats_of(found: lth.notebook.RunResults) -> str:  # type: ignore[name-defined]
    from lth.report import caveats

    return " ".join(caveats(found.verdicts))


def test_it_ends_when_it_is_decided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Forty points are a margin that any ticket keeps within; two seeds of it are no proof, ten are."""
    settings = [*FAST, "margin=0.4"]
    found = lth.run("smoke", "0-1", store=tmp_path, settings=settings, until_decided=True, at_most=40, batch=8)
    seeds = sorted(set(found.levels["seed"].to_pylist()))
    assert f"decided with {len(seeds)} seeds (0-{len(seeds) - 1})" in capsys.readouterr().err
    assert len(seeds) in (2, 10) and found.verdicts["verdict"].to_pylist() == ["matching"]
    before = found.levels.num_rows
    again = lth.run("smoke", "0-1", store=tmp_path, settings=settings, until_decided=True, at_most=40, batch=8)
    assert again.levels.num_rows == before


def test_seeds_added_by_hand_are_judged_by_the_same_rule(tmp_path: Path) -> None:
    first = lth.run("smoke", "0-2", store=tmp_path, settings=FAST, progress=False)
    assert first.verdicts["rule"].to_pylist() == ["fixed n"]
    part = lth.run("smoke", "0-1", store=tmp_path, settings=FAST, progress=False)  # nothing new
    assert part.verdicts["rule"].to_pylist() == ["fixed n"]
    more = lth.run("smoke", "0-3", store=tmp_path, settings=FAST, progress=False)
    assert more.verdicts["rule"].to_pylist() == ["anytime"]
    sql = more.query("SELECT rule, failed, n FROM verdicts").to_pylist()
    assert sql == [{"rule": "anytime", "failed": 0, "n": 4}]


def test_a_record_that_cannot_be_read_makes_no_fixed_n(tmp_path: Path) -> None:
    lth.run("smoke", "0-2", store=tmp_path, settings=FAST, progress=False)
    experiment = load_experiment("smoke", FAST)
    (record,) = (tmp_path / "experiments" / experiment.id / "sweeps").iterdir()
    for damaged in ("{", json.dumps({"seeds": "zero", "levels": 1, "arms": ["ticket:1"]}), json.dumps([1])):
        record.chmod(0o644)
        record.write_text(damaged)
        assert lth.results.open(tmp_path, experiment.id).verdicts["rule"].to_pylist() == ["anytime"]


def test_the_command_says_it_and_plans_for_the_bound(command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    words = ["--seeds", "0-1", "--until-decided", "--at-most", "4", *[w for s in FAST for w in ("--set", s)]]
    status, out, _ = command("plan", "smoke", *words)
    assert status == 0 and "0-1 (2), then 2 at a time until it is decided; 4 at most" in out
    assert "8 planned" in out and not Store(tmp_path / "lth-store").experiments()
    status, out, _ = command("run", "smoke", "--here", *words)
    assert status == 0 and "Adding seeds 2-3." in out and "it stays undecided" in out and "n = 4" in out
    status, out, _ = command("run", "smoke", "--here", *words)
    assert status == 0 and "all 8 trainings are committed" in out
    for option in ("--at-most", "--batch"):
        status, _, errors = command("run", "smoke", option, "4")
        assert status == 1 and f"{option} 4 is about seeds that are added; give --until-decided too" in errors


def test_with_prefect_every_batch_is_a_run_of_the_flow(command, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """One server for all of them; times are added up. The flow itself is left out here."""
    import flows.cli.run
    import flows.sweep
    from lth.experiment import parse_seeds
    from lth.sweep.here import sweep_here

    runs, servers = [], []

    def flow(experiment, seeds, store, execution):  # type: ignore[no-untyped-def]
        runs.append(seeds)
        done = sweep_here(experiment, parse_seeds(seeds), Store(store), execution)
        seconds = {"start": 1.0, "wall": 2.0, **({"pruning": 0.5} if len(runs) == 1 else {})}
        return {"diverged": sum(one.diverged for one in done.values()), "seconds": seconds, "slots": 2}

    def served(start, experiment, console, kept):  # type: ignore[no-untyped-def]
        servers.append(experiment.id)
        return start()

    monkeypatch.setattr(flows.sweep, "sweep", flow)
    monkeypatch.setattr(flows.cli.run, "run_flow", served)
    words = [word for setting in FAST for word in ("--set", setting)]
    status, out, _ = command("run", "smoke", "--seeds", "0-1", "--until-decided", "--at-most", "5", *words)
    assert status == 0 and runs == ["0-1", "0-3", "0-4"] and len(servers) == 1
    assert "pruning 0.5 s" in out and "n = 5" in out
