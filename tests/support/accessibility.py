"""What axe-core finds wrong with a page for people who do not see well, or who do not point."""

from __future__ import annotations

from typing import Any

_GRAVE = ("serious", "critical")
_LEFT_OUT = {"exclude": [["svg"]]}
"""The marks of charts, thousands: a chart has a text in their place, and axe-core does not judge their colours."""


def grave_violations(tab: Any) -> list[str]:
    """Returns a line per element that breaks a rule gravely, in the colours that the page has now.

    Args:
        tab: Playwright's page.
    """
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(tab, context=_LEFT_OUT).response
    assert found["testEngine"]["name"] == "axe-core"
    return [
        f"{rule['impact']} {rule['id']}: {element['target']} {element['html'][:120]}: {element['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in _GRAVE
        for element in rule["nodes"]
    ]


def grave_violations_in_light_and_dark(tab: Any) -> list[str]:
    """Returns them for both colour schemes; leaves the page light."""
    found = []
    for scheme in ("dark", "light"):
        tab.emulate_media(color_scheme=scheme)
        found += [f"{scheme}: {line}" for line in grave_violations(tab)]
    return found
