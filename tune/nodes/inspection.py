"""Asks every node of the joined Ray what it is and what it sees. Judges nothing: that is `tune/nodes/problems.py`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables import node_probe as machine

ANSWER_S = 60.0
"""Seconds that a node has to answer; its first process must start in them."""

_TENSORFLOW_S = 200.0


@dataclass(frozen=True)
class NodeReport:
    """What is known of one node.

    Attributes:
        address: host name or IP of the node.
        here: this process runs on it.
        cpus: CPUs that Ray may hand out there; 0 for a head that runs no trial.
        gpus_ray: GPUs that Ray may hand out there.
        silent: why the node did not answer; then nothing below is known.
        gpus_driver: name and memory (MiB) of each GPU that NVIDIA's driver sees.
        gpus_tensorflow: GPUs that TensorFlow sees; None when it was not asked, or cannot be.
        storage_free_mib: None for a bucket.
        storage_refused: why nothing can be written into the storage, "" when it can.
        storage_shared: whether the node sees there what another node has written; None when it was not asked.
        fingerprint: of the data set as this node sees it, "" for none.
        clock_skew_s: this node's clock minus the asking one's, None for the asking one itself.
    """

    address: str
    head: bool
    here: bool
    cpus: float
    gpus_ray: float
    silent: str = ""
    python: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    gpus_driver: tuple[tuple[str, float], ...] = ()
    driver_message: str = ""
    gpus_tensorflow: int | None = None
    tensorflow_message: str = ""
    temporary: str = ""
    temporary_free_mib: float = 0.0
    storage_free_mib: float | None = None
    storage_refused: str = ""
    storage_shared: bool | None = None
    fingerprint: str = ""
    clock_skew_s: float | None = None


def inspect_nodes(
    storage: str = "", data: str = "", *, tensorflow: bool = False, answer_s: float = ANSWER_S
) -> list[NodeReport]:
    """Returns a report of every living node, the head first.

    Args:
        storage: folder or URI that all nodes should be able to write and read, "" for none.
        data: data set folder that all nodes should see, "" for none.
        tensorflow: also ask TensorFlow for its GPUs.
        answer_s: seconds that a node has to answer; one that does not is reported as silent.
    """
    nodes = sorted((n for n in ray.nodes() if n["Alive"]), key=lambda n: not _is_head(n))
    here = own_node()
    if tensorflow:
        answer_s += _TENSORFLOW_S
    first = here or nodes[0]["NodeID"]
    with _storage_token(first, first == here, storage) as name, _pickle_module_by_value():
        question = ((storage, name), data, tensorflow)
        asked = {n["NodeID"]: _ask(n["NodeID"], machine.probe_node, *question) for n in nodes if n["NodeID"] != here}
        answers: dict[str, Any] = {here: machine.probe_node(*question)} if here else {}
        deadline = time.monotonic() + answer_s
        for node, reference in asked.items():
            answers[node] = _answer(reference, deadline - time.monotonic())
        skews = {node: _clock_skew(node) for node in asked if not isinstance(answers[node], str)}
    return [_report(node, here, answers[node["NodeID"]], skews.get(node["NodeID"])) for node in nodes]


def inspect_this_node(storage: str, data: str, *, tensorflow: bool = False) -> list[NodeReport]:
    """Returns the report of the only node, this one, without a task; arguments as in `inspect_nodes`."""
    [node] = [n for n in ray.nodes() if n["Alive"]]
    with _storage_token(node["NodeID"], True, storage) as name:
        return [_report(node, node["NodeID"], machine.probe_node((storage, name), data, tensorflow), None)]


def own_node() -> str:
    """Returns the id of the node this process runs on, "" when it looks at the cluster from outside."""
    if ray.util.client.ray.is_connected():
        return ""
    return str(ray.get_runtime_context().get_node_id())


def call_on_node(node: str, function: Callable[..., Any], *arguments: Any, answer_s: float = ANSWER_S) -> Any:
    """Runs a function of `trainables.node_probe` on a node; returns its value, or a string that says why not."""
    with _pickle_module_by_value():
        return _answer(_ask(node, function, *arguments), answer_s)


@contextmanager
def _pickle_module_by_value() -> Iterator[None]:
    """Sends the module itself: a node without emotune, or with another one, must be able to say so."""
    ray.cloudpickle.register_pickle_by_value(machine)
    try:
        yield
    finally:
        ray.cloudpickle.unregister_pickle_by_value(machine)


@contextmanager
def _storage_token(node: str, here: bool, storage: str) -> Iterator[str]:
    """Leaves a file in the storage for as long as the nodes are asked; makes the folder for that time if need be."""
    name = f".emotune-{uuid.uuid4().hex[:12]}"
    if not storage:
        yield ""
        return

    def run(function: Callable[..., Any]) -> Any:
        return function(storage, name) if here else call_on_node(node, function, storage, name)

    folder = Path(storage)
    missing = [p for p in (folder, *folder.parents) if not p.exists()] if here and "://" not in storage else []
    with suppress(OSError):  # what cannot be made cannot be written either, and every node says why
        for lacking in reversed(missing):
            lacking.mkdir()
    placed = run(machine.place_token) == ""  # one that cannot be written is missed by the readers
    try:
        yield name
    finally:
        if placed:
            run(machine.remove_token)
        for made in missing:
            with suppress(OSError):  # never made, or in use by now
                made.rmdir()


def _is_head(node: Mapping[str, Any]) -> bool:
    return "node:__internal_head__" in node["Resources"]


def _ask(node: str, function: Callable[..., Any], *arguments: Any) -> Any:
    there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    task: Any = ray.remote(num_cpus=0, max_retries=0)(function)
    return task.options(scheduling_strategy=there).remote(*arguments)


def _answer(reference: Any, wait_s: float) -> Any:
    """Returns a task's value, or a string that says why there is none."""
    try:
        return ray.get(reference, timeout=max(0.0, wait_s))
    except ray.exceptions.GetTimeoutError:
        ray.cancel(reference, force=True)
        return "it did not answer"
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        return " ".join((str(cause).strip().splitlines() or [type(cause).__name__])[0].split())


def _clock_skew(node: str) -> float | None:
    """Returns a node's clock minus ours; its process is warm by now, so the way there takes milliseconds."""
    sent = time.time()
    answer = _answer(_ask(node, machine.clock), 10.0)
    return None if isinstance(answer, str) else float(answer) - (sent + time.time()) / 2


def _report(node: Mapping[str, Any], here: str, answer: Any, skew_s: float | None) -> NodeReport:
    known: dict[str, Any] = {"silent": answer} if isinstance(answer, str) else dict(answer)
    if "gpus_driver" in known:
        known["gpus_driver"] = tuple((name, float(mib)) for name, mib in known["gpus_driver"])
    return NodeReport(
        address=node["NodeManagerHostname"] if node["NodeID"] == here else node["NodeManagerAddress"],
        head=_is_head(node),
        here=node["NodeID"] == here,
        cpus=node["Resources"].get("CPU", 0.0),
        gpus_ray=node["Resources"].get("GPU", 0.0),
        clock_skew_s=skew_s,
        **known,
    )
