"""Ray for a study: joined or started, and single functions run with a trial's resources. Knows nothing of Ray Tune."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

from tune.spec import StudySpec

_ENVIRONMENT = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours saves the running trials first
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # TensorBoard is written by us
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "GLOG_minloglevel": "2",
}


@contextmanager
def joined_ray() -> Iterator[None]:
    """Joins the cluster that RAY_ADDRESS names, or starts Ray on this machine; leaves alone one that runs already."""
    os.environ.update(_ENVIRONMENT)
    if ray.is_initialized():
        yield
        return
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    try:
        yield
    finally:
        ray.shutdown()


class _Process:
    """What a process like a trial's runs, one call after another."""

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Calls a function."""
        return function(*arguments)


@contextmanager
def trial_process(spec: StudySpec) -> Iterator[Callable[..., Any]]:
    """Starts one other process with a trial's resources; yields what calls a function in it and returns its result.

    The call raises what the function raised. A process that dies is started again, and the call repeated, three times.
    """
    wanted = spec.resources
    process: Any = (
        ray.remote(_Process)
        .options(num_cpus=wanted.cpus_per_trial, num_gpus=wanted.gpus_per_trial, max_restarts=3, max_task_retries=3)
        .remote()
    )

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return ray.get(process.call.remote(function, arguments))
        except ray.exceptions.RayTaskError as error:
            raise error.cause if error.cause is not None else error from None

    try:
        yield call
    finally:
        ray.kill(process)
