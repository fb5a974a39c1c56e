"""A trial's Keras model: compiled, cut batches for it, its logits, its random streams, and its memory given back.

Knows nothing of epochs, checkpoints or Ray. Keras is imported when it is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainables.application_names import find_application
from trainables.config import TrialConfig
from trainables.dataset.reader import Dataset, Pixels
from trainables.models.applications import build_application
from trainables.models.blocks import refuse_xla_where_missing
from trainables.models.builtin import MODELS
from trainables.models.optimizers import build_optimizer
from trainables.models.own_model import build_own_model
from trainables.models.precision import layer_precision

if TYPE_CHECKING:
    import keras

Floats: TypeAlias = NDArray[np.float32]


def split_batch(pixels: Any, labels: Any, weights: Any, n: int) -> Iterator[tuple[Any, Any, Any]]:
    """Cuts a batch into n equal micro-batches; a batch that cannot be cut so stays whole. Weights may be None."""
    if n == 1 or len(labels) % n:
        yield pixels, labels, weights
    else:
        several = [None] * n if weights is None else np.split(weights, n)
        yield from zip(np.split(pixels, n), np.split(labels, n), several, strict=True)


def micro_batches_of(config: TrialConfig, images: int, asked: int) -> int:
    """Returns into how many equal micro-batches, at most as many as asked, the batches of so many images can be cut."""
    batch = min(config.batch_size, images)  # fewer images than a batch are one by themselves
    return next(n for n in range(asked, 0, -1) if batch % n == 0)


def new_model(dataset: Dataset, config: TrialConfig) -> keras.Model:
    """Returns the configuration's model for the data set, not compiled."""
    info = dataset.info
    with layer_precision(config.precision):
        return _builder(config.model)(
            height_px=info.height_px,
            width_px=info.width_px,
            channels=info.channels,
            classes=len(info.classes),
            config=config,
            mean=info.train_mean,
            std=info.train_std,
        )


def _builder(model: str) -> Callable[..., keras.Model]:
    if model in MODELS:
        return MODELS[model].build
    return build_application if find_application(model) else build_own_model


def compiled_model(dataset: Dataset, config: TrialConfig, micro_batches: int = 1) -> keras.Model:
    """Returns a fresh model for the data set, ready to train; the optimizer sums the gradients of `micro_batches`."""
    model = new_model(dataset, config)
    return compile_model(model, build_optimizer(config, micro_batches=micro_batches))


def cross_entropy(**options: Any) -> keras.losses.Loss:
    """Returns the loss, of logits against targets that are smoothed and weighted already; `options` are Keras'."""
    import keras

    return keras.losses.CategoricalCrossentropy(from_logits=True, **options)


def compile_model(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> keras.Model:
    """Compiles with cross-entropy on logits; TensorFlow leaves XLA to GPUs, on CPUs it is slower (2.21)."""
    import keras

    refuse_xla_where_missing(model)
    without_xla = keras.backend.backend() == "tensorflow" and not os.environ.get("CUDA_VISIBLE_DEVICES")
    model.compile(
        optimizer=optimizer,
        loss=cross_entropy(),
        metrics=["accuracy"],
        jit_compile=False if without_xla else "auto",
    )
    # Keras 3.15 traces the training step a second time if the first has made variables: 0.8 s instead of 1.7 s.
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    blank = np.zeros((1, model.output_shape[-1]), np.float32)
    model.compute_metrics(None, blank, blank)
    model.reset_metrics()
    return model


def predict_logits(predict: Callable[[Pixels], Floats], batches: Any, batch: int) -> Floats:
    """Returns the logits of all batches, float32, (n, classes); every batch has the same shape for the graph."""
    logits = []
    for pixels, labels in batches:
        n = len(labels)
        if n < batch:
            pixels = np.concatenate([pixels, np.zeros((batch - n, *pixels.shape[1:]), pixels.dtype)])
        logits.append(predict(pixels)[:n])
    return np.concatenate(logits)


def mirrored(predict: Callable[[Pixels], Floats]) -> Callable[[Pixels], Floats]:
    """Returns a prediction whose logits are those of the mean of the probabilities of image and mirror image."""
    return mean_prediction([predict, lambda pixels: predict(np.ascontiguousarray(pixels[:, :, ::-1]))])


def mean_prediction(predictions: Sequence[Callable[[Pixels], Floats]]) -> Callable[[Pixels], Floats]:
    """Returns a prediction whose logits are those of the mean of several predictions' probabilities."""
    return lambda pixels: mean_logits([predict(pixels) for predict in predictions])


def mean_logits(several: Sequence[Floats]) -> Floats:
    """Returns the logits of the mean of several answers' probabilities, float32, (n, classes); of one, its own."""
    from scipy.special import log_softmax, logsumexp

    if len(several) == 1:
        return several[0]
    logits = np.stack([log_softmax(one, axis=-1) for one in several])
    return np.asarray(logsumexp(logits, axis=0) - np.log(len(several)), np.float32)


def release(model: keras.Model) -> None:
    """Gives back a model's memory.

    `clear_session` and the collector alone leave the variables alive behind traced functions (TensorFlow 2.21: 290 MB
    a trial for 21 M parameters), so their buffers are emptied first.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        optimizer = getattr(model, "optimizer", None)  # none where it was only loaded to predict
        for variable in [*model.variables, *(optimizer.variables if optimizer else [])]:
            tf.raw_ops.AssignVariableOp(
                resource=variable.value.handle, value=tf.zeros([0], variable.value.dtype), validate_shape=False
            )
    keras.backend.clear_session()  # runs the collector


def combine_seeds(seed: tuple[int, ...]) -> int:
    """Returns one 31-bit number for a tuple of seeds."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)


def reseed_dropout(model: keras.Model, seed: tuple[int, ...]) -> None:
    """Starts the random stream of every dropout layer anew."""
    for index, layer in enumerate(model.layers):
        generator = getattr(layer, "seed_generator", None)
        own = None if generator is None else generator.state
        if own is not None:
            own.assign(np.array([combine_seeds((*seed, index)), 0], dtype=str(own.dtype)))
        states = [v for v in layer.non_trainable_variables if v.name == "seed_generator_state"]
        inner = [state for state in states if state is not own]  # of a layer of layers, or with several
        for place, state in enumerate(inner):
            state.assign(np.array([combine_seeds((*seed, index, place)), 0], dtype=str(state.dtype)))
