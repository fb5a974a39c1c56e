"""A chart of the report: a Matplotlib figure as SVG that takes the page's colours, as PNG, and its numbers as CSV.

Matplotlib draws once for page, picture and print, is there anyway, and its SVG takes some kB a figure; Plotly would add
4.7 MB of JavaScript to every report and need a browser for its PNGs. Knows nothing of studies.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1b1f24", "#626c77", "#dde2e8", "#fdfdfe"
ACCENT, STOP, GOOD, BAD = "#0969c8", "#b05308", "#1a7f38", "#c9212f"
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {
    ACCENT: "accent",
    STOP: "stop",
    GOOD: "good",
    BAD: "bad",
}
STATE_COLOURS = {
    "complete": GOOD,
    "cut": GOOD,
    "pruned": STOP,
    "failed": BAD,
    "running": ACCENT,
    "waiting": MUTED,
    "repeat": MUTED,
}
"""Colours of a trial's states, in every chart."""

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: searchable, and read aloud
    "text.parse_math": False,  # a class may be called $x$
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.labelcolor": INK,
}

Row = Sequence[object]


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        name: its files' name.
        title: heading.
        takeaway: what it shows, in one or two sentences; also its text alternative.
        columns: of its numbers.
        rows: its numbers.
        size_inches: width, height.
        draw: draws it into a figure; returns by an artist's gid what each of its marks says when it is pointed at.
        table: show the numbers below the chart as a table.
        trials: by gid, the number of the trial that each mark belongs to; a trial's marks light up together.
    """

    name: str
    title: str
    takeaway: str
    columns: Sequence[str]
    rows: Sequence[Row]
    size_inches: tuple[float, float]
    draw: Callable[[Figure], Mapping[str, Sequence[str]]]
    table: bool = False
    trials: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def csv(self) -> str:
        """Returns its numbers as CSV with a head."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([self.columns, *self.rows])
        return text.getvalue()

    def render(self) -> RenderedChart:
        """Draws it, once for SVG and PNG."""
        from matplotlib.figure import Figure

        with _style():
            figure = Figure(figsize=self.size_inches, layout="constrained")
            tips = self.draw(figure)
            vector, pixels = io.StringIO(), io.BytesIO()
            figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": None})
            figure.savefig(pixels, format="png", dpi=150, facecolor=PAPER)
        return RenderedChart(self, _page_svg(vector.getvalue(), self.name), pixels.getvalue(), dict(tips))


@dataclass(frozen=True)
class RenderedChart:
    """A chart as a page and a folder take it; `tips` as `Chart.draw` returned them."""

    chart: Chart
    svg: str
    png: bytes
    tips: Mapping[str, Sequence[str]]


def plain_axes(axes: Axes) -> None:
    """Takes grid and frame from axes that have no scale."""
    axes.grid(False)
    axes.spines[:].set_visible(False)


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's own fonts have it
        yield


def _page_svg(text: str, name: str) -> str:
    """Returns Matplotlib's SVG without its head, its ids the chart's own, its colours the page's."""
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'xlink:href="#{name}-')
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    return re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", text, count=1).replace(
        "<svg ", '<svg aria-hidden="true" focusable="false" ', 1
    )
