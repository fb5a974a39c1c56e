"""The epochs of one trial, with a model in this process. Knows neither Ray Tune nor Ray Train."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.checkpoint_files import AVERAGE_FILE, MODEL_FILE, STATE_FILE
from trainables.config import TrialConfig, TrialContext, validation_metric_of
from trainables.dataset.folds import trial_rows
from trainables.dataset.node_cache import open_data
from trainables.dataset.reader import Pixels, Rows
from trainables.errors import OwnCodeError
from trainables.models.compiled import (
    Floats,
    combine_seeds,
    compile_model,
    compiled_model,
    micro_batches_of,
    mirrored,
    predict_logits,
    release,
    reseed_dropout,
    split_batch,
)
from trainables.models.optimizers import PlateauState, copy_training, learning_rate_at, restore_optimizer, warmup_share
from trainables.models.weight_average import WeightAverage, read_average
from trainables.own_code import same_text
from trainables.training.best_epoch import BestEpoch
from trainables.training.fault_kinds import TrialFault, combination_fault, unbuildable
from trainables.training.metrics import evaluate, with_score
from trainables.training.process import prepare_training, process_memory_mib
from trainables.training.readable import load_first_readable
from trainables.training.targets import Targets

if TYPE_CHECKING:
    import keras

EVALUATION_BATCH = 256

_VALIDATED = ("loss", "accuracy", "macro_f1", "macro_recall", "macro_precision", "score")
"""What inner validation reports: whatever of it may choose a trial's best epoch."""

_DROPOUT_STREAM, _WEIGHTS_STREAM = 3, 4


