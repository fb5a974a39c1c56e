"""Figures from numbers."""

from __future__ import annotations

import pytest

from tune.report.figures import confusion_figure


def test_confusion_figure_names_classes_shares_and_counts() -> None:
    figure = confusion_figure([[6, 2], [0, 4]], ["happy", "sad"])

    [axes] = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["happy", "sad"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["happy (8)", "sad (4)"]
    assert [text.get_text() for text in axes.texts] == ["75%\n6", "25%\n2", "0%\n0", "100%\n4"]


def test_confusion_figure_wants_a_row_and_a_column_for_each_class() -> None:
    with pytest.raises(ValueError, match=r"matrix must be \(3, 3\) for 3 classes. Received: \(2, 2\)"):
        confusion_figure([[1, 0], [0, 1]], ["a", "b", "c"])
