"""What runs in Ray Train's controller, a process of its own for each run: imports little, and never TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.execution.callback import ControllerCallback, ReportCallback, WorkerGroupCallback
from ray.util.queue import Queue

from trainables.training.data_parallel import free_address, join_workers


class DriverNotifier(ControllerCallback, WorkerGroupCallback, ReportCallback):
    """Brings what happens in Ray Train's controller to the driver."""

    def __init__(self, messages: Queue, trial_id: str) -> None:
        self._messages = messages
        self._trial_id = trial_id

    def after_controller_start(self, train_run_context: Any) -> None:
        """Ray Train has started."""
        self._send("controller", ray.get_runtime_context().current_actor)

    def after_worker_group_start(self, worker_group: Any) -> None:
        """The workers have their resources."""
        self._send("reserved", worker_group.get_worker_group_state().placement_group_handle.placement_group)

    def after_worker_group_training_start(self, worker_group: Any) -> None:
        """The workers have begun."""
        self._send("started")

    def after_report(self, training_report: Any, metrics: list[dict[str, Any]]) -> None:
        """All workers have ended an epoch, and its checkpoint is complete."""
        self._send("epoch", metrics[0], training_report.checkpoint)

    def _send(self, kind: str, *content: Any) -> None:
        self._messages.put((self._trial_id, kind, content))


class _WorkerRendezvous(Backend):
    """Tells each worker where the others are, before it loads TensorFlow."""

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        addresses = worker_group.execute(free_address)
        ray.get(
            [
                worker_group.execute_single_async(rank, join_workers, addresses, rank)
                for rank in range(len(worker_group))
            ]
        )


@dataclass
class TensorFlowWorkers(BackendConfig):
    """Workers that reduce their gradients with TensorFlow.

    Ray 2.60's own `TensorflowConfig` imports TensorFlow in the driver and in the controller, four seconds each, and
    asks every worker for the Keras of TensorFlow 1.
    """

    @property
    def backend_cls(self) -> type[Backend]:
        """What starts them."""
        return _WorkerRendezvous
