"""Builds a small residual net in pure Keras 3, pixels in, logits out: for images of some tens of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainables.config import TrialConfig
from trainables.models.blocks import batch_norm, resized_and_normalised, scaled

if TYPE_CHECKING:
    import keras

CHANNELS = (16, 32, 64, 160)


def build_resnet_small(
    *,
    height_px: int,
    width_px: int,
    channels: int,
    classes: int,
    config: TrialConfig,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> keras.Model:
    """Returns a residual net (He, Zhang, Ren, Sun: Deep Residual Learning, CVPR 2016) of four stages, not compiled.

    Input, output and arguments as in `build_alexnet`; about 410,000 parameters at `width=1`. A stage is two 3x3
    convolutions, each batch normalised, beside a 1x1 convolution, then a 3x3 max-pool of stride 2 and dropout of a
    third of `config.dropout`; the first sees the image at full size. Then the mean over the image, dropout, logits.

    | stage | output at 48 px | parameters (gray) |
    |---|---|---|
    | 1 | 24 x 24 x 16 | 2,608 |
    | 2 | 12 x 12 x 32 | 14,624 |
    | 3 | 6 x 6 x 64 | 57,920 |
    | 4 | 3 x 3 x 160 | 334,240 |

    Raises:
        ValueError: `standardize` without a mean and a standard deviation for each channel.
    """
    from keras import Input, Model, layers

    def conv(x: Any, filters: int, kernel_px: int, name: str) -> Any:
        return layers.Conv2D(
            filters,
            kernel_px,
            padding="same",
            data_format="channels_last",
            use_bias=kernel_px == 1,
            kernel_initializer="he_normal",
            name=name,
        )(x)

    image = Input((height_px, width_px, channels), dtype="uint8", name="image")
    x = resized_and_normalised(image, config, mean, std)
    for stage, size in enumerate(CHANNELS, 1):
        filters, name = scaled(size, config.width), f"stage{stage}"
        shortcut = conv(x, filters, 1, f"{name}_shortcut")
        x = batch_norm(f"{name}_norm1")(conv(x, filters, 3, f"{name}_conv1"))
        x = layers.ReLU(name=f"{name}_relu1")(x)
        x = batch_norm(f"{name}_norm2")(conv(x, filters, 3, f"{name}_conv2"))
        x = layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([x, shortcut]))
        x = layers.MaxPooling2D(3, strides=2, padding="same", data_format="channels_last", name=f"{name}_pool")(x)
        x = layers.Dropout(config.dropout / 3, name=f"{name}_dropout")(x)
    x = layers.GlobalAveragePooling2D(data_format="channels_last", name="mean")(x)
    x = layers.Dropout(config.dropout, name="dropout")(x)
    return Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name="resnet_small")


def parameters_of_resnet_small(config: TrialConfig, channels: int, classes: int) -> int:
    """Returns how many weights it has, batch normalisation's statistics included."""
    weights, before = 0, channels
    for size in CHANNELS:
        after = scaled(size, config.width)
        weights += (before + 1) * after + 9 * before * after + 9 * after * after + 2 * 4 * after
        before = after
    return weights + (before + 1) * classes
