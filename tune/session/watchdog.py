"""Names what Ray reports of a trial that broke off, and ends trials that hang. Decides nothing about retries."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2.api.exceptions import PreemptionError

from trainables.errors import PlaceError
from trainables.places import is_bucket
from trainables.training.fault_kinds import TrialFault, classify_error
from tune.study.spec import StudySpec
from tune.study.study_state import StudyState

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

_WATCH_EVERY_S = 1.0
_STOOD_STILL_S = 10.0
"""Between two looks, which come many times a second: so long the driver itself was blocked, and heard no report."""
_PLACE_ERROR = f"{PlaceError.__module__}.{PlaceError.__qualname__}"


def classify_ray_error(error: BaseException | None) -> TrialFault:
    """Returns what an error that Ray kept for a trial means; None when it could not keep any."""
    if isinstance(error, RayTaskError):
        return classify_error(error.cause) if error.cause is not None else classify_error(error)
    text = str(error)
    if "low on memory" in text:
        return TrialFault("host_memory", "the machine ran out of memory and Ray ended the trial's process")
    if isinstance(error, RayActorError) and _is_node_loss(error, text):
        return TrialFault("preempted", "its machine was lost")
    if isinstance(error, RayActorError) and error.actor_init_failed:
        raised = [line.strip() for line in text.splitlines() if line.strip()][-1]  # Ray keeps no more of the error
        if raised.startswith(_PLACE_ERROR):
            return TrialFault("storage", raised.removeprefix(f"{_PLACE_ERROR}: "))
        return TrialFault("exception", raised[:300])
    return TrialFault("process_died", "its process died")


def classify_workers_error(error: BaseException) -> TrialFault:
    """Returns what an error of Ray Train means: what became of the worker that broke off first, not of the others."""
    if isinstance(error, PreemptionError):
        return TrialFault("preempted", "a worker's machine was lost")
    if isinstance(error, ControllerError):
        error = error.controller_failure
    if not isinstance(error, WorkerGroupError):
        return classify_ray_error(error) if isinstance(error, RayError) else classify_error(error)
    faults = [_classify_worker_failure(failure) for failure in error.worker_failures.values()]
    return next((fault for fault in faults if fault.kind != "process_died"), faults[0])


def _classify_worker_failure(error: BaseException) -> TrialFault:
    error = getattr(error, "health_check_failure", error)
    error = getattr(error, "_base_exc", error)  # Ray 2.60 wraps what a worker raised, to keep its traceback
    return classify_ray_error(error) if isinstance(error, RayError) else classify_error(error)


def _is_node_loss(error: RayActorError, text: str) -> bool:
    return error.preempted or text.startswith("NodeDiedError") or "node has died" in text or "node is dead" in text


def kill_trial_process(trial: Trial) -> bool:
    """Ends the process of a Ray trial; False while it has none."""
    actor = trial.temporary_state.ray_actor
    if actor is not None:
        ray.kill(actor)
    return actor is not None


class Watchdog:
    """Ends the process of a trial that has reported nothing for many times its usual epoch."""

    def __init__(
        self,
        spec: StudySpec,
        state: StudyState,
        expected_epoch_s: float | None,
        kill: Callable[[Any], bool] = kill_trial_process,
    ) -> None:
        """Takes the study, its state, the time that calibration found for an epoch, and what ends a trial."""
        self._kill = kill
        self._factor, self._floor_s = spec.faults.silence_factor, spec.faults.silence_min_s
        self._first_limit_s = spec.faults.first_epoch_limit_s
        self._fetches = is_bucket(spec.data)  # before a process's first epoch, however long others' epochs are
        self._state = state
        self._expected_epoch_s = expected_epoch_s
        self._last_report: dict[str, float] = {}
        self._without_report: set[str] = set()
        self._last_check, self._last_look = 0.0, math.inf
        self._hung: dict[str, TrialFault] = {}

    def note_start(self, trial: Trial) -> None:
        """Notes that a trial began, or goes on in another process."""
        self._last_report[trial.trial_id] = time.monotonic()
        self._without_report.add(trial.trial_id)

    def note_report(self, trial: Trial) -> None:
        """Notes that a trial reported."""
        self._last_report[trial.trial_id] = time.monotonic()
        self._without_report.discard(trial.trial_id)

    def forget(self, trial: Trial) -> TrialFault | None:
        """Forgets a trial; returns its fault if it was ended here."""
        self._last_report.pop(trial.trial_id, None)
        self._without_report.discard(trial.trial_id)
        return self._hung.pop(trial.trial_id, None)

    def check(self, trials: Iterable[Trial]) -> None:
        """Ends what hangs; Ray then reports that the process died."""
        now = time.monotonic()
        still_s, self._last_look = now - self._last_look, now
        if still_s > _STOOD_STILL_S:  # nobody listened meanwhile: storage blocked the driver, or it was stopped
            self._last_report = {trial: at + still_s for trial, at in self._last_report.items()}
        if now - self._last_check < _WATCH_EVERY_S:
            return
        self._last_check = now
        for trial in trials:
            since = self._last_report.get(trial.trial_id)
            if since is None or "trial" not in trial.config:
                continue
            fresh = trial.trial_id in self._without_report
            if now - since < self.limit_s(int(trial.config["trial"]), fresh=fresh) or not self._kill(trial):
                continue
            self._hung[trial.trial_id] = TrialFault("hung", f"no report for {now - since:.0f} s, its process was ended")
            self._last_report.pop(trial.trial_id)

    def kill_all(self, trials: Iterable[Trial]) -> None:
        """Ends the processes of all trials that still run."""
        for trial in trials:
            if trial.trial_id in self._last_report and self._kill(trial):
                self._last_report.pop(trial.trial_id)

    def limit_s(self, number: int, *, fresh: bool = False) -> float:
        """Returns the silence that a trial is allowed; `fresh`: its process has not reported yet."""
        own = [metrics["epoch_s"] for metrics in self._state.run(number).epochs.values()]
        if self._fetches and (fresh or not own):
            return self._first_limit_s
        others = (m["epoch_s"] for t in self._state.trials.values() for m in t.epochs.values())
        usual = statistics.median(own) if own else max(others, default=self._expected_epoch_s)
        return self._first_limit_s if usual is None else max(self._floor_s, self._factor * usual)
