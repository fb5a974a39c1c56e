"""Reads TensorBoard's HPARAMS tab in headless Chromium. Shared by the browser test and the end-to-end test."""

from __future__ import annotations

import contextlib
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

START_LIMIT_S = 120
PAGE_LIMIT_MS = 90_000
CHROMIUM_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage")

Cell = float | int | str

_TICKS = "tf-hparams-query-pane .hparam-checkbox"
# A vaadin grid keeps a row's cells as slots; the text is in the nodes that fill them.
_READ_CELLS = """rows => rows.map(row => [...row.children].map(
    cell => (cell.querySelector("slot")?.assignedNodes() ?? []).map(node => node.innerText).join("").trim()))"""


@contextlib.contextmanager
def tensorboard_server(logdir: Path) -> Iterator[str]:
    """Runs `tensorboard` over a folder on a port the system picks; yields its address.

    Raises:
        RuntimeError: it ends, or names no address in time.
    """
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1", "--port", "0"]
    with tempfile.NamedTemporaryFile() as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield _address(server, Path(log.name))
        finally:
            server.terminate()
            server.wait(timeout=30)


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and server.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return found[0]
        time.sleep(0.1)
    raise RuntimeError(f"tensorboard must start within {START_LIMIT_S} s. Its log: {log.read_text()}")


def read_hparams_table(logdir: Path, chromium: Path, screenshot: Path | None = None) -> dict[str, dict[str, str]]:
    """Opens the HPARAMS tab, ticks every hyperparameter, and returns the rows of the table view.

    Args:
        logdir: what `tensorboard --logdir` gets.
        chromium: the browser's executable.
        screenshot: where to write a picture of the page, if anywhere.

    Returns:
        By trial ID, each cell's text by its column's title.
    """
    from playwright.sync_api import sync_playwright

    with tensorboard_server(logdir) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_ARGUMENTS))
        try:
            # Wide and high, because the grid draws no cell that is out of sight.
            page = browser.new_page(viewport={"width": 5000, "height": 3000})
            page.set_default_timeout(PAGE_LIMIT_MS)
            page.goto(f"{address}/#hparams")
            page.locator("vaadin-grid-cell-content:has-text('trial-')").first.wait_for()
            for box in page.locator(f"{_TICKS}:not([checked])").element_handles():
                box.click()  # TensorBoard 2.21 ticks the first five only
            names = page.locator(_TICKS).all_inner_texts()
            page.locator("vaadin-grid-cell-content", has_text=re.compile(f"^\\s*{names[-1].strip()}\\s*$")).wait_for()
            rows = cast(list[list[str]], page.locator("vaadin-grid tr:visible").evaluate_all(_READ_CELLS))
            if screenshot:
                page.screenshot(path=screenshot, clip={"x": 0, "y": 0, "width": 2800, "height": 1000})
        finally:
            browser.close()
    titles, *body = rows
    return {row[0]: dict(zip(titles, row, strict=False)) for row in body}


def assert_hparams_tab_lists(
    logdir: Path, chromium: Path, expected: Mapping[str, Mapping[str, Cell]], screenshot: Path | None = None
) -> None:
    """Asserts that the HPARAMS tab has exactly the expected trials, with every expected cell.

    Args:
        logdir: what `tensorboard --logdir` gets.
        chromium: the browser's executable.
        expected: by trial ID (`trial-0007`), cells by title (`learning_rate`, `best_selection_accuracy`). The page
            shows five digits, so numbers are compared to 1 in 10,000.
        screenshot: where to write a picture of the page, if anywhere.
    """
    shown = read_hparams_table(logdir, chromium, screenshot)
    assert sorted(shown) == sorted(expected)
    for trial, cells in expected.items():
        for title, value in cells.items():
            assert title in shown[trial], f"{trial}: no column {title!r} among {list(shown[trial])}"
            text = shown[trial][title]
            same = (
                text == value
                if isinstance(value, str)
                else bool(text) and math.isclose(float(text), value, rel_tol=1e-4)
            )
            assert same, f"{trial}: {title} shows {text!r}, expected {value!r}"
