"""What contact sheets are made of: images as square tiles, lines of text. Knows nothing of data sets."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainables.dataset.reader import Pixels
from tune.legible_names import font_file

_SIZE_PX = 15
_INK = (40, 40, 40)
_GRAY = 200


def tile(image: Pixels, side_px: int) -> Pixels:
    """Returns an image in the middle of a square, its shape kept, on gray paper; small pixels stay sharp.

    Args:
        image: uint8, (height, width, 1 or 3).
        side_px: of the square.

    Returns:
        uint8, (side_px, side_px, 3).
    """
    import cv2

    scale = side_px / max(image.shape[:2])
    width, height = (max(1, round(side * scale)) for side in image.shape[1::-1])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    square = np.full((side_px, side_px, 3), _GRAY, np.uint8)
    top, left = (side_px - height) // 2, (side_px - width) // 2
    resized = cv2.resize(image, (width, height), interpolation=method).reshape(height, width, -1)
    square[top : top + height, left : left + width] = resized
    return square


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
