"""What several charts of parameters share: trials with scores, and a value's place along a parameter's axis. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from search_spaces import CategoricalParameter, Value
from tune.study.spec import StudySpec
from tune.study.study_state import StudyState
from tune.study.trial_record import TrialRecord


class Scale:
    """Places a parameter's values between 0 and 1 along its axis.

    Attributes:
        choices: of a categorical parameter, in order; else empty.
    """

    def __init__(self, spec: StudySpec, name: str, values: Sequence[Value]) -> None:
        """Takes the parameter, and the values that are to have a place."""
        parameter = spec.space.parameters[name]
        self.choices = list(parameter.choices) if isinstance(parameter, CategoricalParameter) else []
        self._log = bool(getattr(parameter, "log", False))
        self._whole = parameter.type == "int"
        numbers = [self._number(value) for value in values]
        last = float(max(len(self.choices) - 1, 1))
        self._low, self._high = (0.0, last) if self.choices else (min(numbers), max(numbers))

    def __call__(self, value: Value) -> float:
        """Returns a value's place, 0 to 1."""
        width = self._high - self._low
        return (self._number(value) - self._low) / width if width else 0.5

    def value_at(self, place: float) -> Value:
        """Returns the value that has a place, the nearest choice where there are choices."""
        number = self._low + place * (self._high - self._low)
        if self.choices:
            return self.choices[min(round(number), len(self.choices) - 1)]
        value = float(10**number) if self._log else float(number)
        return round(value) if self._whole else value

    def _number(self, value: Any) -> float:
        if self.choices:
            return float(self.choices.index(value)) if value in self.choices else 0.0
        return math.log10(value) if self._log else float(value)

    def ticks(self) -> list[tuple[float, str]]:
        """Returns places and what stands there: each choice, or both ends."""
        if self.choices:
            return [(self(choice), str(choice)) for choice in self.choices]
        ends = (self._low, self._high) if self._high > self._low else (self._low,)
        return [((e - self._low) / ((self._high - self._low) or 2), short(10**e if self._log else e)) for e in ends]


def scored_trials(spec: StudySpec, state: StudyState) -> list[tuple[TrialRecord, float]]:
    """Returns the trials that have a score, their values as the space has them, each with its score.

    Failed trials are left out: they are never a study's best.
    """
    sound = (trial for trial in state.trials.values() if trial.state != "failed")
    found = ((trial, trial.best_value(spec.objective, spec.mode)) for trial in sound)
    return [
        (replace(trial, values=spec.coerce_values(trial.values)), value) for trial, value in found if value is not None
    ]


def short(value: object) -> str:
    """Returns a value with three digits where it is a float."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
