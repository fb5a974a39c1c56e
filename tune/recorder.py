"""Ray Tune's callback: writes what happens to the journal, TensorBoard and the terminal. Decides nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.tune import Callback

from tune.ledger import ENDED, Ledger, RungDecision
from tune.live import LiveStudy, short_parameters
from tune.search import OptunaSearcher
from tune.spec import StudySpec
from tune.tensorboard import TrialLogs
from tune.unsaved import Unsaved

if TYPE_CHECKING:
    from ray.tune import Checkpoint
    from ray.tune.experiment import Trial

_METRIC_PREFIXES = ("training_", "validation_", "selection_")
_METRICS = ("learning_rate", "images_per_s", "wait_s", "epoch_s", "process_memory_mib", "process")
_RAY_OWN = "training_iteration"


class Recorder(Unsaved, Callback):
    """Passes each of Ray's events on."""

    def __init__(
        self,
        directory: Path,
        spec: StudySpec,
        classes: tuple[str, ...],
        ledger: Ledger,
        searcher: OptunaSearcher,
        logs: TrialLogs,
        live: LiveStudy,
    ) -> None:
        """Takes the study's folder and those who want to know."""
        super().__init__()
        self._directory = directory
        self._spec = spec
        self._classes = classes
        self._ledger = ledger
        self._searcher = searcher
        self._logs = logs
        self._live = live
        self._told_stopping = False

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A process has taken up a trial."""
        number = trial.config["trial"]
        record = self._ledger.record.trials[number]
        self._ledger.append("started", trial=number)
        self._logs.start(number, record.values)
        self._live.event(f"trial {number} started: {short_parameters(record.values)}")

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has reported an epoch."""
        number, epoch = trial.config["trial"], result["epoch"]
        metrics = {
            name: value
            for name, value in result.items()
            if (name.startswith(_METRIC_PREFIXES) or name in _METRICS) and name != _RAY_OWN
        }
        self._ledger.append("epoch", trial=number, epoch=epoch, metrics=metrics)
        self._logs.epoch(number, epoch, metrics, np.array(metrics["selection_confusion"]), self._classes)
        self._live.event(
            f"trial {number} epoch {epoch}/{self._spec.asha.max_epochs}: "
            f"{self._spec.objective} {metrics[self._spec.objective]:.4f}, "
            f"training loss {metrics['training_loss']:.3f}, {metrics['images_per_s']:.0f} images/s"
        )
        if self._searcher.stopping and not result["diverged"]:
            result["should_checkpoint"] = True  # what this epoch cost is not to be lost

    def on_rung(self, decision: RungDecision) -> None:
        """ASHA has decided at a rung."""
        self._ledger.append("rung", **vars(decision))

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Checkpoint, **info: Any
    ) -> None:
        """A checkpoint is complete."""
        path = Path(checkpoint.path).resolve().relative_to(self._directory.resolve())
        number, epoch = trial.config["trial"], trial.last_result["epoch"]
        self._ledger.append("checkpoint", trial=number, epoch=epoch, path=str(path))
        record = self._ledger.record.trials[number]
        keep = {epoch, record.best_epoch(self._spec.objective, self._spec.mode)}
        for old, folder in record.checkpoints.items():
            if old not in keep and not Path(folder).is_relative_to(path.parent):  # Ray keeps this session's in bounds
                shutil.rmtree(self._directory / folder, ignore_errors=True)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial's process died and the trial is to be started again."""
        number, reason = trial.config["trial"], _reason(trial)
        self._ledger.append("restart", trial=number, reason=reason)
        self._live.event(f"trial {number} starts again: {reason}")

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has ended, or the study is stopping and it goes on another time."""
        record = self._ledger.record.trials[trial.config["trial"]]
        if record.state in ENDED:
            self._logs.end(record.number, "FAILURE" if record.state == "failed" else "SUCCESS")
            self._live.event(f"trial {record.number} {record.state}: {record.reason}")
        else:
            self._live.event(f"trial {record.number} interrupted after epoch {max(record.epochs, default=0)}")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has failed for good."""
        number, reason = trial.config["trial"], _reason(trial)
        self._ledger.append("error", trial=number, reason=reason)
        if number in self._ledger.record.trials:
            self._logs.start(number, self._ledger.record.trials[number].values)
            self._logs.end(number, "FAILURE")
        self._live.line(f"trial {number} failed: {reason}")

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ray's loop has turned once more."""
        if self._searcher.stopping == "interrupted" and not self._told_stopping:
            self._told_stopping = True
            self._live.line("stopping: running trials finish their epoch and save it; Ctrl-C again stops at once")
        self._live.refresh()


def _reason(trial: Trial) -> str:
    """Returns why a trial's process ended last: the exception it raised, or that it died."""
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace") if trial.error_file else ""
    except OSError:
        text = ""
    lines = [line.strip() for line in text.rpartition("Failure # ")[2].splitlines()[1:] if line.strip()]
    if not lines or any(line.startswith(("The actor died", "The actor is dead")) for line in lines):
        return "its process died or was replaced"
    return lines[-1][:300]
