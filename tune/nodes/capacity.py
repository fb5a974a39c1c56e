"""How many trials a cluster holds at once, node by node: a trial needs its CPUs and GPUs on one. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tune.errors import ClusterError
from tune.study.spec import Resources

_EPSILON = 1e-6
MOST = 10_000
"""Trials at once, more than any cluster here holds."""


@dataclass(frozen=True)
class Machine:
    """What Ray may hand out on one node."""

    cpus: float = 0.0
    gpus: float = 0.0

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> Machine:
        """Takes resources as Ray counts them."""
        return cls(float(resources.get("CPU", 0.0)), float(resources.get("GPU", 0.0)))


@dataclass(frozen=True)
class NodeType:
    """A kind of node that the autoscaler may start."""

    name: str
    machine: Machine
    most: int


@dataclass(frozen=True)
class Room:
    """The nodes that are there, and those that may come.

    Attributes:
        nodes: the living nodes.
        lasting: those of them that are no worker of the autoscaler's: its head.
        types: what the autoscaler may start; empty for a cluster that does not grow.
        most: workers of all types together.
    """

    nodes: tuple[Machine, ...]
    lasting: tuple[Machine, ...] = ()
    types: tuple[NodeType, ...] = ()
    most: int = 0

    @property
    def cpus(self) -> float:
        """CPUs there are now."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """GPUs there are now."""
        return sum(node.gpus for node in self.nodes)

    @property
    def may_grow_to(self) -> int:
        """Nodes when the autoscaler has started all it may."""
        return max(len(self.nodes), len(self.lasting) + min(self.most, sum(t.most for t in self.types)))


def trials_at_once(wanted: Resources, room: Room, limit: int = MOST) -> int:
    """Returns how many trials fit at the same time, with the nodes that may still come.

    Args:
        wanted: what a trial takes.
        room: the cluster.
        limit: more than this many are not needed.

    Raises:
        ClusterError: not one trial fits, on any node or kind of node.
    """
    fits = max(_fits(wanted, room.nodes, limit), _fits(wanted, _grown(wanted, room), limit))
    if not fits:
        raise ClusterError(_why_none(wanted, room))
    return fits


def fits_now(wanted: Resources, room: Room) -> bool:
    """Says whether a trial can start without waiting for a new node."""
    return _fits(wanted, room.nodes, 1) > 0


def _grown(wanted: Resources, room: Room) -> list[Machine]:
    """Returns the cluster at its largest: the kinds of node that hold most trials first, as many as may be."""
    nodes, left = list(room.lasting), room.most
    for kind in sorted(room.types, key=lambda t: _fits(wanted, [t.machine], MOST), reverse=True):
        count = min(kind.most, left, MOST)
        nodes += [kind.machine] * count
        left -= count
    return nodes


def _fits(wanted: Resources, nodes: Iterable[Machine], limit: int) -> int:
    """Places one trial after another: whole on one node if one has room, else its feed workers where they fit."""
    free = [[node.cpus, float(_gpu_shares(wanted.gpus_per_trial, node.gpus))] for node in nodes]
    alone, whole = wanted.cpus_per_trial, wanted.cpus_per_trial + wanted.feed_workers
    gpu = 1.0 if wanted.gpus_per_trial else 0.0
    for placed in range(limit):
        able = [node for node in free if node[0] >= alone - _EPSILON and node[1] >= gpu]
        if not able:
            return placed
        home = next((node for node in able if node[0] >= whole - _EPSILON), max(able))
        home[0] -= alone
        home[1] -= gpu
        for _ in range(wanted.feed_workers):
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


def _why_none(wanted: Resources, room: Room) -> str:
    kinds = [kind.machine for kind in room.types if kind.most and room.most]
    machines: Sequence[Machine] = [*room.nodes, *kinds]
    one = "node or kind of node that may be started" if kinds else "node"
    gpus, cpus = max((m.gpus for m in machines), default=0.0), max((m.cpus for m in machines), default=0.0)
    if wanted.gpus_per_trial > gpus + _EPSILON:
        found = f"Ray found {room.gpus:g} GPUs"
        if room.gpus >= wanted.gpus_per_trial or kinds:
            found += f", at most {gpus:g} on one {one}"
        return (
            f"resources.gpus_per_trial={wanted.gpus_per_trial:g} and {found}. "
            "Mend the driver (emotune doctor), or train on the processor: --set resources.gpus_per_trial=0"
        )
    if wanted.cpus_per_trial > cpus + _EPSILON:
        return (
            f"resources.cpus_per_trial={wanted.cpus_per_trial:g}: a trial takes {wanted.cpus_per_trial:g} CPUs of one "
            f"node and Ray has {cpus:g}, on the largest {one}. Lower resources.cpus_per_trial"
        )
    if wanted.gpus_per_trial and not any(
        _fits(wanted.model_copy(update={"feed_workers": 0}), [m], 1) for m in machines
    ):
        return (
            f"resources.gpus_per_trial={wanted.gpus_per_trial:g} with cpus_per_trial={wanted.cpus_per_trial:g}: no "
            f"{one} has both. Lower one of them"
        )
    return (
        f"resources.feed_workers={wanted.feed_workers}: a trial takes {wanted.cpus_per_trial + wanted.feed_workers:g} "
        f"CPUs with its feed workers and Ray has {room.cpus:g}. Lower resources.feed_workers"
    )
