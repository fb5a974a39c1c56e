"""Listens to the journal: writes TensorBoard's logs and the terminal's lines for what happens to trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from trainables.config import validation_metric_of
from tune.report.tensorboard import TrialLogs
from tune.search.trial_queue import TrialQueue
from tune.session.session_context import SessionContext
from tune.session.trial_table import short_parameters
from tune.study.trial_record import TrialRecord, run_label


class TrialEvents:
    """Passes the journal's events about trials on to TensorBoard and to the terminal."""

    def __init__(self, session: SessionContext, queue: TrialQueue, logs: TrialLogs) -> None:
        """Takes the session, the queue that says whether it is stopping, and TensorBoard's open logs."""
        self._spec = session.study.spec
        self._state = session.journal.state
        self._classes = session.dataset.info.classes
        self._live = session.live
        self._queue = queue
        self._logs = logs

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Takes an event that was journalled."""
        match event["event"]:
            case "started":
                trial = self._state.run(event["trial"])
                self._logs.start(trial.number, trial.values)
                self._live.event(f"{run_label(trial.number)} started: {short_parameters(trial.values)}")
            case "epoch":
                self._epoch(event["trial"], event["epoch"], event["metrics"])
            case "enqueued":
                self._live.line(f"enqueued, to be tried next: {short_parameters(event['values'])}")
            case "dropped":
                self._live.line(f"{run_label(event['trial'])} was dropped and ends with its epoch")
            case "fault":
                self._fault(self._state.run(event["trial"]), event)
            case "repeat":
                number = run_label(event["trial"])
                self._live.line(f"{number} is not trained: it has the configuration of trial {event['of']}")
            case "end":
                self._end(self._state.run(event["trial"]))

    def _epoch(self, number: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        self._logs.epoch(number, epoch, metrics, np.array(metrics["selection_confusion"]), self._classes)
        self._live.event(
            f"{run_label(number)} epoch {epoch}/{self._spec.asha.max_epochs}: "
            f"{self._spec.objective} {metrics[self._spec.objective]:.4f}, "
            f"training loss {metrics['training_loss']:.3f}, {metrics['images_per_s']:.0f} images/s"
        )

    def _fault(self, trial: TrialRecord, event: Mapping[str, Any]) -> None:
        if event["kind"] == "checkpoint":
            self._live.line(f"{run_label(trial.number)}: {event['reason']}")
        elif event["retried"] and not self._queue.stopping and event["kind"] != "disk_full":
            kind = event["kind"].replace("_", " ")
            self._live.line(f"{run_label(trial.number)} starts again ({kind}): {event['reason']}")

    def _end(self, trial: TrialRecord) -> None:
        self._logs.end(trial.number, "FAILURE" if trial.state == "failed" else "SUCCESS")
        say = self._live.line if trial.state == "failed" else self._live.event
        say(f"{run_label(trial.number)} {trial.state}: {trial.reason}")


@contextmanager
def shown_trials(session: SessionContext, queue: TrialQueue) -> Iterator[None]:
    """Shows what is journalled in the block, in the live table, as lines, and in TensorBoard's logs."""
    study, spec, listeners = session.study, session.study.spec, session.journal.listeners
    chooser = validation_metric_of(spec.objective)
    with TrialLogs(study.tensorboard, spec.objective, spec.mode, chooser) as logs, session.live:
        logs.experiment(spec.space, spec.fixed)
        listener = TrialEvents(session, queue, logs)
        listeners.append(listener)
        try:
            yield
        finally:
            listeners.remove(listener)
