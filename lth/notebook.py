"""`lth.run`: a sweep in a notebook or a script, and its results as they are shown there."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pydantic import ValidationError

from lth.errors import InvalidExperiment, LthError
from lth.experiment import Execution, Experiment, explain, load_experiment, parse_seeds
from lth.results import Results
from lth.store import READING, Store
from lth.sweep.cohort_size import refuse_slip
from lth.sweep.here import sweep_here
from lth.sweep.pins import changed_since, pins_of, refusal, with_changes_accepted
from lth.sweep.planning import done_of, planned_count
from lth.sweep.progress import LISTENER
from lth.until_decided import UntilDecided, run_until_decided

DEFAULT_STORE = "./lth-store"


class RunResults(Results):
    """The results of one experiment, with all that its store holds of it. A notebook shows them as table and claim."""

    @property
    def experiment_id(self) -> str:
        """The id, as tables and commands have it."""
        return self._experiments[0]

    @property
    def summary(self) -> pa.Table:
        """A row per level and arm: mean test accuracy at early stop with its interval; as `lth.analysis.summarise`."""
        from lth.analysis import summarise

        return summarise(self.levels)

    def __str__(self) -> str:
        from lth.console import Console
        from lth.report import claim, summary_table

        if not self._any:
            return f"{self.experiment_id}: no training has finished without diverging"
        text = io.StringIO()
        Console(file=text, width=100).print(summary_table(self.summary))
        said = [claim(self.verdicts)] if self.verdicts.num_rows else []
        return "\n".join([text.getvalue().rstrip(), *said])

    def _repr_markdown_(self) -> str:
        from lth.report import claim, markdown_table

        if not self._any:
            return str(self)
        said = [claim(self.verdicts)] if self.verdicts.num_rows else []
        return "\n\n".join([markdown_table(self.summary), *said])

    @property
    def _any(self) -> bool:
        return "ok" in self.levels["status"].to_pylist()


def run(
    source: str | Path | Experiment,
    seeds: str | Iterable[int],
    store: str | Path | None,
    settings: Sequence[str],
    device: str,
    cohort_size: int | None,
    threads: int,
    save_every: float,
    progress: bool,
    until: UntilDecided | None = None,
    accept_changes: bool = False,
) -> RunResults:
    """See `lth.run`."""
    experiment = _experiment(source, settings)
    replicates = _seeds(seeds)
    try:
        execution = Execution.model_validate(
            {"device": device, "cohort_size": cohort_size, "threads": threads, "save_every": save_every}
        )
    except ValidationError as error:
        raise InvalidExperiment(explain(error, Execution)) from None
    if until is not None:
        until.check(replicates)
    largest = replicates if until is None else until.all_seeds(replicates)
    refuse_slip(experiment, largest, cohort_size, "run it with `lth run --yes`")
    url = store or os.environ.get("LTH_STORE") or DEFAULT_STORE
    place = Store(url, READING)  # somebody waits
    pins = pins_of(experiment)
    if accept_changes:
        experiment = with_changes_accepted(place, experiment, pins)
    changes = changed_since(place, experiment.id, pins, on_cpu=False)

    def run_missing(wanted: tuple[int, ...]) -> None:
        done = done_of(experiment, wanted, place.committed(experiment.id))
        if len(done) < planned_count(experiment, len(wanted)):
            if changes:
                raise LthError(refusal(experiment.id, changes))
            sweep_here(experiment, wanted, Store(url), execution)

    with _shown(experiment) if progress else contextlib.nullcontext():
        if until is not None:
            run_until_decided(experiment, replicates, place, until, run_missing)
        else:
            run_missing(replicates)
    return RunResults(place, [experiment.id])


def _experiment(source: str | Path | Experiment, settings: Sequence[str]) -> Experiment:
    if not isinstance(source, Experiment):
        return load_experiment(str(source), settings)
    if settings:
        raise InvalidExperiment(
            f"settings {list(settings)} change a preset or a file, and this is an Experiment already; set its fields "
            "with model_copy(update=...)"
        )
    return source


def _seeds(seeds: str | Iterable[int]) -> tuple[int, ...]:
    if isinstance(seeds, int):
        raise InvalidExperiment(f"seeds {seeds} is one number; write range({seeds}), [{seeds}] or '0-{seeds}'")
    return parse_seeds(seeds if isinstance(seeds, str) else ",".join(str(seed) for seed in seeds))


@contextlib.contextmanager
def _shown(experiment: Experiment) -> Iterator[None]:
    """A live display on standard error; plain lines where that is no terminal, as in a notebook."""
    from lth.console import Console
    from lth.display import Display

    with Display(Console(stderr=True, highlight=False), experiment) as display:
        token = LISTENER.set(display.listen)
        try:
            yield
        finally:
            LISTENER.reset(token)
