"""The report: one HTML file that opens offline, prints well, and says what was found and how sure that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from lth import yaml_text
from lth.analysis.summary import ordered_arms, summarise
from lth.errors import LthError, Untrusted
from lth.report import detail_figures
from lth.report.caveats import caveats, recorded_caveats
from lth.report.figures import early_stop_figure, score_figure
from lth.report.score_texts import ScoreText
from lth.report.style import arm_label
from lth.report.svg import to_svg
from lth.report.tables import table_cells
from lth.report.verdict_texts import caption, claim, others_of, verdict_rows
from lth.seeds import format_seeds
from lth.store.origin_columns import kinds_line
from lth.store.score_columns import ACCURACY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lth.results import Results

WATTS_A_CORE = 10.0
WATTS_A_GPU = 400.0
"""What the energy estimate assumes: a busy core of a server, a busy data-centre GPU; nothing was measured."""


@dataclass(frozen=True)
class Picture:
    """A figure of the report, what it shows, and the query that gives its numbers."""

    name: str
    about: str
    draw: Callable[[], Figure]
    query: str
    command: str = ""
    """What computes its table, where no sweep does."""


def report_page(
    results: Results, experiment_id: str, description: dict[str, Any], verdicts: pa.Table, trust: bool = False
) -> str:
    """The page for one experiment. `description` is the content of its experiment.yaml, `verdicts` those to be shown.

    Figures for which there is nothing (no overlap computed, no dense layer on the image) are left out, and one for
    which code that the description names would have to run, unless that has `trust`. Raises LthError if no training has
    finished without diverging.
    """
    levels = results.levels.filter(pc.equal(results.levels["experiment_id"], experiment_id))
    if "ok" not in levels["status"].to_pylist():
        raise LthError(f"no training of {experiment_id} has finished without diverging; there is nothing to report yet")
    parts = [f"<h1>{escape(experiment_id)}</h1>"]
    spec = description.get("experiment", {})
    if spec.get("transfer"):
        source = spec["transfer"]["experiment"]
        whose = f"Tickets that <code>{escape(source)}</code> found" if source else "One exported ticket"
        parts.append(f"<p>{whose}, trained on {escape(spec['dataset']['name'])}.</p>")
    if 0 in verdicts["against_level"].to_pylist():
        parts.append(f'<p class="claim">{escape(claim(verdicts))}</p>')
        kinds = kinds_line(levels)
        notes = [*recorded_caveats(description), *caveats(verdicts), *([kinds] if kinds else [])]
        if notes:
            parts.append("<h2>Caveats</h2><ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>")
        parts.append("<h2>Verdicts</h2>" + _verdict_table(verdicts))
    else:
        parts.append(
            '<p class="claim">The dense network and its tickets are not both committed: there is nothing to '
            "judge yet.</p>"
        )
    parts.append(f"<h2>{escape(ScoreText.of(levels).title)}</h2>" + _summary_table(levels))
    pictures = [(picture, _figure(picture)) for picture in figures_of(results, experiment_id, description, trust)]
    parts.append(
        '<h2>Figures</h2><p class="hint">Rest on a point for its value. Turn the wheel to zoom, drag to '
        "move, double-click to see all.</p>" + "".join(drawn for _, drawn in pictures)
    )
    uncomputed = [
        f"<code>{picture.command} {escape(experiment_id)}</code>"
        for picture, drawn in pictures
        if picture.command and not drawn
    ]
    if uncomputed:
        parts.append(f'<p class="note">Figures of what is computed when asked for: {", ".join(uncomputed)}.</p>')
    parts.append("<h2>What was run</h2>" + _run(levels, description))
    resources = files("lth.report")
    style, script = ((resources / name).read_text() for name in ("page.css", "page.js"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<title>{escape(experiment_id)}</title><meta name="viewport" content="width=device-width">'
        f"<style>{style}</style></head><body><main>{''.join(parts)}</main><script>{script}</script></body></html>\n"
    )


def figures_of(results: Results, experiment_id: str, description: dict[str, Any], trust: bool = False) -> list[Picture]:
    """Every figure that the experiment may have; to `draw` one raises LthError where there is nothing for it.

    `description` is the content of its experiment.yaml; what code that names runs only with `trust`.
    """
    levels = results.levels.filter(pc.equal(results.levels["experiment_id"], experiment_id))

    def of(table: pa.Table) -> pa.Table:
        return table.filter(pc.equal(table["experiment_id"], experiment_id))

    ours = f"experiment_id = '{experiment_id}'"
    pruning = description.get("experiment", {}).get("pruning", {})
    at_once = pruning.get("schedule") == "one_shot"
    earlier: Callable[[int], range] = range
    transferred = description.get("experiment", {}).get("transfer") is not None
    if pruning.get("when") == "at_initialisation":
        earlier = lambda level: range(0)  # noqa: E731
    elif at_once:
        earlier = lambda level: range(min(level, 1))  # noqa: E731
    layer = _layer_on_image(results, experiment_id)
    text = ScoreText.of(levels)
    # Queries are to be read: where the score is accuracy, they name it so.
    column, curve = ("test_accuracy_at_early_stop", "1 - m.accuracy) AS error")
    if text.score.name != ACCURACY:
        column, curve = ("test_score_at_early_stop", "m.score_value) AS score")
    per_seed = (
        "SELECT level, arm, avg(density) AS density, avg({0}) AS mean, stddev_samp({0}) AS sd, count(*) AS n "
        f"FROM levels WHERE {ours} AND status = 'ok' GROUP BY ALL ORDER BY ALL"
    )
    pictures = [
        Picture(
            text.score.name,
            f"Test {text.label} at early stop against the weights that remain.",
            lambda: score_figure(levels),
            per_seed.format(column),
        ),
        Picture(
            "early-stop",
            "The step of minimum validation loss against the weights that remain.",
            lambda: early_stop_figure(levels),
            per_seed.format("early_stop_step"),
        ),
        Picture(
            "learning-curves",
            "How the ticket learns at several densities.",
            lambda: detail_figures.learning_curves_figure(of(results.metrics), levels),
            f"SELECT level, step, avg({curve}, avg(m.loss) AS loss FROM metrics AS m JOIN levels "
            "USING (experiment_id, arm, draw, level, seed) "
            f"WHERE {ours} AND arm = 'ticket' AND split = 'val' AND status = 'ok' GROUP BY ALL ORDER BY ALL",
        ),
        Picture(
            "layers",
            "Where in the network weights remain.",
            lambda: detail_figures.layer_density_figure(of(results.layers)),
            "SELECT level, tensor, avg(density) AS density, avg(effective_density) AS effective FROM layers "
            f"WHERE {ours} AND arm = 'ticket' GROUP BY ALL ORDER BY ALL",
        ),
        Picture(
            "cost",
            f"{text.title} against the training that it took.",
            lambda: detail_figures.cost_figure(levels, earlier, _begins(results, ours), _whole_budgets()),
            f"SELECT level, arm, avg(steps) AS steps FROM levels WHERE {ours} GROUP BY ALL ORDER BY ALL",
        ),
        Picture(
            "overlap",
            "Whether different seeds find the same weights.",
            lambda: detail_figures.overlap_figure(of(results.overlap)),
            "SELECT level_a AS level, arm_a AS arm, avg(jaccard) AS jaccard, avg(chance) AS chance FROM overlap "
            f"WHERE {ours} AND \"between\" = 'seeds' AND tensor = '' GROUP BY ALL ORDER BY ALL",
            "lth overlap",
        ),
        Picture(
            "connectivity",
            "Whether copies trained in other data orders end in the same valley.",
            lambda: detail_figures.connectivity_figure(of(results.connectivity)),
            f"SELECT arm, level, step, avg(barrier) AS barrier FROM connectivity WHERE {ours} GROUP BY ALL "
            "ORDER BY ALL",
            "" if transferred else "lth connectivity",
        ),
    ]
    if transferred:  # the trainings that found the tickets are elsewhere
        pictures = [picture for picture in pictures if picture.name != "cost"]
    masked = levels.filter(pc.and_(pc.equal(levels["arm"], "ticket"), pc.is_valid(levels["mask_sha256"])))
    deepest = pc.max(masked["level"]).as_py()
    if deepest and not transferred:  # those began elsewhere
        whole = f"SELECT * FROM masks WHERE {ours} AND arm = 'ticket' AND level = {deepest} ORDER BY seed"
        pictures.append(
            Picture(
                "initial-values",
                "Where kept and pruned weights began (drawn again from the seeds).",
                lambda: _initial_values(results.query(whole), experiment_id, description, deepest, trust),
                whole,
            )
        )
    if layer is not None:
        tensor, shape = layer
        query = f"SELECT * FROM masks WHERE {ours} AND arm = 'ticket' AND tensor = '{tensor}'"
        pictures.append(
            Picture(
                "pixels",
                "Which input pixels the ticket looks at.",
                lambda: detail_figures.pixels_figure(results.query(query), tensor, shape),
                query,
            )
        )
    return pictures


def _begins(results: Results, ours: str) -> dict[tuple[str, int], int]:
    """(arm, level) -> the first step of its curves."""
    rows = results.query(f"SELECT arm, level, min(step) AS first FROM metrics WHERE {ours} GROUP BY ALL").to_pylist()
    return {(row["arm"], row["level"]): row["first"] for row in rows}


def _whole_budgets() -> set[str]:
    from lth.arms import ARMS

    return {name for name in ARMS if ARMS[name].whole_budget}


def _initial_values(
    masks: pa.Table, experiment_id: str, description: dict[str, Any], level: int, trust: bool
) -> Figure:
    """The figure for the first five seeds; what the network's input is, the store notes of the data."""
    from lth.engine import initialise
    from lth.store import unpack
    from lth.sweep.networks import DataFacts, network_of
    from lth.sweep.stored import facts_of, stored_experiment

    seeds = sorted(set(masks["seed"].to_pylist()))[:5]
    experiment = stored_experiment(experiment_id, description, trust)
    facts = facts_of(description) or DataFacts.of(experiment.dataset.load())
    network = network_of(experiment, facts).network
    weights = network.layout.views(initialise(network, seeds))
    kept = unpack(masks, seeds)
    density = sum(int(mask.sum()) for mask in kept.values()) / sum(mask.size for mask in kept.values())
    return detail_figures.initial_values_figure(
        f"{experiment.id}: initial values, level {level}",
        {name: weights[name].numpy() for name in kept},
        kept,
        f"n = {len(seeds)} seeds, {100 * density:.3g}% of the weights remain, the largest tensors",
    )


