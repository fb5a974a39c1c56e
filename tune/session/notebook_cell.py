"""What rich draws, as a notebook shows it: HTML, and one output of a cell that is drawn anew in its place.

rich's own live display (15.0) wants ipywidgets, whose output is gone when the notebook is opened again.
"""

from __future__ import annotations

import io
import os
from typing import Any

from rich.console import Console, RenderableType

_PRE = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:normal;'
    "font-family:Menlo,'DejaVu Sans Mono',consolas,'Courier New',monospace\">{code}</pre>"
)
WIDTH_COLUMNS = int(os.environ.get("JUPYTER_COLUMNS") or 100)
"""How wide a drawing is: what fits a cell of Jupyter in a window of 1,000 px, or what rich's own variable says."""


def as_html(drawn: RenderableType, width_columns: int = WIDTH_COLUMNS) -> str:
    """Returns HTML of what rich would print, in the notebook's own colours."""
    console = Console(
        file=io.StringIO(),
        record=True,
        width=width_columns,
        force_jupyter=False,
        force_terminal=True,
        color_system="truecolor",
    )
    console.print(drawn)
    return console.export_html(inline_styles=True, code_format=_PRE)


def as_text(drawn: RenderableType, width_columns: int = WIDTH_COLUMNS) -> str:
    """Returns what rich would print, without colours."""
    file = io.StringIO()
    Console(file=file, width=width_columns, force_jupyter=False, force_terminal=False, color_system=None).print(drawn)
    return file.getvalue()


class NotebookCell:
    """One output of the running cell; the last drawing stays in the notebook."""

    def __init__(self, width_columns: int = WIDTH_COLUMNS) -> None:
        self._width_columns = width_columns
        self._handle: Any = None

    def update(self, drawn: RenderableType, *, refresh: bool = True) -> None:
        """Draws it in the place of what was drawn before."""
        from IPython.display import display

        bundle = {
            "text/html": as_html(drawn, self._width_columns),
            "text/plain": as_text(drawn, self._width_columns),
        }
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def stop(self) -> None:
        """Leaves the drawing as it is."""
