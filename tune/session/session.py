"""One session of a study: assembles the Ray Tuner for a search or its confirmation, and runs it to its end."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.tune import (
    CheckpointConfig,
    FailureConfig,
    PlacementGroupFactory,
    RunConfig,
    Stopper,
    TuneConfig,
    Tuner,
    with_resources,
)
from ray.tune.search import ConcurrencyLimiter

from trainables.config import TrialContext, validation_metric_of
from trainables.dataset.reader import Dataset
from trainables.training.classifier import Classifier
from tune.errors import ClusterError, disk_full
from tune.nodes.autoscaler import find_capacity
from tune.nodes.capacity import UNLIMITED_TRIALS, fits_now, trials_at_once
from tune.nodes.process_start import ProcessStart
from tune.nodes.signals import handle_signals
from tune.report.tensorboard import TrialLogs
from tune.search.not_pickled import NotPickled
from tune.search.optuna_searcher import OptunaSearcher
from tune.search.optuna_study import rebuild_optuna_study
from tune.search.scheduler import AshaScheduler, Rungs
from tune.search.trial_queue import ConfirmationQueue, TrialQueue
from tune.session.live_display import LiveStudy
from tune.session.ray_actors import use_forgiving_actor_manager
from tune.session.tune_callback import StudyCallback
from tune.session.watchdog import Watchdog
from tune.study.bucket_study import CHECKPOINTS_FOLDER
from tune.study.budget import BUDGETS, exhausted_budget
from tune.study.journal import Journal
from tune.study.provenance import provenance
from tune.study.spec_sections import Resources
from tune.study.studies import Study
from tune.study.trial_record import run_name

_UNLIMITED = 10**9
"""Ray trials of a session: a trial that starts again is a new one for Ray; the queue knows when to end."""


@dataclass(frozen=True)
class SessionContext:
    """What a session works with.

    Attributes:
        study: the study.
        dataset: its data set.
        journal: its journal.
        live: shows what happens.
        context: what every trial is told.
        at_once: trials that run at the same time.
        epoch_s: the time that calibration found for an epoch, None without one.
    """

    study: Study
    dataset: Dataset
    journal: Journal
    live: LiveStudy
    context: TrialContext
    at_once: int
    epoch_s: float | None = None


def search(session: SessionContext) -> str:
    """Runs the search from where the journal stands; unfinished trials go on from their latest checkpoints.

    Returns:
        What ended it: `finished`, `interrupted`, or the budget that is spent.

    Raises:
        DiskFull: no space is left for the study.
    """
    study, state, spec = session.study, session.journal.state, session.study.spec
    before_s, started = state.search_s, _open_session(session, "search")
    for trial in state.trials.values():
        if trial.state == "cut":  # by a budget that has been raised since
            session.journal.append("reopened", trial=trial.number)
    optuna_study = rebuild_optuna_study(study.optuna_file, spec, state.trials.values(), state.began)
    queue = OptunaSearcher(optuna_study, spec, session.journal)
    queue.end_settled_trials()
    past = [decision for trial in state.trials.values() for decision in trial.rungs]
    rungs = Rungs(spec.asha.rungs, spec.asha.reduction_factor, spec.mode, past)

    def spent() -> str:
        # However small the budget, a study ends with an export: one trial gets as far as its first score.
        if not any(trial.epochs or trial.state == "failed" for trial in state.trials.values()):
            return ""
        return exhausted_budget(spec, state, time.time(), before_s + time.monotonic() - started)

    _run_tune(session, queue, rungs, spent)
    if queue.stopping in BUDGETS:
        queue.end_unfinished_trials(f"the study ended: {BUDGETS[queue.stopping]}")
    return _close_session(session, started, queue.stopping or "finished")


def confirm(session: SessionContext, numbers: Sequence[int], refit_epochs: int | None = None) -> str:
    """Trains configurations of the search again, each to its end.

    Args:
        session: what the session works with.
        numbers: of the confirmations, see `SEED_STRIDE`; those that have ended are left as they are.
        refit_epochs: train so many epochs, on all training images; None for trials like any other.

    Returns:
        `finished`, `interrupted` or `failures`.

    Raises:
        DiskFull: no space is left for the study.
    """
    started = _open_session(session, "confirm")
    queue = ConfirmationQueue(session.study.spec, session.journal, numbers, refit_epochs)
    queue.end_settled_trials()
    if session.study.spec.confirm.workers > 1:
        _run_distributed(session, queue)
    else:
        _run_tune(
            session, queue, Rungs([], session.study.spec.asha.reduction_factor, session.study.spec.mode), lambda: ""
        )
    return _close_session(session, started, queue.stopping or "finished")


def _open_session(session: SessionContext, phase: str) -> float:
    spec = session.study.spec
    workers = spec.confirm.workers if phase == "confirm" else 1
    session.journal.append(
        "session",
        number=session.journal.state.sessions + 1,
        phase=phase,
        pid=os.getpid(),
        at_once=session.at_once if workers == 1 else 1,
        fingerprint=session.dataset.info.fingerprint,
        nodes=sum(node["Alive"] for node in ray.nodes()),
        gpus_per_trial=workers * spec.resources.gpus_per_trial,
        node_hour_price=spec.budget.node_hour_price or 0.0,
        provenance=provenance(session.study.directory, ray.cluster_resources()),
    )
    return time.monotonic()


def _close_session(session: SessionContext, started: float, ended_by: str) -> str:
    finished = ended_by not in ("interrupted", "disk_full")
    search_s = round(time.monotonic() - started, 3)
    session.journal.append("session_end", search_s=search_s, finished=finished, ended_by=ended_by)
    if ended_by == "disk_full":
        raise disk_full(session.study.name)
    return ended_by


def _run_tune(session: SessionContext, queue: TrialQueue, rungs: Rungs, spent: Callable[[], str]) -> None:
    """Lets Ray Tune work through the queue.

    Raises:
        DiskFull: the driver itself can no longer write.
    """
    if queue.idle:
        return
    study, spec, state, resources = (
        session.study,
        session.study.spec,
        session.journal.state,
        session.study.spec.resources,
    )
    use_forgiving_actor_manager()
    system, path = study.place.filesystem_and_path
    watchdog = Watchdog(spec, state, session.epoch_s)
    limiter = ConcurrencyLimiter(queue, max_concurrent=session.at_once)

    counted = 0

    def on_nodes(nodes: int) -> None:
        """Uses nodes that have joined since the plan; what the autoscaler may start is counted in from the first."""
        nonlocal counted
        if nodes == counted:
            return
        counted, capacity = nodes, find_capacity()
        if fits_now(resources, capacity):
            limiter.max_concurrent = trials_at_once(resources, capacity, resources.max_concurrent or UNLIMITED_TRIALS)

    with (
        TrialLogs(study.tensorboard, spec.objective, spec.mode, validation_metric_of(spec.objective)) as logs,
        session.live,
    ):
        logs.experiment(spec.space, spec.fixed)
        start = ProcessStart(spec, session.live.line)
        callback = StudyCallback(
            spec, session.dataset.info.classes, session.journal, queue, logs, session.live, watchdog, on_nodes, start
        )
        tuner = Tuner(
            with_resources(Classifier, _placement(resources)),
            param_space={"study": session.context.model_dump()},
            tune_config=TuneConfig(
                search_alg=limiter,  # Ray reads from it how many trials may be pending: all, for the autoscaler to see
                scheduler=AshaScheduler(
                    rungs, spec.objective, callback.on_rung, lambda: queue.stopping, callback.on_fault
                ),
                metric=spec.objective,
                mode=spec.mode,
                num_samples=_UNLIMITED,
                reuse_actors=resources.reuse_processes,
                trial_dirname_creator=ray_trial_name,
                trial_name_creator=ray_trial_name,
            ),
            run_config=RunConfig(
                name=f"session-{state.sessions:03d}",
                storage_path=f"{path}/{CHECKPOINTS_FOLDER}",
                storage_filesystem=system if study.place.remote else None,
                stop=_SessionStopper(queue, spent),
                callbacks=[callback],
                failure_config=FailureConfig(max_failures=0),  # the queue starts faulted trials again
                checkpoint_config=CheckpointConfig(
                    num_to_keep=1,  # and the latest: Ray counts that one apart
                    checkpoint_score_attribute="checkpoint_score",
                    checkpoint_score_order="max",
                    checkpoint_at_end=False,
                ),
                verbose=0,
            ),
        )
        try:
            with _interruptible(queue):
                tuner.fit()
            _check_processes_started(queue)
        except Exception as error:  # Ray turns what a callback raises into a TuneError that holds its traceback
            if queue.stopping == "disk_full":
                return  # Ray could not write its own files either
            if os.strerror(errno.ENOSPC) in str(error) or os.strerror(errno.EDQUOT) in str(error):
                raise disk_full(study.name) from None
            raise


def _run_distributed(session: SessionContext, queue: TrialQueue) -> None:
    """Lets Ray Train work through the queue, one run after another, each on all its workers."""
    from tune.session.distributed import DistributedRunner, end_run

    if queue.idle:
        return
    study, spec, state = session.study, session.study.spec, session.journal.state
    watchdog = Watchdog(spec, state, session.epoch_s, end_run)
    with (
        TrialLogs(study.tensorboard, spec.objective, spec.mode, validation_metric_of(spec.objective)) as logs,
        session.live,
    ):
        callback = StudyCallback(
            spec,
            session.dataset.info.classes,
            session.journal,
            queue,
            logs,
            session.live,
            watchdog,
            lambda nodes: None,
            ProcessStart(spec, session.live.line),
        )
        folder = study.place.child(f"{CHECKPOINTS_FOLDER}/session-{state.sessions:03d}")
        with _interruptible(queue):
            DistributedRunner(spec, session.context, folder, queue, callback, watchdog).run()
        _check_processes_started(queue)


def _check_processes_started(queue: TrialQueue) -> None:
    if queue.no_process:
        raise ClusterError(queue.no_process)


def ray_trial_name(trial: Any) -> str:
    """Names a Ray trial and its folder after our number, and after how often it has been started again."""
    return run_name(trial.config["trial"], trial.config["attempt"])


def _placement(resources: Resources) -> PlacementGroupFactory:
    trial = {"CPU": float(resources.cpus_per_trial)}
    if resources.gpus_per_trial:
        trial["GPU"] = float(resources.gpus_per_trial)
    return PlacementGroupFactory([trial, *[{"CPU": 1.0}] * resources.feed_workers])


class _SessionStopper(NotPickled, Stopper):
    """Notices that a budget is spent, and ends the session when no trial is running any more.

    Running trials are stopped by the scheduler at the end of their epoch, so that what they did is saved.
    """

    def __init__(self, queue: TrialQueue, spent: Callable[[], str]) -> None:
        self._queue = queue
        self._spent = spent

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if not self._queue.stopping:
            self._queue.stopping = self._spent()
        return bool(self._queue.stopping) and not self._queue.running


@contextmanager
def _interruptible(queue: TrialQueue) -> Iterator[None]:
    """Turns the first Ctrl-C or SIGTERM into a graceful stop; a second one ends at once."""

    def on_signal(number: int, frame: Any) -> None:
        if queue.stopping == "interrupted":
            raise KeyboardInterrupt
        queue.stopping = "interrupted"  # no printing here: the main thread may be in the middle of it

    with handle_signals(on_signal):
        yield
