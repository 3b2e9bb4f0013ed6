"""`lth export`, `lth report` and `lth compare`: a ticket, or all that was found, in files that need no store."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from rich.markup import escape

from flows.cli.analysis import check_margin
from flows.cli.inspection import id_in, say_damaged
from lth.console import Console
from lth.errors import LthError, Untrusted
from lth.experiment import Execution
from lth.store import READING, Store

if TYPE_CHECKING:
    from lth.results import Results

FIGURE_FORMATS = ("pdf", "svg", "png")


def export_ticket(
    source: str,
    seed: int,
    level: int,
    arm: str,
    draw: int,
    formats: tuple[str, ...],
    weights: Literal["early_stop", "end"],
    output: Path | None,
    store_url: str,
    settings: list[str],
    execution: Execution,
    trust: bool,
) -> None:
    """Train the ticket once more, write it, and say what was written."""
    from lth.objectives import SCORES
    from lth.sweep.extraction import collect
    from lth.tickets import FORMATS, save

    for name in formats:  # before anything is trained
        if name not in FORMATS:
            raise LthError(f"unknown format {name!r}; choose {', '.join(FORMATS)}")
        if name == "onnx" and not all(map(find_spec, ("onnx", "onnxruntime", "onnxscript"))):
            raise LthError("ONNX is not installed; pip install 'lth[onnx]'")
    store, console = Store(store_url, READING), Console(highlight=False)
    identifier = id_in(store, source, settings)
    name = f"{identifier}-{arm}{f'.{draw}' if draw else ''}-L{level:02d}-s{seed}"
    folder = output or Path(name)
    if folder.exists() and any(folder.iterdir()):
        raise LthError(f"{folder} is there already and not empty; choose another --output")
    errors = Console(stderr=True)
    with errors.status(f"training {name} once more: its weights are not kept"):
        ticket = collect(store, identifier, seed, level, arm, draw, weights, execution.threads, execution.device, trust)
    card, score = ticket.card, SCORES[ticket.card.score]
    console.print(
        f"[bold]{name}[/]: {card.weights_remaining:,} of {card.weights_total:,} weights "
        f"({100 * card.density:.3g}%), test {score.label} {score.written(card.test_score)} "
        f"({score.written(card.test_score_here)} measured here)",
        soft_wrap=True,
    )
    for file in save(ticket, folder, formats):
        console.print(f"  {file} ({file.stat().st_size:,} bytes)", soft_wrap=True)


def write_report(
    source: str | None,
    margin: float | None,
    output: Path | None,
    figures: Path | None,
    suffix: str | None,
    store_url: str,
    settings: list[str],
    trust: bool,
) -> None:
    """Write the HTML report of an experiment, and its figures into a folder of their own; say where they are."""
    import lth.results
    from lth.report import report_page

    if suffix is not None and figures is None:
        raise LthError(f"--format {suffix} is of figures; say with --figures which folder they go into")
    suffix = suffix or FIGURE_FORMATS[0]
    if suffix not in FIGURE_FORMATS:
        raise LthError(f"unknown format {suffix!r}; choose {', '.join(FIGURE_FORMATS)}")
    store, console = Store(store_url, READING), Console(highlight=False)
    identifier = id_in(store, source, settings)
    with Console(stderr=True).status("reading the store and drawing"):
        results = lth.results.open(store_url, identifier)
        check_margin(margin, results.levels)
        judged = lth.results.judge(store, identifier, results.levels, margin)
        page = report_page(results, identifier, store.describe(identifier), judged, trust)
    file = output or Path(f"{identifier}.html")
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise LthError(f"cannot write {file}: {error.strerror}; choose another --output") from None
    console.print(f"{file} ({file.stat().st_size / 1e6:.1f} MB)", soft_wrap=True)
    if figures is not None:
        _write_figures(results, identifier, store.describe(identifier), figures, suffix, console, trust)
    say_damaged(results)


def _write_figures(
    results: Results,
    identifier: str,
    description: dict[str, Any],
    folder: Path,
    suffix: str,
    console: Console,
    trust: bool,
) -> None:
    from lth.report import figures_of, save_figure

    for picture in figures_of(results, identifier, description, trust):
        try:
            drawn = picture.draw()
        except Untrusted as error:
            console.print(f"[yellow]left out:[/] figure {picture.name}: {escape(str(error))}", soft_wrap=True)
            continue
        except LthError:
            continue  # there is nothing for it
        file = folder / f"{picture.name}.{suffix}"
        save_figure(drawn, file)
        console.print(f"figure: {file}", soft_wrap=True)


def print_comparison(sources: list[str], arm: str, figure: Path | None, store_url: str) -> None:
    """The table of several experiments, and their figure."""
    import lth.results
    from lth.report import comparison_figure, comparison_table, save_figure

    store, console = Store(store_url, READING), Console(highlight=False)
    identifiers = list(dict.fromkeys(id_in(store, source, []) for source in sources))
    if len(identifiers) < 2:
        raise LthError("compare at least two experiments; lth list experiments names those of the store")
    if figure is not None and figure.suffix.removeprefix(".") not in FIGURE_FORMATS:
        raise LthError(f"--figure {figure} must end in .{', .'.join(FIGURE_FORMATS)}")
    opened = {identifier: lth.results.open(store_url, identifier) for identifier in identifiers}
    levels = pa.concat_tables([results.levels for results in opened.values()])
    verdicts = {identifier: results.verdicts for identifier, results in opened.items()}
    console.print(comparison_table(levels, verdicts, arm))
    for results in opened.values():
        say_damaged(results)
    if figure is not None:
        save_figure(comparison_figure(levels, identifiers, arm), figure)
        console.print(f"figure: {figure}", soft_wrap=True)
