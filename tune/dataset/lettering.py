"""Writes lines of text onto pictures. Knows nothing of data sets."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainables.dataset.reader import Pixels
from tune.legible_names import font_file

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


@cache
def _font() -> Any:
    return ImageFont.truetype(font_file(), _SIZE_PX)
