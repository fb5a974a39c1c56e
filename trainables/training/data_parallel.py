"""One model trained by several processes at once: each takes its share of every batch. Runs in Ray Train's workers.

Batches are those that one process would draw, so the loss curve is the one process's. Gradients and the statistics of
batch normalisation are summed over all workers (`tf.distribute.MultiWorkerMirroredStrategy`), a mean is over the whole
batch however it is shared out, and the weights stay equal everywhere. Worker 0 alone saves: what any process can load.
"""

from __future__ import annotations

import json
import os
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.train._internal.utils import get_address_and_port

from trainables.config import TrialContext
from trainables.dataset.reader import Pixels, Rows
from trainables.models.compiled import Floats, cross_entropy, new_model, split_batch
from trainables.models.optimizers import build_optimizer, copy_training
from trainables.training.epochs import TrialTraining
from trainables.training.fault_kinds import TrialFault, classify_error, retry_save

if TYPE_CHECKING:
    import keras
    from ray.train import Checkpoint


class Replica(TrialTraining):
    """One worker's part of a trial; all of them do the same things in the same order.

    Args:
        config: what a `trainables.training.classifier.Classifier` is given.
        rank: the worker's number, from 0.
        workers: how many there are.
    """

    def __init__(self, config: dict[str, Any], rank: int, workers: int) -> None:
        self._rank, self._workers = rank, workers
        self._dropout_stream = (rank,)
        self._prepare(TrialContext.model_validate(config["study"]))
        self._open_data()
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        tf.config.set_visible_devices(gpus[:1], "GPU")  # as one process does: Keras takes the first
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy()
        self._start(config)

    @property
    def epoch(self) -> int:
        """Epochs trained so far."""
        return self._epoch

    def step(self) -> dict[str, Any]:
        """Trains, validates and scores one epoch; see `Classifier.step`. Every epoch is to be saved."""
        result = self._train_epoch()
        return {**result, "should_checkpoint": not result["diverged"]}

    def close(self) -> None:
        """Lets the feed's workers go."""
        self._feed.close()

    def _new_model(self) -> keras.Model:
        with self._strategy.scope():
            model = new_model(self._dataset, self._config)
            optimizer = build_optimizer(self._config)
            optimizer.build(model.trainable_variables)
            model.compile(optimizer=optimizer, loss=cross_entropy(), metrics=["accuracy"])
        self._trace(model)
        return model

    def _load_weights(self, saved: keras.Model, *, same_code: bool) -> None:
        copy_training(self._model, saved)

    def _trace(self, model: keras.Model) -> None:
        """Makes the graphs; their inputs have no fixed length, as a graph of its own for a last, smaller share would
        number its collective operations differently from the other workers' graphs."""
        import tensorflow as tf

        strategy, loss_of = self._strategy, cross_entropy(reduction="sum")
        image, label = (
            tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8),
            tf.TensorSpec((None, *model.output_shape[1:])),
        )
        number = tf.TensorSpec(())

        def summed(values: Any) -> Any:
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)

        connected: list[int] = []  # the places of weights that have a gradient: one process leaves out the others, too

        def differentiate(pixels: Any, labels: Any, weights: Any, batch: Any, parts: Any) -> Any:
            with tf.GradientTape() as tape:
                logits = model(pixels, training=True)
                loss = loss_of(labels, logits, sample_weight=weights)
                if own := model.losses:  # an own model's regularisers: every part of the batch has its share of them
                    loss += batch * tf.add_n(own) / parts
                share = loss / batch
            hits = tf.equal(tf.argmax(logits, -1), tf.argmax(labels, -1))
            found = tape.gradient(share, [variable.value for variable in model.trainable_variables])
            connected[:] = [place for place, gradient in enumerate(found) if gradient is not None]
            return [found[place] for place in connected], summed([loss, tf.reduce_sum(tf.cast(hits, tf.float32))])

        optimizer = model.optimizer
        clips = any(getattr(optimizer, name, None) for name in ("clipnorm", "global_clipnorm", "clipvalue"))
        if clips:  # Keras 3.15 would clip each worker's share before it sums them
            optimizer._all_reduce_sum_gradients = lambda pairs: pairs

        def apply(gradients: Any) -> None:
            # TensorFlow 2.21 reduces only what is on a device, and a function's arguments are on none.
            gradients = [tf.identity(gradient) for gradient in gradients]
            variables = [model.trainable_variables[place] for place in connected]
            optimizer.apply(summed(gradients) if clips else gradients, variables)

        def share_states() -> None:
            replica = tf.distribute.get_replica_context()
            for variable in states:
                mean = replica.all_reduce(tf.distribute.ReduceOp.MEAN, tf.identity(variable.value))
                variable.value.assign(mean)

        def predict(pixels: Any) -> Any:
            return tf.distribute.get_replica_context().all_gather(model(pixels, training=False), axis=0)

        @tf.function(autograph=False, input_signature=[image, label, tf.TensorSpec((None,)), number, number])  # type: ignore[untyped-decorator]
        def differentiated(pixels: Any, labels: Any, weights: Any, batch: Any, parts: Any) -> Any:
            return strategy.run(differentiate, (pixels, labels, weights, batch, parts))

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]
        def applied(gradients: Any) -> None:
            strategy.run(apply, (gradients,))

        @tf.function(autograph=False, input_signature=[image])  # type: ignore[untyped-decorator]
        def predicted(pixels: Any) -> Any:
            return strategy.run(predict, (pixels,))

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]
        def shared() -> None:
            strategy.run(share_states)

        states = self._states = _own_states(model)
        self._share_states = shared
        self._differentiated, self._applied, self._predicted = differentiated, applied, predicted
        with _synchronized(model):
            differentiated.get_concrete_function()

    def _train(self, rows: Rows, rate: float) -> dict[str, float]:
        found = super()._train(rows, rate)
        if self._states:
            self._share_states()
            if self._average:
                with self._average.in_place():
                    self._share_states()
                    self._average.take(self._states)
        return found

    def _own_share(self, batch: Any) -> Any:
        return np.array_split(batch, self._workers)[self._rank]

    def _train_batch(self, pixels: Pixels, labels: Floats, weights: Floats | None) -> tuple[float, float]:
        n, gradients, loss, hits = len(labels), None, 0.0, 0.0
        count = self._micro_batches if n // self._micro_batches >= self._workers else 1  # nobody goes without
        weights = np.ones(n, np.float32) if weights is None else weights
        for batch in split_batch(pixels, labels, weights, count):
            sizes = np.float32(n), np.float32(self._workers * count)
            part_gradients, sums = self._differentiated(*map(self._own_share, batch), *sizes)
            gradients = (
                part_gradients if gradients is None else [a + b for a, b in zip(gradients, part_gradients, strict=True)]
            )
            loss += float(sums[0])
            hits += float(sums[1])
        self._applied(gradients)
        return loss, hits

    def _predict(self, pixels: Pixels) -> Floats:
        return np.asarray(self._predicted(self._own_share(pixels)))


