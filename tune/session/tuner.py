"""Assembles the Ray Tuner for a queue of trials, and lets it work through them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from typing import Any

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

from trainables.training.classifier import Classifier
from tune.errors import disk_full
from tune.nodes.autoscaler import find_capacity
from tune.nodes.capacity import UNLIMITED_TRIALS, fits_now, trial_bundles, trials_at_once
from tune.search.not_pickled import NotPickled
from tune.search.scheduler import AshaScheduler, Rungs
from tune.search.trial_queue import TrialQueue
from tune.session.ray_actors import adapt_tune_controller
from tune.session.session_context import SessionContext, interruptible
from tune.session.tune_callback import StudyCallback
from tune.session.watchdog import Watchdog
from tune.study.bucket_study import CHECKPOINTS_FOLDER
from tune.study.trial_record import run_name

_UNLIMITED = 10**9
"""Ray trials of a session: a trial that starts again is a new one for Ray; the queue knows when to end."""


def run_tuner(
    session: SessionContext,
    queue: TrialQueue,
    rungs: Rungs,
    spent: Callable[[], str],
    ends: Callable[[int, Mapping[str, Any]], bool] = lambda number, result: False,
) -> None:
    """Lets Ray Tune work through the queue.

    Args:
        session: what the session works with.
        queue: hands out the trials.
        rungs: decide which are stopped early.
        spent: names the budget that is used up, "" while none is.
        ends: says of a trial's epoch, whose result it is given, that the trial trains no further one.

    Raises:
        DiskFull: the driver itself can no longer write.
    """
    study, spec, state = session.study, session.study.spec, session.journal.state
    resources = spec.resources
    adapt_tune_controller()
    system, path = study.place.filesystem_and_path
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

    callback = StudyCallback(session, queue, Watchdog(spec, state, session.epoch_s), on_nodes)
    tuner = Tuner(
        with_resources(Classifier, PlacementGroupFactory(trial_bundles(resources))),
        param_space={"study": session.trial_context.model_dump()},
        tune_config=TuneConfig(
            search_alg=limiter,  # Ray reads from it how many trials may be pending: all, for the autoscaler to see
            scheduler=AshaScheduler(
                rungs,
                spec.objective,
                callback.on_rung,
                lambda: queue.stopping,
                callback.on_fault,
                lambda number, result: state.run(number).dropped or ends(number, result),
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
            progress_reporter=CLIReporter(),  # in a notebook Ray (2.60) would clear the cell
            verbose=0,
        ),
    )
    try:
        with interruptible(queue):
            tuner.fit()
    except Exception as error:  # Ray turns what a callback raises into a TuneError that holds its traceback
        if queue.stopping == "disk_full":
            return  # Ray could not write its own files either
        if os.strerror(errno.ENOSPC) in str(error) or os.strerror(errno.EDQUOT) in str(error):
            raise disk_full(study.name) from None
        raise


def ray_trial_name(trial: Any) -> str:
    """Names a Ray trial and its folder after our number, and after how often it has been started again."""
    return run_name(trial.config["trial"], trial.config["attempt"])


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