def _figure(picture: Picture) -> str:
    try:
        drawn = picture.draw()
    except Untrusted as error:
        return f'<p class="note">Left out: {escape(picture.name)}. {escape(str(error))}</p>'
    except LthError:
        return ""  # nothing to draw: not computed, or not of this kind of network
    return (
        f'<figure id="{picture.name}"><figcaption>{escape(picture.about)}</figcaption>'
        f'<div class="zoom">{to_svg(drawn, picture.name)}</div>'
        f"<details><summary>the query behind it</summary><pre>{escape(picture.query)}</pre></details></figure>"
    )


def _layer_on_image(results: Results, experiment_id: str) -> tuple[str, tuple[int, int, int]] | None:
    """The dense layer that reads the image: as many inputs as no tensor has outputs, in a square of one or three
    channels. None where there is no such layer, or more than one."""
    shapes = results.query(
        "SELECT DISTINCT tensor, shape FROM masks WHERE arm = 'ticket' AND level = 0 AND "
        f"experiment_id = '{experiment_id}'"
    ).to_pylist()
    outputs = {row["shape"][0] for row in shapes}
    first = [row for row in shapes if len(row["shape"]) == 2 and row["shape"][1] not in outputs]
    if len(first) != 1 or any(len(row["shape"]) > 2 for row in shapes):
        return None
    inputs = first[0]["shape"][1]
    for channels in (1, 3):
        side = round((inputs / channels) ** 0.5)
        if side * side * channels == inputs:
            return first[0]["tensor"], (channels, side, side)
    return None


