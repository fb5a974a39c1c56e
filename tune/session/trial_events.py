"""Listens to the journal: writes TensorBoard's logs and the terminal's lines for what happens to trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from trainables.config import validation_metric_of
from tune.report.tensorboard import TrialLogs
from tune.search.trial_queue import TrialQueue
from tune.session.event_text import event_text, shown_by_table
from tune.session.session_context import SessionContext


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
        kind, text = event["event"], event_text(self._spec, self._state, event)
        match kind:
            case "started":
                self._logs.start(event["trial"], self._state.run(event["trial"]).values)
            case "epoch":
                number, epoch, metrics = event["trial"], event["epoch"], event["metrics"]
                confusion = np.array(metrics["selection_confusion"])
                chosen = self._state.run(number).best_epoch(self._spec.objective, self._spec.mode)
                self._logs.epoch(number, epoch, metrics, confusion, self._classes, counts=chosen == epoch)
            case "fault" if not self._is_told(event):
                return
            case "end":
                self._logs.end(event["trial"], "FAILURE" if event["state"] == "failed" else "SUCCESS")
            case "enqueued" | "dropped" | "fault" | "repeat":
                pass
            case _:
                return
        say = self._live.event if shown_by_table(event) else self._live.line
        say(text)

    def _is_told(self, fault: Mapping[str, Any]) -> bool:
        """Says whether a fault is a line here: what ends a trial or the study has one of its own."""
        if fault["kind"] == "checkpoint":
            return True
        return bool(fault["retried"]) and not self._queue.stopping and fault["kind"] != "disk_full"


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
