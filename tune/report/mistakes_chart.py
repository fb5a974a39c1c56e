"""The test images that the exported model is surest of and wrong about. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tune.legible_names import legible_names
from tune.report.theme import Chart, plain_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PER_ROW = 6
_INCHES = 1.5


def mistakes_chart(
    mistakes: Sequence[Mapping[str, Any]], image: Callable[[int], npt.NDArray[np.uint8]], classes: Sequence[str]
) -> Chart | None:
    """Returns the images in rows, each with its label, what it is taken for and how sure the model is.

    Args:
        mistakes: as `tune.export.sealed_test.evaluate_sealed` returns them, the surest first; none gives None.
        image: returns the pixels of an image, (height, width, channels), by its row in the data set.
        classes: names of the classes, in order.
    """
    if not mistakes:
        return None
    names = legible_names(classes)[0]
    rows = [(one["row"], classes[one["label"]], classes[one["predicted"]], one["confidence"]) for one in mistakes]
    _, label, predicted, confidence = rows[0]
    lines = -(-len(rows) // _PER_ROW)

    def draw(figure: Figure) -> Mapping[str, Sequence[str]]:
        grid = figure.subplots(lines, _PER_ROW, squeeze=False)
        for axes in grid.flat:
            plain_axes(axes)
            axes.set_axis_off()
        for axes, one in zip(grid.flat, mistakes, strict=False):
            axes.imshow(image(one["row"]).squeeze(), cmap="gray", vmin=0, vmax=255)
            words = f"{names[one['label']]}\ntaken for {names[one['predicted']]}\n{one['confidence']:.0%} sure"
            axes.set_title(words, fontsize=8, parse_math=False)
        return {}

    return Chart(
        "mistakes",
        "Surest mistakes",
        f"The {len(rows)} images of the sealed test that the exported model is surest of and wrong about; the first "
        f"has the label {label} and is taken for {predicted}, {confidence:.0%} sure. Sometimes the label is what is "
        "wrong.",
        ("row of the data set", "label", "predicted", "confidence"),
        rows,
        (_INCHES * _PER_ROW, (_INCHES + 0.5) * lines),
        draw,
    )
