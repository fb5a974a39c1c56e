"""Trains each run of a queue on several workers: drives Ray Train and tells the callback. Knows nothing of models.

A run that breaks off is the queue's to start again, as in a search: Ray Train itself restarts nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2.api.config import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.tune.search import Searcher
from ray.util.placement_group import remove_placement_group
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.training.data_parallel import train_replica
from tune.search.trial_queue import TrialQueue
from tune.session.session_context import SessionContext, interruptible
from tune.session.train_controller import DriverNotifier, TensorFlowWorkers
from tune.session.tune_callback import StudyCallback
from tune.session.watchdog import Watchdog, classify_workers_error
from tune.study.bucket_study import CHECKPOINTS_FOLDER
from tune.study.trial_record import run_name

_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how soon a report is seen
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",  # Ray 2.60 hears of no stop while it waits; then it waits again
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process more, for what is a fault like any other here
}
_POLL_S = 0.2
_ABORT_S = 30.0


@dataclass
class DistributedRun:
    """One run on several workers; to the callback and the watchdog what Ray's own `Trial` is to them.

    Attributes:
        trial_id: its number in this session.
        config: what each worker is told.
        last_result: of its latest epoch.
        controller: Ray Train's actor, None until it has started.
        placement_groups: what Ray has reserved for it.
        started: whether its workers train.
        ended: whether it was ended from here.
    """

    trial_id: str
    config: dict[str, Any]
    last_result: dict[str, Any] = field(default_factory=dict)
    controller: Any = None
    placement_groups: list[Any] = field(default_factory=list)
    started: bool = False
    ended: bool = False


def end_run(run: DistributedRun) -> bool:
    """Ends a run's processes and gives back what was reserved; False while Ray Train is still starting."""
    if run.controller is None or run.ended:
        return run.ended
    run.ended = True
    try:
        ray.get(run.controller.abort.remote(), timeout=_ABORT_S)
    except GetTimeoutError:
        ray.kill(run.controller)
    except RayError:
        pass  # it leaves without an answer
    _give_back(run)
    return True


def _give_back(run: DistributedRun) -> None:
    """Frees what was reserved: Ray would keep it for as long as this driver lives, did the controller die."""
    for group in run.placement_groups:
        with suppress(Exception):
            remove_placement_group(group)


class _Trainer(DataParallelTrainer):
    """Ray Train without its manager of Ray Data's sets, a process more: the workers map our own."""

    def _create_default_callbacks(self) -> list[Any]:
        return [c for c in super()._create_default_callbacks() if not isinstance(c, DatasetsCallback)]


class DistributedRunner:
    """The runs of one session."""

    def __init__(self, session: SessionContext, queue: TrialQueue) -> None:
        """Takes the session and its queue."""
        state = session.journal.state
        self._spec = session.study.spec
        self._context = session.trial_context
        self._folder = session.study.place.child(f"{CHECKPOINTS_FOLDER}/session-{state.sessions:03d}")
        self._queue = queue
        self._watchdog = Watchdog(self._spec, state, session.epoch_s, end_run)
        self._callback = StudyCallback(session, queue, self._watchdog)
        self._count = 0

    def run(self) -> None:
        """Works through the queue.

        Raises:
            OSError: the driver itself can no longer write.
        """
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        messages = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})  # no worker's node takes it along
        try:
            while (config := self._queue.suggest(f"run-{self._count}")) != Searcher.FINISHED:
                if config is None:  # one that broke off waits a little before it starts again
                    self._callback.on_step_end(0, [])
                    time.sleep(_POLL_S)
                    continue
                self._train(DistributedRun(f"run-{self._count}", config), messages)
                self._count += 1
        finally:
            messages.shutdown(force=True)

    def _train(self, run: DistributedRun, messages: Queue) -> None:
        trainer = self._trainer(run, messages)
        with ThreadPoolExecutor(1, "ray-train") as thread:
            future = thread.submit(trainer.fit)
            try:
                for kind, content in _messages(run, future, messages):
                    self._handle_message(run, kind, content)
                    self._callback.on_step_end(0, [cast(Any, run)])
                    if self._queue.stopping and not run.started:
                        end_run(run)
            finally:
                while not future.done() and not end_run(run):  # only if the driver itself is breaking off
                    for kind, content in _messages(run, future, messages):
                        if kind == "controller":
                            run.controller = content[0]
                            break
        self._finish(run, future.exception())

    def _trainer(self, run: DistributedRun, messages: Queue) -> DataParallelTrainer:
        resources = self._spec.resources
        system, path = self._folder.filesystem_and_path
        each = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}
        return _Trainer(
            train_replica,
            train_loop_config={**run.config, "study": self._context.model_dump()},
            backend_config=TensorFlowWorkers(),
            scaling_config=ScalingConfig(
                num_workers=self._spec.confirm.workers,
                use_gpu=resources.gpus_per_trial > 0,
                resources_per_worker={name: amount for name, amount in each.items() if amount},
            ),
            run_config=RunConfig(  # type: ignore[arg-type]  # Ray 2.60's types are still those of its Train V1
                name=run_name(run.config["trial"], run.config["attempt"]),
                storage_path=path,
                storage_filesystem=system if self._folder.remote else None,
                failure_config=FailureConfig(max_failures=0, max_preemption_failures=0),
                checkpoint_config=CheckpointConfig(
                    num_to_keep=1,  # and the latest: Ray counts that one apart
                    checkpoint_score_attribute="checkpoint_score",
                    checkpoint_score_order="max",
                ),
                callbacks=[DriverNotifier(messages, run.trial_id)],  # type: ignore[list-item]
                logging_config=LoggingConfig(log_level="WARNING"),
            ),
        )

    def _handle_message(self, run: DistributedRun, kind: str, content: tuple[Any, ...]) -> None:
        trial = cast(Any, run)
        match kind:
            case "controller":
                run.controller = content[0]
            case "reserved":
                run.placement_groups.append(content[0])
            case "started":
                run.started = True
                self._callback.on_trial_start(0, [trial], trial)
            case "epoch":
                result, checkpoint = content
                run.last_result = result
                self._callback.on_trial_result(0, [trial], trial, result)
                self._queue.on_trial_result(run.trial_id, result)
                if checkpoint is not None:
                    self._callback.on_checkpoint(0, [trial], trial, checkpoint)
                if self._queue.stopping:
                    end_run(run)  # every epoch is saved

    def _finish(self, run: DistributedRun, error: BaseException | None) -> None:
        trial = cast(Any, run)
        hung = self._watchdog.forget(trial)
        _give_back(run)
        if error is not None and (hung is not None or not run.ended):
            self._queue.note_fault(run.config["trial"], hung or classify_workers_error(error))
            self._queue.on_trial_complete(run.trial_id, error=True)
            self._callback.on_trial_error(0, [trial], trial)
        else:
            self._queue.on_trial_complete(run.trial_id, run.last_result)
            self._callback.on_trial_complete(0, [trial], trial)


def _messages(run: DistributedRun, future: Future[Any], messages: Queue) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yields what happens in a run until it is over, and ("", ()) now and then while nothing does."""
    over = False
    while True:
        try:
            trial_id, kind, content = messages.get(timeout=0 if over else _POLL_S)
        except Empty:
            if over:
                return
            over = future.done()
            yield "", ()
            continue
        if trial_id == run.trial_id:
            yield kind, content


def run_distributed(session: SessionContext, queue: TrialQueue) -> None:
    """Lets Ray Train work through the queue, one run after another, each on all its workers."""
    with interruptible(queue):
        DistributedRunner(session, queue).run()
