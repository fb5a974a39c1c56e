"""Measures how fast one configuration trains on this machine, in a few seconds. Knows nothing of studies."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

WORTHWHILE = 1.1
"""How many times as fast bfloat16 must be to be taken: below that it is not worth its rounding."""


@dataclass(frozen=True)
class Speed:
    """Images per second of one trial running alone, and the images of one of its epochs; mirrored ones count twice."""

    training_images_per_s: float
    evaluation_images_per_s: float
    training_images: int
    evaluation_images: int

    @property
    def epoch_s(self) -> float:
        """Seconds that one epoch takes."""
        return self.training_images / self.training_images_per_s + self.evaluation_images / self.evaluation_images_per_s


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

    def speed(precision: str) -> float:
        parameters = {**config["parameters"], "precision": precision}
        return measure_speed({**config, "parameters": parameters}, measure_s).training_images_per_s

    float32, bfloat16 = speed("float32"), speed("bfloat16")
    return Precision("bfloat16" if bfloat16 > WORTHWHILE * float32 else "float32", float32, bfloat16)


def measure_speed(config: Mapping[str, Any], measure_s: float = 3.0) -> Speed:
    """Trains and evaluates a configuration on a few batches.

    Args:
        config: what the trial would be given (`trainables.training.classifier.Classifier`).
        measure_s: about how long each of the two measurements takes, after one batch to warm up.
    """
    from trainables.config import TrialConfig, TrialContext
    from trainables.dataset.folds import limit_rows, trial_rows
    from trainables.dataset.node_cache import open_data
    from trainables.models.compiled import compiled_model, release
    from trainables.preprocessing.feed import Feed
    from trainables.preprocessing.methods import averages_mirror, strengths_of
    from trainables.training.epochs import EVALUATION_BATCH
    from trainables.training.process import prepare_process
    from trainables.training.targets import Targets

    context = TrialContext.model_validate(config["study"])
    trial = TrialConfig.model_validate(config["parameters"]).resolved(context)
    prepare_process(context)
    dataset = open_data(context.dataset, fingerprint=context.fingerprint)
    rows = trial_rows(dataset, context.selection_share, trial.split_ratio, context.seed)
    fit, validation, selection = (
        limit_rows(fold, context.max_images_per_fold, context.seed)
        for fold in (rows.fit, rows.validation, rows.selection)
    )
    model = compiled_model(dataset, trial)
    targets = Targets(trial, dataset.labels[fit], len(dataset.info.classes))
    targets.begin_epoch((context.seed, 0))
    # Augmentation in the trial's own process: workers would have to be booked, and only make it faster.
    feed = Feed(dataset, trial.preprocessing, strengths_of(trial), trial.code)

    def rate(batches: Any, work: Any) -> float:
        images, started = 0, 0.0
        for pixels, labels in batches:
            work(pixels, labels)
            if not started:
                started = time.perf_counter()
                continue
            images += len(labels)
            if time.perf_counter() - started > measure_s:
                break
        seconds = time.perf_counter() - started
        return images / seconds if images else len(labels) / max(seconds, 1e-3)

    speed = Speed(
        rate(
            feed.training_batches(fit, trial.batch_size, (context.seed, 0), 0),
            lambda pixels, labels: model.train_on_batch(*targets(pixels, labels)),
        ),
        rate(
            feed.evaluation_batches(selection, min(EVALUATION_BATCH, max(1, len(selection) // 2))),
            lambda pixels, labels: model.predict_on_batch(pixels),
        ),
        len(fit),
        len(validation) + (2 if averages_mirror(trial, dataset.info.shape) else 1) * len(selection),
    )
    release(model)  # another precision, or a trial, may be next in this process
    return speed
