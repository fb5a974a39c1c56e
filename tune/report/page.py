"""Renders pages: Jinja templates with style and script inlined, so that one file is all there is. Escapes all text."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tune.report.theme import RenderedChart

_TEMPLATES = Path(__file__).parent / "templates"
PAGE_STYLE, TIP_SCRIPT = _TEMPLATES / "page.css", _TEMPLATES / "tip.js"
"""The pages' colours and shapes, and the box that tells of a mark; the board's page takes them too."""

_TABLE_ROWS = 40
"""Longest table that is shown below a chart; longer ones are in its CSV."""


def render_page(template: str, charts: Iterable[RenderedChart] = (), **content: Any) -> str:
    """Renders a template of `templates/` with these charts and this content; all text is escaped."""
    return _environment().get_template(template).render(charts=list(charts), **content)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"inline_svg": _inline_svg, "csv_link": _csv_link, "marks": _marks, "cell": _cell}
    environment.globals |= {
        "style": Markup(PAGE_STYLE.read_text(encoding="utf-8")),
        "script": Markup("".join(path.read_text(encoding="utf-8") for path in (TIP_SCRIPT, _TEMPLATES / "page.js"))),
        "longest_table": _TABLE_ROWS,
    }
    return environment


def _inline_svg(rendered: RenderedChart) -> Markup:
    """Matplotlib has escaped the text in it."""
    return Markup(rendered.svg)


def _csv_link(rendered: RenderedChart) -> str:
    return "data:text/csv;base64," + base64.b64encode(rendered.chart.csv().encode()).decode()


def _marks(rendered: RenderedChart) -> Markup:
    """Returns what a chart's marks say and whose they are, as JSON that cannot end its script element."""
    text = json.dumps({"tips": rendered.tips, "trials": rendered.chart.trials}, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
