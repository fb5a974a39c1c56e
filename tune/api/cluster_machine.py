"""A cluster that only a file describes, as the machine of a plan: what its workers hold, what they cost."""

from __future__ import annotations

from pathlib import Path

from tune.cluster.check import planned_cluster
from tune.nodes.autoscaler import node_types
from tune.nodes.capacity import ClusterCapacity
from tune.session.study_plan import Machine


def machine_of(file: Path) -> Machine:
    """Returns the machine that a file for `ray up` promises, at its largest.

    Raises:
        StudyFileError: it is no such file, or does not say what its machines hold.
    """
    config, hour_price = planned_cluster(file)
    types, most = node_types(config)
    return Machine(ClusterCapacity((), (), types, most), here=False, hour_price=hour_price, source=str(file))
