"""The report in a real browser: opens offline, zooms, says values, fits a phone, prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser import picture

import lth.results
from lth.data import load_dataset
from lth.experiment import load_experiment
from lth.report import report_page
from lth.store import Store
from lth.sweep.here import run_here
from lth.sweep.overlap import compare

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a short sweep of `digits`."""
    folder = tmp_path_factory.mktemp("report")
    experiment = load_experiment("digits", ["training.duration=200it", "pruning.levels=8"])
    store = Store(folder / "store")
    run_here(experiment, (0, 1, 2), store, load_dataset("digits"))
    store.put_analysis("overlap", experiment.id, compare(store, experiment.id, "seeds", None, None))
    results = lth.results.open(store.url)
    (folder / "report.html").write_text(
        report_page(results, experiment.id, store.describe(experiment.id), results.verdicts)
    )
    return folder / "report.html"


def opened(page: Any, report: Path) -> list[str]:
    """Open the page without a network; what it asked for or complained about."""
    troubles: list[str] = []
    page.context.set_offline(True)
    page.on(
        "request",
        lambda request: troubles.append(request.url) if not request.url.startswith(("file:", "data:")) else None,
    )
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(report.as_uri())
    return troubles


def test_it_opens_offline_and_shows_everything(page: Any, report: Path) -> None:
    troubles = opened(page, report)
    assert page.locator(".claim").inner_text().startswith("The ticket ")
    assert page.locator("figure").count() == 8 and page.locator("figure svg").count() == 8
    for place in range(8):
        box = page.locator("figure svg").nth(place).bounding_box()
        assert box["width"] > 500 and box["height"] > 150
    assert troubles == []
    picture(page, "report", height=1700)
    page.locator("#accuracy").scroll_into_view_if_needed()
    picture(page, "report-figures", height=1700)


def test_figures_zoom_move_and_come_back(page: Any, report: Path) -> None:
    troubles = opened(page, report)
    svg = page.locator("#accuracy svg")
    svg.scroll_into_view_if_needed()
    whole = svg.get_attribute("viewBox")
    box = svg.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -400)
    page.wait_for_function(
        "before => document.querySelector('#accuracy svg').getAttribute('viewBox') != before", arg=whole
    )
    zoomed = svg.get_attribute("viewBox")
    assert float(zoomed.split()[2]) < 0.5 * float(whole.split()[2])
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 - 60, box["y"] + box["height"] / 2)
    page.mouse.up()
    moved = svg.get_attribute("viewBox")
    assert float(moved.split()[0]) > float(zoomed.split()[0]) and moved.split()[2] == zoomed.split()[2]
    svg.dblclick()
    assert [float(part) for part in svg.get_attribute("viewBox").split()] == [float(part) for part in whole.split()]
    assert troubles == []


def test_points_say_their_values(page: Any, report: Path) -> None:
    opened(page, report)
    told = page.locator("#accuracy use > title").all_text_contents()
    assert len(told) == 9 + 2 * 8 or len(told) == 2 * (9 + 2 * 8)  # with the panel of the whole range
    assert all(" at " in text and ": " in text for text in told) and told[0].startswith("ticket at 100: ")


def test_the_query_behind_a_figure_unfolds(page: Any, report: Path) -> None:
    opened(page, report)
    query = page.locator("#layers pre")
    assert not query.is_visible()
    page.locator("#layers summary").click()
    assert query.is_visible() and "FROM layers" in query.inner_text()


def test_it_fits_a_phone_and_prints(page: Any, report: Path) -> None:
    opened(page, report)
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.emulate_media(media="print")
    assert not page.locator(".hint").is_visible() and not page.locator("#layers summary").is_visible()
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") >= 3
