"""What a study will take before it starts: machine, trials at once, epochs, time, GPU hours, money. Starts no trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tune.errors import ClusterError
from tune.nodes.capacity import ClusterCapacity, trials_at_once
from tune.search.confirmation import confirmation_candidates, confirmation_numbers
from tune.search.simulated_search import Beginning, Costs, SimulatedStudy, TrialCost, simulate_study
from tune.study.budget import BUDGETS, exhausted_budget, repetitions_are_owed, used_budgets
from tune.study.spec import StudySpec
from tune.study.studies import StudyFiles
from tune.study.study_state import StudyState
from tune.study.trial_record import ENDED

if TYPE_CHECKING:
    from tune.session.calibrate import Calibration

_SIMULATED_STUDIES = 24
_LOW, _HIGH = 0.1, 0.9


@dataclass(frozen=True)
class Range:
    """What is likely: in 8 of 10 simulated studies it lies between `low` and `high`; `middle` is the median."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        """Takes a value of each simulated study."""
        low, middle, high = np.quantile(values, (_LOW, 0.5, _HIGH))
        return cls(float(low), float(middle), float(high))


@dataclass(frozen=True)
class Forecast:
    """What the study is likely to take; everything in seconds, hours or money is None where no epoch was measured.

    Attributes:
        trials: trials that begin.
        stopped: those of them that a rung stops.
        epochs: epochs of the search.
        confirm_epochs: epochs of the trainings after it.
        ended_by: the budget that ends most of the simulated searches, "" for the last trial.
        search_s: wall time of the search.
        confirm_s: wall time of the trainings after it.
        both_s: the two together.
        gpu_hours: hours of GPUs that trials hold, confirmations included.
        cost: price of the machines for as long, None without a price too.
    """

    trials: Range
    stopped: Range
    epochs: Range
    confirm_epochs: Range
    ended_by: str
    search_s: Range | None = None
    confirm_s: Range | None = None
    both_s: Range | None = None
    gpu_hours: Range | None = None
    cost: Range | None = None


@dataclass(frozen=True)
class Plan:
    """The resources Ray reports, and what follows from them.

    Attributes:
        cpus: processor cores that Ray may hand out.
        gpus: GPUs that Ray found.
        nodes: machines in the cluster.
        max_nodes: machines when the autoscaler has started all it may.
        at_once: trials that run at the same time.
        trials: trials still to be ended.
        spec: the study.
        beginning: where it stands.
        calibration: what was measured, None without.
        hour_price: price of an hour of all machines at work, None where it is not known.
    """

    cpus: float
    gpus: float
    nodes: int
    max_nodes: int
    at_once: int
    trials: int
    spec: StudySpec = field(repr=False)
    beginning: Beginning = field(repr=False)
    calibration: Calibration | None = None
    hour_price: float | None = None

    @cached_property
    def forecast(self) -> Forecast:
        """What the trials are likely to take; simulated when it is first asked for, which takes a second."""
        costs = self.calibration.costs if self.calibration else None
        return forecast(self.spec, self.beginning, max(1, self.at_once), costs)


def make_plan(
    spec: StudySpec,
    capacity: ClusterCapacity,
    trials: int,
    calibration: Calibration | None = None,
    state: StudyState | None = None,
    hour_price: float | None = None,
) -> Plan:
    """Works out how many trials fit at once; on a cluster that grows, when it has: so it grows in one step.

    Args:
        spec: the study.
        capacity: the cluster's nodes, and those that may come.
        trials: trials still to run.
        calibration: what was measured, if anything.
        state: what the study has done before.
        hour_price: of all machines, where another than `budget.node_hour_price` for each of the nodes says it.

    Raises:
        ClusterError: not one trial fits.
    """

    def fitting(runs: int) -> int:
        most = max(runs, 1)
        return trials_at_once(spec.resources, capacity, min(spec.resources.max_concurrent or most, most))

    at_once, beginning = fitting(trials), _beginning(spec, trials, state)
    _check_workers(spec, capacity)
    if hour_price is None and spec.budget.node_hour_price is not None:
        hour_price = spec.budget.node_hour_price * max(1, capacity.max_nodes)
    return Plan(
        capacity.cpus,
        capacity.gpus,
        len(capacity.nodes),
        capacity.max_nodes,
        at_once,
        trials,
        spec,
        replace(beginning, node_price=hour_price or 0.0, trainings_at_once=fitting(trainings_left(spec, beginning))),
        calibration,
        hour_price,
    )


def plan_without_machine(spec: StudySpec, capacity: ClusterCapacity, trials: int, state: StudyState) -> Plan:
    """Returns what is known where not one trial fits: trials and epochs; `at_once` is 0."""
    beginning = _beginning(spec, trials, state)
    return Plan(capacity.cpus, capacity.gpus, len(capacity.nodes), capacity.max_nodes, 0, trials, spec, beginning)


def _check_workers(spec: StudySpec, capacity: ClusterCapacity) -> None:
    workers, resources = spec.confirm.workers, spec.resources
    if workers == 1 or not spec.confirm.follows:
        return
    fits = trials_at_once(resources, capacity, workers)
    if fits < workers:
        each = f"{resources.cpus_per_trial + resources.feed_workers:g} CPUs and {resources.gpus_per_trial:g} GPUs"
        raise ClusterError(
            f"confirm.workers={workers}: each takes what a trial takes, {each}, and Ray has room for {fits} at once. "
            "Lower it, or add machines"
        )


def trials_left(study: StudyFiles, state: StudyState) -> int:
    """Returns how many trials are still to be ended; those that a budget has cut are, should it be raised."""
    ended = sum(trial.state in ENDED - {"cut", "repeat"} for trial in state.trials.values())
    return max(study.spec.most_trials, state.tried) - ended


def spent_budget(study: StudyFiles, state: StudyState) -> str:
    """Returns the budget that a study has used up whose session has ended or was killed; empty while there is none."""
    return exhausted_budget(study.spec, state, state.last_event, state.search_s)


def may_search(study: StudyFiles, state: StudyState) -> bool:
    """Says whether trials are left and no budget is spent; unfinished trials go on even so if none has a score."""
    if not trials_left(study, state):
        return False
    return not spent_budget(study, state) or study.best_run(state) is None


def trainings_left(spec: StudySpec, beginning: Beginning) -> int:
    """Returns how many trainings follow on the search at most."""
    if beginning.repetitions is None or beginning.final_fits is None:
        return spec.confirm.most_trainings
    return beginning.repetitions + beginning.final_fits


def _beginning(spec: StudySpec, trials: int, state: StudyState | None) -> Beginning:
    if state is None or not state.trials:
        return Beginning(trials)
    beginning = Beginning(
        trials, len(state.trials), tuple(used_budgets(state, state.last_event, state.search_s).items())
    )
    if trials:  # which trials will be trained again nobody knows yet
        return beginning
    ended = {number for number, run in state.confirmations.items() if run.state in ENDED}
    fits = len(state.final_fits_with(spec.confirm.refit_epochs))
    wanted = (
        confirmation_numbers(spec, confirmation_candidates(spec, state)) if repetitions_are_owed(spec, state) else []
    )
    return replace(beginning, repetitions=len(set(wanted) - ended), final_fits=max(0, spec.confirm.refit - fits))


def forecast(spec: StudySpec, beginning: Beginning, at_once: int, costs: Costs | None) -> Forecast:
    """Returns what simulated studies with the real rungs and budgets take.

    (1 / reduction_factor at each rung would be far too few epochs: the first to arrive has nobody to be compared with,
    and those that pass a rung late are better than those that passed it early.)

    Args:
        spec: the study.
        beginning: where it stands.
        at_once: trials at the same time.
        costs: what an epoch takes; None for a forecast in epochs alone, in which no budget of time or money ends it.
    """
    if costs is None:
        budget = spec.budget.model_copy(update={"gpu_hours": None, "cost": None})
        spec = spec.model_copy(update={"time": None, "budget": budget})
    known = costs or Costs(TrialCost(0.0, 1.0, 1.0), lambda rng: TrialCost(0.0, 1.0, 1.0))
    studies = [simulate_study(spec, beginning, at_once, known, seed) for seed in range(_SIMULATED_STUDIES)]

    def range_of(name: str) -> Range:
        return Range.of([getattr(one, name) for one in studies])

    ends = [one.ended_by for one in studies]
    found = Forecast(
        range_of("trials"),
        range_of("stopped"),
        range_of("epochs"),
        range_of("confirm_epochs"),
        max(["", *BUDGETS], key=ends.count),
    )
    if costs is None:
        return found
    both_s = [one.search_s + one.confirm_s for one in studies]
    gpus = spec.resources.gpus_per_trial
    return replace(
        found,
        search_s=range_of("search_s"),
        confirm_s=range_of("confirm_s"),
        both_s=Range.of(both_s),
        gpu_hours=Range.of([_gpu_hours(one, gpus) for one in studies]) if gpus else None,
        cost=Range.of([s * beginning.node_price / 3600 for s in both_s]) if beginning.node_price else None,
    )


def _gpu_hours(study: SimulatedStudy, gpus_per_trial: float) -> float:
    return study.trial_s * gpus_per_trial / 3600
