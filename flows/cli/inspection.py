"""`lth status`, `lth query`, `lth list`: what a store holds and what can be named."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lth.catalogue import registry_of
from lth.errors import InvalidExperiment, LthError
from lth.registry import import_module
from lth.seeds import format_seeds, parse_seeds
from lth.store import READING, Store, unit_name_of
from lth.store.origin_columns import kinds_line
from lth.store.unit import UNIT_KINDS, is_name
from lth.store.verify import Finding, verify


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
    """The id that a preset, a file or an id names; what the store knows by its id needs no experiment, and no torch."""
    if source in known:
        return source
    from lth.experiment import load_experiment

    return load_experiment(source, settings).id


def id_in(store: Store, source: str, settings: list[str]) -> str:
    """The id that a preset, a file or an id names, if the store has it; else LthError."""
    known = store.experiments()
    named = re.fullmatch(r".+-[0-9a-f]{10}", source) and not Path(source).exists()
    identifier = source if named else _id_of(source, settings, known)
    if identifier not in known:
        raise LthError(f"store {store.url} has no experiment {identifier!r}; it has {', '.join(known) or 'none'}")
    return identifier


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
        console.print(
            f"[red]damaged:[/] {key}: {reason}; `lth run` sets its unit aside and does it again", soft_wrap=True
        )


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
    if not store.experiments():
        raise LthError(f"there is no experiment in {store.url}; check the address")
    ids = None if source is None else [id_in(store, source, settings)]
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("reading units", total=None)
        found = verify(store, ids, lambda done, total: progress.update(task, completed=done, total=total))
    for each in found.findings:
        colour = "yellow" if each.trouble == "extra" else "red"
        console.print(f"[{colour}]{each.trouble}:[/] {escape(each.key)}: {escape(each.reason)}", soft_wrap=True)
    for identifier, kinds in found.kinds.items():
        console.print(f"[yellow]note:[/] {identifier}: {escape(kinds)}", soft_wrap=True)
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


def run_query(sql: str, store_url: str, experiment: str | None, form: str, output: Path | None) -> None:
    """Run SQL over a store's tables and print or write the result."""
    import lth.results

    results = lth.results.open(store_url, experiment)
    found = results.query(sql)
    for key, reason in results.damaged.items():
        Console(stderr=True, highlight=False).print(f"[yellow]left out:[/] {key}: {reason}", soft_wrap=True)
    if form == "table" and output is None:
        _print_table(found)
        return
    if form == "table":
        form = output.suffix.removeprefix(".") if output else ""
        if form not in ("csv", "json", "parquet"):
            raise InvalidExperiment(f"--output {output} does not tell the format; add --format csv, json or parquet")
    content = _encoded(found, form)
    if output is not None:
        try:
            output.write_bytes(content)
        except OSError as error:
            raise LthError(f"cannot write {output}: {error.strerror}; choose another --output") from None
    elif form == "parquet" and sys.stdout.isatty():
        raise InvalidExperiment("Parquet is not for a terminal; add --output FILE or pipe it")
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()


def _print_table(found: Any) -> None:
    console = Console(highlight=False)
    table = Table(caption=f"{found.num_rows:,} rows", caption_justify="left")
    numbers = ("int", "uint", "double", "float", "decimal")
    numeric = {field.name for field in found.schema if str(field.type).startswith(numbers)}
    for name in found.column_names:
        table.add_column(escape(name), justify="right" if name in numeric else "left", overflow="fold")
    shown = found.slice(0, 1000).to_pydict()
    for row in zip(*(shown[name] for name in found.column_names), strict=True):
        table.add_row(*(_text(value) for value in row))
    console.print(table)
    if found.num_rows > 1000:
        console.print(f"the first 1,000 of {found.num_rows:,} rows; use --format csv for all")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return escape(str(value))


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list) else value


def _encoded(found: Any, form: str) -> bytes:
    import io
    import json

    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    buffer = io.BytesIO()
    if form == "parquet":
        pyarrow.parquet.write_table(found, buffer, compression="zstd")
    elif form == "json":

        def text_of(value: Any) -> str:
            return value.hex() if isinstance(value, bytes) else str(value)

        text = json.dumps(_finite(found.to_pylist()), allow_nan=False, default=text_of, indent=1)
        buffer.write(text.encode() + b"\n")
    else:
        for position, field in enumerate(found.schema):
            if pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
                raise LthError(
                    f"column {field.name!r} is {field.type}, which CSV cannot hold; leave it out or use "
                    f"--format json or parquet (column {position + 1})"
                )
        pyarrow.csv.write_csv(found, buffer)
    return buffer.getvalue()


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
    if what == "datasets":
        from lth.data import dataset_names

        return list(dataset_names().items())
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
