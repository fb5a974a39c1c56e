"""What a study will take before it starts: machine, trials at once, time. Starts no trial."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainables.training.calibration import Speed
from tune.errors import ClusterError
from tune.nodes.capacity import ClusterCapacity, trials_at_once
from tune.study.spec import StudySpec

_SIMULATED_STUDIES, _SIMULATED_TRIALS = 20, 100


@dataclass(frozen=True)
class Plan:
    """The resources Ray reports, and what follows from them.

    Attributes:
        cpus: processor cores that Ray may hand out.
        gpus: GPUs that Ray found.
        nodes: machines in the cluster.
        max_nodes: machines when the autoscaler has started all it may.
        at_once: trials that run at the same time.
        speed: measured on the default configuration, None when calibration is off.
    """

    cpus: float
    gpus: float
    nodes: int
    max_nodes: int
    at_once: int
    trials: int
    expected_epochs: float
    speed: Speed | None = None

    @property
    def expected_s(self) -> float | None:
        """Seconds that the search is likely to take, None without a calibration."""
        if self.speed is None:
            return None
        return self.expected_epochs * self.speed.epoch_s / self.at_once


def make_plan(spec: StudySpec, capacity: ClusterCapacity, trials: int, speed: Speed | None) -> Plan:
    """Works out how many trials fit at once; on a cluster that grows, when it has: so it grows in one step.

    Args:
        spec: the study.
        room: the cluster's nodes, and those that may come.
        trials: trials still to run.
        speed: the calibration, if any.

    Raises:
        ClusterError: not one trial fits.
    """
    limit = min(spec.resources.max_concurrent or max(trials, 1), max(trials, 1))
    at_once = trials_at_once(spec.resources, capacity, limit)
    _check_workers(spec, capacity)
    epochs = expected_epochs(spec, trials)
    return Plan(capacity.cpus, capacity.gpus, len(capacity.nodes), capacity.max_nodes, at_once, trials, epochs, speed)


def _check_workers(spec: StudySpec, capacity: ClusterCapacity) -> None:
    workers, resources = spec.confirm.workers, spec.resources
    if workers == 1 or not spec.confirm.top:
        return
    fits = trials_at_once(resources, capacity, workers)
    if fits < workers:
        each = f"{resources.cpus_per_trial + resources.feed_workers:g} CPUs and {resources.gpus_per_trial:g} GPUs"
        raise ClusterError(
            f"confirm.workers={workers}: each takes what a trial takes, {each}, and Ray has room for {fits} at once. "
            "Lower it, or add machines"
        )


def expected_epochs(spec: StudySpec, trials: int) -> float:
    """Returns the epochs that a number of trials are likely to train altogether.

    The mean of simulated studies with the real rungs, one trial after another, each with a quality of its own that does
    not change. (1 / reduction_factor at each rung would be far too few: the first to arrive has nobody to be compared
    with, and those that pass a rung late are better than those that passed it early.)
    """
    from tune.search.scheduler import Rungs

    asha = spec.asha
    simulated = min(trials, _SIMULATED_TRIALS)
    epochs = 0
    for seed in range(_SIMULATED_STUDIES):
        rungs = Rungs(asha.rungs, asha.reduction_factor, "max")
        for trial, quality in enumerate(np.random.default_rng(seed).random(simulated)):
            stops = (rung for rung in asha.rungs if (d := rungs.decide(trial, rung, quality)) is not None and d.stopped)
            epochs += next(stops, asha.max_epochs)
    return epochs / _SIMULATED_STUDIES * (trials / simulated if simulated else 0.0)