def _verdict_table(table: pa.Table) -> str:
    others = others_of(table)
    header = ["level", "weights", "minus dense", "speed-up", *(f"minus {arm_label(other)}" for other in others)]
    colours = {"matching": "yes", "not matching": "no"}
    rows = []
    for row in verdict_rows(table, "ticket", others):
        colour = colours.get(row.dense.said.partition(",")[0], "unsure")
        cells = [
            f"<td>{row.level}</td><td>{row.density}</td>",
            f'<td class="{colour}">{_two(row.dense.numbers, row.dense.said)}</td>',
            f"<td>{row.speedup}</td>",
            *(f"<td>{_two(cell.numbers, cell.said)}</td>" for cell in row.others),
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return _table(header, rows, caption(table))


def _summary_table(levels: pa.Table) -> str:
    header, body, note = table_cells(summarise(levels))
    rows = [
        "<tr>"
        + "".join(f"<td{' class=best' if best else ''}>{_two(first, second)}</td>" for first, second, best in row)
        + "</tr>"
        for row in body
    ]
    return _table(header, rows, note)


def _run(levels: pa.Table, description: dict[str, Any]) -> str:
    first = description.get("first_run", {})
    transfer = description.get("experiment", {}).get("transfer")
    arms = ordered_arms(levels["arm"].to_pylist())
    seconds = pc.sum(levels["train_seconds"]).as_py() or 0.0
    on_gpu = [not str(device).startswith("cpu") for device in levels["device"].to_pylist()]
    watts = [
        WATTS_A_GPU if gpu else WATTS_A_CORE * threads
        for gpu, threads in zip(on_gpu, levels["threads"].to_pylist(), strict=True)
    ]
    energy = sum(w * (s or 0.0) for w, s in zip(watts, levels["train_seconds"].to_pylist(), strict=True)) / 3.6e6
    facts = [
        ("trainings", f"{levels.num_rows:,}, of which {levels['status'].to_pylist().count('diverged')} diverged"),
        ("seeds", format_seeds(sorted(set(levels["seed"].to_pylist())))),
        *([("tickets of", transfer["experiment"] or f"file, SHA-256 {transfer['ticket']}")] if transfer else []),
        ("arms", ", ".join(arms)),
        ("levels", f"0 to {pc.max(levels['level']).as_py()}"),
        ("devices", _distinct(levels, "device")),
        ("threads", _distinct(levels, "threads")),
        ("instructions", _distinct(levels, "instructions")),
        ("torch", _distinct(levels, "torch")),
        ("engine", _distinct(levels, "engine")),
        *([("alike", f"no: {kinds}")] if (kinds := kinds_line(levels)) else []),
        ("code", _distinct(levels, "code_version")),
        ("first run", ", ".join(f"{name} {value}" for name, value in first.items()) or "not recorded"),
        ("data, SHA-256", str(description.get("data_sha256", "not recorded"))),
        ("training time", f"{seconds:,.0f} s, side by side or not ({seconds / 3600:.2f} h)"),
        ("energy, a guess", f"{energy:.3g} kWh at {WATTS_A_CORE:g} W a core and {WATTS_A_GPU:g} W a GPU; not measured"),
    ]
    rows = [f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in facts]
    spec = yaml_text.dump(description.get("experiment", {}))
    return (
        f'<table class="facts">{"".join(rows)}</table><details><summary>the experiment, every field</summary>'
        f"<pre>{escape(spec)}</pre></details>"
    )


def _distinct(levels: pa.Table, column: str) -> str:
    values = pc.unique(levels[column]).to_pylist()
    return ", ".join(sorted("not recorded" if value is None else str(value) for value in values))


def _table(header: list[str], rows: list[str], note: str) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    return (
        f'<table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table><p class="note">{escape(note)}</p>'
    )


def _two(first: str, second: str) -> str:
    return f"{escape(first)}<small>{escape(second)}</small>" if second else escape(first)
