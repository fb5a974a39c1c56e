"""A page in headless Chromium that notes what should not happen: errors, console messages, requests elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.hparams_page import CHROMIUM_ARGUMENTS, PAGE_LIMIT_MS


@contextmanager
def opened_tab(chromium: Path, url: str, allowed: tuple[str, ...], **options: Any) -> Iterator[Any]:
    """Opens a page in a tab of its own browser; yields the tab, whose `problems` should stay empty.

    Args:
        chromium: the browser's executable.
        url: the page.
        allowed: how the address of everything that it may ask for begins.
        options: of Playwright's page, as `color_scheme`.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_ARGUMENTS))
        tab: Any = browser.new_page(**options)
        tab.set_default_timeout(PAGE_LIMIT_MS)  # other tests may have the cores
        tab.problems = []
        tab.on("console", lambda message: tab.problems.append(message.text))
        tab.on("dialog", lambda dialog: tab.problems.append(f"dialog: {dialog.message}"))
        tab.on("pageerror", lambda error: tab.problems.append(str(error)))
        tab.on("request", lambda request: request.url.startswith(allowed) or tab.problems.append(request.url))
        tab.goto(url)
        yield tab
        browser.close()
