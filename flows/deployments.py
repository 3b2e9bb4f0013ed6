"""The flows behind the deployments of prefect.yaml: what a person fills in in Prefect's UI, or a schedule starts.

A mistake or a failed unit ends the run as Failed with one line in the log, never with a stack trace.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from flows.artifacts import publish_results
from flows.form import URL_WITHOUT_KEYS, Advanced, Changes, Preset, Seeds, execution_of, experiment_of, settings_of
from flows.results import results_of
from flows.sweep import Sweep
from flows.worker_loss import silence_broken_console
from lth.errors import LthError
from lth.experiment import parse_seeds
from lth.store import Store
from lth.store.curated import compact as compact_store
from lth.sweep.cohort_size import refuse_slip


def sweep_name() -> str:
    """A run is named after what it does: `digits · snip · seeds 0-99`."""
    parameters = flow_run.parameters
    changes = dict(parameters.get("changes") or {})
    about = [
        str(changes.get("name") or parameters.get("preset", "digits")),
        *(str(changes[name]) for name in ("dataset", "criterion") if changes.get(name)),
        f"seeds {parameters.get('seeds', '0-4')}",
    ]
    return " · ".join(about)


def store_of(url: str | None) -> Store:
    """The store that the form names, or else the worker's own; never a folder that ends with the run."""
    named = url or os.environ.get("LTH_STORE")
    if not named:
        raise LthError("no store is named: fill it in under advanced, or set LTH_STORE where the worker runs")
    if not re.match(r"[a-z0-9]+://", named) and not Path(named).expanduser().is_absolute():
        raise LthError(
            f"the store {named!r} is a relative folder, which would lie in the run's own temporary one and "
            "end with it; name an absolute folder or s3://bucket/prefix"
        )
    return Store(named)


def final_state(run: Callable[[], Any]) -> State[Any]:
    """What came of it, as the state of the run; the tasks' own routine lines are left out of its log."""
    logging.getLogger("prefect.task_runs").setLevel(logging.WARNING)
    silence_broken_console()
    try:
        return Completed(message=run())
    except LthError as error:
        get_run_logger().error(str(error))
        return Failed(message=str(error))


@flow(name="sweep", flow_run_name=sweep_name, validate_parameters=True, persist_result=False)
def sweep(
    preset: Preset = "digits",
    seeds: Seeds = "0-4",
    changes: Changes = Changes(),  # type: ignore[valid-type]  # noqa: B008
    advanced: Advanced = Advanced(),  # type: ignore[valid-type]  # noqa: B008
) -> State[Any]:
    """Find lottery tickets: every level and arm of an experiment for every seed.

    Args:
        preset: The experiment to begin with.
        seeds: Replicates: `0-99` for a hundred of them, or `0,3,10-12`.
        changes: What differs from the preset. A field that is left empty is as in the preset.
        advanced: Any other field of the experiment, the store, and how the machines are used.
    """
    begun = time.perf_counter()

    def run() -> str:
        given = advanced.model_dump()  # type: ignore[attr-defined]
        settings = given.get("settings", [])
        experiment = experiment_of(preset, changes, settings)
        replicates = parse_seeds(seeds)
        if not given.get("large"):
            refuse_slip(experiment, replicates, given.get("cohort_size"), "tick Large sweep under advanced")
        store, log = store_of(given.get("store")), get_run_logger()
        command = ["lth", "run", preset, "--seeds", seeds, "--store", store.url]
        for setting in settings_of(changes, settings):
            command += ["--set", setting]
        for name, value in execution_of(advanced).model_dump(exclude_defaults=True).items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        command += ["--yes"] if given.get("large") else []
        log.info("the same from the command line: %s", shlex.join(command))
        outcome = asdict(Sweep(experiment, replicates, store, execution_of(advanced)).run(begun))
        diverged = f", {outcome['diverged']} diverged" if outcome["diverged"] else ""
        return (
            f"{outcome['planned']:,} trainings are committed, {outcome['committed']:,} of them now{diverged}, in "
            f"{outcome['seconds']['wall']:.0f} s"
        )

    return final_state(run)


StoreUrl = Annotated[str, Field(pattern=URL_WITHOUT_KEYS)]
ExperimentId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}-[0-9a-f]{10}$")]


@flow(name="compact", flow_run_name="compact", validate_parameters=True, persist_result=False)
def compact(store: StoreUrl = "") -> State[Any]:
    """Gather what has landed into the curated tables, Delta Lake under `curated/`.

    Args:
        store: `s3://bucket/prefix` or a folder; empty: the worker's `LTH_STORE`.
    """

    def run() -> str:
        place = store_of(store)
        done = compact_store(place)
        lines = ["| table | rows added |", "|---|---:|", *(f"| {kind} | {n:,} |" for kind, n in done.added.items()), ""]
        for key, reason in done.damaged.items():
            get_run_logger().warning("%s is damaged (%s): its unit is set aside; run its sweep again", key, reason)
            lines.append(f"- damaged and set aside: `{key}` ({reason})")
        create_markdown_artifact(
            "\n".join([*lines, "", f"Store: `{place.url}`"]),
            key="compact",
            description="Rows added to the curated tables.",
        )
        aside = f"; {len(done.damaged)} damaged objects were set aside, run their sweeps again" if done.damaged else ""
        return ", ".join(f"{count:,} rows of {kind}" for kind, count in done.added.items()) + " added" + aside

    return final_state(run)


@flow(name="report", flow_run_name="report · {experiment}", validate_parameters=True, persist_result=False)
def report(experiment: ExperimentId, store: StoreUrl = "") -> State[Any]:
    """Summarise and draw everything that is committed of an experiment, as artifacts of this run and in the store.

    Args:
        experiment: The id, as `lth list experiments` and the result tables show it: `digits-0123456789`.
        store: `s3://bucket/prefix` or a folder; empty: the worker's `LTH_STORE`.
    """

    def run() -> str:
        place = store_of(store)
        if experiment not in place.experiments():
            raise LthError(
                f"{place.url} has no experiment {experiment!r}; it has {', '.join(place.experiments()[:10]) or 'none'}"
            )
        found = results_of(place, experiment)
        if found is None or not publish_results(place, experiment, found):
            raise LthError(
                f"no training of {experiment} has finished in {place.url} without diverging; there is nothing to show"
            )
        return f"{found.trainings:,} trainings reported"

    return final_state(run)
