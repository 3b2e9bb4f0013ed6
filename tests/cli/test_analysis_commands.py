"""`lth overlap` and `lth connectivity`: what they compute, print and refuse."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lth.data import load_dataset
from lth.experiment import Experiment, load_experiment
from lth.results import open as results_in
from lth.store import Store
from lth.sweep.here import run_here

CONNECTIVITY = (
    "connectivity",
    "smoke",
    "--seeds",
    "0-1",
    "--copies",
    "2",
    "--points",
    "5",
    "--levels",
    "0",
    "--steps",
    "0it,20it",
)


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return load_experiment("smoke")


@pytest.fixture(scope="module")
def made(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "lth-store"
    run_here(experiment, (0, 1, 2), Store(folder), load_dataset("digits"))
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "lth-store")
    return tmp_path / "lth-store"


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started for a command that has nothing to run")

    import ray

    monkeypatch.setattr(ray, "init", refuse)


def cells(out: str, *start: str) -> list[list[str]]:
    """The rows of the printed tables that begin with these words."""
    return [line.split() for line in out.splitlines() if line.split()[: len(start)] == list(start)]


def test_overlap_prints_the_means_of_the_rows_that_it_writes(lth, store: Path, experiment: Experiment) -> None:  # type: ignore[no-untyped-def]
    status, out, errors = lth("overlap", "smoke")
    assert status == 0 and not errors and experiment.id in out
    rows = results_in(store).overlap
    assert rows.num_rows == 3 * 2 * 3 * 3  # arms, levels, pairs of seeds, two tensors and the network
    for arm in ("ticket", "reinit", "random_mask"):
        printed = {row[1]: row[2:] for row in cells(out, arm)}
        assert set(printed) == {"1", "2"}
        for level, row in printed.items():
            values = [
                found
                for found in rows.to_pylist()
                if found["arm_a"] == arm and found["tensor"] == "" and found["level_a"] == int(level)
            ]
            jaccard, chance = (sum(found[name] for found in values) / 3 for name in ("jaccard", "chance"))
            assert row[0] == "3" and float(row[1]) == pytest.approx(jaccard, abs=5e-5)
            assert row[-2] == f"{chance:.4f}" and row[-1] == f"{jaccard / chance:.2f}x"
    assert lth("overlap", experiment.id)[1] == out  # by its id, and nothing is added
    assert results_in(store).overlap.num_rows == rows.num_rows


def test_overlap_of_arms_and_levels_and_by_layer(lth, store: Path) -> None:  # type: ignore[no-untyped-def]
    out = lth("overlap", "smoke", "--between", "arms", "--levels", "1", "--arms", "ticket, reinit")[1]
    (row,) = cells(out, "reinit", "ticket")
    assert row[2:5] == ["1", "3", "1.0000"]  # the same mask
    out = lth("overlap", "smoke", "--between", "levels", "--arms", "ticket", "--by-layer")[1]
    # level 2 keeps 502 of the 717 weights of level 1, and 116 of 136
    assert [(row[1], row[5]) for row in cells(out, "ticket")] == [
        ("1.weight", f"{502 / 717:.4f}"),
        ("3.weight", f"{116 / 136:.4f}"),
    ]


def test_a_layer_that_one_mask_leaves_empty_has_no_ratio(lth, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    settings = [
        "pruning.fraction=0.9",
        "pruning.levels=3",
        "pruning.output_factor=1",
        "arms=[ticket]",
        "pruning.allow_empty_layers=true",
    ]
    run_here(load_experiment("smoke", settings), (0,), Store(tmp_path / "lth-store"), load_dataset("digits"))
    options = [word for setting in settings for word in ("--set", setting)]
    status, out, _ = lth("overlap", "smoke", "--between", "levels", "--by-layer", *options)
    assert status == 0 and "0.0000" in [word for row in cells(out, "ticket", "3.weight") for word in row]


def test_connectivity_runs_once_prints_barriers_and_finds_them_again(  # type: ignore[no-untyped-def]
    lth, store: Path, tmp_path: Path, experiment: Experiment, nothing_starts: None
) -> None:
    """The first run has Prefect, its server and Ray to itself, as a person starts it."""
    command = [str(Path(sys.executable).parent / "lth"), *CONNECTIVITY, "--cores", "2"]
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "COLUMNS": "200"}
    found = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert found.returncode == 0, found.stderr
    table = results_in(store).connectivity
    rows = table.to_pylist()
    assert sorted((row["step"], row["seed"], row["copy_a"], row["copy_b"]) for row in rows) == [
        (step, seed, 1, 2) for step in (0, 20) for seed in (0, 1)
    ]
    assert all(row["points"] == 5 and len(row["errors"]) == 5 and row["split"] == "test" for row in rows)
    printed = cells(found.stdout, "ticket", "0")
    assert [row[2:5] for row in printed] == [["0", "2", "2"], ["20", "2", "2"]]  # step, seeds, pairs
    for row, step in zip(printed, (0, 20), strict=True):
        first, second = (one["barrier"] for one in rows if one["step"] == step)
        barrier, half = (first + second) / 2, 12.7062 * abs(first - second) / 2  # t of one degree of freedom, 97.5%
        assert float(row[5]) == pytest.approx(100 * barrier, abs=0.006)
        assert row[-1] == ("yes" if barrier + half < 0.02 else "no" if barrier - half >= 0.02 else "open")

    status, out, errors = lth(*CONNECTIVITY)  # in this process, where Ray cannot start
    assert status == 0 and not errors
    assert cells(out, "ticket", "0") == printed
    assert lth(*CONNECTIVITY, "--set", "arms=[ticket]")[0] == 0
    assert lth("connectivity", experiment.id, *CONNECTIVITY[2:])[1] == out
    assert results_in(store).connectivity.equals(table)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["connectivity", "smoke", "--arms", "tickets"], ["'tickets'", "random_mask, reinit, ticket"]),
        (["connectivity", "smoke", "--arms", "dense"], ["'dense'", "add it to arms"]),
        (["connectivity", "smoke", "--levels", "0,7"], ["level 7", "no masks", "run the sweep first"]),
        (["connectivity", "smoke", "--levels", "1", "--seeds", "8-9"], ["level 1", "no masks"]),
        (["connectivity", "smoke", "--levels", "x"], ["--levels 'x'", "0,3,7"]),
        (["connectivity", "smoke", "--levels", "3-1"], ["--levels '3-1'"]),
        (["connectivity", "smoke", "--seeds", "2-0"], ["2-0", "0-2"]),
        (["connectivity", "smoke", "--copies", "1"], ["two copies", "copies 1"]),
        (["connectivity", "smoke", "--points", "2"], ["three points", "points 2"]),
        (["connectivity", "smoke", "--splits", "foo"], ["'foo'", "train, test"]),
        (["connectivity", "smoke", "--splits", "test,val"], ["'val'", "train, test"]),
        (["connectivity", "smoke", "--steps", "0it,40it"], ["step 40it", "40 steps"]),
        (["connectivity", "smoke", "--steps", "twenty"], ["'twenty'", "500it"]),
        (["connectivity", "smoke", "--steps", "5ep"], ["step 5ep", "40 steps"]),
        (["connectivity", "smoke", "--device", "tpu"], ["'tpu'", "auto, cpu or cuda"]),
        (["connectivity", "smokes"], ["'smokes'", "did you mean 'smoke'"]),
        (["connectivity", "smoke", "--store", "ftp://somewhere/else"], ["ftp"]),
        (
            ["overlap", "smoke", "--arms", "tickets"],
            ["no committed arm 'tickets'", "it has random_mask, reinit, ticket"],
        ),
        (["overlap", "smoke", "--levels", "7"], ["no two masks", "other levels or arms"]),
        (["overlap", "smoke", "--levels", "one"], ["--levels 'one'"]),
        (["overlap", "digits"], ["has no experiment 'digits-", "it has smoke-"]),
        (["overlap", "smoke-0000000000"], ["'smoke-0000000000'", "did you mean 'smoke-"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_one_clear_line_before_anything_starts(  # type: ignore[no-untyped-def]
    lth, store: Path, nothing_starts: None, arguments: list[str], expected: list[str]
) -> None:
    status, _, errors = lth(*arguments)
    assert status == 1
    lines = [line for line in errors.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), errors
    for part in expected:
        assert part in lines[0]


@pytest.mark.parametrize(
    "arguments",
    [["overlap", "smoke", "--between", "draws"], ["connectivity"], ["connectivity", "smoke", "--batch-norm", "fresh"]],
    ids=" ".join,
)
def test_wrong_calls_are_answered_with_usage(lth, store: Path, nothing_starts: None, arguments: list[str]) -> None:  # type: ignore[no-untyped-def]
    status, _, errors = lth(*arguments)
    assert status == 2 and "Usage" in errors and "Traceback" not in errors


def test_verdicts_are_those_of_the_declared_margin(lth, store: Path, experiment: Experiment) -> None:  # type: ignore[no-untyped-def]
    status, out, errors = lth("verdicts", "smoke")
    said = " ".join(out.split())
    assert status == 0 and not errors and experiment.id in out
    assert "by more than 5 points (declared;" in said and "The ticket " in said
    rows = results_in(store).verdicts
    assert rows.num_rows == 2 * (3 + 2 + 2)  # levels; what the ticket and each control are compared with
    assert set(rows["margin"].to_pylist()) == {0.05} and all(rows["declared"].to_pylist())
    assert results_in(store).query("SELECT count(*) AS n FROM verdicts").to_pylist() == [{"n": 14}]

    late = " ".join(lth("verdicts", experiment.id, "--margin", "0.3", "--arm", "reinit")[1].split())
    assert "post hoc" in late and "The margin of 30 points was chosen after the experiment first ran" in late
    again = " ".join(lth("verdicts", experiment.id, "--margin", "0.05")[1].split())
    assert "post hoc" not in again


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--arm", "magic"), "arm 'magic' has no verdict; there is ticket, random_mask, reinit"),
        (("--margin", "-1"), "--margin -1 is no margin"),
        (("--set", "name=other"), "has no experiment 'other-"),
    ],
)
def test_verdicts_refuse_in_one_line(lth, store: Path, arguments: tuple[str, ...], message: str) -> None:  # type: ignore[no-untyped-def]
    status, _, errors = lth("verdicts", "smoke", *arguments)
    assert status == 1 and message in errors and len(errors.splitlines()) <= 2


def test_verify_names_what_is_wrong_and_fails(lth, store: Path) -> None:  # type: ignore[no-untyped-def]
    status, out, errors = lth("verify")
    assert (status, errors) == (0, "") and " MB read: nothing wrong" in out
    victim = next(store.glob("masks/*/reinit-L01*"))
    victim.write_bytes(victim.read_bytes()[:-1])
    (store / "metrics" / victim.parent.name / "left-over.parquet").write_bytes(b"")
    status, out, errors = lth("verify", "smoke")
    assert status == 1 and f"damaged: masks/{victim.parent.name}/{victim.name}" in out and "extra: metrics/" in out
    assert errors.startswith("error: 1 finding in ") and len(errors.splitlines()) == 1 and "--set-aside" in errors
    assert lth("verify", "smoke", "--set", "name=other")[0] == 1


def test_verify_sets_aside_what_is_damaged_and_the_next_run_does_it_anew(  # type: ignore[no-untyped-def]
    lth, store: Path, experiment: Experiment
) -> None:
    """A flipped byte, which no listing shows."""
    before = Store(store).committed(experiment.id).rows.num_rows
    victim = next(store.glob("masks/*/reinit-L01*"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    (store / "metrics" / victim.parent.name / "left-over.parquet").write_bytes(b"")
    assert lth("verify", "smoke")[0] == 1 and Store(store).committed(experiment.id).rows.num_rows == before
    status, out, errors = lth("verify", "smoke", "--set-aside")
    assert (status, errors) == (0, "") and "1 unit set aside; the next run does them anew" in out
    assert Store(store).committed(experiment.id).rows.num_rows == before - 3
    run_here(experiment, (0, 1, 2), Store(store), load_dataset("digits"))
    assert Store(store).committed(experiment.id).rows.num_rows == before
    status, out, errors = lth("verify", "smoke", "--set-aside")
    assert (status, errors) == (0, "") and "set aside" not in out


def test_export_writes_a_ticket_and_says_what_it_is(lth, store: Path, experiment: Experiment) -> None:  # type: ignore[no-untyped-def]
    from lth import load_ticket

    wanted = ("--seed", "1", "--level", "2", "--format", "safetensors", "--format", "csr")
    status, out, errors = lth("export", "smoke", *wanted)
    folder = Path(f"{experiment.id}-ticket-L02-s1")
    assert (status, errors) == (0, "") and f"{folder}/ticket.safetensors" in out and "% measured here)" in out
    written = sorted(file.name for file in folder.iterdir())
    assert written == ["README.md", "ticket-csr.safetensors", "ticket.safetensors"]
    card = load_ticket(folder).card
    assert (card.experiment_id, card.seed, card.level, card.arm) == (experiment.id, 1, 2, "ticket")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--level", "9"), "has no ticket of seed 1 at level 9"),
        (("--level", "1", "--format", "pickle"), "unknown format 'pickle'"),
        (("--level", "1", "--output", "lth-store"), "is there already and not empty"),
        (("--level", "1", "--set", "name=other"), "has no experiment 'other-"),
    ],
)
def test_export_refuses_in_one_line(lth, store: Path, arguments: tuple[str, ...], message: str) -> None:  # type: ignore[no-untyped-def]
    status, _, errors = lth("export", "smoke", "--seed", "1", *arguments)
    assert status == 1 and message in errors and len(errors.splitlines()) == 1


def test_compare_puts_experiments_side_by_side(lth, store: Path, experiment: Experiment) -> None:  # type: ignore[no-untyped-def]
    other = load_experiment("smoke", ["name=wider", "model.arguments={hidden: [32]}", "pruning.levels=1"])
    run_here(other, (0, 1), Store(store), load_dataset("digits"))
    status, out, errors = lth("compare", "smoke", other.id, "--figure", "both.svg")
    assert (status, errors) == (0, "") and experiment.id in out and other.id in out and "level 1" in out
    drawn = Path("both.svg").read_text()
    assert "<svg" in drawn and len(drawn) > 5_000
    for arguments, message in (
        ((experiment.id,), "at least two"),
        (("smoke", "digits"), "has no experiment 'digits-"),
        (("smoke", other.id, "--arm", "magic"), "has no arm 'magic'"),
        (("smoke", other.id, "--figure", "x.gif"), "must end in .pdf"),
    ):
        status, _, errors = lth("compare", *arguments)
        assert status == 1 and message in errors and len(errors.splitlines()) == 1
    rows = (
        results_in(store)
        .query(
            "SELECT experiment_id, avg(test_accuracy_at_early_stop) AS mean FROM levels WHERE level = 0 GROUP BY ALL"
        )
        .to_pylist()
    )
    assert all(f"{100 * row['mean']:.2f}" in out for row in rows)


def test_report_writes_one_file(lth, store: Path, experiment: Experiment) -> None:  # type: ignore[no-untyped-def]
    status, out, errors = lth("report", "smoke")
    assert (status, errors) == (0, "") and out.startswith(f"{experiment.id}.html (")
    page = Path(f"{experiment.id}.html").read_text()
    assert page.startswith("<!doctype html>") and "The ticket" in page
    status, _, errors = lth("report", "smoke", "--output", "nowhere/x.html")
    assert status == 1 and "cannot write nowhere/x.html" in errors and len(errors.splitlines()) == 1


@pytest.mark.parametrize("suffix", ["pdf", "svg", "png"])
def test_report_writes_figures_for_print(lth, store: Path, suffix: str) -> None:  # type: ignore[no-untyped-def]
    status, out, errors = lth("report", "smoke", "--figures", "print/all", "--format", suffix)
    begins = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}[suffix]
    written = {file.name: file.read_bytes() for file in Path("print/all").iterdir()}
    assert (status, errors) == (0, "") and all(f"figure: print/all/{name}" in out for name in written)
    assert {
        f"{name}.{suffix}"
        for name in ("accuracy", "early-stop", "learning-curves", "layers", "cost", "pixels", "initial-values")
    } == set(written)
    assert all(data.startswith(begins) and len(data) > 5_000 for data in written.values())
    lth("report", "smoke", "--figures", "again", "--format", suffix)
    assert written == {file.name: file.read_bytes() for file in Path("again").iterdir()}


def test_figures_of_another_format_or_into_a_file_are_refused(lth, store: Path) -> None:  # type: ignore[no-untyped-def]
    Path("file").write_text("")
    for arguments, message in (
        (("--figures", "x", "--format", "gif"), "unknown format 'gif'; choose pdf"),
        (("--figures", "file"), "cannot write the figure to file/"),
    ):
        status, _, errors = lth("report", "smoke", *arguments)
        assert status == 1 and message in errors and len(errors.splitlines()) == 1


def test_plan_of_a_transfer_names_the_tickets(lth, store: Path, experiment: Experiment) -> None:  # type: ignore[no-untyped-def]
    status, out, errors = lth("plan", "smoke", "--ticket", "smoke", "--seeds", "0-2", "--set", "training.batch_size=16")
    assert (status, errors) == (0, "") and f"2, those of {experiment.id}" in out and "plan of smoke-from-smoke-" in out
    status, _, errors = lth("plan", "smoke", "--ticket", "smoke", "--seeds", "0-4")
    assert status == 1 and f"{experiment.id} has no tickets of level 0 for seeds 3-4" in errors


def test_query_prints_odd_names_and_numbers(lth, store: Path) -> None:  # type: ignore[no-untyped-def]
    assert lth("query", 'SELECT 1 AS "[/red]x"')[0] == 0 and "[/red]x" in lth("query", 'SELECT 1 AS "[/red]x"')[1]
    status, out, errors = lth("query", "SELECT 'inf'::DOUBLE AS a, [1.5, 'nan'::DOUBLE] AS b", "--format", "json")
    assert (status, errors) == (0, "") and json.loads(out) == [{"a": None, "b": [1.5, None]}]


def test_what_misses_an_earlier_level_is_one_line(lth, store: Path, experiment: Experiment) -> None:  # type: ignore[no-untyped-def]
    place = Store(store)
    unit = next(name for name in place.committed(experiment.id).units if name.startswith("ticket-L01"))
    place.quarantine_unit(experiment.id, unit)
    status, _, errors = lth("export", "smoke", "--seed", "0", "--level", "2")
    assert status == 1 and "a ticket that it comes from is not committed" in errors and len(errors.splitlines()) == 1
    assert lth("report", "smoke")[0] == 0
    unit = next(name for name in place.committed(experiment.id).units if name.startswith("ticket-L00"))
    place.quarantine_unit(experiment.id, unit)
    status, _, errors = lth("verdicts", "smoke")
    assert status == 1 and "the dense network (level 0) is not committed" in errors
    assert lth("report", "smoke", "--output", "again.html")[0] == 0
