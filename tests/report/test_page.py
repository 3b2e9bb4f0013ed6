"""The report: what it says, that it needs nothing from outside, and that its points say their values."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scored_tables import scored

import lth.results
from flows.results import results_of
from lth.data import load_dataset
from lth.errors import LthError
from lth.experiment import Experiment, load_experiment
from lth.report import caveats, claim, figures_of, report_page, save_figure, score_figure
from lth.report.svg import to_svg
from lth.store import Store, commits
from lth.sweep.here import run_here
from lth.sweep.overlap import compare
from lth.sweep.transfer import taking_over_experiment


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return load_experiment("smoke", ["pruning.levels=3"])


@pytest.fixture(scope="module")
def store(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Store:
    place = Store(tmp_path_factory.mktemp("store"))
    run_here(experiment, (0, 1, 2), place, load_dataset("digits"))
    return place


def page_of_one(store: Store, experiment: Experiment) -> str:
    """With the results of that experiment alone."""
    results = lth.results.open(store.url, experiment.id)
    return report_page(results, experiment.id, store.describe(experiment.id), results.verdicts)


def page_of(store: Store, experiment: Experiment, margin: float | None = None) -> str:
    results = lth.results.open(store.url)
    judged = lth.results.judge(store, experiment.id, results.levels, margin)
    return report_page(results, experiment.id, store.describe(experiment.id), judged)


@pytest.fixture(scope="module")
def page(store: Store, experiment: Experiment) -> str:
    return page_of(store, experiment)


def test_it_holds_claim_verdicts_figures_and_what_was_run(store: Store, experiment: Experiment, page: str) -> None:
    verdicts = lth.results.open(store.url).verdicts
    assert claim(verdicts) in page and all(each in page for each in caveats(verdicts))
    figures = re.findall(r'<figure id="([a-z-]+)">', page)
    assert figures == ["accuracy", "early-stop", "learning-curves", "layers", "cost", "initial-values", "pixels"]
    initial = page[page.index('<figure id="initial-values">') :]
    tensors = lth.results.open(store.url).query("SELECT DISTINCT tensor FROM masks")["tensor"].to_pylist()
    assert len(tensors) == 2 and all(f">{name}<" in initial[: initial.index("</figure>")] for name in tensors)
    assert "30 trainings" not in page and "<td>30, of which 0 diverged</td>" in page  # 3 x (1 + 3 x 3)
    assert "<th>seeds</th><td>0-2</td>" in page and store.describe(experiment.id)["data_sha256"] in page
    assert "kWh" in page and "not measured" in page
    assert f"<code>lth overlap {experiment.id}</code>, <code>lth connectivity {experiment.id}</code>" in page
    results = lth.results.open(store.url)
    for sql in re.findall(r"<summary>the query behind it</summary><pre>(.*?)</pre>", page, re.DOTALL):
        assert results.query(sql.replace("&#x27;", "'").replace("&quot;", '"').replace("&gt;", ">")).num_rows


def test_the_pixel_map_is_of_the_layer_that_reads_the_image(tmp_path: Path) -> None:
    """300 hidden units look like an image of 3 x 10 x 10 values, 100 like one of 10 x 10."""
    deep = load_experiment("smoke", ["model.arguments={hidden: [300, 100]}", "pruning.levels=1", "arms=[ticket]"])
    place = Store(tmp_path)
    run_here(deep, (0,), place, load_dataset("digits"))
    deep_page = page_of(place, deep)
    first = lth.results.open(place.url).query("SELECT DISTINCT tensor FROM masks WHERE shape[2] = 64").to_pylist()
    assert f"tensor = &#x27;{first[0]['tensor']}&#x27;" in deep_page


def test_figures_appear_when_there_is_something_to_draw(
    store: Store, experiment: Experiment, page: str, tmp_path: Path
) -> None:
    assert '<figure id="overlap">' not in page
    compared = Store(tmp_path / "compared")
    run_here(load_experiment("smoke", ["arms=[ticket]", "pruning.levels=1"]), (0, 1), compared, load_dataset("digits"))
    compared.put_analysis("overlap", experiment.id, compare(compared, experiment.id, "seeds", None, None))
    assert '<figure id="overlap">' in page_of(compared, experiment)
    small = load_experiment("smoke", ["pruning.levels=0"])
    alone = Store(tmp_path / "alone")
    run_here(small, (0,), alone, load_dataset("digits"))
    dense = page_of(alone, small)
    assert "there is nothing to judge yet" in dense and '<figure id="pixels">' not in dense


def test_it_needs_nothing_from_outside(page: str) -> None:
    outside = [
        link
        for link in re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\')\s>]+)', page)
        if not link.startswith(("#", "data:"))
    ]
    assert outside == [] and "<link" not in page and "@import" not in page and "fetch(" not in page
    assert len(page) < 1_000_000


def test_ids_are_unique_and_svgs_are_whole(page: str) -> None:
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:xlink:href="|url\()#([^")]+)', page))
    assert used <= set(ids)
    assert all(ElementTree.fromstring(svg) is not None for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL))


def test_points_say_their_values(sweep) -> None:
    told = re.findall("<title>(.*?)</title>", to_svg(score_figure(sweep({"ticket": [0.975, 0.976, 0.978]})), "a"))
    assert told == [
        "ticket at 100: 97.5 [97.3, 97.7]",
        "ticket at 80: 97.6 [97.4, 97.8]",
        "ticket at 64: 97.8 [97.6, 98]",
    ]


def test_another_margin_is_post_hoc_and_all_else_the_same(store: Store, experiment: Experiment, page: str) -> None:
    late = page_of(store, experiment, 0.3)
    assert "post hoc" not in page and "these verdicts are post hoc" in late
    figures = [text[text.index("<h2>Figures") :] for text in (page, late)]
    assert figures[0] == figures[1]  # to the byte


def test_a_transfer_says_whose_tickets_it_trains(experiment: Experiment, tmp_path: Path) -> None:
    store = Store(tmp_path)
    run_here(experiment, (0, 1), store, load_dataset("digits"))
    taken = load_experiment("smoke", ["training.batch_size=16"], taking_over_experiment(store, experiment.id))
    run_here(taken, (0, 1), store, load_dataset("digits"))
    found = page_of_one(store, taken)
    assert f"<th>tickets of</th><td>{experiment.id}</td>" in found and "lth connectivity" not in found
    assert re.findall(r'<figure id="([a-z-]+)">', found) == [
        "accuracy",
        "early-stop",
        "learning-curves",
        "layers",
        "pixels",
    ]
    assert f"Tickets that <code>{experiment.id}</code> found, trained on digits." in found


def test_names_cannot_break_out_of_the_page(
    store: Store, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lth.report.page.figures_of", lambda *_: [])
    results = lth.results.open(store.url)
    described = store.describe(experiment.id)
    described["first_run"]["platform"] = "<script>alert(1)</script>"
    found = report_page(results, experiment.id, described, results.verdicts)
    assert "<script>alert" not in found and "&lt;script&gt;alert" in found


def test_nothing_to_report_is_one_line(tmp_path: Path, experiment: Experiment) -> None:
    wild = load_experiment(
        "smoke", ["training.optimizer={kind: sgd, learning_rate: 100, weight_decay: 1}", "pruning.levels=0"]
    )
    place = Store(tmp_path)
    run_here(wild, (0,), place, load_dataset("digits"))
    with pytest.raises(LthError, match="no training of .* has finished without diverging"):
        page_of(place, wild)


def test_tickets_that_lost_their_masks_to_divergence_are_reported(tmp_path: Path) -> None:
    """Level 0 went well, the ticket of level 1 diverged, so at level 2 there never was a mask."""
    late = load_experiment("smoke", ["arms=[ticket]", "pruning.levels=2"])
    place = Store(tmp_path)
    run_here(late, (0,), place, load_dataset("digits"))
    results = lth.results.open(place.url)
    levels = results.levels.to_pylist()
    for row in levels[1:]:
        row.update(status="diverged", mask_sha256=None, early_stop_step=None)
    results._loaded["levels"] = pa.Table.from_pylist(levels, schema=results.levels.schema)
    found = report_page(results, late.id, place.describe(late.id), lth.results.judge(place, late.id, results.levels))
    assert '<figure id="accuracy">' in found and '<figure id="initial-values">' not in found
    assert "At level 1 no seed finished on both sides." in found


def as_score(store: Store, experiment: Experiment, place: Store, score: str) -> None:
    """The units of an experiment as those of another score, with the same numbers."""
    text = store.get_experiment(experiment.id)
    assert text is not None
    place.put_experiment(experiment.id, text)
    found = store.committed(experiment.id)
    tables = {kind: store.read_table(found, kind)[0] for kind in ("metrics", "masks")}
    for name, record in found.units.items():
        of_unit = {
            kind: table.filter(
                pc.and_(
                    pc.and_(pc.equal(table["arm"], record.unit.arm), pc.equal(table["level"], record.unit.level)),
                    pc.and_(pc.equal(table["draw"], record.unit.draw), pc.is_in(table["seed"], pa.array(record.seeds))),
                )
            )
            for kind, table in tables.items()
        }
        levels = store.levels_of(experiment.id, name)
        assert levels is not None
        scored_tables = scored(levels, score), scored(of_unit["metrics"], score)
        place.commit(experiment.id, record.unit, *scored_tables, of_unit["masks"])


@pytest.mark.parametrize(("score", "label", "axis"), [("r2", "R²", "test R² at early stop"), ("auroc", "AUROC", "(%)")])
def test_a_report_speaks_of_its_score(
    store: Store, experiment: Experiment, tmp_path: Path, score: str, label: str, axis: str
) -> None:
    place = Store(tmp_path)
    as_score(store, experiment, place, score)
    page = page_of(place, experiment)
    figures = re.findall(r'<figure id="([a-z0-9-]+)">', page)
    assert figures[:5] == [score, "early-stop", "learning-curves", "cost", "initial-values"]
    assert f"<h2>{label}</h2>" in page and f"<figcaption>{label} against the training that it took." in page
    assert axis in page and f"validation {label}" in page
    assert "accurac" not in page[: page.index("the experiment, every field")].lower()
    assert claim(lth.results.open(place.url).verdicts) in page
    results = lth.results.open(place.url)
    for sql in re.findall(r"<summary>the query behind it</summary><pre>(.*?)</pre>", page, re.DOTALL):
        found = results.query(sql.replace("&#x27;", "'").replace("&quot;", '"').replace("&gt;", ">"))
        assert found.num_rows and found.column(found.num_columns - 1).null_count == 0
    found = results_of(place, experiment.id)
    assert found is not None and set(found.figures) == {"early-stop", score}


def test_names_of_others_are_shown_as_they_are_and_do_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a table that somebody else may have written: markup, a formula, control characters."""
    name = "<script>alert(1)</script>$x_{$'\"|`\n\x1b[31m"
    experiment = load_experiment("smoke", ["pruning.levels=1", "arms=[ticket, reinit]"])
    commit = commits.commit

    def hostile(objects, experiment_id, unit, levels, *others):  # type: ignore[no-untyped-def]
        for column in ("device", "code_version", "criterion", "dataset", "model"):
            position = levels.schema.get_field_index(column)
            kind = levels.schema.field(position)
            values = [None if value is None else name for value in levels[column].to_pylist()]
            levels = levels.set_column(position, kind, pa.array(values).cast(kind.type))
        return commit(objects, experiment_id, unit, levels, *others)

    monkeypatch.setattr(commits, "commit", hostile)
    store = Store(tmp_path / "store")
    run_here(experiment, (0, 1), store, load_dataset("digits"))
    results = lth.results.open(store.url, experiment.id)
    page = report_page(results, experiment.id, store.describe(experiment.id), results.verdicts)
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;$x_{$" in page
    for figure in figures_of(results, experiment.id, store.describe(experiment.id)):
        with contextlib.suppress(LthError):
            save_figure(figure.draw(), tmp_path / f"{figure.name}.pdf")
    assert (tmp_path / "accuracy.pdf").exists()
