"""Contrast-limited adaptive histogram equalisation as Keras operations that give OpenCV's pixels. Knows no pipelines.

Zuiderveld, Contrast Limited Adaptive Histogram Equalization, Graphics Gems IV, 1994; details are those of OpenCV 4.14
(`modules/imgproc/src/clahe.cpp`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import keras

_BINS = 256


def equalized(clip_limit: float, grid: tuple[int, int], shape: tuple[int, int, int]) -> keras.Model:
    """Returns `cv2.createCLAHE(clip_limit, grid).apply` as a model of uint8 pixels, (n, *shape), to uint8.

    Args:
        clip_limit: how many times its even share a bin may hold, above 0.
        grid: tiles in a row, and in a column.
        shape: height and width in px, 1 channel.
    """
    import keras
    from keras import ops

    (height, width, _), (columns, rows) = shape, grid
    beyond = (rows - height % rows, columns - width % columns) if height % rows or width % columns else (0, 0)
    tile_height, tile_width = (height + beyond[0]) // rows, (width + beyond[1]) // columns

    image = keras.Input(shape, dtype="uint8", name="image")
    values = ops.cast(ops.reshape(image, (-1, height, width)), "int32")
    extended = values
    for axis, (side, more) in enumerate(zip((height, width), beyond, strict=True), 1):
        if more:
            mirrored = np.pad(np.arange(side, dtype=np.int32), (0, more), mode="reflect")
            extended = ops.take(extended, mirrored, axis=axis)
    tiles = ops.transpose(ops.reshape(extended, (-1, rows, tile_height, columns, tile_width)), (0, 1, 3, 2, 4))
    tiles = ops.reshape(tiles, (-1, rows * columns, tile_height * tile_width))
    tables = ops.reshape(_tables(tiles, clip_limit, tile_height * tile_width), (-1, rows * columns * _BINS))

    above, below, down = _neighbours(height, tile_height, rows)
    left, right, across = _neighbours(width, tile_width, columns)

    def looked_up(row: npt.NDArray[np.int32], column: npt.NDArray[np.int32]) -> Any:
        # Two axes: of one, TensorFlow makes a bias of integers, which LiteRT does not have.
        places = ops.add(values, (row[:, None] * columns + column) * _BINS)
        found = ops.take_along_axis(tables, ops.reshape(places, (-1, height * width)), axis=1)
        return ops.reshape(found, (-1, height, width))

    one = np.float32(1)
    upper = looked_up(above, left) * (one - across) + looked_up(above, right) * across
    lower = looked_up(below, left) * (one - across) + looked_up(below, right) * across
    blended = upper * (one - down)[:, None] + lower * down[:, None]
    result = ops.reshape(ops.cast(ops.clip(ops.round(blended), 0, _BINS - 1), "uint8"), (-1, *shape))
    return keras.Model(image, result, name="clahe")


def _tables(tiles: Any, clip_limit: float, area: int) -> Any:
    """Returns what becomes of each value in each tile, float32 of whole numbers, (n, tiles, 256).

    Args:
        tiles: int32, (n, tiles, pixels of a tile).
        clip_limit: as above.
        area: pixels of a tile.
    """
    from keras import ops

    # A histogram is a product of the two halves of each value, one-hot: 32 numbers a pixel and not 256.
    half = np.arange(16, dtype=np.int32)
    high = ops.floor_divide(tiles, 16)
    low = ops.subtract(tiles, ops.multiply(high, 16))
    of_high, of_low = (ops.cast(ops.equal(ops.expand_dims(x, -1), half), "float32") for x in (high, low))
    counts = ops.matmul(ops.transpose(of_high, (0, 1, 3, 2)), of_low)
    counts = ops.cast(ops.reshape(counts, (-1, tiles.shape[1], _BINS)), "int32")

    limit = max(int(clip_limit * area / _BINS), 1)
    clipped = ops.sum(ops.maximum(ops.subtract(counts, limit), 0), axis=-1, keepdims=True)
    everywhere = ops.floor_divide(clipped, _BINS)
    rest = ops.subtract(clipped, ops.multiply(everywhere, _BINS))
    step = ops.maximum(ops.floor_divide(_BINS, ops.maximum(rest, 1)), 1)
    places = np.arange(_BINS, dtype=np.int32)
    turn = ops.floor_divide(places, step)
    one_more = ops.logical_and(ops.equal(ops.multiply(turn, step), places), ops.less(turn, rest))
    counts = ops.add(ops.add(ops.minimum(counts, limit), everywhere), ops.cast(one_more, "int32"))

    scale = np.float32(_BINS - 1) / np.float32(area)
    return ops.clip(ops.round(ops.cast(ops.cumsum(counts, axis=-1), "float32") * scale), 0, _BINS - 1)


def _neighbours(side: int, tile: int, tiles: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], Any]:
    """Returns by pixel of a side the two tiles whose tables are blended, and the second one's share, float32."""
    place = np.arange(side, dtype=np.float32) * (np.float32(1) / np.float32(tile)) - np.float32(0.5)
    first = np.floor(place)
    share = place - first
    first = first.astype(np.int32)
    return np.maximum(first, 0), np.minimum(first + 1, tiles - 1), share
