"""Finds out how large the joined Ray cluster may grow. Starts no node and asks for none."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import ray
import yaml
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tune.nodes.capacity import AutoscaledNodeType, ClusterCapacity, NodeCapacity, fits_now
from tune.study.spec_sections import Resources

_HEAD = "node:__internal_head__"
_ANSWER_S = 60.0
_JOIN_S, _LOOK_S = 300.0, 2.0
_POD_CLUSTER, _POD_NAMESPACE = "RAY_CLUSTER_NAME", "RAY_CLUSTER_NAMESPACE"
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def find_capacity() -> ClusterCapacity:
    """Returns the joined cluster's nodes, and those that its autoscaler may start."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    config = _config_of_the_cluster()
    lasting = tuple(NodeCapacity.of(resources) for resources in alive if _HEAD in resources)
    types, most = node_types(config) if config else ((), 0)
    return ClusterCapacity(tuple(map(NodeCapacity.of, alive)), lasting, types, most)


def capacity_with_room(resources: Resources, say: Callable[[str], None]) -> ClusterCapacity:
    """Returns what `find_capacity` does, when a trial fits: machines of one's own may just be joining after `ray up`.

    Args:
        resources: what a trial takes.
        say: called with a line where it waits, for some minutes at most.
    """
    capacity, until, said = find_capacity(), time.monotonic() + _JOIN_S, False
    while _is_joining(capacity) and not fits_now(resources, capacity) and time.monotonic() < until:
        if not said:
            say("no machine with room for a trial has joined the cluster yet: waiting for its workers")
        said = True
        time.sleep(_LOOK_S)
        capacity = find_capacity()
    return capacity


def _is_joining(capacity: ClusterCapacity) -> bool:
    """Says whether workers are missing of which nobody knows what they have, as of a cluster of one's own machines."""
    unknown = [kind for kind in capacity.node_types if kind.capacity == NodeCapacity()]
    return bool(unknown) and len(capacity.nodes) < capacity.max_nodes


def node_types(config: dict[str, Any]) -> tuple[tuple[AutoscaledNodeType, ...], int]:
    """Returns an autoscaler's kinds of worker, and how many workers it may have altogether.

    Args:
        config: what `ray up` left on the head, or the autoscaler made of a RayCluster.
    """
    most = int(config.get("max_workers", 0))
    head = config.get("head_node_type")
    types = []
    for name, kind in (config.get("available_node_types") or {}).items():
        count = min(most, int(kind.get("max_workers", 0 if name == head else most)))
        if count:
            types.append(AutoscaledNodeType(name, NodeCapacity.of(kind.get("resources") or {}), count))
    return tuple(types), most


def _config_of_the_cluster() -> dict[str, Any] | None:
    """Returns the autoscaler's configuration, None for a cluster without one.

    Ray 2.60 tells a driver nothing of node types that have no node yet (`get_cluster_config` is None under
    autoscaler v2), so the head's monitor process is asked which file it was started with.
    """
    node = ray._private.worker.global_worker.node
    if node is not None and node.head:
        return None  # started by this process, as `emotune run` does: it has no autoscaler
    address = ray.get_runtime_context().gcs_address
    head = next((n["NodeID"] for n in ray.nodes() if n["Alive"] and _HEAD in n["Resources"]), None)
    if head is None or head == ray.get_runtime_context().get_node_id():
        return read_config(address)
    there = NodeAffinitySchedulingStrategy(node_id=head, soft=False)
    task: Any = ray.remote(num_cpus=0, max_retries=0)(read_config)
    try:
        reference = task.options(scheduling_strategy=there).remote(address)
        found: dict[str, Any] | None = ray.get(reference, timeout=_ANSWER_S)
    except (ray.exceptions.GetTimeoutError, ray.exceptions.RayError):
        return None  # `tune/nodes/inspection.py` reports a head that does not answer
    return found


def read_config(gcs_address: str) -> dict[str, Any] | None:
    """Returns the configuration of the autoscaler on this machine that serves a cluster, None when there is none."""
    port = gcs_address.rpartition(":")[2]
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = process.info["cmdline"] or []
        if not any(word.endswith("monitor.py") for word in words):
            continue
        options = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--") and "=" in word)
        path = options.get("autoscaling-config")
        if path and options.get("gcs-address", "").rpartition(":")[2] == port:
            home = (process.info["environ"] or os.environ).get("HOME", "~")
            return dict(yaml.safe_load(Path(path.replace("~", home, 1)).read_text(encoding="utf-8")))
    return _config_of_the_pod()


def _config_of_the_pod() -> dict[str, Any] | None:
    """Returns what KubeRay's autoscaler, in another container, makes of this pod's RayCluster; None elsewhere."""
    name, namespace = os.environ.get(_POD_CLUSTER), os.environ.get(_POD_NAMESPACE)
    if not namespace and _NAMESPACE_FILE.exists():
        namespace = _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    if not name or not namespace:
        return None
    import requests
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    try:
        cluster = KubernetesHttpApiClient(namespace).get(f"rayclusters/{name}")
    except (requests.RequestException, OSError, ValueError):
        return None  # this pod's service account may not read it
    if not cluster["spec"].get("enableInTreeAutoscaling"):
        return None
    return dict(_derive_autoscaling_config_from_ray_cr(cluster))
