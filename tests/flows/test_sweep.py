"""The flow on a real local Ray and a real Prefect server: results, resuming, retries, bounds, failures."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import TaskRun
from prefect.context import FlowRunContext
from stored_tables import tables_of

from flows.sweep import SweepFailed, sweep
from lth.data import load_dataset
from lth.errors import LthError
from lth.experiment import Execution, Experiment, load_experiment
from lth.store import Store, Unit
from lth.sweep.here import run_here
from lth.sweep.progress import LISTENER, Event, Planned, Steps, UnitChanged
from lth.sweep.record import code_version
from lth.sweep.transfer import taking_over_experiment
from tasks.cluster import Cluster

TWO_CORES = Execution(cores=2)
pytestmark = pytest.mark.usefixtures("two_cores")


def smoke(*settings: str) -> Experiment:
    return load_experiment("smoke", settings)


def task_runs(name: str) -> list[TaskRun]:
    """What the server recorded of the newest flow run of that name; it records with a delay."""
    with get_client(sync_client=True) as client:
        for _ in range(60):
            runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(like_=name)))
            newest = max(runs, key=lambda run: run.created)
            from prefect.client.schemas.filters import FlowRunFilterId, TaskRunFilter

            found = client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[newest.id])),
                task_run_filter=TaskRunFilter(),
                limit=200,
            )
            if found and all(run.state and run.state.is_final() for run in found):
                return list(found)
            time.sleep(0.5)
    raise AssertionError("the server never recorded the end of the task runs")


@pytest.fixture
def events() -> list[Event]:
    seen: list[Event] = []
    token = LISTENER.set(seen.append)
    yield seen
    LISTENER.reset(token)


def test_the_flow_lands_what_the_stages_alone_land_and_resumes_from_the_store(
    tmp_path: Path, events: list[Event]
) -> None:
    experiment, store, alone = smoke("name=flow"), Store(tmp_path / "flow"), Store(tmp_path / "alone")
    remembered: list[int] = []

    def listen(event: Event) -> None:
        events.append(event)
        context = FlowRunContext.get()
        remembered.append(len(context.run_results) if context else 0)

    LISTENER.set(listen)
    outcome = sweep(experiment, "0-2", store.url, TWO_CORES)
    LISTENER.set(None)
    assert outcome["planned"] == outcome["committed"] == 21 and outcome["committed_before"] == 0
    run_here(experiment, (0, 1, 2), alone, load_dataset("digits"))
    assert tables_of(store, experiment) == tables_of(alone, experiment)

    # Prefect remembers nothing of past units.
    assert max(remembered) == 0

    # Never more in flight than Ray has room for, and every unit once.
    flying: set[Unit] = set()
    for event in events:
        if isinstance(event, UnitChanged):
            (flying.add if event.what == "started" else flying.remove)(event.unit)
            assert len(flying) <= 2
    assert 0 < max(event.trained for event in events if isinstance(event, Steps)) <= 21 * 40
    planned = next(event for event in events if isinstance(event, Planned))
    assert planned.units == sum(isinstance(event, UnitChanged) and event.what == "committed" for event in events)

    names = sorted(run.name for run in task_runs("flow-%"))
    assert "train · level 2 · random_mask · seeds 0-1" in names and "prune · level 1 · ticket · seeds 2" in names
    assert len(names) == 1 + 2 * (3 + 2 * (4 + 3 + 3))  # prepare; two cohorts: dense, then two levels of three arms

    split = outcome["seconds"]
    assert split["wall"] == pytest.approx(sum(spent for name, spent in split.items() if name != "wall"), abs=0.1)
    assert {"start", "training", "evaluation", "storage", "pruning", "orchestration"} <= set(split)

    # More seeds, one level more, another control: only what is missing is trained.
    wider = smoke("name=flow", "pruning.levels=3", "arms=[ticket, reinit:2, random_mask]")
    assert wider.id == experiment.id
    events.clear()
    again = sweep(wider, "0-3", store.url, Execution(cores=2, cohort_size=3))
    assert again["committed_before"] == 21 and again["committed"] == 4 * (1 + 3 * 4) - 21
    run_here(wider, (0, 1, 2, 3), alone, load_dataset("digits"))
    assert tables_of(store, wider) == tables_of(alone, wider)

    assert sweep(wider, "0-3", store.url, TWO_CORES)["committed"] == 0


def test_ray_learns_no_more_names_from_more_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps every name on every node."""
    named: set[str] = set()
    submit = Cluster.submit

    def listen(self: Cluster, name: str, *arguments: Any) -> Any:
        named.add(name)
        return submit(self, name, *arguments)

    monkeypatch.setattr(Cluster, "submit", listen)
    sweep(smoke("pruning.levels=1", "arms=[ticket, reinit:2]"), "0-5", str(tmp_path), Execution(cores=2, cohort_size=1))
    assert named == {
        "prepare · digits",
        *(
            f"{stage} · level {level} · {arm}"
            for stage in ("rewind", "train", "evaluate")
            for level, arm in ((0, "ticket"), (1, "ticket"), (1, "reinit"))
        ),
        "prune · level 1 · ticket",
    }


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
@pytest.mark.parametrize("limited", [False, True])
def test_all_threads_share_two_heaps(limited: bool) -> None:
    """Told by glibc itself, of twelve threads that all hold memory; without our limit they have a heap each."""
    script = textwrap.dedent("""
        import ctypes, os, sys, tempfile, threading
        if sys.argv[1] == "True":
            import flows
            import prefect, ray  # who start threads
        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.fopen.restype = ctypes.c_void_p, ctypes.c_void_p
        together = threading.Barrier(12)
        def hold():
            together.wait(); libc.malloc(1000); together.wait()
        threads = [threading.Thread(target=hold) for _ in range(12)]
        [thread.start() for thread in threads]; [thread.join() for thread in threads]
        with tempfile.NamedTemporaryFile() as told:
            file = ctypes.c_void_p(libc.fopen(told.name.encode(), b"w"))
            libc.malloc_info(0, file); libc.fclose(file)
            print(told.read().count(b"<heap nr="), os.environ.get("MALLOC_ARENA_MAX"))
        """)
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    told = subprocess.run(
        [sys.executable, "-c", script, str(limited)], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert told == ["2", "2"] if limited else int(told[0]) > 8


def test_a_unit_that_another_sweep_is_at_is_left_to_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It commits one of its two and gives the other back: one is taken over, one trained here, both last."""
    experiment = smoke("name=shared", "pruning.levels=1", "arms=[ticket]")
    store, alone = Store(tmp_path / "shared"), Store(tmp_path / "alone")
    run_here(experiment, (0, 1, 2), alone, load_dataset("digits"), cohort_size=1)
    first, second = (Unit("ticket", 0, 0, (seed,)).name for seed in (0, 1))
    ended: list[UnitChanged] = []

    def listen(event: Event) -> None:
        if isinstance(event, UnitChanged) and event.what != "started":
            ended.append(event)
            if len(ended) == 2:  # seed 2, at both levels
                for kind, suffix in (
                    ("checkpoints", "safetensors"),
                    *((kind, "parquet") for kind in ("metrics", "masks", "levels")),
                ):
                    key = f"{kind}/experiment={experiment.id}/{first}.{suffix}"
                    assert store.create(key, alone.read(key) or b"")
                other.give_back(first)
                other.give_back(second)

    token = LISTENER.set(listen)
    try:
        with store.claims(experiment.id) as other, caplog.at_level("INFO", logger="prefect.flow_runs"):
            assert other.take(first) is None and other.take(second) is None
            sweep(experiment, "0-2", store.url, Execution(cores=2, cohort_size=1))
    finally:
        LISTENER.reset(token)
    assert [event.unit.seeds for event in ended[:2]] == [(2,), (2,)] and len(ended) == 6
    assert tables_of(store, experiment) == tables_of(alone, experiment)
    names = [run.name for run in task_runs("shared-%")]
    trained = [name for name in names if name.startswith("train · level 0")]
    assert sorted(trained) == ["train · level 0 · ticket · seeds 1", "train · level 0 · ticket · seeds 2"]
    said = [record.message for record in caplog.records if "another sweep" in record.message]
    assert len(said) == 1 and str(other.owner) in said[0]
    assert not store.objects.sizes("claims")


def test_tickets_of_another_experiment_are_trained_by_the_flow_too(tmp_path: Path) -> None:
    source = smoke("rewinding={kind: step, step: 5it}")
    store, alone = Store(tmp_path / "flow"), Store(tmp_path / "alone")
    for place in (store, alone):
        run_here(source, (0, 1), place, load_dataset("digits"))
    taken = load_experiment("smoke", ["training.batch_size=16"], taking_over_experiment(store, source.id))
    assert sweep(taken, "0-1", store.url, TWO_CORES)["committed"] == 2 * 7
    run_here(taken, (0, 1), alone, load_dataset("digits"))
    assert tables_of(store, taken) == tables_of(alone, taken)
    with pytest.raises(LthError, match="has no tickets of level 0 for seeds 2"):
        sweep(taken, "0-2", store.url, TWO_CORES)


def kill_a_training_worker(killed: list[str]) -> None:
    for _ in range(600):
        for process in psutil.Process().children(recursive=True):  # of this process: nobody else's workers
            with contextlib.suppress(psutil.Error):
                title = " ".join(process.cmdline())
                if title.startswith("ray::train"):
                    process.kill()
                    killed.append(title)
                    return
        time.sleep(0.05)


def test_a_killed_ray_worker_costs_only_its_unit(tmp_path: Path) -> None:
    experiment = smoke(
        "name=killed", "training.duration=3000it", "training.evaluate_every=500it", "arms=[ticket]", "pruning.levels=1"
    )
    killed: list[str] = []
    murderer = threading.Thread(target=kill_a_training_worker, args=(killed,))
    murderer.start()
    store, alone = Store(tmp_path / "flow"), Store(tmp_path / "alone")
    outcome = sweep(experiment, "0-1", store.url, TWO_CORES)
    murderer.join()
    assert killed and outcome["committed"] == 4
    run_here(experiment, (0, 1), alone, load_dataset("digits"))
    assert tables_of(store, experiment) == tables_of(alone, experiment)
    runs = task_runs("killed-%")
    assert [run.run_count for run in runs if run.name.startswith("train")].count(2) == 1  # tried again, on record
    assert sum(run.run_count for run in runs) == len(runs) + 1  # and nothing else was


def test_a_unit_that_contradicts_the_store_fails_alone_and_says_so(tmp_path: Path) -> None:
    experiment, store = smoke("name=contradiction"), Store(tmp_path)
    other = smoke("name=contradiction", "training.optimizer.learning_rate=0.02")
    run_here(other, (0,), Store(tmp_path / "other"), load_dataset("digits"))
    unit = Unit("reinit", 0, 1, (0,)).name
    source = tmp_path / "other" / "masks" / f"experiment={other.id}" / f"{unit}.parquet"
    target = tmp_path / "masks" / f"experiment={experiment.id}" / f"{unit}.parquet"
    target.parent.mkdir(parents=True)
    target.write_bytes(source.read_bytes())
    with pytest.raises(SweepFailed, match=f"1 of 7 units failed; 6 are committed.*{unit}"):
        sweep(experiment, "0", store.url, TWO_CORES)
    assert len(store.committed(experiment.id).where) == 6


def test_a_damaged_object_is_set_aside_and_its_unit_done_again(tmp_path: Path) -> None:
    experiment, store = smoke("name=damaged", "arms=[ticket]"), Store(tmp_path)
    run_here(experiment, (0,), store, load_dataset("digits"))
    before = tables_of(store, experiment)
    victim = next((tmp_path / "levels").glob("*/ticket-L01*"))
    victim.write_bytes(victim.read_bytes()[:100])
    assert sweep(experiment, "0", store.url, TWO_CORES)["committed"] == 1
    assert tables_of(store, experiment) == before
    assert list((tmp_path / "quarantine").rglob("ticket-L01*"))


def test_other_data_under_the_same_name_are_refused(tmp_path: Path) -> None:
    experiment, store = smoke("name=data"), Store(tmp_path)
    store.put_experiment(experiment.id, "{data_sha256: '0000000000000000'}")  # YAML, as `record` writes it
    with pytest.raises(LthError, match=r"'digits' is not the one that data-.* began with"):
        sweep(experiment, "0", store.url, TWO_CORES)
    assert not store.committed(experiment.id).where


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("training.batch_size=3000",), "batch_size is 3000, larger than the 1237 training examples"),
        (("dataset.validation=5000",), "dataset.validation is 5000, but the training set has only 1437"),
        (("pruning.levels=40", "pruning.fraction=0.9"), "level 4 would leave layer '1.weight' empty"),
        (("dataset={name: parquet, path: nowhere, validation: 10}",), "nowhere"),
    ],
    ids=lambda value: "" if isinstance(value, tuple) else value[:20],
)
def test_what_only_the_data_can_tell_is_refused_before_anything_trains(
    tmp_path: Path, settings: tuple[str, ...], message: str, events: list[Any]
) -> None:
    with pytest.raises(LthError, match=message) as refused:
        sweep(smoke(*settings), "0", str(tmp_path), TWO_CORES)
    assert "\n" not in str(refused.value)
    assert not any(isinstance(event, UnitChanged) for event in events)


def test_a_local_ray_is_ended_with_the_sweep_and_heard_by_nobody_else(tmp_path: Path) -> None:
    """In a process of its own, as `lth run` starts it: nothing is left behind, and nothing listens but on loopback."""
    script = textwrap.dedent("""
        import ipaddress, sys
        import psutil, ray
        from lth.sweep.progress import LISTENER, UnitChanged
        from flows.sweep import sweep
        from lth.experiment import Execution, load_experiment

        heard = {}

        def listen(event):
            if isinstance(event, UnitChanged):
                for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
                    for each in process.net_connections("inet"):
                        if each.status == psutil.CONN_LISTEN:
                            heard.setdefault(each.laddr.ip, set()).add(process.name())

        LISTENER.set(listen)
        sweep(load_experiment("smoke", ["pruning.levels=0"]), "0", sys.argv[1], Execution(cores=1))
        assert not ray.is_initialized()
        assert any("gcs_server" in names for names in heard.values()), heard
        addresses = [ipaddress.ip_address(ip.removeprefix("::ffff:")) for ip in heard]
        assert all(address.is_loopback for address in addresses), heard
        """)
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=200)
    assert len(Store(tmp_path).committed(smoke("pruning.levels=0").id).where) == 1


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        (Execution(cores=2, threads=64), "a unit needs 64 cores on one machine"),
        (Execution(cores=1, device="cuda"), "Ray has no GPU"),
    ],
)
def test_a_share_that_no_machine_has_room_for_is_refused(tmp_path: Path, execution: Execution, message: str) -> None:
    with pytest.raises(LthError, match=message):
        sweep(smoke(), "0", str(tmp_path), execution)


def test_tf32_without_a_gpu_is_refused_before_anything_trains(tmp_path: Path) -> None:
    with pytest.raises(LthError, match="tf32"):
        sweep(smoke("training.precision=tf32"), "0", str(tmp_path), TWO_CORES)


def test_a_failed_ticket_says_how_much_was_not_run_because_of_it(tmp_path: Path) -> None:
    """A mask that is damaged without a trace in its size is found when it is read; the next run mends it."""
    experiment, store = smoke("name=bitflip", "arms=[ticket, reinit]"), Store(tmp_path)
    run_here(smoke("name=bitflip", "arms=[ticket]", "pruning.levels=1"), (0,), store, load_dataset("digits"))
    victim = next((tmp_path / "masks").glob("*/ticket-L01*"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(bytes(content))
    with pytest.raises(SweepFailed, match=r"units failed.*was damaged and has been set aside; run again"):
        sweep(experiment, "0", store.url, TWO_CORES)
    sweep(experiment, "0", store.url, TWO_CORES)
    alone = Store(tmp_path / "alone")
    run_here(experiment, (0,), alone, load_dataset("digits"))
    assert tables_of(store, experiment) == tables_of(alone, experiment)


def test_arguments_lost_with_a_node_count_as_a_lost_worker() -> None:
    import ray
    from ray.exceptions import ObjectLostError, RayTaskError

    from tasks.cluster import WorkerLost, result

    lost = RayTaskError("train", "traceback", ObjectLostError("00" * 14, "", ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "get", lambda _: (_ for _ in ()).throw(lost))
        with pytest.raises(WorkerLost):
            result(None)


def test_the_version_names_the_commit() -> None:
    import subprocess

    commit = subprocess.run(["git", "rev-parse", "--short=7", "HEAD"], capture_output=True, text=True, check=False)
    version = code_version()
    assert version.startswith("0.1.0") and commit.stdout.strip()[:7] in version
