"""Names what Ray reports of a trial that broke off, and ends trials that hang. Decides nothing about retries."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import ray
from ray.exceptions import RayActorError, RayTaskError

from trainables.faults import TrialFault, named
from tune.record import StudyRecord
from tune.spec import StudySpec

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

_WATCH_EVERY_S = 1.0


def fault_of(error: BaseException | None) -> TrialFault:
    """Returns what an error that Ray kept for a trial means; None when it could not keep any."""
    if isinstance(error, RayTaskError):
        return named(error.cause) if error.cause is not None else named(error)
    text = str(error)
    if "low on memory" in text:
        return TrialFault("host_memory", "the machine ran out of memory and Ray ended the trial's process")
    if isinstance(error, RayActorError) and _lost_its_node(error, text):
        return TrialFault("preempted", "its machine was lost")
    if isinstance(error, RayActorError) and error.actor_init_failed:
        return TrialFault("exception", [line.strip() for line in text.splitlines() if line.strip()][-1][:300])
    return TrialFault("process_died", "its process died")


def _lost_its_node(error: RayActorError, text: str) -> bool:
    return error.preempted or text.startswith("NodeDiedError") or "node has died" in text or "node is dead" in text


class Watchdog:
    """Ends the process of a trial that has reported nothing for many times its usual epoch."""

    def __init__(self, spec: StudySpec, record: StudyRecord, expected_epoch_s: float | None) -> None:
        """Takes the study, its record, and the time that calibration found for an epoch."""
        self._factor, self._floor_s = spec.faults.silence_factor, spec.faults.silence_min_s
        self._record = record
        self._expected_epoch_s = expected_epoch_s
        self._heard: dict[str, float] = {}
        self._looked = 0.0
        self._hung: dict[str, TrialFault] = {}

    def heard(self, trial: Trial) -> None:
        """Notes that a trial began or reported."""
        self._heard[trial.trial_id] = time.monotonic()

    def gone(self, trial: Trial) -> TrialFault | None:
        """Forgets a trial; returns its fault if it was ended here."""
        self._heard.pop(trial.trial_id, None)
        return self._hung.pop(trial.trial_id, None)

    def look(self, trials: Iterable[Trial]) -> None:
        """Ends what hangs; Ray then reports that the process died."""
        now = time.monotonic()
        if now - self._looked < _WATCH_EVERY_S:
            return
        self._looked = now
        for trial in trials:
            since = self._heard.get(trial.trial_id)
            actor = trial.temporary_state.ray_actor
            limit_s = self.limit_s(int(trial.config["trial"])) if "trial" in trial.config else None
            if since is None or actor is None or limit_s is None or now - since < limit_s:
                continue
            self._hung[trial.trial_id] = TrialFault("hung", f"no report for {now - since:.0f} s, its process was ended")
            self._heard.pop(trial.trial_id)
            ray.kill(actor)

    def end_all(self, trials: Iterable[Trial]) -> None:
        """Ends the processes of all trials that still run."""
        for trial in trials:
            if trial.trial_id in self._heard and trial.temporary_state.ray_actor is not None:
                self._heard.pop(trial.trial_id)
                ray.kill(trial.temporary_state.ray_actor)

    def limit_s(self, number: int) -> float | None:
        """Returns the silence that a trial is allowed, None while nobody knows how long an epoch takes."""
        own = [metrics["epoch_s"] for metrics in self._record.run(number).epochs.values()]
        others = (m["epoch_s"] for t in self._record.trials.values() for m in t.epochs.values())
        usual = statistics.median(own) if own else max(others, default=self._expected_epoch_s)
        return None if usual is None else max(self._floor_s, self._factor * usual)
