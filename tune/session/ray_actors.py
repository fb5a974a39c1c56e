"""How Ray Tune starts trials' actors and hears of their end, where Ray 2.60 is slow or breaks off.

When the memory monitor ends an actor's process, or its machine goes, `ray.get` raises `OutOfMemoryError` or
`NodeDiedError`, and Tune's event loop, which knows only actors' and tasks' errors, ends the whole run.

Tune gives each actor a runtime environment of some variables of the driver's. For one, Ray starts a first Python that
sets them and becomes a second, and both import Ray: seconds of every trial process' start. Processes of a Ray that this
driver has started, on this machine alone, have inherited the variables.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import psutil
import ray
from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.execution import tune_controller
from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE, _ActorClassCache


class ForgivingActorManager(RayActorManager):
    """Takes every error that Ray itself raises for an actor as the actor's death."""

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
        super()._actor_task_failed(tracked_actor_task, exception)


class PlainActorClasses(_ActorClassCache):
    """Leaves the runtime environment out where an actor's process has the driver's variables anyway."""

    def get(self, trainable_cls: type) -> Any:
        """Returns what Ray makes actors of."""
        if trainable_cls not in self._cache and _are_inherited(ENV_VARS_TO_PROPAGATE):
            self._cache[trainable_cls] = ray.remote(trainable_cls)
        return super().get(trainable_cls)  # type: ignore[no-untyped-call]


def _are_inherited(names: Iterable[str]) -> bool:
    """Says whether Ray was started by this process, on this machine alone, with its values of these variables."""
    node: Any = getattr(ray._private.worker, "_global_node", None)
    if node is None or not node.is_head() or sum(one["Alive"] for one in ray.nodes()) > 1:
        return False
    try:
        [raylet] = node.all_processes[PROCESS_TYPE_RAYLET]
        given = psutil.Process(raylet.process.pid).environ()
    except (KeyError, ValueError, psutil.Error):
        return False
    return all(os.environ.get(name) == given.get(name) for name in names)


def adapt_tune_controller() -> None:
    """Makes Tune's controller use both; tests/end_to_end/ fail when a Ray version moves things."""
    tune_controller.RayActorManager = ForgivingActorManager  # type: ignore[attr-defined]
    tune_controller._ActorClassCache = PlainActorClasses  # type: ignore[attr-defined]
