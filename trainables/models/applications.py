"""Keras' applications as a trial's model: pixels in, logits out, with fresh weights or those of ImageNet."""

from __future__ import annotations

import importlib
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.application_names import PREFIX
from trainables.config import TrialConfig
from trainables.errors import ApplicationError, one_line
from trainables.models.blocks import MOMENTUM, resized
from trainables.places import single_process_lock

if TYPE_CHECKING:
    import keras


def build_application(
    *,
    height_px: int,
    width_px: int,
    channels: int,
    classes: int,
    config: TrialConfig,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> keras.Model:
    """Returns an application without its top, the mean over its last map, dropout and logits; not compiled.

    Input, output and arguments as in `build_alexnet`, but for mean and standard deviation: pixels go through the
    family's own `preprocess_input`. Gray images are repeated to three channels.

    Raises:
        ValueError: images of `image_size_px` are too small for it.
        ApplicationError: ImageNet's weights are not in Keras' cache and cannot be fetched.
    """
    import keras
    from keras import Input, Model, layers, ops

    image = Input((height_px, width_px, channels), dtype="uint8", name="image")
    size = config.image_size_px
    x = resized(image, size)
    if channels == 1:
        x = ops.repeat(x, 3, axis=-1)
    application = getattr(keras.applications, config.model.removeprefix(PREFIX))
    x = importlib.import_module(application.__module__).preprocess_input(x)
    body = _body(application, x, size, config)
    for layer in body.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = MOMENTUM
    y = layers.Dropout(config.dropout, name="top_dropout")(body.output)
    return Model(image, layers.Dense(classes, dtype="float32", name="logits")(y), name=body.name)


def _body(application: Any, x: Any, size: int, config: TrialConfig) -> keras.Model:
    def build(weights: str | None) -> keras.Model:
        return application(
            include_top=False, weights=weights, input_tensor=x, input_shape=(size, size, 3), pooling="avg"
        )

    if config.weights == "none":
        return build(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the weights were made at another size
        try:
            # One process of a machine after the other: Keras 3.15 fetches into the file itself.
            with single_process_lock(Path(tempfile.gettempdir(), f"emotune-weights-{os.getuid()}.lock")):
                return build("imagenet")
        except Exception as error:  # Keras 3.15 raises a bare Exception, or ValueError for a torn file
            build(None)  # ValueError: images too small, which is no fault of the weights
            words = one_line(error, 200)
            raise ApplicationError(
                f"weights: imagenet of {config.model} must be in Keras' cache (~/.keras/models) or be fetched. "
                f"Received: {words}. Put the file there, or set weights: none"
            ) from None
