"""What a second Ray node brings: the throughput of a sweep over two nodes of one core each, against one node.

A head without cores and the nodes run as processes of their own, as `infra/local-up` starts them. In every round the
same sweep runs first on one node and then on two, into stores of their own; `speedup` is the median over rounds of the
ratio of trainings a second after the start. Before anything is timed, every node runs a small sweep, since its workers
import torch first.

Nodes are machines that share nothing. Where they share the cores of one machine with the head, Prefect's server and
the flow, those take from two nodes what one node leaves them for nothing, and it is they that are measured. So each
node has a control group that gives it the same part of a core (`--node-cores`) in both runs, the rest of the machine
being the head's; this needs root on Linux. `--node-cores 1` measures without.

Run: python benchmarks/two_nodes.py [--rounds 3]. Prints a table and, as its last line, a JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from infra.local import ports, ray_nodes
from infra.local.loopback_ray import SWITCH
from infra.local.processes import Supervisor
from infra.local.settings import Options, Service, save_service

os.environ.update({**SWITCH, "RAY_AUTH_MODE": "token"})  # Ray reads them when it is imported
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

from flows.local_server import temporary_server
from flows.sweep import sweep
from lth.experiment import Execution, Experiment, load_experiment
from lth.sweep.record import code_version
from tasks.cluster import connected

COHORT = 8
PERIOD = 10_000  # microseconds: short, so that a node is never held up for long


class Capacity:
    """A control group whose processes have `cores` of the machine at most."""

    def __init__(self, name: str, cores: float) -> None:
        whole = Path("/sys/fs/cgroup")
        self.folder = (whole / "cpu" if (whole / "cpu").is_dir() else whole) / name
        limits = {"cpu.cfs_period_us": str(PERIOD), "cpu.cfs_quota_us": str(int(cores * PERIOD))}
        if self.folder.parent == whole:
            limits = {"cpu.max": f"{int(cores * PERIOD)} {PERIOD}"}
        try:
            self.folder.mkdir()
            for file, limit in limits.items():
                (self.folder / file).write_text(limit)
        except OSError as error:
            raise SystemExit(
                f"no control group can be made here ({error}); run as root, or with --node-cores 1"
            ) from None

    def hold(self, pid: int) -> None:
        """Put a process, and what it starts from now on, under this limit."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def end(self) -> None:
        """Remove the group; its processes have ended."""
        self.folder.rmdir()


class Cluster:
    """A head and up to two nodes in one folder."""

    def __init__(self, service: Service, node_cores: float) -> None:
        self.service = service
        self.node_cores = node_cores
        self.capacity: list[Capacity] = []
        self.ports = ports.choose(service.state, 2, free=True)
        self.environment = service.for_nodes({})
        self.supervisor = Supervisor(service.state, service.mark)

    def start(self) -> None:
        """The head and the first node; this process joins them from now on."""
        for number in (1, 2) if self.node_cores < 1 else ():
            self.capacity.append(Capacity(f"lth-node-{number}-{os.getpid()}", self.node_cores))
        self._begin(ray_nodes.HEAD)
        self.add(1)
        os.environ["RAY_AUTH_TOKEN_PATH"] = self.environment["RAY_AUTH_TOKEN_PATH"]
        os.environ["RAY_ADDRESS"] = f"{ports.LOOPBACK}:{self.ports['ray']}"

    def add(self, number: int) -> None:
        self._begin(ray_nodes.node_name(number), number)

    def remove(self, number: int) -> None:
        self.supervisor.stop(ray_nodes.node_name(number), 30)

    def end(self) -> None:
        for name in (ray_nodes.node_name(2), ray_nodes.node_name(1), ray_nodes.HEAD):
            self.supervisor.stop(name)
        self.supervisor.stop_rest([self.service.state, self.service.ray_folder])
        for capacity in self.capacity:
            capacity.end()

    def _begin(self, name: str, number: int = 0) -> None:
        def start() -> None:
            known = self.supervisor, self.ports, self.environment, self.service.ray_folder
            if number:
                ray_nodes.start_node(known[0], number, 1, 0, *known[1:])
                process = self.supervisor.running(name)
                if self.capacity and process:
                    self.capacity[number - 1].hold(process.pid)
            else:
                ray_nodes.start_head(*known)

        start()
        ray_nodes.wait_for(self.supervisor, name, start, self.ports, self.environment)


def trainings_a_second(experiment: Experiment, seeds: str, slots: int, cohort: int = COHORT) -> float:
    """Run a sweep into a store that is thrown away."""
    with tempfile.TemporaryDirectory() as store:
        outcome = sweep(experiment, seeds, store, Execution(cohort_size=cohort))
    if outcome["slots"] != slots:
        raise RuntimeError(f"Ray offers {outcome['slots']} slots, not {slots}")
    return float(outcome["committed"] / (outcome["seconds"]["wall"] - outcome["seconds"]["start"]))


def main() -> None:
    """Measure round by round, print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", default="5000it", help="length of every training of the digits sweep")
    parser.add_argument("--levels", type=int, default=1)
    parser.add_argument("--seeds", default="0-31")
    parser.add_argument("--node-cores", type=float, default=0.85, help="part of a core that each node has (at most 1)")
    options = parser.parse_args()
    experiment = load_experiment(
        "digits",
        [
            f"training.duration={options.duration}",
            "arms=[ticket, reinit]",
            "training.evaluate_every=100it",
            f"pruning.levels={options.levels}",
        ],
    )
    small = load_experiment("smoke", ["arms=[ticket]", "pruning.levels=0"])
    rates: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="lth-") as folder:
        cluster = Cluster(save_service(Path(folder, "state"), Options()), options.node_cores)
        try:
            cluster.start()
            with connected(), temporary_server():
                for _ in range(options.rounds):
                    trainings_a_second(small, "0", 1, 1)
                    one = trainings_a_second(experiment, options.seeds, 1)
                    cluster.add(2)
                    trainings_a_second(small, "0-3", 2, 1)
                    rates.append((one, trainings_a_second(experiment, options.seeds, 2)))
                    cluster.remove(2)
        finally:
            cluster.end()
    report(rates, options.duration, min(options.node_cores, 1))


def report(rates: list[tuple[float, float]], duration: str, node_cores: float) -> None:
    """Trainings a minute on one node and on two, and their ratio, round by round."""
    print(f"digits, {duration}, cohorts of {COHORT} seeds, nodes of {node_cores:g} core; {os.cpu_count()} cores here")
    print(f"{'round':>6}{'one node':>12}{'two nodes':>12}{'ratio':>8}")
    for number, (one, two) in enumerate(rates, start=1):
        print(f"{number:6d}{60 * one:12.1f}{60 * two:12.1f}{two / one:8.2f}")
    ratios = [two / one for one, two in rates]
    print(
        json.dumps(
            {
                "benchmark": "two_nodes",
                "speedup": round(statistics.median(ratios), 3),
                "speedup_min_max": [round(min(ratios), 3), round(max(ratios), 3)],
                "trainings_per_minute": [
                    round(60 * statistics.median(column), 2) for column in zip(*rates, strict=True)
                ],
                "n": len(rates),
                "node_cores": node_cores,
                "cores": os.cpu_count(),
                "device": f"cpu ({platform.machine()})",
                "code_version": code_version(),
            }
        )
    )


if __name__ == "__main__":
    main()
