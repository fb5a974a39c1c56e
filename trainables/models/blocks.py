"""What the built-in models share: pixels to normalised numbers, batch normalisation, widths. Builds no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.config import TrialConfig

if TYPE_CHECKING:
    import keras

MIN_WIDTH = 8

MOMENTUM = 0.9
"""Of batch normalisation's statistics: with Keras' 0.99 (MobileNetV3: 0.999) evaluation needs hundreds or thousands of
steps to see what training saw."""


def batch_norm(name: str) -> keras.layers.Layer:
    """Returns batch normalisation."""
    from keras import layers

    return layers.BatchNormalization(momentum=MOMENTUM, name=name)


def resized(image: Any, size: int) -> Any:
    """Casts uint8 to float32, then resizes to a square: `keras.layers.Resizing` keeps uint8 and rounds.

    Only where a side shrinks is it done with `antialias`, which changes nothing elsewhere: TensorFlow (2.21) does that
    with an operation that XLA does not have, and Keras compiles with XLA on GPUs.
    """
    from keras import layers, ops

    x = ops.cast(image, "float32")
    if tuple(image.shape[1:3]) == (size, size):
        return x
    shrinks = size < max(image.shape[1:3])
    resize = layers.Resizing(size, size, antialias=shrinks, data_format="channels_last", dtype="float32", name="resize")
    return resize(x)


def refuse_xla_where_missing(model: keras.Model) -> None:
    """Tells Keras which layers of a model XLA cannot compile; a model that was opened from a file does not know."""
    for layer in model._flatten_layers():
        if getattr(layer, "antialias", False):
            layer.supports_jit = False


def scaled(size: int, width: float, multiple_of: int = 1) -> int:
    """Returns channels or units at a width, at least 8."""
    return max(MIN_WIDTH, round(size * width / multiple_of) * multiple_of)


def resized_and_normalised(
    image: Any, config: TrialConfig, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Any:
    """Resizes, then normalises; all of it in layers that Keras can load anywhere."""
    from keras import layers

    channels = image.shape[3]
    x = resized(image, config.image_size_px)
    if config.normalization == "standardize":
        if mean is None or std is None or len(mean) != channels or len(std) != channels or min(std) <= 0:
            raise ValueError(
                f"normalization='standardize' needs a mean and a positive standard deviation for each of {channels} "
                f"channels. Received: mean={mean}, std={std}."
            )
        scale = np.array([1 / (255 * float(s)) for s in std], np.float32)
        offset = np.array([-float(m) / float(s) for m, s in zip(mean, std, strict=True)], np.float32)
        # Keras 3.15's Rescaling takes a list for the first axis where the process it is opened in is channels_first.
        return x * scale + offset
    if config.normalization == "per_image":
        return layers.LayerNormalization(
            axis=[1, 2, 3], center=False, scale=False, epsilon=1e-3, dtype="float32", name="per_image"
        )(x)
    return layers.Rescaling(1 / 255, dtype="float32", name="unit")(x)
