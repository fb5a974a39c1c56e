"""Turns numbers into figures. Pure: touches no disk and no global state of Matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tune.legible_names import legible_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_MOST_INCHES = 18.6
_MOST_CLASSES_WITH_TEXT = 30


def confusion_figure(matrix: npt.ArrayLike, classes: Sequence[str]) -> Figure:
    """Draws a confusion matrix: one row per true class, shaded by the row's share, labelled with share and count.

    With many classes the cells become small and carry no text, so that the figure stays within a screen or two.

    Args:
        matrix: counts, (n, n), row: true class, column: predicted class.
        classes: n names; those whose letters the font lacks are written as numbers, `class 3`.

    Returns:
        A figure without a canvas manager: write it with `figure.savefig(path)`.

    Raises:
        ValueError: matrix and classes do not fit.
    """
    from matplotlib.figure import Figure

    counts = np.asarray(matrix, np.int64)
    n = len(classes)
    if counts.shape != (n, n):
        raise ValueError(f"matrix must be ({n}, {n}) for {n} classes. Received: {counts.shape}.")
    cell = cell_inches(n)
    side_inches = 1.9 + cell * n
    figure = Figure(figsize=(side_inches, side_inches), dpi=100, layout="constrained")
    draw_confusion(figure.add_subplot(), counts, classes, font_points=cell_font_points(cell))
    return figure


def cell_inches(classes: int) -> float:
    """Returns the side of a cell of a confusion matrix, so that the whole stays within a screen or two."""
    return min(0.62, _MOST_INCHES / classes)


def cell_font_points(cell: float) -> float:
    """Returns the size of a class's name beside a row of cells of so many inches."""
    return min(10.0, 0.8 * 72 * cell)


def draw_confusion(
    axes: Axes, counts: npt.NDArray[np.int64], classes: Sequence[str], *, font_points: float = 10.0
) -> None:
    """Draws a confusion matrix into axes; see `confusion_figure`."""
    n = len(classes)
    support = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(support, 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names, _ = legible_names(classes)
    axes.set_xticks(range(n), names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    rows = [f"{name} ({int(total)})" for name, total in zip(names, support[:, 0], strict=True)]
    axes.set_yticks(range(n), rows, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (images)")
    axes.tick_params(length=0, labelsize=font_points)
    axes.spines[:].set_visible(False)
    if n > _MOST_CLASSES_WITH_TEXT:
        return
    axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    axes.grid(visible=False)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    for row in range(n):
        for column in range(n):
            share = shares[row, column]
            colour = "white" if share > 0.55 else "0.25"
            text = f"{share:.0%}\n{counts[row, column]}"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
