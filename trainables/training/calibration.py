"""Measures how fast one configuration trains on this machine, in a few seconds. Knows nothing of studies."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import keras

WORTHWHILE = 1.1
"""How many times as fast bfloat16 must be to be taken: below that it is not worth its rounding."""


@dataclass(frozen=True)
class Speed:
    """Images per second of one trial, and the images of one of its epochs; mirrored ones count twice.

    Attributes:
        first_step_s: seconds that the model, its first step and its first prediction took: what every trial pays once.
        memory_mib: resident memory of the process after it.
        gpu_memory_mib: most memory of the GPU that TensorFlow has held at a time, None without one.
        save_s: seconds to write the model and its optimizer to a temporary folder; 0 where that was not measured.
        refit_images: images that an epoch of a final fit trains on.
    """

    training_images_per_s: float
    evaluation_images_per_s: float
    training_images: int
    evaluation_images: int
    first_step_s: float = 0.0
    memory_mib: float = 0.0
    gpu_memory_mib: float | None = None
    save_s: float = 0.0
    refit_images: int = 0

    @property
    def epoch_s(self) -> float:
        """Seconds that one epoch takes."""
        return self._epoch_s(self.training_images)

    @property
    def refit_epoch_s(self) -> float:
        """Seconds that one epoch of a final fit takes."""
        return self._epoch_s(self.refit_images)

    def _epoch_s(self, images: int) -> float:
        return images / self.training_images_per_s + self.evaluation_images / self.evaluation_images_per_s


@dataclass(frozen=True)
class Precision:
    """What `precision: auto` stands for, and the images per second of both; None where bfloat16 was not tried."""

    chosen: Literal["float32", "bfloat16"]
    float32_images_per_s: float | None = None
    bfloat16_images_per_s: float | None = None


def choose_precision(config: Mapping[str, Any], measure_s: float = 2.0) -> Precision:
    """Trains some batches in both precisions where this machine has arithmetic for both, and takes the faster.

    Args:
        config: as in `measure_speed`.
        measure_s: as in `measure_speed`.
    """
    from trainables.config import TrialContext
    from trainables.models.precision import has_bfloat16
    from trainables.training.process import prepare_process

    context = TrialContext.model_validate(config["study"])
    prepare_process(context)
    if not has_bfloat16(context.gpus):
        return Precision("float32")

    rates = []
    for precision in ("float32", "bfloat16"):
        parameters = {**config["parameters"], "precision": precision}
        found = try_speed({**config, "parameters": parameters}, measure_s, save=False)
        if isinstance(found, str):  # whoever measures the speed says why
            return Precision("float32")
        rates.append(found.training_images_per_s)
    float32, bfloat16 = rates
    return Precision("bfloat16" if bfloat16 > WORTHWHILE * float32 else "float32", float32, bfloat16)


def try_speed(config: Mapping[str, Any], measure_s: float, save: bool) -> Speed | str:
    """Returns what `measure_speed` does, or in one line why no trial of this configuration can train.

    Raises:
        DatasetError: this machine does not see the data set.
    """
    from trainables.errors import DatasetError
    from trainables.training.fault_kinds import classify_error

    try:
        return measure_speed(config, measure_s, save=save)
    except DatasetError:
        raise
    except Exception as error:  # whatever Keras raises where it cannot build or hold a model
        return str(classify_error(error))


def measure_speed(config: Mapping[str, Any], measure_s: float = 3.0, *, save: bool = False) -> Speed:
    """Trains and evaluates a configuration on a few batches.

    Args:
        config: what the trial would be given (`trainables.training.classifier.Classifier`).
        measure_s: about how long each of the two measurements takes, after one batch to warm up.
        save: measure too how long a checkpoint takes.
    """
    from trainables.config import TrialConfig, TrialContext
    from trainables.dataset.folds import trial_rows
    from trainables.dataset.node_cache import open_data
    from trainables.models.compiled import compiled_model, release
    from trainables.preprocessing.feed import Feed
    from trainables.preprocessing.methods import averages_mirror, strengths_of
    from trainables.training.epochs import EVALUATION_BATCH
    from trainables.training.process import prepare_training, process_memory_mib
    from trainables.training.targets import Targets

    context = TrialContext.model_validate(config["study"])
    trial = TrialConfig.model_validate(config["parameters"]).resolved(context)
    prepare_training(context)
    dataset = open_data(context.dataset, fingerprint=context.fingerprint)
    limit = context.max_images_per_fold
    rows = trial_rows(dataset, context.selection_share, trial.split_ratio, context.seed, limit)
    fit, validation, selection = rows.fit, rows.validation, rows.selection
    if context.gpus:
        _forget_gpu_peak()  # of the configuration before
    began = time.perf_counter()
    model = compiled_model(dataset, trial)
    built_s = time.perf_counter() - began
    try:  # what does not train, for want of memory perhaps, leaves nothing to what is measured next in this process
        targets = Targets(trial, dataset.labels[fit], len(dataset.info.classes))
        targets.begin_epoch((context.seed, 0))
        # Augmentation in the trial's own process: workers would have to be booked, and only make it faster.
        feed = Feed(dataset, trial.preprocessing, strengths_of(trial), trial.code)

        training, first_training_s = _rate(  # a small fold is gone through again and again
            chain.from_iterable(
                feed.training_batches(fit, trial.batch_size, (context.seed, 0), epoch) for epoch in count()
            ),
            lambda pixels, labels: model.train_on_batch(*targets(pixels, labels)),
            measure_s,
        )
        evaluation, first_evaluation_s = _rate(
            chain.from_iterable(feed.evaluation_batches(selection, EVALUATION_BATCH) for _ in count()),
            lambda pixels, labels: model.predict_on_batch(pixels),
            measure_s,
        )
        return Speed(
            training,
            evaluation,
            len(fit),
            len(validation) + (2 if averages_mirror(trial, dataset.info.shape) else 1) * len(selection),
            built_s + first_training_s + first_evaluation_s,
            process_memory_mib(),
            _gpu_memory_mib() if context.gpus else None,
            _save_s(model) if save else 0.0,
            len(fit) + len(validation) + len(selection),
        )
    finally:
        release(model)


def _rate(
    batches: Iterable[tuple[Any, Any]], work: Callable[[Any, Any], object], measure_s: float
) -> tuple[float, float]:
    """Returns images per second of what is done with batches for about so long, and the seconds of the first batch,
    which are not among them."""
    images, started, began = 0, 0.0, time.perf_counter()
    for pixels, labels in batches:
        work(pixels, labels)
        if not started:
            started = time.perf_counter()
            continue
        images += len(labels)
        if time.perf_counter() - started > measure_s:
            break
    return images / (time.perf_counter() - started), started - began


def _save_s(model: keras.Model) -> float:
    with tempfile.TemporaryDirectory(prefix="emotune-") as folder:
        began = time.perf_counter()
        model.save(Path(folder) / "model.keras")
        return time.perf_counter() - began


def _forget_gpu_peak() -> None:
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        tf.config.experimental.reset_memory_stats("GPU:0")


def _gpu_memory_mib() -> float | None:
    import tensorflow as tf

    if not tf.config.list_logical_devices("GPU"):  # Ray may only count them
        return None
    return float(tf.config.experimental.get_memory_info("GPU:0")["peak"]) / 2**20
