"""The confusion matrix with each class's precision and recall. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tune.report.figures import cell_font_points, cell_inches, draw_confusion
from tune.report.theme import Chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def classes_chart(matrix: Sequence[Sequence[int]] | None, of_what: str, classes: Sequence[str]) -> Chart | None:
    """Returns the matrix as a chart, with a table of precision, recall and images by class.

    Args:
        matrix: counts, (n, n), row: true class, column: predicted; None gives None.
        of_what: the model and images that it tells of.
        classes: their names; other than n of them, the classes are numbered.
    """
    if matrix is None:
        return None
    counts = np.asarray(matrix, np.int64)
    names = list(classes) if len(classes) == len(counts) else [f"class {i}" for i in range(len(counts))]
    images, predicted, hits = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
    rows = [
        (name, _share(hits[i], predicted[i]), _share(hits[i], images[i]), int(images[i]))
        for i, name in enumerate(names)
    ]
    recalls = [(recall, name) for name, _, recall, _ in rows if recall is not None]
    wrong = counts - np.diag(hits)
    takeaway = f"What {of_what} takes for what."
    if recalls and wrong.max():
        recall, weakest = min(recalls)
        true, taken = np.unravel_index(int(wrong.argmax()), wrong.shape)
        takeaway += (
            f" It finds {weakest} least often ({recall:.0%}); its most frequent mistake is {names[true]} taken for "
            f"{names[taken]} ({wrong[true, taken]} images)."
        )
    cell = cell_inches(len(names))
    side = 2.6 + cell * len(names)

    def draw(figure: Figure) -> Mapping[str, Sequence[str]]:
        draw_confusion(figure.add_subplot(), counts, names, font_points=cell_font_points(cell))
        return {}

    return Chart(
        "confusion",
        "Classes",
        takeaway,
        ("class", "precision", "recall", "images"),
        rows,
        (side, side),
        draw,
        table=True,
    )


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
