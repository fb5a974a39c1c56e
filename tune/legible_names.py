"""Which names the font of our pictures and figures can write; others become numbers. Draws nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path


def legible_names(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Replaces names with letters that DejaVu Sans lacks by numbers.

    Returns:
        A name for each, and a legend of those that are numbers: `{"class 2": "高兴"}`.
    """
    known = _letters()
    shown = [name if known.issuperset(map(ord, name)) else f"class {number}" for number, name in enumerate(names, 1)]
    return shown, {new: old for new, old in zip(shown, names, strict=True) if new != old}


@cache
def font_file() -> str:
    """Where Matplotlib keeps DejaVu Sans."""
    import matplotlib as mpl

    return str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@cache
def _letters() -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(font_file()).get_charmap())
