"""Figures with class names of every alphabet."""

from __future__ import annotations

import io

import numpy as np
import pytest

from tune.legible_names import legible_names
from tune.report.figures import confusion_figure


@pytest.mark.parametrize("name", ["злой", "fröhlich", "$a$b", "$\\foo{$", "高兴", "슬픔", "a_{b}^c", ""])
def test_a_confusion_matrix_is_drawn_whatever_its_classes_are_called(name: str) -> None:
    figure = confusion_figure(np.eye(2), [name, "sad"])
    buffer = io.BytesIO()
    figure.savefig(buffer)  # a missing glyph would warn, and a warning is an error
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert shown == ["class 1" if name in ("高兴", "슬픔") else name, "sad"]
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_names_that_the_font_lacks_become_numbers_with_a_legend() -> None:
    assert legible_names(["sad", "高兴", "злой"]) == (["sad", "class 2", "злой"], {"class 2": "高兴"})


def test_the_figure_of_many_classes_is_bounded() -> None:
    figure = confusion_figure(np.eye(150), [f"class-{i}" for i in range(150)])
    assert max(figure.get_size_inches()) < 21 and not figure.axes[0].texts
    figure.savefig(io.BytesIO())
    assert len(confusion_figure(np.eye(7), "abcdefg").axes[0].texts) == 49
