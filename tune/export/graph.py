"""Builds what an export computes, and writes it as Keras model and SavedModel. Does not choose or score the model.

The Keras model takes whatever programs hold images in, so it looks at the pixels before it classifies them. Only layers
and operations of Keras itself: it opens where emotune is not installed. The SavedModel takes uint8 alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

PIXEL_CLASSIFIER = "pixel_classifier"
"""Name of the part of the Keras model that takes uint8 pixels as they are."""

BRIGHT = 16.0
"""From this brightest pixel up, floats that are no whole numbers are taken for 0-255, as resizing leaves them."""


def write_keras(pixels: keras.Model, file: Path) -> None:
    """Writes `classifier` of a model of uint8 pixels as a `*.keras` file."""
    classifier(pixels).save(file)


def write_saved_model(pixels: keras.Model, folder: Path) -> None:
    """Writes a model of uint8 pixels as a SavedModel.

    Its signature is `serving_default(image: uint8) -> probabilities`; `encoded` takes PNG or JPEG files of the model's
    size as strings, (n,); `serve` takes uint8 and the floats that `classifier` takes.
    """
    import tensorflow as tf

    either = classifier(pixels)
    shape = (None, *pixels.input_shape[1:])

    # A signature checks no shapes (TensorFlow 2.21): a convolution takes three channels for a grouped one, and an image
    # without its batch axis aborts the process.
    def checked(image: Any) -> Any:
        return tf.ensure_shape(image, shape, name=_shape_rule(shape[1:]))

    # AutoGraph, of which nothing here has need, leaves a temporary file behind in a process that is killed.
    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def serve(image: Any) -> dict[str, Any]:
        chosen = pixels if image.dtype == tf.uint8 else either
        return {"probabilities": chosen(checked(image), training=False)}

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(shape, tf.uint8, "image")])  # type: ignore[untyped-decorator]
    def serve_pixels(image: Any) -> dict[str, Any]:
        image = checked(image)
        # TensorFlow makes uint8 of NumPy's floats without a word, and of 0-1 nothing but 0 and 1.
        seen = tf.logical_or(tf.reduce_max(image) > 1, tf.equal(tf.size(image), 0))
        tf.debugging.Assert(seen, [f"image must be uint8, {shape}, 0-255; all its pixels are 0 or 1, as of floats 0-1"])
        return {"probabilities": pixels(image, training=False)}

    def decoded(file: Any) -> Any:
        image = tf.io.decode_image(file, channels=shape[-1], expand_animations=False)
        return tf.ensure_shape(image, shape[1:], name=_shape_rule(shape[1:]))

    @tf.function(autograph=False, input_signature=[tf.TensorSpec((None,), tf.string, "files")])  # type: ignore[untyped-decorator]
    def serve_encoded(files: Any) -> dict[str, Any]:
        image = tf.map_fn(decoded, files, fn_output_signature=tf.TensorSpec(shape[1:], tf.uint8))
        return {"probabilities": pixels(checked(image), training=False)}

    # keras.export.ExportArchive (Keras 3.15) stores every weight twice.
    module = tf.Module()
    module.weights = [variable.value for variable in pixels.variables]
    module.serve = serve
    for dtype in (tf.uint8, tf.float32):
        serve.get_concrete_function(tf.TensorSpec(shape, dtype, "image"))
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve_pixels, "encoded": serve_encoded})


@dataclass(frozen=True)
class Part:
    """One model of an export.

    Attributes:
        model: uint8 (n, height, width, channels) to logits.
        mirror: whether it answers with the mean over the probabilities of image and mirror image.
        evaluation: what its evaluation does to the pixels first, uint8 to uint8 of the same shape.
    """

    model: keras.Model
    mirror: bool = False
    evaluation: keras.Model | None = None


def pixel_classifier(parts: Sequence[Part], *, temperature: float = 1.0) -> keras.Model:
    """Returns a model of probabilities, float32, (n, classes): the mean of the parts'.

    Args:
        parts: they take images of one shape.
        temperature: what logits are divided by, or the logarithms of a mean of probabilities; above 0.
    """
    import keras
    from keras import ops

    def cooled(logits: Any) -> Any:
        divided = keras.layers.Rescaling(1 / temperature, dtype="float32", name="temperature")(logits)
        return keras.layers.Softmax(dtype="float32", name="softmax_at_temperature")(divided)

    # With a temperature in logarithms: a probability too small for float32 would be 0, and be raised to a power.
    def answer(logits: Any, name: str) -> Any:
        if temperature == 1:
            return keras.layers.Softmax(dtype="float32", name=name)(logits)
        return ops.log_softmax(ops.cast(logits, "float32"), axis=-1)

    def mean(several: list[Any], name: str) -> Any:
        if len(several) == 1:
            return several[0]
        if temperature == 1:
            return keras.layers.Average(dtype="float32", name=name)(several)
        return ops.logsumexp(ops.stack(several), axis=0) - math.log(len(several))

    first = parts[0].model
    if parts == [Part(first)]:
        own = {"temperature", "softmax", "softmax_at_temperature"} & {layer.name for layer in first.layers}
        if own:  # a user's own layers may be called as ours are: the model becomes a layer
            image = keras.Input(first.input_shape[1:], dtype=first.input.dtype, name="image")
            first.name = "member"
            first = keras.Model(image, first(image))
        if temperature != 1:
            return keras.Model(first.input, cooled(first.output), name=PIXEL_CLASSIFIER)
        softmax = keras.layers.Softmax(dtype="float32", name="softmax")
        return keras.Model(first.input, softmax(first.output), name=PIXEL_CLASSIFIER)
    image = keras.Input(first.input_shape[1:], dtype="uint8", name="image")
    answers = []
    for index, part in enumerate(parts):
        part.model.name = f"member{index}"  # layers of one model must not share a name
        seen = image
        if part.evaluation is not None:
            part.evaluation.name = f"evaluation{index}"
            seen = part.evaluation(image)
        views = {"": seen, "_of_mirror": ops.flip(seen, axis=2)} if part.mirror else {"": seen}
        of_views = [answer(part.model(view), f"softmax{index}{side}") for side, view in views.items()]
        answers.append(mean(of_views, f"mean{index}"))
    whole = mean(answers, "mean")
    return keras.Model(image, whole if temperature == 1 else cooled(whole), name=PIXEL_CLASSIFIER)


def pixel_part(exported: keras.Model) -> keras.Model:
    """Returns the part of an exported model that takes uint8 pixels as they are; all of an export of 0.1."""
    parts = [layer for layer in exported.layers if layer.name == PIXEL_CLASSIFIER]
    return parts[0] if parts else exported


def classifier(pixels: keras.Model) -> keras.Model:
    """Returns a model of uint8 pixels with a front that looks at what it is fed.

    Input `image`: any numbers, (n, height, width, channels), 0-255, or floats 0-1; the batch says which of the two.
    Output `probabilities`: float32, (n, classes).

    Another shape is an error that names both. Values that cannot be pixels (below 0, above 255, NaN) are an error that
    names the range, and so are batches that could be either: floats 0-1 beside 0-255, or nothing brighter than 1 of
    255. Where the backend compiles without a look at values (JAX; TensorFlow's XLA, as on GPUs) nothing can be raised,
    and all probabilities are NaN.
    """
    import keras

    image = keras.Input(pixels.input_shape[1:], dtype="float32", name="image")
    checked, zero = _pixels_0_to_255(pixels.input_shape[1:])(image)
    probabilities = keras.layers.Identity(dtype="float32", name="probabilities")(pixels(checked) + zero)
    return keras.Model(image, probabilities, name="classifier")


def _pixels_0_to_255(shape: tuple[int, int, int]) -> keras.Model:
    """Returns a model of images to uint8 pixels, and to 0, or NaN where they are none; (1, 1)."""
    import keras
    from keras import ops

    image = keras.Input(shape, dtype="float32", name="image")
    x = _same_shape(image, shape)
    inside = ops.all(ops.logical_and(x >= 0.0, x <= 255.0))
    brightest = ops.max(x, axis=(1, 2, 3), initial=0.0)
    whole = ops.all(ops.equal(x, ops.round(x)), axis=(1, 2, 3))
    # Each image speaks for a scale, or for none: 0 and 1 alone could be nearly black, or black and white.
    faint = brightest <= 1.0
    full = ops.logical_and(brightest > 1.0, ops.logical_or(whole, brightest >= BRIGHT))
    some_0_to_1 = ops.any(ops.logical_and(faint, ops.logical_not(whole)))
    only_0_to_1 = ops.logical_and(ops.all(faint), ops.max(brightest, initial=0.0) > 1.5 / 255)
    known = ops.where(some_0_to_1, only_0_to_1, ops.logical_or(ops.any(full), ops.all(brightest <= 0.0)))
    known = ops.logical_and(known, inside)
    scaled = ops.round(x * ops.where(some_0_to_1, 255.0, 1.0))
    pixels = ops.cast(ops.clip(scaled, 0.0, 255.0), "uint8")
    return keras.Model(image, [pixels, _zero_if(known, x)], name="pixels_must_be_0_to_255_or_0_to_1")


def _zero_if(known: Any, x: Any) -> Any:
    """Returns 0, (1, 1); TensorFlow's error `... is not in [0, 256)`, or NaN, if the scale is not `known`."""
    from keras import ops

    low, high = ops.min(x, initial=0.0), ops.max(x, initial=0.0)
    wrong = ops.where(high > 255.0, ops.ceil(high), ops.where(low < 0.0, ops.floor(low), -1.0) - 256.0)
    index = ops.cast(ops.clip(ops.where(known, 0.0, wrong), -1e9, 1e9), "int32")
    # Keras 3.15 adds the length, 256, to a negative index. Where a slice starts XLA wants to know when it compiles.
    one = ops.take(ops.broadcast_to(ops.cast(known, "float32"), (256,)), ops.reshape(index, (1,)))
    return ops.reshape(ops.sqrt(one - 1.0), (1, 1))


def _same_shape(image: Any, shape: tuple[int, int, int]) -> Any:
    """Returns the images as they are, through an operation that fails on any other shape."""
    from keras import layers, ops

    # Keras forgets the shape after a few calls (reduce_retracing), and does not look at the channels if there is one.
    empty = ops.reshape(ops.slice(ops.reshape(image, (-1,)), (0,), (0,)), (0, *shape))
    return layers.Concatenate(axis=0, dtype="float32", name=_shape_rule(shape))([image, empty])


def _shape_rule(shape: tuple[int, int, int]) -> str:
    """Returns the name of the operation that checks the shape; errors show it."""
    return "shape_must_be_n_" + "_".join(map(str, shape))
