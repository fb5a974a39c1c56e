"""Builds AlexNet in pure Keras 3, pixels in, logits out. Knows nothing of data sets, training or export.

Keras is imported when a model is built, never with this module: the driver reads it without paying for TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.config import TrialConfig
from trainables.models.blocks import batch_norm, resized_and_normalised, scaled

if TYPE_CHECKING:
    import keras

PUBLISHED_STEM_FROM_PX = 128
"""From this side up the stem is the paper's 11x11 stride 4; below it 7x7 stride 2, or 3x3, with `same` pools."""

# Section 3.3 of the paper: k, n // 2, alpha; its beta is 0.75.
LRN_BIAS, LRN_RADIUS, LRN_ALPHA = 2.0, 2, 1e-4


def build_alexnet(
    *,
    height_px: int,
    width_px: int,
    channels: int,
    classes: int,
    config: TrialConfig,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    conv_groups: int = 1,
) -> keras.Model:
    """Returns AlexNet (Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep CNNs, NIPS 2012), not compiled.

    Input `image`: uint8, (n, height_px, width_px, channels), 0-255. Output `logits`: float32, (n, classes); the loss
    takes logits because log-softmax of logits is stable, and the export puts the softmax on top. Cast, resize and
    normalisation are in the graph. Only layers and operations of Keras itself: `keras.saving.load_model` opens a saved
    model where emotune is not installed.

    Shapes at `image_size_px=227`, `width=1`:

    | layer | kernel | output | parameters (3 channels, 1000 classes) |
    |---|---|---|---|
    | conv1, LRN | 11x11 / 4 valid | 55 x 55 x 96 | 34,944 |
    | pool1 | 3x3 / 2 | 27 x 27 x 96 | |
    | conv2, LRN | 5x5 same | 27 x 27 x 256 | 614,656 |
    | pool2 | 3x3 / 2 | 13 x 13 x 256 | |
    | conv3 | 3x3 same | 13 x 13 x 384 | 885,120 |
    | conv4 | 3x3 same | 13 x 13 x 384 | 1,327,488 |
    | conv5 | 3x3 same | 13 x 13 x 256 | 884,992 |
    | pool5 | 3x3 / 2 | 6 x 6 x 256 | |
    | dense6, dropout | | 4096 | 37,752,832 |
    | dense7, dropout | | 4096 | 16,781,312 |
    | logits | | 1000 | 4,097,000 |
    | total | | | 62,378,344; with `conv_groups=2`, the paper's two towers, 60,965,224 |

    Below 128 px the stem is 7x7 / 2 `same` and the pools are `same` (48 -> 24 -> 12 -> 6 -> 3): the published stem
    would leave nothing to convolve; `stem="fine"` makes it 3x3 / 1 (48 -> 48 -> 24 -> 12 -> 6). With `batch_norm` each
    convolution loses its bias and is batch normalised before its ReLU, and LRN goes. Weights start from He's normal
    distribution (logits: Glorot's uniform) and biases from 0; the paper's Gaussian of 0.01 with biases of 1 hardly
    moves under Adam, and not at all at narrow widths.

    Args:
        height_px: The images' own height; resized to `config.image_size_px` (bilinear, antialiased) unless equal.
        width_px: The images' own width.
        channels: 1 or 3, or any other number.
        classes: Number of logits, at least 2.
        config: Reads `image_size_px`, `stem`, `width`, `batch_norm`, `dropout` and `normalization`.
        mean: Training-set mean per channel, 0-1; needed by `normalization="standardize"`.
        std: Training-set standard deviation per channel, 0-1; likewise.
        conv_groups: 2 gives conv2, conv4 and conv5 the paper's two separate towers.

    Raises:
        ValueError: `standardize` without a mean and a standard deviation for each channel.
    """
    from keras import Input, Model, layers

    def conv(x: Any, index: int, channels: int, kernel_px: int, stride: int = 1, padding: str = "same") -> Any:
        groups = conv_groups if index in (2, 4, 5) else 1
        x = layers.Conv2D(
            scaled(channels, config.width, conv_groups),
            kernel_px,
            strides=stride,
            padding=padding,
            data_format="channels_last",
            groups=groups,
            use_bias=not config.batch_norm,
            kernel_initializer="he_normal",
            name=f"conv{index}",
        )(x)
        if config.batch_norm:
            x = batch_norm(f"norm{index}")(x)
        x = layers.ReLU(name=f"relu{index}")(x)
        if index <= 2 and not config.batch_norm:
            x = _local_response_normalisation(x)
        return x

    def pool(x: Any, index: int) -> Any:
        return layers.MaxPooling2D(
            3, strides=2, padding=pool_padding, data_format="channels_last", name=f"pool{index}"
        )(x)

    def dense(x: Any, index: int) -> Any:
        units = scaled(4096, config.width)
        x = layers.Dense(units, activation="relu", kernel_initializer="he_normal", name=f"dense{index}")(x)
        return layers.Dropout(config.dropout, name=f"dropout{index}")(x)

    published = config.image_size_px >= PUBLISHED_STEM_FROM_PX
    pool_padding = "valid" if published else "same"

    image = Input((height_px, width_px, channels), dtype="uint8", name="image")
    x = resized_and_normalised(image, config, mean, std)
    if published:
        x = conv(x, 1, 96, 11, stride=4, padding="valid")
    else:
        x = conv(x, 1, 96, 3) if config.stem == "fine" else conv(x, 1, 96, 7, stride=2)
    x = pool(x, 1)
    x = pool(conv(x, 2, 256, 5), 2)
    x = conv(x, 3, 384, 3)
    x = conv(x, 4, 384, 3)
    x = pool(conv(x, 5, 256, 3), 5)
    x = layers.Flatten(data_format="channels_last", name="flatten")(x)
    x = dense(dense(x, 6), 7)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return Model(image, logits, name="alexnet")


def parameters_of_alexnet(config: TrialConfig, channels: int, classes: int) -> int:
    """Returns about how many weights it has: the table above, at any size and width."""

    def wide(size: int) -> int:
        return scaled(size, config.width)

    side = config.image_size_px
    if side >= PUBLISHED_STEM_FROM_PX:
        side, stem = (side - 11) // 4 + 1, 11
        for _ in range(3):
            side = (side - 3) // 2 + 1
    else:
        stem = 3 if config.stem == "fine" else 7
        for _ in range(3 if config.stem == "fine" else 4):
            side = (side + 1) // 2
    layers = [(stem, channels, 96), (5, 96, 256), (3, 256, 384), (3, 384, 384), (3, 384, 256)]
    weights = 0
    for kernel, before, after in layers:
        inward = before if before == channels else wide(before)
        weights += (kernel * kernel * inward + 1) * wide(after)
    units = wide(4096)
    return weights + (side * side * wide(256) + 1) * units + (units + 1) * units + (units + 1) * classes


def _local_response_normalisation(x: Any) -> Any:
    """Divides each activation by (k + alpha * sum of squares over the n neighbouring channels) ** beta."""
    from keras import ops

    index = np.arange(x.shape[-1])
    band = (abs(index[:, None] - index) <= LRN_RADIUS).astype("float32")
    # The sum as a product with a band of ones and the power as square roots: a quarter-width model at 48 px trains at
    # 1,400 images/s on two cores (Keras 3.15, TensorFlow 2.21); with five slices and ops.power it was 455.
    root = ops.rsqrt(LRN_BIAS + LRN_ALPHA * ops.matmul(ops.square(x), band))
    return x * (root * ops.sqrt(root))
