"""Adding seeds until the claim is decided, by verdicts that are valid at every look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lth.errors import InvalidExperiment
from lth.experiment import Experiment, format_seeds
from lth.results import judge
from lth.seeds import LARGEST_SEED
from lth.store import Store
from lth.sweep.planning import done_of, planned_count
from lth.sweep.progress import Notice, emit

Seeds = tuple[int, ...]
AT_MOST = 100
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class UntilDecided:
    """How seeds are added: `batch` at a time (None: as many as there were at first), up to `at_most` in all."""

    at_most: int = AT_MOST
    batch: int | None = None

    def check(self, seeds: Seeds) -> None:
        """Raises InvalidExperiment for a batch below 1, and for a bound that the first seeds are beyond."""
        if self.batch is not None and self.batch < 1:
            raise InvalidExperiment(f"batch is {self.batch}; add at least 1 seed at a time")
        if self.at_most > MOST_SEEDS:
            raise InvalidExperiment(
                f"{self.at_most:,} seeds are more than any claim needs; at_most is {MOST_SEEDS:,} or less"
            )
        if self.at_most < len(seeds):
            raise InvalidExperiment(
                f"at_most is {self.at_most}, fewer than the {len(seeds)} seeds to begin with; it is how many there may "
                "be in all"
            )
        if seeds[-1] + self.at_most > LARGEST_SEED:
            raise InvalidExperiment(f"no seeds can be added after {seeds[-1]}; begin with smaller numbers")

    def more(self, seeds: Seeds, first: int) -> Seeds:
        """`seeds` and the next of them, where there were `first` to begin with; the same where no more may be added."""
        count = min(self.batch or first, self.at_most - len(seeds))
        return seeds + tuple(range(seeds[-1] + 1, seeds[-1] + 1 + count))

    def all_seeds(self, seeds: Seeds) -> Seeds:
        """Every seed that there may be: what it costs at most."""
        return seeds + tuple(range(seeds[-1] + 1, seeds[-1] + 1 + self.at_most - len(seeds)))


def run_until_decided(
    experiment: Experiment, seeds: Seeds, store: Store, until: UntilDecided, run: Callable[[Seeds], None]
) -> Seeds:
    """`run` the sweep of `seeds`, look, and run it with more of them, until the claim is decided or the bound is
    reached; the seeds that it ended with.

    The claim is decided when more seeds could not carry it further: every level matches, or the first that does not is
    worse by more than the margin. Each look is told as a Notice. A run that was interrupted goes on with the seeds that
    it had added; what is committed is not run again.
    """
    first = len(seeds)
    seeds = so_far(experiment, seeds, store, until)
    while True:
        run(seeds)
        undecided = _undecided(experiment, store)
        if undecided is None:
            emit(Notice(f"decided with {len(seeds)} seeds ({format_seeds(seeds)})"))
            return seeds
        following = until.more(seeds, first)
        if following == seeds:
            emit(Notice(f"{undecided} It may have {until.at_most} seeds at most, and has them: it stays undecided."))
            return seeds
        emit(Notice(f"{undecided} Adding seeds {format_seeds(following[len(seeds) :])}."))
        seeds = following


def so_far(experiment: Experiment, seeds: Seeds, store: Store, until: UntilDecided) -> Seeds:
    """The seeds with those that an earlier run has added already."""
    first = len(seeds)
    while _begun(experiment, store, seeds, following := until.more(seeds, first)):
        seeds = following
    return seeds


def settled(experiment: Experiment, seeds: Seeds, store: Store, until: UntilDecided) -> bool:
    """Whether there is nothing to run: the claim is decided, or no more seeds may be added."""
    seeds = so_far(experiment, seeds, store, until)
    if len(done_of(experiment, seeds, store.committed(experiment.id))) < planned_count(experiment, len(seeds)):
        return False
    return len(seeds) == until.at_most or _undecided(experiment, store) is None


def _begun(experiment: Experiment, store: Store, seeds: Seeds, following: Seeds) -> bool:
    """Whether these seeds are all committed, and some training of the next ones is."""
    committed = store.committed(experiment.id)
    done = len(done_of(experiment, seeds, committed))
    return done == planned_count(experiment, len(seeds)) and len(done_of(experiment, following, committed)) > done


def _undecided(experiment: Experiment, store: Store) -> str | None:
    """What more seeds could decide, as a sentence; None if nothing."""
    from lth.analysis import first_undecided
    from lth.report.caveats import needed_seeds, seeds_judged

    row = first_undecided(judge(store, experiment.id, store.committed(experiment.id).rows))
    if row is None:
        return None
    density = "" if row["density"] is None else f" ({100 * row['density']:.3g}% of the weights)"
    return f"level {row['level']}{density} is undecided with {seeds_judged(row)}: {needed_seeds(row)}."
