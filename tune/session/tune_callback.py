"""Ray Tune's callback: writes what happens to the journal, TensorBoard and the terminal. Decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
import ray.cloudpickle
from ray.tune import Callback

from trainables.errors import PlaceError
from tune.nodes.process_start import ProcessStart
from tune.report.tensorboard import TrialLogs
from tune.search.not_pickled import NotPickled
from tune.search.trial_queue import TrialQueue
from tune.session.live_display import LiveStudy
from tune.session.trial_table import short_parameters
from tune.session.watchdog import Watchdog, classify_ray_error
from tune.study.budget import BUDGETS
from tune.study.journal import Journal
from tune.study.spec import StudySpec
from tune.study.trial_record import ENDED, RungDecision, TrialRecord, run_label

if TYPE_CHECKING:
    from ray.tune import Checkpoint
    from ray.tune.experiment import Trial

_METRIC_PREFIXES = ("training_", "validation_", "selection_")
_METRICS = ("learning_rate", "images_per_s", "wait_s", "epoch_s", "process_memory_mib", "process", "node_ip")
GRACE_S = 6.0
"""Seconds that running trials have to finish their epoch after Ctrl-C; see `tune.nodes.signals.LIMIT_S`."""

_COUNT_NODES_S = 30.0
_RAY_OWN = "training_iteration"


class StudyCallback(NotPickled, Callback):
    """Passes each of Ray's events on."""

    def __init__(
        self,
        spec: StudySpec,
        classes: tuple[str, ...],
        journal: Journal,
        queue: TrialQueue,
        logs: TrialLogs,
        live: LiveStudy,
        watchdog: Watchdog,
        on_nodes: Callable[[int], None],
        start: ProcessStart,
    ) -> None:
        """Takes the study and those who want to know."""
        super().__init__()
        self._spec = spec
        self._classes = classes
        self._journal = journal
        self._queue = queue
        self._logs = logs
        self._live = live
        self._watchdog = watchdog
        self._on_nodes = on_nodes
        self._start = start
        self._stopping_since: float | None = None
        self._counted = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A process has taken up a trial."""
        number = trial.config["trial"]
        state = self._journal.state.run(number)
        self._start.note_started()
        self._journal.append("started", trial=number)
        self._watchdog.note_report(trial)
        self._logs.start(number, state.values)
        self._live.event(f"{run_label(number)} started: {short_parameters(state.values)}")

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has reported an epoch."""
        number, epoch = trial.config["trial"], result["epoch"]
        self._watchdog.note_report(trial)
        for reason in result.get("unreadable", ()):
            self._journal.append("fault", trial=number, kind="checkpoint", reason=reason, retried=True)
            self._live.line(f"{run_label(number)}: {reason}")
        if result.get("unreadable"):
            went_on = f"epoch {epoch - 1}" if epoch > 1 else "its beginning"
            self._live.line(f"{run_label(number)} goes on from {went_on}")
        metrics = {
            name: value
            for name, value in result.items()
            if (name.startswith(_METRIC_PREFIXES) or name in _METRICS) and name != _RAY_OWN
        }
        self._journal.append("epoch", trial=number, epoch=epoch, metrics=metrics)
        self._logs.epoch(number, epoch, metrics, np.array(metrics["selection_confusion"]), self._classes)
        self._live.event(
            f"{run_label(number)} epoch {epoch}/{self._spec.asha.max_epochs}: "
            f"{self._spec.objective} {metrics[self._spec.objective]:.4f}, "
            f"training loss {metrics['training_loss']:.3f}, {metrics['images_per_s']:.0f} images/s"
        )
        if self._queue.stopping and not result["diverged"]:
            result["should_checkpoint"] = True  # what this epoch cost is not to be lost

    def on_rung(self, decision: RungDecision) -> None:
        """ASHA has decided at a rung."""
        self._journal.append("rung", **vars(decision))

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Checkpoint, **info: Any
    ) -> None:
        """A checkpoint is complete."""
        path = self._journal.place.relative(checkpoint.path)
        number, epoch = trial.config["trial"], trial.last_result["epoch"]
        self._journal.append("checkpoint", trial=number, epoch=epoch, path=path)
        state = self._journal.state.run(number)
        keep = {epoch, state.best_epoch(self._spec.objective, self._spec.mode)}
        for old, folder in state.checkpoints.items():
            if old not in keep and not Path(folder).is_relative_to(Path(path).parent):  # Ray removes this session's
                with suppress(OSError, PlaceError):
                    self._journal.place.delete(folder)

    def on_fault(self, trial: Trial) -> None:
        """A trial broke off; the queue hears why before Ray tells it that it did."""
        fault = self._watchdog.forget(trial) or classify_ray_error(_error(trial))
        self._queue.note_fault(trial.config["trial"], fault)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has ended, or the study is stopping and it goes on another time."""
        self._watchdog.forget(trial)
        self._show_end(self._journal.state.run(trial.config["trial"]))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial broke off, and the queue has decided whether it starts again."""
        if trial.config.get("trial") is not None:
            self._show_end(self._journal.state.run(trial.config["trial"]))

    def _show_end(self, record: TrialRecord) -> None:
        words = run_label(record.number)
        if record.state in ENDED:
            self._logs.end(record.number, "FAILURE" if record.state == "failed" else "SUCCESS")
            say = self._live.line if record.state == "failed" else self._live.event
            say(f"{words} {record.state}: {record.reason}")
        elif record.state == "waiting" and record.faults and not self._queue.stopping:
            fault = record.faults[-1]
            self._live.line(f"{words} starts again ({fault.kind.replace('_', ' ')}): {fault.reason}")
        else:
            self._live.event(f"{words} interrupted after epoch {max(record.epochs, default=0)}")

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ray's loop has turned once more."""
        now = time.monotonic()
        if self._queue.stopping and self._stopping_since is None:
            self._stopping_since = now
            if self._queue.stopping == "interrupted":
                self._live.line("stopping: running trials finish their epoch and save it; Ctrl-C again stops at once")
            elif self._queue.stopping in BUDGETS:
                self._live.line(f"the search ends: {BUDGETS[self._queue.stopping]}; running trials finish their epoch")
        if self._queue.stopping in ("interrupted", "disk_full") and self._stopping_since is not None:
            if now - self._stopping_since > GRACE_S:
                self._watchdog.kill_all(trials)  # an epoch may take hours; these go on from their latest checkpoint
        else:
            self._watchdog.check(trials)
        if not self._queue.handed_out or self._queue.running:
            self._start.note_started()
        elif not self._queue.stopping and (reason := self._start.check_waiting()):
            self._queue.no_process, self._queue.stopping = reason, "no_process"
        if now - self._counted > _COUNT_NODES_S:
            self._counted = now
            nodes = sum(node["Alive"] for node in ray.nodes())
            if nodes != self._journal.state.rates.nodes:
                self._journal.append("nodes", count=nodes)
            self._on_nodes(nodes)
        self._live.refresh()


def _error(trial: Trial) -> BaseException | None:
    """Returns what Ray kept of a trial's last error; `get_pickled_error` looks where it is copied to only later."""
    try:
        error = ray.cloudpickle.loads(Path(trial.pickled_error_file or "").read_bytes())
    except Exception:  # whatever reading or unpickling a foreign exception raises
        return None
    return error if isinstance(error, BaseException) else None
