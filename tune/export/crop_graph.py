"""A centre crop as Keras operations that give OpenCV's pixels, to the last one. Knows no pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import keras

_ONE = 2048
"""OpenCV holds the weights of a linear interpolation as shares of this."""


def centre_crop(size: tuple[int, int], shape: tuple[int, int, int]) -> keras.Model:
    """Crops the middle, height and width in px, and resizes it back: `cv2.resize` of uint8 with INTER_LINEAR (4.14).

    OpenCV sums 32-bit integers and drops 4 bits between the two axes, 16 bits after, and 2 bits, rounded, at the end;
    floats would round another way in 13 of 100 pixels.
    """
    import keras
    from keras import ops

    def blend(x: Any, axis: int, first: int) -> tuple[Any, Any]:
        low, high, of_low, of_high = _neighbours(size[axis - 1], shape[axis - 1], clamped=axis == 2)
        weights = [1, 1, 1, 1]
        weights[axis] = -1
        return tuple(
            ops.multiply(
                ops.take(x, (first + index).astype("int32"), axis=axis), share.reshape(weights).astype("int32")
            )
            for index, share in ((low, of_low), (high, of_high))
        )

    top, left = ((whole - part) // 2 for whole, part in zip(shape[:2], size, strict=True))
    image = keras.Input(shape, dtype="uint8", name="image")
    a, b = blend(ops.cast(image, "int32"), 2, left)
    rows = ops.floor_divide(ops.add(a, b), 16)
    c, d = blend(rows, 1, top)
    total = ops.add(ops.floor_divide(c, 65536), ops.floor_divide(d, 65536))
    return keras.Model(image, ops.cast(ops.floor_divide(ops.add(total, 2), 4), "uint8"), name="centre_crop")


def _neighbours(source: int, target: int, *, clamped: bool) -> tuple[npt.NDArray[Any], ...]:
    """Returns by target pixel its two source pixels and their weights; `clamped` at the edge, as columns are."""
    place = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    below = np.floor(place).astype(np.int64)
    share = place - below.astype(np.float32)
    if clamped:
        share[(below < 0) | (below >= source - 1)] = 0
    weights = np.rint((1 - share) * _ONE).astype(np.int64), np.rint(share * _ONE).astype(np.int64)
    return np.clip(below, 0, source - 1), np.clip(below + 1, 0, source - 1), *weights
