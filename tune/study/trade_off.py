"""Which trials are the best for their size, or for a second objective: those that none beats in both (Pareto). Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from tune.study.objectives import mode_of
from tune.study.spec import StudySpec
from tune.study.study_state import StudyState


class Sized(NamedTuple):
    """A trial with a score: its number, its model's parameters, its objective in its best epoch."""

    trial: int
    parameters: int
    score: float


class TwoScores(NamedTuple):
    """A trial with the values of both objectives in its best epoch."""

    trial: int
    first: float
    second: float


T = TypeVar("T")


def sized_trials(spec: StudySpec, state: StudyState) -> list[Sized]:
    """Returns the trials with a score whose models' sizes differ, smallest first; none where all have the same size.

    Failed trials and those of versions that did not report the size are left out.
    """
    found = []
    for trial in state.trials.values():
        score = trial.best_value(spec.objective, spec.mode)
        sizes = [metrics["parameters"] for metrics in trial.epochs.values() if "parameters" in metrics]
        if score is not None and sizes and trial.state != "failed":
            found.append(Sized(trial.number, int(sizes[-1]), score))
    found.sort(key=lambda one: (one.parameters, one.trial))
    return found if len({one.parameters for one in found}) > 1 else []


def size_front(trials: list[Sized], mode: str) -> list[Sized]:
    """Returns those of which no smaller or equally large one is as good, smallest first."""
    sign = 1.0 if mode == "max" else -1.0
    return _undominated(trials, lambda one: (one.parameters, -sign * one.score, one.trial))


def pareto_front(spec: StudySpec, state: StudyState) -> list[TwoScores]:
    """Returns the trials that no other equals or beats in both objectives, best by the first one first.

    Trials that a rung has stopped count with what they had; without a second objective there is no front.
    """
    second = spec.second_objective
    if second is None:
        return []
    found = []
    for trial in state.ranked(spec.objective, spec.mode):
        metrics = trial.epochs[trial.best_epoch(spec.objective, spec.mode) or 0]
        if math.isfinite(metrics.get(second, math.nan)):
            found.append(TwoScores(trial.number, float(metrics[spec.objective]), float(metrics[second])))
    signs = [1.0 if mode_of(metric) == "max" else -1.0 for metric in spec.objectives]
    return _undominated(found, lambda one: (-signs[1] * one.second, -signs[0] * one.first, one.trial))[::-1]


def _undominated(entries: Iterable[T], costs: Callable[[T], tuple[float, float, int]]) -> list[T]:
    """Returns the entries that none equals or beats in both costs, of which the third settles a tie; cheapest first."""
    front: list[T] = []
    for one in sorted(entries, key=costs):
        if not front or costs(one)[1] < costs(front[-1])[1]:
            front.append(one)
    return front
