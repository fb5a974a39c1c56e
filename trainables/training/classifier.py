"""The trial as a `ray.tune.Trainable`: one step is one epoch. Its process stays warm.

TensorFlow is imported once and the data set mapped once for each process; `reset_config` swaps the model.
"""

from __future__ import annotations

import traceback
from typing import Any

from ray.tune import Trainable

from trainables.config import TrialContext
from trainables.models.compiled import release
from trainables.training.epochs import TrialTraining
from trainables.training.fault_kinds import TrialFault, classify_error, retry_save
from trainables.training.process import process_memory_mib


class Classifier(TrialTraining, Trainable):  # type: ignore[misc]  # Ray says that a checkpoint is a dictionary
    """Trains one model and reports every epoch.

    Ray passes `{"trial": number, "parameters": TrialConfig, "study": TrialContext, "resume_from": [folder, ...],
    "micro_batches": n, "refit_epochs": n or None}`: checkpoints to go on from, the latest first; into how many
    micro-batches each batch is cut, their gradients summed up, where a whole batch does not fit in memory; and, for the
    final fit on all training images, its epochs.

    What goes wrong is raised as a `TrialFault`, from `step` or `save`; setting up and resetting only note what to do.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Prepares the process; the trial itself begins with its first step."""
        self._retire = False
        self._prepare(TrialContext.model_validate(config["study"]))
        self._waiting: dict[str, Any] | None = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Drops the old trial's model; the new trial begins with its first step, in the same process."""
        if self._model is not None:
            release(self._model)
            self._model = self._average = None
        # Ray 2.60 hangs when this returns False and drops the trial when it raises: note it, leave at the first step.
        self._retire = process_memory_mib() > self._context.process_memory_mib
        self._waiting = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Trains, validates and scores one epoch.

        Returns:
            `epoch`, `training_*`, `validation_*` and `selection_*` figures, `learning_rate`, `images_per_s` (training),
            `wait_s` (for data), `epoch_s`, `process_memory_mib`; `should_checkpoint` at a best epoch, at rungs and when
            the last one is old, or always where machines may be taken away; `unreadable`, checkpoints that had to be
            passed over, in the first epoch.

        Raises:
            TrialFault: whatever went wrong.
        """
        try:
            if self._retire:
                raise TrialFault("replaced", f"its process had grown to {process_memory_mib():.0f} MiB")
            if self._waiting is not None:
                if self._feed is None:  # not in `setup`, which is limited to `faults.start_limit_s`
                    self._open_data()
                config, self._waiting = self._waiting, None
                self._start(config)
            return self._train_epoch()
        except Exception as error:
            traceback.print_exc()
            # Without its cause: the driver would have to load TensorFlow to read it.
            raise classify_error(error) from None

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Saves a checkpoint and hands it to the study's storage; storage that errors is tried for a minute.

        Raises:
            TrialFault: the disk is full, or the storage still errors.
        """
        return retry_save(lambda: super(Classifier, self).save(checkpoint_dir))

    def cleanup(self) -> None:
        """Lets the feed's workers go."""
        if self._feed is not None:
            self._feed.close()
