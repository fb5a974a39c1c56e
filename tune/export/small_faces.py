"""Says of a large picture that its face takes little of it: a model of faces sees the picture whole, squeezed."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from trainables.dataset.reader import Pixels

MOST_LOOKED_AT: Final = 32
"""Pictures that are looked at in one go: a face costs a tenth of a second."""

_LARGE: Final = 4
_OVERVIEW_PX: Final = 360
_SMALL: Final = 0.4


def overview(image: Pixels, height_px: int, width_px: int) -> Pixels | None:
    """Returns a picture small enough to look for faces in; None if it is not much larger than a model's images.

    Args:
        image: uint8, (height, width, 1 or 3).
        height_px: of the model's images.
        width_px: likewise.
    """
    height, width, channels = image.shape
    if height < _LARGE * height_px or width < _LARGE * width_px:
        return None
    scale = min(1.0, _OVERVIEW_PX / min(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8).reshape(*size[::-1], channels)


def small_face(picture: Pixels) -> float | None:
    """Returns which share of a picture's shorter side its face takes, if it has one and that is small."""
    from trainables.dataset.face_boxes import detect_face

    box = detect_face(picture)
    if box is None:
        return None
    share = max(box[2] - box[0], box[3] - box[1]) / min(picture.shape[:2])
    return share if share < _SMALL else None
