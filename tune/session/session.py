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
    CLIReporter,
    FailureConfig,
    PlacementGroupFactory,
    RunConfig,
    Stopper,
    TuneConfig,
    Tuner,
    with_resources,
)
from ray.tune.search import ConcurrencyLimiter

from trainables.config import TrialContext, chooser_of
from trainables.dataset.reader import Dataset
from trainables.training.classifier import Classifier
from tune.errors import ClusterError, disk_full
from tune.nodes.autoscaler import find_room
from tune.nodes.capacity import MOST, fits_now, trials_at_once
from tune.nodes.process_start import ProcessStart
from tune.nodes.signals import handled
from tune.report.tensorboard import TrialLogs
from tune.search.not_pickled import Unsaved
from tune.search.optuna_searcher import OptunaSearcher
from tune.search.optuna_study import rebuild_optuna_study
from tune.search.scheduler import Asha, Rungs
from tune.search.trial_queue import ConfirmationQueue, TrialQueue
from tune.session.live_display import LiveStudy
from tune.session.ray_actors import install
from tune.session.tune_callback import Recorder
from tune.session.watchdog import Watchdog
from tune.study.bucket_study import CHECKPOINTS_FOLDER
from tune.study.budget import BUDGETS, fired
from tune.study.journal import Ledger
from tune.study.provenance import provenance
from tune.study.spec import Resources
from tune.study.studies import Study
from tune.study.study_state import run_name

_UNLIMITED = 10**9
"""Ray trials of a session: a trial that starts again is a new one for Ray; the queue knows when to end."""


@dataclass(frozen=True)
class Desk:
    """What a session works with.

    Attributes:
        study: the study.
        dataset: its data set.
        ledger: its journal.
        live: shows what happens.
        context: what every trial is told.
        at_once: trials that run at the same time.
        epoch_s: the time that calibration found for an epoch, None without one.
    """

    study: Study
    dataset: Dataset
    ledger: Ledger
    live: LiveStudy
    context: TrialContext
    at_once: int
    epoch_s: float | None = None


def search(desk: Desk) -> str:
    """Runs the search from where the journal stands; unfinished trials go on from their latest checkpoints.

    Returns:
        What ended it: `finished`, `interrupted`, or the budget that is spent.

    Raises:
        DiskFull: no space is left for the study.
    """
    study, record, spec = desk.study, desk.ledger.record, desk.study.spec
    before_s, started = record.search_s, _begin(desk, "search")
    for trial in record.trials.values():
        if trial.state == "cut":  # by a budget that has been raised since
            desk.ledger.append("reopened", trial=trial.number)
    optuna_study = rebuild_optuna_study(study.optuna_file, spec, record.trials.values(), record.began)
    queue = OptunaSearcher(optuna_study, spec, desk.ledger)
    queue.end_settled()
    past = [decision for trial in record.trials.values() for decision in trial.rungs]
    rungs = Rungs(spec.asha.rungs, spec.asha.reduction_factor, spec.mode, past)

    def spent() -> str:
        # However small the budget, a study ends with an export: one trial gets as far as its first score.
        if not any(trial.epochs or trial.state == "failed" for trial in record.trials.values()):
            return ""
        return fired(spec, record, time.time(), before_s + time.monotonic() - started)

    _fit(desk, queue, rungs, spent)
    if queue.stopping in BUDGETS:
        queue.end_unfinished(f"the study ended: {BUDGETS[queue.stopping]}")
    return _end(desk, started, queue.stopping or "finished")


def confirm(desk: Desk, numbers: Sequence[int], refit_epochs: int | None = None) -> str:
    """Trains configurations of the search again, each to its end.

    Args:
        desk: what the session works with.
        numbers: of the confirmations, see `SEED_STRIDE`; those that have ended are left as they are.
        refit_epochs: train so many epochs, on all training images; None for trials like any other.

    Returns:
        `finished`, `interrupted` or `failures`.

    Raises:
        DiskFull: no space is left for the study.
    """
    started = _begin(desk, "confirm")
    queue = ConfirmationQueue(desk.study.spec, desk.ledger, numbers, refit_epochs)
    queue.end_settled()
    if desk.study.spec.confirm.workers > 1:
        _fit_on_workers(desk, queue)
    else:
        _fit(desk, queue, Rungs([], desk.study.spec.asha.reduction_factor, desk.study.spec.mode), lambda: "")
    return _end(desk, started, queue.stopping or "finished")


def _begin(desk: Desk, phase: str) -> float:
    spec = desk.study.spec
    workers = spec.confirm.workers if phase == "confirm" else 1
    desk.ledger.append(
        "session",
        number=desk.ledger.record.sessions + 1,
        phase=phase,
        pid=os.getpid(),
        at_once=desk.at_once if workers == 1 else 1,
        fingerprint=desk.dataset.info.fingerprint,
        nodes=sum(node["Alive"] for node in ray.nodes()),
        gpus_per_trial=workers * spec.resources.gpus_per_trial,
        node_hour_price=spec.budget.node_hour_price or 0.0,
        provenance=provenance(desk.study.directory, ray.cluster_resources()),
    )
    return time.monotonic()


