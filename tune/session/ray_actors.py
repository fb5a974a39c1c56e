"""Lets Ray Tune live through the loss of an actor that Ray does not report as an actor's.

Ray 2.60: when the memory monitor ends an actor's process, or its machine goes, `ray.get` raises `OutOfMemoryError` or
`NodeDiedError`, and Tune's event loop, which knows only actors' and tasks' errors, ends the whole run.
"""

from __future__ import annotations

from typing import Any

from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.execution import tune_controller


class ForgivingActorManager(RayActorManager):
    """Takes every error that Ray itself raises for an actor as the actor's death."""

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
        super()._actor_task_failed(tracked_actor_task, exception)


def use_forgiving_actor_manager() -> None:
    """Makes Tune's controller use it; tests/end_to_end/test_fault_table.py fails when a Ray version moves things."""
    tune_controller.RayActorManager = ForgivingActorManager  # type: ignore[attr-defined]