class TrialTraining:
    """The epochs of one trial: `classifier.py` reports them to Ray Tune, `data_parallel.py` shares them among several
    processes."""

    _model: Any = None  # a keras.Model while there is a trial
    _feed: Any = None
    _average: WeightAverage | None = None
    _dropout_stream: tuple[int, ...] = ()
    """Added to the seed of dropout; other workers on the same model draw other masks."""

    def _prepare(self, context: TrialContext) -> None:
        """Prepares the process for trials of a study."""
        self._context = context
        prepare_training(context)

    def _open_data(self) -> None:
        """Opens the data set; one in a bucket is fetched first, which may take long."""
        from trainables.preprocessing.feed import Feed

        source, workers = self._context.dataset, self._context.feed_workers
        self._dataset = open_data(source, fingerprint=self._context.fingerprint)
        self._feed = Feed(self._dataset, "none", {}, workers=workers, source=source)

    def _start(self, config: dict[str, Any]) -> None:
        import keras

        from trainables.preprocessing.methods import averages_mirror, strengths_of

        self._trial = int(config["trial"])
        self._config = TrialConfig.model_validate(config["parameters"]).resolved(self._context)
        self._epoch = 0
        self._images_seen = 0
        self._saved_at = time.monotonic()
        self._best = BestEpoch()
        self._plateau = PlateauState()
        context = self._context
        share, limit = context.selection_share, context.max_images_per_fold
        rows = trial_rows(self._dataset, share, self._config.split_ratio, context.seed, limit)
        self._fit, self._validation, self._selection = rows.fit, rows.validation, rows.selection
        self._refit_epochs: int | None = config.get("refit_epochs")
        self._schedule_epochs: int = config.get("schedule_epochs") or context.max_epochs
        if self._refit_epochs:  # what is scored has been trained on: nobody may read anything into these scores
            self._fit = np.sort(np.concatenate([self._fit, self._validation, self._selection]))
        try:
            self._feed.reconfigure(self._config.preprocessing, strengths_of(self._config), self._config.code)
            self._mirror = averages_mirror(self._config, self._dataset.info.shape)
            for epoch in range(self._schedule_epochs):
                learning_rate_at(self._config, epoch, self._schedule_epochs)
        except OwnCodeError as error:  # a combination of parameters that gives no pipeline or no schedule
            raise combination_fault(error) from None
        self._targets = Targets(self._config, self._dataset.labels[self._fit], len(self._dataset.info.classes))
        keras.utils.set_random_seed(combine_seeds((self._context.seed, self._trial, _WEIGHTS_STREAM)))
        self._micro_batches = micro_batches_of(self._config, len(self._fit), config.get("micro_batches", 1))
        self._model = self._buildable_model()
        self._average = self._new_average()
        self._unreadable = load_first_readable(config.get("resume_from") or [], self.load_checkpoint)

    def _buildable_model(self) -> keras.Model:
        """Returns a fresh model; a combination of parameters that gives none is the trial's fault, not the study's."""
        try:
            model = self._new_model()
        except (ValueError, OwnCodeError) as error:
            raise combination_fault(error, unbuildable(error)) from None
        limit, parameters = self._context.max_parameters, model.count_params()
        if limit is not None and parameters > limit:
            release(model)
            raise TrialFault("infeasible", f"its model has {parameters:,} parameters, max_parameters is {limit:,}")
        return model

    def _new_model(self) -> keras.Model:
        return compiled_model(self._dataset, self._config, self._micro_batches)

    def _new_average(self) -> WeightAverage | None:
        momentum = self._config.weight_average
        return WeightAverage(self._model, momentum) if momentum else None

    def _train_epoch(self) -> dict[str, Any]:
        started = time.perf_counter()
        rate = learning_rate_at(self._config, self._epoch, self._schedule_epochs, self._plateau)
        training = self._train(self._fit, rate)
        self._epoch += 1

        with self._average.in_place() if self._average else nullcontext():
            validation = self._evaluate(self._validation)
            selection = self._evaluate(self._selection, mirror=self._mirror)
        self._plateau = self._plateau.update(validation["loss"], self._config.plateau_patience)

        result = {
            "epoch": self._epoch,
            **training,
            "validation_images": validation["images"],
            **{f"validation_{name}": validation[name] for name in _VALIDATED if name in validation},
            **{f"selection_{name}": value for name, value in selection.items() if name != "images"},
            "learning_rate": rate,
            "parameters": int(self._model.count_params()),
            "epoch_s": time.perf_counter() - started,
            "process_memory_mib": process_memory_mib(),
            "process": os.getpid(),
            "unreadable": self._unreadable,
        }
        self._unreadable = []
        metrics = [name for name in result if name not in ("epoch", "unreadable")]
        return {**result, "metrics": metrics, **self._epoch_decisions(result)}

    def _train(self, rows: Rows, rate: float) -> dict[str, float]:
        model, config, seed = self._model, self._config, (self._context.seed, self._trial)
        model.optimizer.learning_rate = rate
        reseed_dropout(model, (*seed, self._epoch, _DROPOUT_STREAM, *self._dropout_stream))
        self._targets.begin_epoch((*seed, self._epoch))
        images, loss, hits = 0, 0.0, 0.0
        started = time.perf_counter()
        batches = self._feed.training_batches(rows, config.batch_size, seed, self._epoch, config.sampling)
        for pixels, labels in batches:
            if self._epoch < config.warmup_epochs:  # the batch's own rate: the middle of its share of the epoch
                done = self._epoch + (images + len(labels) / 2) / len(rows)
                model.optimizer.learning_rate = rate * warmup_share(config, done)
            batch_loss, batch_hits = self._train_batch(*self._targets(pixels, labels))
            images += len(labels)
            loss += batch_loss
            hits += batch_hits
            if self._average:
                self._average.count_step()
        seconds = time.perf_counter() - started
        self._images_seen += images
        return {
            "training_loss": loss / images,
            "training_accuracy": hits / images,
            "images_per_s": images / seconds,
            "wait_s": self._feed.wait_s,
        }

    def _train_batch(self, pixels: Pixels, labels: Floats, weights: Floats | None) -> tuple[float, float]:
        """Makes one step of the optimizer; returns the sum of the images' losses and how many were right.

        Args:
            pixels: uint8, (n, height, width, channels).
            labels: float32, (n, classes), as `Targets` makes them.
            weights: float32, (n,), likewise.
        """
        loss, hits = 0.0, 0.0
        for part, part_labels, part_weights in split_batch(pixels, labels, weights, self._micro_batches):
            logs = self._model.train_on_batch(part, part_labels, part_weights, return_dict=True)
            loss += float(logs["loss"]) * len(part_labels)
            hits += float(logs["accuracy"]) * len(part_labels)
        return loss, hits

    def _predict(self, pixels: Pixels) -> Floats:
        return np.asarray(self._model.predict_on_batch(pixels))

    def _evaluate(self, rows: Rows, *, mirror: bool = False) -> dict[str, Any]:
        batch = EVALUATION_BATCH // self._micro_batches
        predict = mirrored(self._predict) if mirror else self._predict
        logits = predict_logits(predict, self._feed.evaluation_batches(rows, batch), batch)
        scores = evaluate(logits, self._dataset.labels[rows], len(self._dataset.info.classes))
        return with_score(scores, self._context.objective_weights)

    def _epoch_decisions(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Says whether this epoch counts so far, whether to save, and whether the trial is at its end."""
        context = self._context
        metric = validation_metric_of(context.objective)
        numbers = (result["training_loss"], result[context.objective], result[metric])
        diverged = not all(map(math.isfinite, numbers))
        wanted = self._refit_epochs or context.max_epochs
        if not diverged:
            images = result["validation_images"]
            self._best = self._best.after(self._epoch, metric, result[metric], context.mode, images)
        is_best = not diverged and self._epoch == (wanted if self._refit_epochs else self._best.epoch)
        patience = self._config.early_stop_patience
        stalled = bool(patience) and not self._refit_epochs and self._epoch - self._best.improved >= patience
        return {
            "should_checkpoint": is_best or (self._is_due() and not diverged),
            # Ray keeps the checkpoint with the highest of these and the latest: the epoch that counts, and the last.
            "checkpoint_score": float(self._epoch) if is_best else -math.inf,
            "diverged": diverged,
            "stalled": stalled,
            "done": diverged or stalled or self._epoch >= wanted,
        }

    def _is_due(self) -> bool:
        """Says whether a checkpoint is to be written whatever the epoch's score."""
        context, every_s = self._context, self._context.checkpoint_every_s
        overdue = every_s is not None and time.monotonic() - self._saved_at >= every_s
        return context.save_every_epoch or self._epoch in context.rungs or overdue

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes `model.keras` (weights and optimizer), with an average of the weights `average.npz`, and last
        `state.json`, under a temporary name."""
        folder = Path(checkpoint_dir)
        self._saved_at = time.monotonic()
        self._model.save(folder / MODEL_FILE)
        if self._average:
            self._average.save(folder / AVERAGE_FILE)
        state = {
            "trial": self._trial,
            "config": self._config.model_dump(),
            "epoch": self._epoch,
            "best": asdict(self._best),
            "plateau": asdict(self._plateau),
            "averaged_steps": self._average.steps if self._average else 0,
            "feed_position": {"epoch": self._epoch, "images_seen": self._images_seen},
            "random_state": {"seed": self._context.seed, "trial": self._trial, "next_epoch": self._epoch},
        }
        temporary = folder / f".{STATE_FILE}"
        temporary.write_text(json.dumps(state, indent=1), encoding="utf-8")
        temporary.replace(folder / STATE_FILE)

    def load_checkpoint(self, checkpoint: str) -> None:
        """Takes up a trial where a checkpoint folder left it."""
        import keras

        folder = Path(checkpoint)
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        saved, average = keras.saving.load_model(folder / MODEL_FILE), {}
        if self._config.weight_average:
            average = read_average(folder / AVERAGE_FILE)  # nothing is changed before all of it has been read
        self._load_weights(
            saved, same_code=same_text(TrialConfig.model_validate(state["config"]).code, self._config.code)
        )
        self._average = self._new_average()
        if self._average:
            self._average.restore(average, state["averaged_steps"])
        self._epoch = state["epoch"]
        self._best = BestEpoch(**{"improved": state["best"]["epoch"], **state["best"]})
        self._plateau = PlateauState(**state["plateau"])
        self._images_seen = state["feed_position"]["images_seen"]

    def _load_weights(self, saved: keras.Model, *, same_code: bool) -> None:
        """Goes on with the weights and the optimizer of a model that a file held.

        Where the user's code was changed since, which was accepted, what it builds now takes them; ValueError if it
        has others.
        """
        if not same_code:
            copy_training(self._model, saved, self._micro_batches)
            return
        optimizer = restore_optimizer(
            self._config, saved.optimizer, saved.trainable_variables, micro_batches=self._micro_batches
        )
        release(self._model)
        self._model = compile_model(saved, optimizer)
