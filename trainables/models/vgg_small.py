"""Builds a small VGG in pure Keras 3, pixels in, logits out: for images of some tens of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainables.config import TrialConfig
from trainables.models.blocks import batch_norm, resized_and_normalised, scaled

if TYPE_CHECKING:
    import keras

CHANNELS, UNITS = (32, 64, 128), 256


def build_vgg_small(
    *,
    height_px: int,
    width_px: int,
    channels: int,
    classes: int,
    config: TrialConfig,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> keras.Model:
    """Returns three stages as in VGG (Simonyan, Zisserman, ICLR 2015), batch normalised, not compiled.

    Input, output and arguments as in `build_alexnet`; about 1.5 million parameters at `width=1` and 48 px. A stage is
    two 3x3 convolutions, a 2x2 max-pool and dropout of half of `config.dropout`; then a dense layer of 256 units,
    dropout, logits.

    Raises:
        ValueError: `standardize` without a mean and a standard deviation for each channel.
    """
    from keras import Input, Model, layers

    image = Input((height_px, width_px, channels), dtype="uint8", name="image")
    x = resized_and_normalised(image, config, mean, std)
    for stage, size in enumerate(CHANNELS, 1):
        for index in (1, 2):
            name = f"stage{stage}_{{}}{index}"
            x = layers.Conv2D(
                scaled(size, config.width),
                3,
                padding="same",
                data_format="channels_last",
                use_bias=False,
                kernel_initializer="he_normal",
                name=name.format("conv"),
            )(x)
            x = layers.ReLU(name=name.format("relu"))(batch_norm(name.format("norm"))(x))
        x = layers.MaxPooling2D(2, data_format="channels_last", name=f"stage{stage}_pool")(x)
        x = layers.Dropout(config.dropout / 2, name=f"stage{stage}_dropout")(x)
    x = layers.Flatten(data_format="channels_last", name="flatten")(x)
    x = layers.Dense(scaled(UNITS, config.width), activation="relu", kernel_initializer="he_normal", name="dense")(x)
    x = layers.Dropout(config.dropout, name="dropout")(x)
    return Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name="vgg_small")


def parameters_of_vgg_small(config: TrialConfig, channels: int, classes: int) -> int:
    """Returns how many weights it has, batch normalisation's statistics included."""
    weights, before, side = 0, channels, config.image_size_px
    for size in CHANNELS:
        after, side = scaled(size, config.width), side // 2
        weights += 9 * before * after + 9 * after * after + 2 * 4 * after
        before = after
    units = scaled(UNITS, config.width)
    return weights + (side * side * before + 1) * units + (units + 1) * classes
