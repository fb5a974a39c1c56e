"""How many trials a cluster holds at once, node by node: a trial needs its CPUs and GPUs on one. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tune.errors import ClusterError
from tune.study.spec_sections import Resources

_EPSILON = 1e-6
UNLIMITED_TRIALS = 10_000
"""Trials at once, more than any cluster here holds."""


@dataclass(frozen=True)
class NodeCapacity:
    """What Ray may hand out on one node."""

    cpus: float = 0.0
    gpus: float = 0.0

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> NodeCapacity:
        """Takes resources as Ray counts them."""
        return cls(float(resources.get("CPU", 0.0)), float(resources.get("GPU", 0.0)))


@dataclass(frozen=True)
class AutoscaledNodeType:
    """A kind of node that the autoscaler may start."""

    name: str
    capacity: NodeCapacity
    max_nodes: int


@dataclass(frozen=True)
class ClusterCapacity:
    """The nodes that are there, and those that may come.

    Attributes:
        nodes: the living nodes.
        permanent_nodes: those of them that are no worker of the autoscaler's: its head.
        node_types: what the autoscaler may start; empty for a cluster that does not grow.
        max_workers: workers of all types together.
    """

    nodes: tuple[NodeCapacity, ...]
    permanent_nodes: tuple[NodeCapacity, ...] = ()
    node_types: tuple[AutoscaledNodeType, ...] = ()
    max_workers: int = 0

    @property
    def cpus(self) -> float:
        """CPUs there are now."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """GPUs there are now."""
        return sum(node.gpus for node in self.nodes)

    @property
    def max_nodes(self) -> int:
        """Nodes when the autoscaler has started all it may."""
        return max(
            len(self.nodes),
            len(self.permanent_nodes) + min(self.max_workers, sum(t.max_nodes for t in self.node_types)),
        )


def trial_bundles(resources: Resources) -> list[dict[str, float]]:
    """Returns what Ray reserves for a trial: for its process, and for each process that feeds it."""
    trial = {"CPU": float(resources.cpus_per_trial), "GPU": float(resources.gpus_per_trial)}
    return [{name: amount for name, amount in trial.items() if amount}, *[{"CPU": 1.0}] * resources.feed_workers]


def trials_at_once(resources: Resources, capacity: ClusterCapacity, limit: int = UNLIMITED_TRIALS) -> int:
    """Returns how many trials fit at the same time, with the nodes that may still come.

    Args:
        resources: what a trial takes.
        capacity: the cluster.
        limit: more than this many are not needed.

    Raises:
        ClusterError: not one trial fits, on any node or kind of node.
    """
    fits = max(
        _count_trials(resources, capacity.nodes, limit),
        _count_trials(resources, _largest_cluster(resources, capacity), limit),
    )
    if not fits:
        raise ClusterError(_no_fit_reason(resources, capacity))
    return fits


def fits_now(resources: Resources, capacity: ClusterCapacity) -> bool:
    """Says whether a trial can start without waiting for a new node."""
    return _count_trials(resources, capacity.nodes, 1) > 0


def _largest_cluster(resources: Resources, capacity: ClusterCapacity) -> list[NodeCapacity]:
    """Returns the cluster at its largest: the kinds of node that hold most trials first, as many as may be."""
    nodes, left = list(capacity.permanent_nodes), capacity.max_workers
    for kind in sorted(
        capacity.node_types, key=lambda t: _count_trials(resources, [t.capacity], UNLIMITED_TRIALS), reverse=True
    ):
        count = min(kind.max_nodes, left, UNLIMITED_TRIALS)
        nodes += [kind.capacity] * count
        left -= count
    return nodes


def _count_trials(resources: Resources, nodes: Iterable[NodeCapacity], limit: int) -> int:
    """Places one trial after another: whole on one node if one has room, else its feed workers where they fit."""
    free = [[node.cpus, float(_gpu_shares(resources.gpus_per_trial, node.gpus))] for node in nodes]
    alone, whole = resources.cpus_per_trial, resources.cpus_per_trial + resources.feed_workers
    gpu = 1.0 if resources.gpus_per_trial else 0.0
    for placed in range(limit):
        able = [node for node in free if node[0] >= alone - _EPSILON and node[1] >= gpu]
        if not able:
            return placed
        home = next((node for node in able if node[0] >= whole - _EPSILON), max(able))
        home[0] -= alone
        home[1] -= gpu
        for _ in range(resources.feed_workers):
            host = home if home[0] >= 1 - _EPSILON else max(free)
            if host[0] < 1 - _EPSILON:
                return placed
            host[0] -= 1
    return limit


def _gpu_shares(each: float, gpus: float) -> int:
    """Returns how many trials a node's GPUs take; a share of a GPU is a share of one, never of two."""
    if not each:
        return 0
    if each >= 1:
        return math.floor(gpus / each + _EPSILON)
    whole = math.floor(gpus + _EPSILON)
    return whole * math.floor(1 / each + _EPSILON) + math.floor((gpus - whole) / each + _EPSILON)


def _no_fit_reason(resources: Resources, capacity: ClusterCapacity) -> str:
    kinds = [kind.capacity for kind in capacity.node_types if kind.max_nodes and capacity.max_workers]
    machines: Sequence[NodeCapacity] = [*capacity.nodes, *kinds]
    one = "node or kind of node that may be started" if kinds else "node"
    gpus, cpus = max((m.gpus for m in machines), default=0.0), max((m.cpus for m in machines), default=0.0)
    if resources.gpus_per_trial > gpus + _EPSILON:
        found = f"Ray found {capacity.gpus:g} GPUs"
        if capacity.gpus >= resources.gpus_per_trial or kinds:
            found += f", at most {gpus:g} on one {one}"
        return (
            f"resources.gpus_per_trial={resources.gpus_per_trial:g} and {found}. "
            "Fix the driver (emotune doctor), or train on the processor: --set resources.gpus_per_trial=0"
        )
    if resources.cpus_per_trial > cpus + _EPSILON:
        return (
            f"resources.cpus_per_trial={resources.cpus_per_trial:g}: a trial takes {resources.cpus_per_trial:g} CPUs "
            f"of one node and Ray has {cpus:g}, on the largest {one}. Lower resources.cpus_per_trial"
        )
    if resources.gpus_per_trial and not any(
        _count_trials(resources.model_copy(update={"feed_workers": 0}), [m], 1) for m in machines
    ):
        return (
            f"resources.gpus_per_trial={resources.gpus_per_trial:g} with cpus_per_trial={resources.cpus_per_trial:g}: "
            f"no {one} has both. Lower one of them"
        )
    with_feed = resources.cpus_per_trial + resources.feed_workers
    return (
        f"resources.feed_workers={resources.feed_workers}: a trial takes {with_feed:g} "
        f"CPUs with its feed workers and Ray has {capacity.cpus:g}. Lower resources.feed_workers"
    )
