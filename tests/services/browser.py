"""A real browser, driven by clicks.

Pictures go to the folder LTH_SCREENSHOTS, if it is set: that is how those of the documentation are made.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CALM = [
    "--headless",
    "--no-sandbox",
    # Prefect draws a run's graph with WebGL, without which its place stays blank.
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]
SLOW = 120_000  # milliseconds that a page may take on a busy machine


@pytest.fixture
def page() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=CALM)
        opened = browser.new_page(viewport={"width": 1280, "height": 1000})
        opened.set_default_timeout(SLOW)
        yield opened
        browser.close()


def picture(page: Any, name: str, height: int = 1000, scroll: bool = True) -> None:
    """A picture of the page from its top; without `scroll` of what is seen, as in a graph that would zoom instead."""
    folder = os.environ.get("LTH_SCREENSHOTS")
    if folder:
        page.set_viewport_size({"width": 1280, "height": height})
        if scroll:
            page.mouse.move(640, 700)
            page.mouse.wheel(0, -10_000)
        page.wait_for_timeout(1500)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))
        page.set_viewport_size({"width": 1280, "height": 1000})