def _end(desk: Desk, started: float, ended_by: str) -> str:
    finished = ended_by not in ("interrupted", "disk_full")
    search_s = round(time.monotonic() - started, 3)
    desk.ledger.append("session_end", search_s=search_s, finished=finished, ended_by=ended_by)
    if ended_by == "disk_full":
        raise disk_full(desk.study.name)
    return ended_by


def _fit(desk: Desk, queue: TrialQueue, rungs: Rungs, spent: Callable[[], str]) -> None:
    """Lets Ray Tune work through the queue.

    Raises:
        DiskFull: the driver itself can no longer write.
    """
    if queue.idle:
        return
    study, spec, record, wanted = desk.study, desk.study.spec, desk.ledger.record, desk.study.spec.resources
    install()
    system, path = study.place.opened
    watchdog = Watchdog(spec, record, desk.epoch_s)
    limiter = ConcurrencyLimiter(queue, max_concurrent=desk.at_once)

    counted = 0

    def on_nodes(nodes: int) -> None:
        """Uses nodes that have joined since the plan; what the autoscaler may start is counted in from the first."""
        nonlocal counted
        if nodes == counted:
            return
        counted, room = nodes, find_room()
        if fits_now(wanted, room):
            limiter.max_concurrent = trials_at_once(wanted, room, wanted.max_concurrent or MOST)

    with TrialLogs(study.tensorboard, spec.objective, spec.mode, chooser_of(spec.objective)) as logs, desk.live:
        logs.experiment(spec.space, spec.fixed)
        start = ProcessStart(spec, desk.live.line)
        recorder = Recorder(
            spec, desk.dataset.info.classes, desk.ledger, queue, logs, desk.live, watchdog, on_nodes, start
        )
        tuner = Tuner(
            with_resources(Classifier, _placement(wanted)),
            param_space={"study": desk.context.model_dump()},
            tune_config=TuneConfig(
                search_alg=limiter,  # Ray reads from it how many trials may be pending: all, for the autoscaler to see
                scheduler=Asha(rungs, spec.objective, recorder.on_rung, lambda: queue.stopping, recorder.on_fault),
                metric=spec.objective,
                mode=spec.mode,
                num_samples=_UNLIMITED,
                reuse_actors=wanted.reuse_processes,
                trial_dirname_creator=trial_name,
                trial_name_creator=trial_name,
            ),
            run_config=RunConfig(
                name=f"session-{record.sessions:03d}",
                storage_path=f"{path}/{CHECKPOINTS_FOLDER}",
                storage_filesystem=system if study.place.remote else None,
                stop=_EndOfSession(queue, spent),
                callbacks=[recorder],
                failure_config=FailureConfig(max_failures=0),  # the queue starts faulted trials again
                checkpoint_config=CheckpointConfig(
                    num_to_keep=1,  # and the latest: Ray counts that one apart
                    checkpoint_score_attribute="checkpoint_score",
                    checkpoint_score_order="max",
                    checkpoint_at_end=False,
                ),
                progress_reporter=CLIReporter(),  # in a notebook Ray (2.60) would clear the cell
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


def _fit_on_workers(desk: Desk, queue: TrialQueue) -> None:
    """Lets Ray Train work through the queue, one run after another, each on all its workers."""
    from tune.session.distributed import Fits, end_fit

    if queue.idle:
        return
    study, spec, record = desk.study, desk.study.spec, desk.ledger.record
    watchdog = Watchdog(spec, record, desk.epoch_s, end_fit)
    with TrialLogs(study.tensorboard, spec.objective, spec.mode, chooser_of(spec.objective)) as logs, desk.live:
        recorder = Recorder(
            spec,
            desk.dataset.info.classes,
            desk.ledger,
            queue,
            logs,
            desk.live,
            watchdog,
            lambda nodes: None,
            ProcessStart(spec, desk.live.line),
        )
        folder = study.place.child(f"{CHECKPOINTS_FOLDER}/session-{record.sessions:03d}")
        with _interruptible(queue):
            Fits(spec, desk.context, folder, queue, recorder, watchdog).run()
        _check_processes_started(queue)


def _check_processes_started(queue: TrialQueue) -> None:
    if queue.no_process:
        raise ClusterError(queue.no_process)


def trial_name(trial: Any) -> str:
    """Names a Ray trial and its folder after our number, and after how often it has been started again."""
    return run_name(trial.config["trial"], trial.config["attempt"])


def _placement(wanted: Resources) -> PlacementGroupFactory:
    trial = {"CPU": float(wanted.cpus_per_trial)}
    if wanted.gpus_per_trial:
        trial["GPU"] = float(wanted.gpus_per_trial)
    return PlacementGroupFactory([trial, *[{"CPU": 1.0}] * wanted.feed_workers])


class _EndOfSession(Unsaved, Stopper):
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

    with handled(on_signal):
        yield
