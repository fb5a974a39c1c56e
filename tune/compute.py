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


def run_like_a_trial(spec: StudySpec, function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs a function in another process with a trial's resources, and returns what it returns.

    Raises:
        Exception: what the function raised.
    """
    wanted = spec.resources
    task = ray.remote(num_cpus=wanted.cpus_per_trial, num_gpus=wanted.gpus_per_trial)(function)
    try:
        return ray.get(task.remote(*arguments))
    except ray.exceptions.RayTaskError as error:
        raise error.cause if error.cause is not None else error from None
