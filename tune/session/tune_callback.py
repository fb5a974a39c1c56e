"""Ray Tune's callback: journals what happens, from where it is shown, and ends what hangs. Decides nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.cloudpickle
from ray.tune import Callback

from trainables.errors import PlaceError
from tune.nodes.process_start import ProcessStart
from tune.search.not_pickled import NotPickled
from tune.search.trial_queue import TrialQueue
from tune.session.session_context import SessionContext
from tune.session.watchdog import Watchdog, classify_ray_error
from tune.study.budget import BUDGETS
from tune.study.trial_record import ENDED, RungDecision, TrialRecord, run_label

if TYPE_CHECKING:
    from ray.tune import Checkpoint
    from ray.tune.experiment import Trial

GRACE_S = 6.0
"""Seconds that running trials have to finish their epoch after Ctrl-C; see `tune.nodes.signals.LIMIT_S`."""

_COUNT_NODES_S = 30.0
_RAYS_METRICS = ("node_ip",)
"""What the journal keeps of what Ray itself adds to a result."""


class StudyCallback(NotPickled, Callback):
    """Journals each of Ray's events, and watches over the processes behind them."""

    def __init__(
        self,
        session: SessionContext,
        queue: TrialQueue,
        watchdog: Watchdog,
        on_nodes: Callable[[int], None] = lambda nodes: None,
    ) -> None:
        """Takes the session, its queue, what ends hung trials, and who is told of the number of nodes."""
        super().__init__()
        self._spec = session.study.spec
        self._journal = session.journal
        self._live = session.live
        self._queue = queue
        self._watchdog = watchdog
        self._on_nodes = on_nodes
        self._start = ProcessStart(self._spec, session.live.line)
        self._stopping_since: float | None = None
        self._announced = ""
        self._counted = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A process has taken up a trial."""
        self._start.note_started()
        self._watchdog.note_start(trial)
        self._journal.append("started", trial=trial.config["trial"])

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has reported an epoch."""
        number, epoch = trial.config["trial"], result["epoch"]
        self._watchdog.note_report(trial)
        for reason in result.get("unreadable", ()):
            self._journal.append("fault", trial=number, kind="checkpoint", reason=reason, retried=True)
        if result.get("unreadable"):
            went_on = f"epoch {epoch - 1}" if epoch > 1 else "its beginning"
            self._live.line(f"{run_label(number)} goes on from {went_on}")
        self._journal.append("epoch", trial=number, epoch=epoch, metrics=journalled_metrics(result))
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
        self._show_interrupted(self._journal.state.run(trial.config["trial"]))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial broke off, and the queue has decided whether it starts again."""
        if trial.config.get("trial") is not None:
            self._show_interrupted(self._journal.state.run(trial.config["trial"]))

    def _show_interrupted(self, trial: TrialRecord) -> None:
        """Says that a trial goes on with the next session, of which the journal has no event."""
        starts_again = trial.state == "waiting" and trial.faults and not self._queue.stopping
        if trial.state not in ENDED and not starts_again:
            self._live.event(f"{run_label(trial.number)} interrupted after epoch {max(trial.epochs, default=0)}")

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ray's loop has turned once more."""
        now = time.monotonic()
        self._queue.take_requests()
        if self._queue.stopping != self._announced:  # also a Ctrl-C after a budget was spent
            self._announced, self._stopping_since = self._queue.stopping, now
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


def journalled_metrics(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the journal keeps of an epoch's result: what the trial itself calls its metrics, and its node."""
    return {name: result[name] for name in (*result["metrics"], *_RAYS_METRICS) if name in result}


def _error(trial: Trial) -> BaseException | None:
    """Returns what Ray kept of a trial's last error; `get_pickled_error` looks where it is copied to only later."""
    try:
        error = ray.cloudpickle.loads(Path(trial.pickled_error_file or "").read_bytes())
    except Exception:  # whatever reading or unpickling a foreign exception raises
        return None
    return error if isinstance(error, BaseException) else None
