"""`lth status`, `lth query`, `lth list`: what a store holds and what can be named."""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from lth import yaml_text
from lth.catalogue import registry_of
from lth.console import Console, one_line
from lth.errors import InvalidExperiment, LthError
from lth.registry import import_module
from lth.seeds import format_seeds, parse_seeds
from lth.store import READING, Store, unit_name_of
from lth.store.origin_columns import kinds_line
from lth.store.unit import UNIT_KINDS, is_name
from lth.store.verify import Finding, verify

if TYPE_CHECKING:
    from lth.results import Results

SHORTEST = 4
"""Characters of an id that may stand for it, where only one begins so."""


def print_status(source: str | None, store_url: str, settings: list[str]) -> None:
    """Planned, committed and diverged by level and arm, for one experiment or all in the store."""
    store = Store(store_url, READING)
    console = Console(highlight=False)
    known = store.experiments()
    ids = known if source is None else [_id_of(source, settings, known)]
    if not ids:
        console.print(f"no experiments in {store.url} yet")
    for identifier in ids:
        if identifier not in known:
            raise LthError(
                f"{identifier} has not been started in {store.url}; it holds: {', '.join(known) or 'nothing'}"
            )
        _print_one(identifier, store, console)


def _id_of(source: str, settings: list[str], known: list[str]) -> str:
    """The id that a preset, a file, an id or the beginning of one names; what the store knows by its id needs no
    experiment, and no torch."""
    if source in known:
        return source
    from lth.experiment import load_experiment, preset_names

    if source in preset_names() or Path(source).is_file():
        return load_experiment(source, settings).id
    meant = [each for each in known if each.startswith(source) or each.rpartition("-")[2].startswith(source)]
    if len(source) >= SHORTEST and len(meant) == 1:
        return meant[0]
    if len(source) >= SHORTEST and meant:
        raise LthError(f"{source!r} begins several experiments: {', '.join(meant)}; write more of the id")
    return load_experiment(source, settings).id  # which says what is wrong


def id_in(store: Store, source: str | None, settings: list[str]) -> str:
    """The id that a preset, a file, an id or the beginning of one names, if the store has it; without any, that of the
    only experiment. Else LthError."""
    known = store.experiments()
    holds = f"it has {', '.join(known) or 'none'}"
    if source is None:
        if len(known) == 1:
            return known[0]
        raise LthError(f"say which experiment of {store.url}: {holds}")
    close = difflib.get_close_matches(source, known, 1) or [
        each for each in known if each.rpartition("-")[0] == source.rpartition("-")[0]
    ]
    hint = "".join(f"did you mean {each!r}? " for each in close[:1])
    named = re.fullmatch(r".+-[0-9a-f]{10}", source) and not Path(source).exists()
    try:
        identifier = source if named else _id_of(source, settings, known)
    except InvalidExperiment:
        from lth.experiment import preset_names

        if source in preset_names() or Path(source).exists():
            raise
        raise LthError(
            f"{source!r} is neither a preset, nor a file, nor an experiment of {store.url}; {hint}{holds}"
        ) from None
    if identifier not in known:
        raise LthError(f"store {store.url} has no experiment {identifier!r}; {hint}{holds}")
    return identifier


def print_experiment(source: str, settings: list[str], store_url: str) -> None:
    """An experiment and its id: of a preset or a file with every field, of an id as the store describes it, which runs
    nothing of it."""
    from lth.experiment import load_experiment, preset_names

    if source in preset_names() or Path(source).is_file():
        experiment = load_experiment(source, settings)
        identifier, content = experiment.id, experiment.model_dump(mode="json")
    else:
        store = Store(store_url, READING)
        identifier = id_in(store, source, [])
        if settings:
            raise InvalidExperiment(f"{identifier} is as it was run: --set and --levels change a preset or a file")
        content = store.describe(identifier).get("experiment", {})
        if not isinstance(content, dict) or not content:
            raise LthError(f"{store.url} does not say what {identifier} is; its experiment.yaml is missing")
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"# id: {identifier}")
    console.print(yaml_text.dump(content), end="")


def _print_one(identifier: str, store: Store, console: Console) -> None:
    import lth.results

    planned = _planned(store, identifier)
    results = lth.results.open(store.url, identifier)
    rows = results.query(
        "SELECT arm, draw, level, list(seed) AS seeds, count(*) FILTER (status = 'diverged') AS "
        "diverged FROM levels GROUP BY ALL"
    ).to_pylist()
    want, have, diverged = Counter[tuple[int, str]](), Counter[tuple[int, str]](), Counter[tuple[int, str]]()
    for (arm, _, level), seeds in planned.items():
        want[level, arm] += len(seeds)
    for row in rows:
        have[row["level"], row["arm"]] += len(row["seeds"])
        diverged[row["level"], row["arm"]] += row["diverged"]
    arms = sorted({arm for _, arm in [*want, *have]}, key=lambda arm: (arm != "ticket", arm))
    found = sum(
        len(planned.get((row["arm"], row["draw"], row["level"]), set()).intersection(row["seeds"])) for row in rows
    )
    total = sum(want.values())
    console.print(
        f"[bold]{identifier}[/]: {found:,} of {total:,} trainings committed, {sum(diverged.values())} diverged"
    )
    table = Table(caption="committed/planned, ✗ diverged", caption_justify="left")
    table.add_column("level", justify="right")
    for arm in arms:
        table.add_column(arm, justify="right")
    for level in sorted({level for level, _ in [*want, *have]}):
        cells = []
        for place in ((level, arm) for arm in arms):
            cell = f"{have[place]}/{max(want[place], have[place])}" if want[place] or have[place] else ""
            cells.append(cell + (f" [red]✗{diverged[place]}[/]" if diverged[place] else ""))
        table.add_row(str(level), *cells)
    console.print(table)
    if kinds := kinds_line(results.levels):
        console.print(f"[yellow]note:[/] {escape(kinds)}", soft_wrap=True)
    for key, reason in results.damaged.items():
        remedy = "" if key.startswith("curated/") else "; `lth run` sets its unit aside and does it again"
        console.print(f"[red]damaged:[/] {escape(one_line(key))}: {escape(one_line(reason))}{remedy}", soft_wrap=True)


