"""Models of the user's own: what their function is given, and what it has to return. Trains nothing.

docs/own-models.md is the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainables.config import TrialConfig
from trainables.errors import OwnCodeError
from trainables.own_code import bound_function
from trainables.own_signature import MODEL

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class ImageSpec:
    """The images that a model is to classify.

    Attributes:
        height_px: height of all images.
        width_px: width of all images.
        channels: 1 (gray) or 3 (RGB).
        mean: of the training images, for each channel, 0-1.
        std: their standard deviation, likewise.
    """

    height_px: int
    width_px: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height_px, self.width_px, self.channels

    def input(self) -> keras.KerasTensor:
        """Returns the model's input: uint8, (n, height, width, channels), 0-255."""
        from keras import Input

        return Input(self.shape, dtype="uint8", name="image")

    def standardized(self, image: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the images as float32, with mean 0 and standard deviation 1 over the training images."""
        import numpy as np
        from keras import ops

        scale = np.array([1 / (255 * max(std, 1e-6)) for std in self.std], np.float32)
        offset = np.array([-m / max(s, 1e-6) for m, s in zip(self.mean, self.std, strict=True)], np.float32)
        return ops.cast(image, "float32") * scale + offset


def build_own_model(
    *,
    height_px: int,
    width_px: int,
    channels: int,
    classes: int,
    config: TrialConfig,
    mean: Sequence[float],
    std: Sequence[float],
) -> keras.Model:
    """Returns what the user's function builds, not compiled; its logits are float32 in any precision.

    Arguments as in `build_alexnet`.

    Raises:
        OwnCodeError: the function cannot be imported, or what it returns is no such model.
    """
    image = ImageSpec(height_px, width_px, channels, tuple(mean), tuple(std))
    return with_float32_logits(own_build(config)(image, classes), image, classes, config.model)


def own_build(config: TrialConfig) -> Callable[[ImageSpec, int], Any]:
    """Returns the user's function with those of the configuration's parameters that it has.

    Raises:
        OwnCodeError: the function cannot be imported.
    """
    return bound_function(config.model, config.code, config.model_parameters, MODEL)


def with_float32_logits(model: Any, image: ImageSpec, classes: int, name: str) -> keras.Model:
    """Returns a model that was built, checked against what it has to take and to return.

    Raises:
        OwnCodeError: it breaks the contract.
    """
    import keras

    def broken(rule: str, received: object, remedy: str) -> OwnCodeError:
        return OwnCodeError(f"{name} must return {rule}. Received: {received}. {remedy}")

    if not isinstance(model, keras.Model):
        raise broken("a keras.Model", type(model).__name__, "Return the model that it builds")
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise broken(
            "a functional model", f"{type(model).__name__}, whose input nobody knows", "Return keras.Model(x, logits)"
        )
    if len(model.inputs) != 1 or tuple(model.inputs[0].shape[1:]) != image.shape:
        shapes = ", ".join(str(tuple(one.shape)) for one in model.inputs)
        raise broken(f"a model of images {(None, *image.shape)}", shapes, "Begin with x = image.input()")
    if len(model.outputs) != 1 or tuple(model.outputs[0].shape) != (None, classes):
        shapes = ", ".join(str(tuple(one.shape)) for one in model.outputs)
        raise broken(f"a model with logits {(None, classes)}", shapes, "End with layers.Dense(classes)")
    if not model.trainable_variables:
        raise broken("a model that can be trained", "no trainable weights", "Add layers that have some")
    for layer in model._flatten_layers():
        kind = type(layer)
        if not kind.__module__.startswith("keras.") and ">" not in keras.saving.get_registered_name(kind):
            raise OwnCodeError(
                f"{name}: {kind.__name__} must be known to Keras when the model is opened. Received: a class "
                f"that is not registered. Write @keras.saving.register_keras_serializable() above class {kind.__name__}"
            )
    if model.outputs[0].dtype == "float32":
        return with_bare_tensors(model)
    logits = keras.layers.Activation("linear", dtype="float32", name="float32_logits")(model.outputs[0])
    return keras.Model(model.inputs[0], logits, name=model.name)


def with_bare_tensors(model: keras.Model) -> keras.Model:
    """Returns a model whose input and output are tensors, of the same layers with the same weights.

    In lists and dictionaries, as in `keras.Model([x], {"logits": y})`, they stay that when another model is built on
    it, and a `keras.Sequential` that was never called has neither (Keras 3.15).
    """
    import keras

    if not isinstance(model, keras.Sequential):
        if isinstance(model.input, keras.KerasTensor) and isinstance(model.output, keras.KerasTensor):
            return model
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
