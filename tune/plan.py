"""What a study will take before it starts: machine, trials at once, time. Starts no trial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trainables.calibrate import Speed
from tune.errors import StudyError
from tune.spec import StudySpec

_SIMULATED_STUDIES, _SIMULATED_TRIALS = 20, 100


@dataclass(frozen=True)
class Plan:
    """The resources Ray reports, and what follows from them.

    Attributes:
        cpus: processor cores that Ray may hand out.
        gpus: GPUs that Ray found.
        nodes: machines in the cluster.
        at_once: trials that run at the same time.
        speed: measured on the default configuration, None when calibration is off.
    """

    cpus: float
    gpus: float
    nodes: int
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


def make_plan(spec: StudySpec, resources: Mapping[str, float], nodes: int, trials: int, speed: Speed | None) -> Plan:
    """Works out how many trials fit at once.

    Args:
        spec: the study.
        resources: the cluster's, as Ray counts them (`CPU`, `GPU`).
        nodes: machines in the cluster.
        trials: trials still to run.
        speed: the calibration, if any.

    Raises:
        StudyError: not one trial fits.
    """
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    wanted = spec.resources
    cpus_per_trial = wanted.cpus_per_trial + wanted.feed_workers
    fits = math.floor(cpus / cpus_per_trial + 1e-9)
    if fits < 1:
        raise StudyError(
            f"resources: a trial takes {cpus_per_trial:g} CPUs and Ray has {cpus:g}. "
            "Lower resources.cpus_per_trial or resources.feed_workers"
        )
    if wanted.gpus_per_trial:
        fits = min(fits, math.floor(gpus / wanted.gpus_per_trial + 1e-9))
        if fits < 1:
            raise StudyError(
                f"resources.gpus_per_trial={wanted.gpus_per_trial:g} and Ray found {gpus:g} GPUs. "
                "Mend the driver, or train on the processor: --set resources.gpus_per_trial=0"
            )
    _check_workers(spec, cpus, gpus)
    at_once = min(fits, wanted.max_concurrent or fits, max(trials, 1))
    return Plan(cpus, gpus, nodes, at_once, trials, expected_epochs(spec, trials), speed)


def _check_workers(spec: StudySpec, cpus: float, gpus: float) -> None:
    workers, wanted = spec.confirm.workers, spec.resources
    if workers == 1 or not spec.confirm.top:
        return
    for name, each, there in (
        ("CPUs", wanted.cpus_per_trial + wanted.feed_workers, cpus),
        ("GPUs", wanted.gpus_per_trial, gpus),
    ):
        if workers * each > there + 1e-9:
            raise StudyError(
                f"confirm.workers={workers} takes {workers * each:g} {name} ({each:g} each) and Ray has {there:g}. "
                f"Lower it, or add machines"
            )


def expected_epochs(spec: StudySpec, trials: int) -> float:
    """Returns the epochs that a number of trials are likely to train altogether.

    The mean of simulated studies with the real rungs, one trial after another, each with a quality of its own that does
    not change. (1 / reduction_factor at each rung would be far too few: the first to arrive has nobody to be compared
    with, and those that pass a rung late are better than those that passed it early.)
    """
    from tune.scheduler import Rungs

    asha = spec.asha
    simulated = min(trials, _SIMULATED_TRIALS)
    epochs = 0
    for seed in range(_SIMULATED_STUDIES):
        rungs = Rungs(asha.rungs, asha.reduction_factor, "max")
        for trial, quality in enumerate(np.random.default_rng(seed).random(simulated)):
            stops = (rung for rung in asha.rungs if (d := rungs.decide(trial, rung, quality)) is not None and d.stopped)
            epochs += next(stops, asha.max_epochs)
    return epochs / _SIMULATED_STUDIES * (trials / simulated if simulated else 0.0)
