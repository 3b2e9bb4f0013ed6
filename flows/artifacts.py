"""What Prefect's UI shows of a sweep: tags, and progress, result table and figures as artifacts of the run."""

from __future__ import annotations

import base64
import contextvars
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from flows.results import SweepResults, put_report_page, results_of_sweep
from lth.experiment import Experiment
from lth.store import Store

EVERY = 2.0
"""Seconds between two updates of the progress bar."""


class Publisher:
    """Publishes beside the sweep, in a thread of its own: a server that is away for a while delays nothing.

    Nothing is published to a temporary server, which ends with the run.
    """

    def __init__(self, experiment: Experiment, seeds: Sequence[int]) -> None:
        self.experiment = experiment
        self.seeds = tuple(seeds)
        self.slug = slug_of(experiment.id)
        self.log = get_run_logger()
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="publisher") if PREFECT_API_URL.value() else None
        self.bar: UUID | None = None
        self.last: Future[None] | None = None
        self.moved_at = 0.0

    def begin(self, planned: int, committed: int) -> None:
        """Tag the run with what it is about, and show its progress."""
        self._publish(self._tag)
        self._publish(self._begin_bar, planned, committed)

    def advance(self, planned: int, committed: int) -> None:
        """Move the progress bar, if it was not moved just now."""
        if self.thread and time.monotonic() - self.moved_at > EVERY and (self.last is None or self.last.done()):
            self.moved_at = time.monotonic()
            self._publish(self._move_bar, planned, committed)

    def finish(self, planned: int, committed: int, store: Store) -> None:
        """Show the results so far, whether the sweep is complete or not, and wait until all is published."""
        self._publish(self._move_bar, planned, committed)
        self._publish(self._results, store)
        self.stop(wait=True)

    def stop(self, wait: bool = False) -> None:
        """Publish nothing more."""
        if self.thread:
            self.thread.shutdown(wait=wait, cancel_futures=not wait)

    def _publish(self, function: Callable[..., None], *arguments: Any) -> None:
        if self.thread:
            context = contextvars.copy_context()
            self.last = self.thread.submit(context.run, self._guarded, function, *arguments)

    def _guarded(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception as error:  # what the UI shows is no result; the store has them all
            self.log.warning("could not publish to Prefect's UI: %s", type(error).__name__)

    def _tag(self) -> None:
        experiment = self.experiment
        about = [
            f"dataset:{experiment.dataset.name}",
            f"model:{experiment.model.name}",
            *(f"arm:{arm.name}" for arm in experiment.arms),
            f"criterion:{experiment.pruning.criterion}",
        ]
        with get_client(sync_client=True) as client:
            client.update_flow_run(flow_run.id, tags=sorted({*flow_run.tags, *about}))

    def _begin_bar(self, planned: int, committed: int) -> None:
        self.bar = create_progress_artifact(  # type: ignore[assignment]  # in a thread it is never a coroutine
            100 * committed / max(planned, 1), key=f"{self.slug}-progress", description=_progress(planned, committed)
        )

    def _move_bar(self, planned: int, committed: int) -> None:
        if self.bar is not None:
            update_progress_artifact(self.bar, 100 * committed / max(planned, 1), _progress(planned, committed))

    def _results(self, store: Store) -> None:
        publish_results(store, self.experiment.id, results_of_sweep(store, self.experiment, self.seeds))


def publish_results(store: Store, experiment_id: str, found: SweepResults | None) -> bool:
    """Show the result table and the figures as artifacts of the run; False if there is nothing to show yet."""
    from lth.analysis import single_score
    from lth.report import markdown_table, verdict_markdown

    if found is None:
        return False
    slug = slug_of(experiment_id)
    judged = [verdict_markdown(found.verdicts, notes=found.notes)] if found.verdicts.num_rows else []
    where = f"Tables and masks: `{store.url}`, experiment `{experiment_id}`."
    create_markdown_artifact(
        "\n\n".join([markdown_table(found.summary), *judged, where]),
        key=f"{slug}-results",
        description=f"{experiment_id}: test {single_score(found.summary).label} at early stop, by level and arm.",
    )
    for name, picture in found.figures.items():
        data = base64.b64encode(picture).decode()
        create_markdown_artifact(
            f"![{name}](data:image/png;base64,{data})\n\n`{found.urls[name]}`",
            key=f"{slug}-{slug_of(name)}",
            description=f"{experiment_id}: {name} against density, by arm.",
        )
    url = put_report_page(store, experiment_id)
    create_link_artifact(
        url,
        "the whole report",
        key=f"{slug}-report",
        description=f"{experiment_id}: one HTML file in the store. Open or download `{url}`.",
    )
    return True


def slug_of(experiment_id: str) -> str:
    """An artifact's key: lower-case letters, digits and dashes only."""
    return re.sub(r"[^a-z0-9]+", "-", experiment_id.lower())


def _progress(planned: int, committed: int) -> str:
    return f"{committed:,} of {planned:,} trainings are committed"
