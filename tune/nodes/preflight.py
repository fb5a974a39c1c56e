"""Looks at the cluster before a study is launched on it: what would break it is said now, and nothing is begun."""

from __future__ import annotations

import os

from trainables.dataset.reader import Dataset
from trainables.models.size import checkpoint_mib
from trainables.places import is_bucket
from tune.errors import ClusterError
from tune.nodes.capacity import ClusterCapacity
from tune.nodes.inspection import inspect_nodes, inspect_this_node, own_node
from tune.nodes.problems import DISK_MIB, Needs, find_problems
from tune.study.studies import StudyFiles


def check_nodes(study: StudyFiles, dataset: Dataset, capacity: ClusterCapacity) -> list[str]:
    """Asks all nodes for what this study needs of them.

    Args:
        study: the study; its folder is there.
        dataset: its data set.
        capacity: the cluster's nodes; a single one is looked at without a task.

    Returns:
        Warnings, a line each.

    Raises:
        ClusterError: a node would break the study: the first of what is wrong.
    """
    spec, info = study.spec, dataset.info
    storage = study.bucket.name if study.bucket else os.path.abspath(study.directory)
    data = "" if is_bucket(spec.data) else os.path.abspath(dataset.directory)
    needs = Needs(
        storage=storage,
        data=data,
        fingerprint=info.fingerprint,
        gpus_per_trial=spec.resources.gpus_per_trial,
        count_gpus_only=not spec.resources.check_gpus,
        checkpoint_mib=checkpoint_mib(spec.trial_config(spec.space.defaults()), info.channels, len(info.classes))
        or DISK_MIB,
    )
    alone = len(capacity.nodes) == 1 and own_node()
    asks_tensorflow = needs.gpus_per_trial and not needs.count_gpus_only  # some seconds; else nobody would notice
    inspect = inspect_this_node if alone else inspect_nodes
    found = find_problems(inspect(storage, data, tensorflow=bool(asks_tensorflow)), needs)
    stopping = [problem.message for problem in found if problem.is_fatal]
    if stopping:
        more = f" ({len(stopping) - 1} more: emotune doctor)" if len(stopping) > 1 else ""
        raise ClusterError(stopping[0] + more)
    return [f"warning: {problem.message}" for problem in found]
