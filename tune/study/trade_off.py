"""Which trials are the best for their size: those that no smaller model equals (the Pareto front). Pure."""

from __future__ import annotations

from typing import NamedTuple

from tune.study.spec import StudySpec
from tune.study.study_state import StudyState


class Sized(NamedTuple):
    """A trial with a score: its number, its model's parameters, its objective in its best epoch."""

    trial: int
    parameters: int
    score: float


def sized_trials(spec: StudySpec, state: StudyState) -> list[Sized]:
    """Returns the trials with a score whose models' sizes differ, smallest first; none where all have the same size.

    Trials of versions that did not report the size are left out.
    """
    found = []
    for trial in state.trials.values():
        score = trial.best_value(spec.objective, spec.mode)
        sizes = [metrics["parameters"] for metrics in trial.epochs.values() if "parameters" in metrics]
        if score is not None and sizes:
            found.append(Sized(trial.number, int(sizes[-1]), score))
    found.sort(key=lambda one: (one.parameters, one.trial))
    return found if len({one.parameters for one in found}) > 1 else []


def size_front(trials: list[Sized], mode: str) -> list[Sized]:
    """Returns those of which no smaller or equally large one is as good, smallest first."""
    sign = 1.0 if mode == "max" else -1.0
    front: list[Sized] = []
    for one in sorted(trials, key=lambda one: (one.parameters, -sign * one.score, one.trial)):
        if not front or sign * one.score > sign * front[-1].score:
            front.append(one)
    return front
