"""Everything of the service on one machine: started in order, ended in the other, and nothing else touched."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from infra.local import object_store, ports, postgres, prefect_service, ray_nodes
from infra.local.processes import MARK, ServiceError, Supervisor
from infra.local.settings import Options, Service, open_service, save_service

OBJECT_STORE, BUCKET = "object-store", "lth"
Tell = Callable[[str], None]


def up(state: Path, options: Options, free_ports: bool, tell: Tell) -> Service:
    """Start what does not run yet. What this call started is ended again if it fails."""
    with _locked(state):
        _check_options(state, options)
        service = save_service(state, options)
        supervisor = Supervisor(state, service.mark)
        try:
            _start(service, supervisor, free_ports, tell)
        except BaseException:
            for name in reversed(supervisor.begun):
                _stop(service, supervisor, name)
            raise
        return service


def down(state: Path, delete: bool, tell: Tell) -> None:
    """End what `up` started, and what that started. With `delete`, the state folder and all data in it go too."""
    service = open_service(state)
    if service is None:
        raise ServiceError(f"{state} holds no service; name its folder with --state")
    with _locked(state):
        supervisor = Supervisor(state, service.mark)
        for name in reversed(_names(service)):
            if _stop(service, supervisor, name):
                tell(f"{name}: ended")
        for name in supervisor.stop_rest([service.state, service.ray_folder]):
            tell(f"orphaned {name}: ended")
        if delete:
            shutil.rmtree(service.ray_folder, ignore_errors=True)
            shutil.rmtree(state)
            tell(f"{state}: deleted")


def _check_options(state: Path, options: Options) -> None:
    before = open_service(state)
    if before is not None and before.options != options:
        supervisor = Supervisor(state, before.mark)
        if running := [name for name in _names(before) if supervisor.running(name)]:
            raise ServiceError(
                f"{', '.join(running)} run with other options ({_described(before.options)}); end them "
                "with local-down before you start others"
            )


def _described(options: Options) -> str:
    return ", ".join(f"{name} {value}" for name, value in asdict(options).items() if value != "")


def _names(service: Service) -> list[str]:
    """All parts, in the order of their start."""
    nodes = [ray_nodes.node_name(number) for number in range(1, service.options.nodes + 1)]
    return [OBJECT_STORE, postgres.NAME, prefect_service.SERVER, ray_nodes.HEAD, *nodes, prefect_service.WORKER]


def _start(service: Service, supervisor: Supervisor, free_ports: bool, tell: Tell) -> None:
    at = ports.choose(service.state, service.options.nodes, free_ports)
    nodes = [ray_nodes.node_name(number) for number in range(1, service.options.nodes + 1)]
    if not supervisor.running(ray_nodes.HEAD):
        for name in nodes:
            supervisor.stop(name)  # nodes of a cluster that is no more
    missing = {name for name in _names(service) if not supervisor.running(name)}
    postgres.programs()
    ports.check_free(at, _ports_of(missing))

    def begin(name: str, start: Callable[[], None]) -> None:
        if name in missing:
            start()
        tell(f"{name}: {'started' if name in missing else 'runs already'}")

    store = _store(service, supervisor, tell)
    for_nodes, for_users = service.for_nodes(store), service.for_users(at, store)
    for_worker = {**service.for_servers(), **for_users, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    # What does not need each other starts side by side.
    head = partial(ray_nodes.start_head, supervisor, at, for_nodes, service.ray_folder)
    start_node = {
        name: partial(
            ray_nodes.start_node,
            supervisor,
            number,
            service.options.cpus,
            service.options.gpus if number == 1 else 0,
            at,
            for_nodes,
            service.ray_folder,
        )
        for number, name in enumerate(nodes, start=1)
    }
    begin(ray_nodes.HEAD, head)
    begin(postgres.NAME, lambda: postgres.start(supervisor, at["postgres"], service.secret("postgres")))
    begin(
        prefect_service.SERVER,
        lambda: prefect_service.start_server(
            supervisor,
            at["prefect"],
            service.for_servers(),
            service.prefect_login,
            postgres.url(at["postgres"], service.secret("postgres")),
        ),
    )
    ray_nodes.wait_for(supervisor, ray_nodes.HEAD, head, at, for_nodes)
    for name in nodes:
        begin(name, start_node[name])
    prefect_service.wait_for_server(supervisor, at["prefect"])
    begin(prefect_service.WORKER, lambda: prefect_service.start_worker(supervisor, for_worker))
    for name in nodes:
        ray_nodes.wait_for(supervisor, name, start_node[name], at, for_nodes)
    prefect_service.wait_for_worker(supervisor, at["prefect"], service.prefect_login)
    if prefect_service.SERVER in missing:
        prefect_service.register(for_worker, supervisor.log("register"))
        tell("deployments and automations: as in prefect.yaml and infra/automations.yaml")
    service.write_env(for_users)


def _ports_of(names: set[str]) -> list[str]:
    """What the parts will listen on."""
    of = {
        postgres.NAME: ["postgres"],
        prefect_service.SERVER: ["prefect"],
        ray_nodes.HEAD: ["ray", "ray-client", "ray-dashboard", "ray-agent"],
    }
    return [port for name in names for port in of.get(name, [])]


def _store(service: Service, supervisor: Supervisor, tell: Tell) -> dict[str, str]:
    """Start the S3 server if there is to be one; the settings of the store."""
    if service.options.store:
        return {
            "LTH_STORE": service.options.store,
            **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
        }
    folder, before = service.state / "s3", os.environ.get(MARK)
    runs = folder.exists() and len(object_store.pids(folder)) == len(object_store.DAEMONS)
    if not runs:
        supervisor.begun.append(OBJECT_STORE)
    os.environ[MARK] = service.mark  # its programs inherit it
    try:
        if not folder.exists():
            if missing := object_store.missing_programs():
                raise ServiceError(
                    f"{', '.join(missing)} not found for the S3 server; apt-get install "
                    "--no-install-recommends radosgw ceph-mon ceph-osd ceph-common, or keep results in "
                    "a folder with --store FOLDER"
                )
            object_store.init(folder, bucket=BUCKET)
        object_store.start(folder)
        tell(f"{OBJECT_STORE}: {'runs already' if runs else 'started'}")
    except object_store.ObjectStoreError as error:
        raise ServiceError(f"the S3 server: {error}") from None
    finally:
        os.environ.pop(MARK) if before is None else os.environ.update({MARK: before})
    return {"LTH_STORE": f"s3://{BUCKET}/results", **object_store.settings(folder)}


def _stop(service: Service, supervisor: Supervisor, name: str) -> bool:
    if name != OBJECT_STORE:
        return supervisor.stop(name)
    folder = service.state / "s3"
    if not object_store.pids(folder):
        return False
    object_store.stop(folder)
    return True


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """One local-up or local-down at a time."""
    state.mkdir(mode=0o711, parents=True, exist_ok=True)
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceError(f"another local-up or local-down is at work on {state}; wait for it") from None
        yield
