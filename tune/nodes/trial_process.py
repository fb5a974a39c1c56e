"""A process with a trial's resources, in which single functions run. Knows nothing of Ray Tune."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from trainables.errors import first_line
from tune.errors import ClusterError
from tune.nodes.capacity import trial_bundles
from tune.nodes.process_start import ProcessStart
from tune.study.spec import StudySpec

_RESTARTS = 3
_POLL_S = 0.5


class _Functions:
    """What runs in the process, one call after another."""

    def ready(self) -> None:
        """Returns as soon as the process is up."""

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Calls a function."""
        return function(*arguments)


class TrialProcess:
    """Calls functions in another process; one that dies is started again, and the call repeated, three times."""

    def __init__(self, spec: StudySpec, say: Callable[[str], None], group: PlacementGroup, actor: Any) -> None:
        """Takes the study, who is told when the process is long in starting, what Ray reserves, and Ray's actor."""
        self._spec, self._say, self._group, self._actor = spec, say, group, actor

    def has_room(self, within_s: float) -> bool:
        """Waits until a node has room for it; says whether there was within so many seconds."""
        return self._group.wait(within_s)

    def wait_for_room(self) -> None:
        """Waits until a node has room for it, however long that takes; says so.

        Raises:
            ClusterError: there is none, and nothing else is to be waited for.
        """
        start = ProcessStart(self._spec, self._say)
        while not self.has_room(_POLL_S):
            if reason := start.check_waiting():
                raise ClusterError(reason)

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function there, and returns its result.

        Raises:
            ClusterError: the process does not start, or dies again and again.
            Exception: what the function raises.
        """
        ProcessStart(self._spec, self._say).wait_for(self._actor.ready.remote())
        try:
            return ray.get(self._actor.call.remote(function, arguments))
        except ray.exceptions.RayTaskError as error:
            raise error.cause if error.cause is not None else error from None
        except ray.exceptions.RayError as error:  # it died, again and again, or its node did
            raise ClusterError(
                f"a process like a trial's must stay alive. Received: it ended, {first_line(error)}. Look into Ray's "
                "own words (ray.log, dmesg); it may need more memory than there is"
            ) from None


@contextmanager
def trial_process(spec: StudySpec, say: Callable[[str], None] = lambda line: None) -> Iterator[TrialProcess]:
    """Asks for a process with a trial's resources, which ends with the block.

    Its resources are reserved as a trial's are, so that waiting for room and waiting for the process can be told apart.

    Args:
        spec: the study.
        say: called with a line when there is no room, or the process is long in starting.
    """
    resources = spec.resources
    group = placement_group(trial_bundles(resources))
    try:
        actor: Any = (
            ray.remote(_Functions)
            .options(
                num_cpus=resources.cpus_per_trial,
                num_gpus=resources.gpus_per_trial,
                max_restarts=_RESTARTS,
                max_task_retries=_RESTARTS,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
                ),
            )
            .remote()
        )
        try:
            yield TrialProcess(spec, say, group, actor)
        finally:
            ray.kill(actor)
    finally:
        remove_placement_group(group)
