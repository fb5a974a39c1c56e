"""Draws configurations near one that is trusted, as PriorBand does at first (Mallik et al. 2023, arXiv 2306.12370)."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces import Value
from tune.search.seeds import trial_seed
from tune.study.feasible import RandomSuggester
from tune.study.spec import StudySpec

_SPREAD, _KEPT = 0.2, 0.7
_DRAWS = 1000


class NearSuggester(RandomSuggester):
    """Draws near a configuration, as an `optuna.trial.Trial` proposes; what that one does not have is drawn at random.

    Args:
        seed: of the draws.
        centre: the configuration, as `SearchSpace.optuna_params` returns it.
        spread: standard deviation of a number, as a share of its range (of its logarithm where that is drawn).
        kept: how likely a choice is that of the centre; else it is drawn from all of them.
    """

    def __init__(self, seed: int, centre: Mapping[str, Any], spread: float = _SPREAD, kept: float = _KEPT) -> None:
        """Takes the seed, the configuration and how near to it."""
        super().__init__(seed)
        self._centre, self._spread, self._kept = centre, spread, kept

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """Draws a float in [low, high], normally around the centre's."""
        if name not in self._centre:
            return super().suggest_float(name, low, high, step=step, log=log)
        there, back = (math.log, math.exp) if log else (float, float)
        first, last = there(low), there(high)
        drawn = self._random.gauss(there(self._centre[name]), self._spread * (last - first))
        value = float(back(min(last, max(first, drawn))))
        return min(high, max(low, low + round((value - low) / step) * step if step else value))

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Draws an int in [low, high], normally around the centre's."""
        value = self.suggest_float(name, low, high, step=None, log=log)
        return low + min(round((value - low) / step), (high - low) // step) * step

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Keeps the centre's choice, or draws one of the choices."""
        if name in self._centre and self._random.random() < self._kept:
            return self._centre[name]
        return super().suggest_categorical(name, choices)


def near_points(spec: StudySpec, number: int) -> dict[str, Value] | None:
    """Returns a configuration near a trusted one for a trial that would be random; None where it is to be random.

    Args:
        spec: the study; `near_points` is the share of such trials, `points_to_evaluate` is trusted, without it the
            default configuration.
        number: of the trial, which with the study's seed decides: a resumed study draws the same.
    """
    seed = trial_seed(spec, number)
    draws = random.Random(f"near {seed}")
    learns = spec.sampler == "tpe" and number >= spec.startup_trials
    if learns or draws.random() >= spec.near_points:
        return None
    trusted = [spec.complete(point) for point in spec.points_to_evaluate] or [spec.space.defaults()]
    near = NearSuggester(seed, spec.space.optuna_params(draws.choice(trusted)))
    for _ in range(_DRAWS):
        values = dict(spec.space.suggest(near))
        if not spec.broken_constraint(values):
            return values
    return None
