"""Writes names onto pictures in DejaVu Sans, and says which names it cannot write. Knows nothing of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainables.dataset.reader import Pixels

_SIZE_PX = 15
_INK = (40, 40, 40)


def write(picture: Pixels, text: str, x: int, y: int, *, width_px: int | None = None) -> None:
    """Writes a line of text onto a picture in place, cut to a width if it is longer.

    Args:
        picture: uint8, (height, width, 3), RGB.
        text: one line.
        x: where it begins.
        y: its base line.
        width_px: the most that it may take; None for the rest of the picture.
    """
    font = _font()
    room = min(width_px or picture.shape[1], picture.shape[1] - x)
    if font.getlength(text) > room:
        while text and font.getlength(f"{text}~") > room:
            text = text[:-1]
        text = f"{text}~"
    top, bottom = max(0, y - 2 * _SIZE_PX), min(picture.shape[0], y + _SIZE_PX)
    strip = Image.fromarray(picture[top:bottom])
    ImageDraw.Draw(strip).text((x, y - top), text, fill=_INK, font=font, anchor="ls")
    picture[top:bottom] = np.asarray(strip)


def legible_names(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Replaces names with letters that the font lacks by numbers.

    Returns:
        A name for each, and a legend of those that are numbers: `{"class 2": "高兴"}`.
    """
    known = _letters()
    shown = [name if known.issuperset(map(ord, name)) else f"class {number}" for number, name in enumerate(names, 1)]
    return shown, {new: old for new, old in zip(shown, names, strict=True) if new != old}


@cache
def _font() -> Any:
    return ImageFont.truetype(_font_file(), _SIZE_PX)


@cache
def _letters() -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(_font_file()).get_charmap())


@cache
def _font_file() -> str:
    import matplotlib as mpl

    return str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