def free_address() -> str:
    """Returns where this worker can be reached by the others, HOST:PORT."""
    host, port = get_address_and_port()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def join_workers(addresses: list[str], rank: int) -> None:
    """Tells TensorFlow, not yet loaded, where each worker is and which one this is."""
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}})


def train_replica(config: dict[str, Any]) -> None:
    """What each of Ray Train's workers runs: the trial to its end, an epoch's result and checkpoint at a time.

    Raises:
        TrialFault: whatever went wrong.
    """
    import ray.train

    context = ray.train.get_context()
    try:
        train(Replica(config, context.get_world_rank(), context.get_world_size()))
    except Exception as error:
        traceback.print_exc()
        raise _classify_worker_error(
            error
        ) from None  # without its cause: the driver would have to load TensorFlow to read it


def train(replica: Replica) -> None:
    """Trains a worker's part of a trial to its end and reports every epoch."""
    from ray.train.collective import broadcast_from_rank_zero

    if broadcast_from_rank_zero(replica.epoch) != replica.epoch:
        raise TrialFault("exception", "the workers could not read the same checkpoint")
    while True:
        result = replica.step()
        _report(replica, result)
        if result["done"]:
            return replica.close()


def _report(replica: Replica, result: dict[str, Any]) -> None:
    import ray.train

    context = ray.train.get_context()
    if context.get_world_rank():
        ray.train.report({})
    elif not result["should_checkpoint"]:
        ray.train.report(result)
    else:
        storage = context.get_storage()

        def upload(checkpoint: Checkpoint, name: str) -> Checkpoint:
            stored: Checkpoint = retry_save(lambda: storage.persist_current_checkpoint(checkpoint, name))
            return stored

        with tempfile.TemporaryDirectory() as folder:
            retry_save(lambda: replica.save_checkpoint(folder))
            ray.train.report(result, ray.train.Checkpoint.from_directory(folder), checkpoint_upload_fn=upload)


def _classify_worker_error(error: Exception) -> TrialFault:
    """Returns an error as a fault; one that only says that another worker is gone as what became of that one."""
    import tensorflow as tf

    gone = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)
    if isinstance(error, gone) or "Collective ops is aborted" in str(error):
        return TrialFault("process_died", "another worker broke off")
    return classify_error(error)


def _own_states(model: keras.Model) -> list[Any]:
    """Returns what layers of the user's own keep of the images that they have seen: each worker saw others. Batch
    normalisation's are equal already."""
    from keras.layers import BatchNormalization

    layers = [layer for layer in model._flatten_layers() if isinstance(layer, BatchNormalization)]
    equal = {id(variable) for layer in layers for variable in layer.non_trainable_variables}
    states = [v for v in model.non_trainable_variables if id(v) not in equal]
    frozen = {id(v) for layer in model._flatten_layers() for v in layer._trainable_variables}
    return [v for v in states if id(v) not in frozen and str(v.dtype).startswith(("float", "bfloat"))]


@contextmanager
def _synchronized(model: keras.Model) -> Iterator[None]:
    """Lets batch normalisation look at every worker's images in the graphs that are made now; the model, and so its
    checkpoints, stay those of a single process."""
    from keras.layers import BatchNormalization

    layers = [layer for layer in model._flatten_layers() if isinstance(layer, BatchNormalization)]
    for layer in layers:
        layer.synchronized = True
    try:
        yield
    finally:
        for layer in layers:
            layer.synchronized = False