def _planned(store: Store, identifier: str) -> dict[tuple[str, int, int], set[int]]:
    """The seeds that some sweep of the experiment asked for, by arm, draw and level, as the sweep records tell."""
    planned: defaultdict[tuple[str, int, int], set[int]] = defaultdict(set)
    for record in store.sweeps(identifier):
        try:
            seeds = parse_seeds(record["seeds"])
            planned["ticket", 0, 0].update(seeds)
            for text in record["arms"]:
                arm, _, draws = text.partition(":")
                for draw in range(int(draws)):
                    for level in range(1, record["levels"] + 1):
                        planned[arm, draw, level].update(seeds)
        except (KeyError, TypeError, ValueError, AttributeError, LthError) as error:
            raise LthError(
                f"a sweep record of {identifier} in {store.url} is damaged ({type(error).__name__}: {error})"
                f"; remove it from experiments/{identifier}/sweeps, the next run writes it again"
            ) from None
    return planned


def print_verified(source: str | None, store_url: str, settings: list[str], set_aside: bool) -> None:
    """What is wrong with a store. Raises LthError, so that the command fails, unless it is nothing or only extra, or
    all of it could be `set_aside`."""
    from rich.progress import Progress

    store, console = Store(store_url, READING), Console(highlight=False)
    if not store.experiments() and not store.objects.folders("curated"):
        raise LthError(f"there is no experiment in {store.url}; check the address")
    ids = None if source is None else [id_in(store, source, settings)]
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("reading units", total=None)
        found = verify(store, ids, lambda done, total: progress.update(task, completed=done, total=total))
    for each in found.findings:
        colour = "yellow" if each.trouble == "extra" else "red"
        text = f"{escape(one_line(each.key))}: {escape(one_line(each.reason))}"
        console.print(f"[{colour}]{each.trouble}:[/] {text}", soft_wrap=True)
    for identifier, kinds in found.kinds.items():
        console.print(f"[yellow]note:[/] {identifier}: {escape(kinds)}", soft_wrap=True)
    for note in found.notes:
        console.print(escape(note), soft_wrap=True)
    wrong = sum(each.trouble != "extra" for each in found.findings)
    extra = len(found.findings) - wrong
    console.print(
        f"{found.objects:,} objects, {found.bytes / 1e6:,.1f} MB read: {wrong or 'nothing'} wrong"
        f"{f', {extra} extra' if extra else ''}"
    )
    units = set(filter(None, map(_unit_of, found.findings)))
    if set_aside:
        for experiment_id, unit in sorted(units):
            store.quarantine_unit(experiment_id, unit)
        if units:
            console.print(f"{len(units)} unit{'s' * (len(units) > 1)} set aside; the next run does them anew")
        wrong = sum(each.trouble != "extra" and _unit_of(each) not in units for each in found.findings)
    if wrong:
        remedy = (
            "; with --set-aside damaged and missing units are put aside, and the next run does them anew"
            if units and not set_aside
            else ""
        )
        raise LthError(f"{wrong} finding{'s' * (wrong > 1)} in {store.url}{remedy}")


def _unit_of(finding: Finding) -> tuple[str, str] | None:
    """(experiment, unit) that a damaged or missing object belongs to."""
    kind, _, rest = finding.key.partition("/experiment=")
    identifier, _, name = rest.partition("/")
    if finding.trouble not in ("damaged", "missing") or kind not in UNIT_KINDS or not is_name(unit_name_of(name)):
        return None
    return identifier, unit_name_of(name)


def say_damaged(results: Results) -> None:
    """Name, on standard error, every damaged object that an answer had to do without, or was read around."""
    console = Console(stderr=True, highlight=False)
    for key, reason in results.damaged.items():
        console.print(f"[yellow]damaged:[/] {escape(one_line(key))}: {escape(one_line(reason))}", soft_wrap=True)


def print_list(what: str, store_url: str, imports: list[str]) -> None:
    """Names with one-line descriptions, those of the user's modules too."""
    for module in imports:
        import_module(module, "--imports")
    console = Console(highlight=False)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in _entries(what, store_url):
        table.add_row(name, text)
    if table.row_count == 0:
        console.print(f"no {what} in {Store(store_url).url} yet")
    else:
        console.print(table)


def _entries(what: str, store_url: str) -> list[tuple[str, str]]:
    if what == "presets":
        from lth.experiment import preset_names, preset_text

        return [(name, _comment(preset_text(name))) for name in preset_names()]
    if what == "experiments":
        store = Store(store_url, READING)
        return [(identifier, _described(store, identifier)) for identifier in store.experiments()]
    return list(registry_of(what).names().items())


def _comment(text: str) -> str:
    lines = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
    return " ".join(lines)


def _described(store: Store, identifier: str) -> str:
    spec = store.describe(identifier).get("experiment", {})
    seeds = sorted({seed for record in store.sweeps(identifier) for seed in parse_seeds(record["seeds"])})
    transfer = spec.get("transfer") or {}
    taken = f", tickets of {transfer.get('experiment') or 'a file'}" if transfer else ""
    return (
        f"{spec.get('model', {}).get('name', '?')} on {spec.get('dataset', {}).get('name', '?')}, "
        f"seeds {format_seeds(seeds) or 'none'}{taken}"
    )
