"""`lth overlap` and `lth connectivity`: compute what is missing into the store, and print it in short."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich import box
from rich.table import Table

from flows.cli.inspection import id_in, say_damaged
from flows.cli.start import data_before_start, run_flow
from lth.analysis import mean_interval
from lth.console import Console
from lth.errors import InvalidExperiment, LthError
from lth.experiment import Execution, Experiment, load_experiment, parse_seeds
from lth.experiment.load import change
from lth.store import READING, Store

STABLE = 0.02
"""The barrier below which Frankle et al. (2020) call a training stable (fraction of errors)."""


def experiment_in(source: str, store: Store, settings: list[str], trust: bool = False) -> Experiment:
    """The experiment of a preset, a file, or an id that the store holds, whose author has to be trusted where he names
    code."""
    if source not in store.experiments():
        return load_experiment(source, settings)
    from lth.sweep.stored import stored_experiment

    return change(stored_experiment(source, store.describe(source), trust), settings)


def numbers(text: str, field: str) -> list[int]:
    """`0,3,7` or `0-4` as numbers, in order."""
    try:
        return list(parse_seeds(text))
    except InvalidExperiment:
        raise InvalidExperiment(f"{field} {text!r} cannot be read; write every number once, as 0,3,7 or 0-4") from None


def check_margin(margin: float | None, levels: pa.Table) -> None:
    """Refuse a margin that no difference can exceed: percentage points where a fraction is meant."""
    from lth.analysis import single_score

    if margin is None:
        return
    most = 1 if single_score(levels).percent else math.inf
    if not 0 < margin < most:
        points = f"; for {margin:g} percentage points write {margin / 100:g}" if 1 <= margin < 100 else ""
        what = "a fraction above 0 and below 1" if most == 1 else "a number above 0"
        raise InvalidExperiment(f"--margin {margin:g} is no margin, which is {what}{points}")


def names(text: str) -> list[str]:
    """`ticket,reinit` as a list."""
    return [part.strip() for part in text.split(",")]


def print_verdicts(source: str | None, store_url: str, settings: list[str], arm: str, margin: float | None) -> None:
    """The claim in one sentence, its caveats, and the table behind it."""
    import lth.results
    from lth.report import caveats, claim, recorded_caveats, verdict_table

    store, console = Store(store_url, READING), Console(highlight=False)
    identifier = id_in(store, source, settings)
    results = lth.results.open(store_url, identifier)
    check_margin(margin, results.levels)
    found = lth.results.judge(store, identifier, results.levels, margin)
    said, notes = claim(found, arm), [*recorded_caveats(store.describe(identifier)), *caveats(found, arm)]
    console.print(f"[bold]{identifier}[/]")
    console.print(verdict_table(found, arm))
    console.print(f"[bold]{said}[/]")
    for note in notes:
        console.print(f"- {note}", markup=False)
    say_damaged(results)


def print_overlap(
    source: str,
    store_url: str,
    settings: list[str],
    between: str,
    levels: str | None,
    arms: str | None,
    by_layer: bool,
) -> None:
    """Jaccard indices against chance, means over pairs."""
    from lth.sweep.overlap import compare

    store, console = Store(store_url), Console(highlight=False)
    identifier = id_in(store, source, settings)
    rows = compare(
        store,
        identifier,
        between,  # type: ignore[arg-type]
        numbers(levels, "--levels") if levels else None,
        names(arms) if arms else None,
    )
    key = store.put_analysis("overlap", identifier, rows)
    console.print(f"[bold]{identifier}[/]: overlap of masks between {between}")
    texts, figures = {
        "seeds": (["arm"], ["level"]),
        "arms": (["arm a", "arm b"], ["level"]),
        "levels": (["arm"], ["levels"]),
    }[between]
    table = _table([*texts, *(["tensor"] if by_layer else [])], [*figures, "pairs", "Jaccard", "chance", "ratio"])
    keys = ("arm_a", "draw_a", "level_a", "arm_b", "draw_b", "level_b", "tensor")
    whole = pc.equal(rows["tensor"], "")
    shown = rows.filter(pc.invert(whole) if by_layer else whole).select([*keys, "jaccard", "chance"]).to_pylist()
    for place, group in _groups(shown, keys):
        values = [row["jaccard"] for row in group if row["jaccard"] is not None]
        if not values:
            continue
        arms_ = [_arm(*place[:2]), _arm(*place[3:5])][: len(texts)]
        which = f"{place[2]}, {place[5]}" if between == "levels" else str(place[2])
        chance = _mean([row["chance"] for row in group if row["jaccard"] is not None])
        table.add_row(
            *arms_,
            *([place[6]] if by_layer else []),
            which,
            str(len(values)),
            _interval(values, 1, 4),
            f"{chance:.4f}",
            f"{_mean(values) / chance:.2f}x" if chance else "",
        )
    console.print(table)
    console.print(
        "Jaccard index of kept weights: mean ± half the 95% t interval over pairs (pairs that share a "
        "seed are not independent); chance: random masks of the same counts."
    )
    console.print(f"{rows.num_rows:,} rows in {store.url}/{key}", soft_wrap=True)


def print_connectivity(
    source: str,
    store_url: str,
    settings: list[str],
    seeds: str,
    levels: str,
    arms: str,
    steps: str | None,
    copies: int,
    points: int,
    batch_norm: str,
    splits: str,
    execution: Execution,
    trust: bool,
) -> None:
    """Barriers by arm, level, step and split: means over the pairs of a seed, then over seeds."""
    from lth.sweep.connectivity import Measure, missing
    from lth.sweep.handover import Job
    from lth.sweep.setup import DataFacts

    store, console = Store(store_url), Console(highlight=False)
    replicates, wanted, among = parse_seeds(seeds), numbers(levels, "--levels"), names(arms)
    measure = Measure(copies, points, batch_norm, tuple(names(splits)))  # type: ignore[arg-type]
    experiment = experiment_in(source, store, settings, trust)
    at = names(steps) if steps else [getattr(experiment.rewinding, "step", "0it")]
    data = data_before_start(experiment)
    facts = None if data is None else DataFacts.of(data)

    def start() -> int:
        from flows.connectivity import connectivity

        options = {
            "levels": wanted,
            "arms": among,
            "steps": at,
            "copies": copies,
            "points": points,
            "batch_norm": batch_norm,
            "splits": measure.splits,
            "execution": execution,
        }
        return int(connectivity(experiment, seeds, store.url, **options))  # type: ignore[call-overload]

    if facts is None or missing(Job(experiment, facts, store.url), replicates, wanted, among, at, measure, 1):
        run_flow(start, experiment, console, "Every path that was measured is kept.")
    rows, _ = store.read_analysis("connectivity", experiment.id)
    if not rows.num_rows:
        raise LthError(f"nothing could be measured for {experiment.id}; check --levels, --arms and --steps")
    found = [row for row in rows.to_pylist() if row["status"] == "ok"]
    if lost := rows.num_rows - len(found):
        console.print(f"[yellow]{lost} pairs of copies diverged[/]; they are recorded and left out of the means.")
    for (split, norm, shown), group in _groups(found, ("split", "batch_norm", "points")):
        console.print(
            f"[bold]{experiment.id}[/]: linear mode connectivity, {split} errors, {shown} points, batch norm: {norm}",
            soft_wrap=True,
        )
        table = _table(["arm"], ["level", "step", "seeds", "pairs", "barrier", "error", "stable"])
        for place, some in _groups(group, ("arm", "draw", "level", "step")):
            by_seed = [
                _mean([row["barrier"] for row in some if row["seed"] == seed])
                for seed in sorted({row["seed"] for row in some})
            ]
            error = _mean([(row["error_a"] + row["error_b"]) / 2 for row in some])
            table.add_row(
                _arm(*place[:2]),
                str(place[2]),
                str(place[3]),
                str(len(by_seed)),
                str(len(some)),
                _interval(by_seed, 100, 2),
                f"{error:.2%}",
                _stable(by_seed),
            )
        console.print(table)
    console.print(
        "Barrier: the highest error on the line above the mean of its ends, in percentage points, mean ± "
        f"half the 95% t interval over seeds; stable below {STABLE * 100:g} (Frankle et al. 2020), "
        "open where the interval holds both. Error: at the ends."
    )


def _stable(barriers: Sequence[float]) -> str:
    """Whether the whole interval lies on one side of the bound; of one seed, the barrier itself."""
    interval = mean_interval(barriers)
    low, high = (interval.low, interval.high) if len(barriers) > 1 else (interval.mean, interval.mean)
    return "yes" if high < STABLE else "no" if low >= STABLE else "open"


def _table(texts: Sequence[str], figures: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in texts:
        table.add_column(name, overflow="fold")  # in a narrow terminal names are broken, figures never
    for name in figures:
        table.add_column(name, no_wrap=True, justify="right")
    return table


Rows = list[dict[str, Any]]


def _groups(rows: Rows, keys: Sequence[str]) -> list[tuple[tuple[Any, ...], Rows]]:
    found: dict[tuple[Any, ...], Rows] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return sorted(found.items())


def _arm(arm: str, draw: int) -> str:
    return f"{arm}.{draw}" if draw else arm


def _interval(values: Sequence[float], scale: float, digits: int) -> str:
    interval = mean_interval([scale * value for value in values])
    return f"{interval.mean:.{digits}f}" + (f" ±{interval.high - interval.mean:.{digits}f}" if len(values) > 1 else "")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
