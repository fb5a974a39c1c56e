"""Which configurations of a study's space its `constraints` allow. Draws at random to see whether there are any."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces import SearchSpace, Value
from search_spaces.constraints import Constraint, parse_constraint
from trainables.config import OWN_PREFIXES, TRIAL_PARAMETERS, TrialConfig
from tune.errors import nearest
from tune.study.trial_parameters import LocatedError

_DRAWS, _FEWEST = 2000, 10
"""Random configurations of which so many must be allowed: fewer, and a search would mostly draw in vain."""


def broken_constraint(
    constraints: Sequence[str], space: SearchSpace, fixed: Mapping[str, Value], values: Mapping[str, Value]
) -> str:
    """Returns the first constraint that a configuration breaks, empty if none.

    One that names a parameter which does not count in the configuration holds.
    """
    defaults = {name: TrialConfig.model_fields[name].default for name in TRIAL_PARAMETERS}
    known: dict[str, Any] = {**defaults, **fixed, **values}
    for text in constraints:
        constraint = parse_constraint(text)
        if any(name in space.parameters and name not in values for name in constraint.names):
            continue
        if not constraint.holds(known):
            return text
    return ""


def check_constraints(constraints: Sequence[str], space: SearchSpace, fixed: Mapping[str, Value]) -> None:
    """Refuses constraints that are none, that the defaults break, or that leave hardly anything of the space.

    Raises:
        LocatedError: a rule is broken.
    """
    for place, text in enumerate(constraints):
        try:
            _check_names(parse_constraint(text), space, fixed)
            if broken_constraint([text], space, fixed, space.defaults()):
                raise ValueError(
                    f"{text!r} must hold for the defaults of the space, which trial 0 runs. Received: {_shown(space)}. "
                    "Change a default"
                )
        except ValueError as error:
            raise LocatedError(("constraints", place), f"constraints: {error}") from None
    if not constraints:
        return
    draws = [space.suggest(RandomSuggester(seed)) for seed in range(_DRAWS)]
    try:
        allowed = sum(not broken_constraint(constraints, space, fixed, values) for values in draws)
    except ValueError as error:
        raise LocatedError(("constraints",), f"constraints: {error}") from None
    if allowed < _FEWEST:
        raise LocatedError(
            ("constraints",),
            f"constraints must leave at least one in {_DRAWS // _FEWEST} configurations of the space. Received: "
            f"{allowed} of {_DRAWS} drawn at random. Narrow the ranges instead",
        )


def _check_names(constraint: Constraint, space: SearchSpace, fixed: Mapping[str, Value]) -> None:
    known = {*TRIAL_PARAMETERS, *space.parameters, *fixed}
    for name in sorted(constraint.names - known):
        own = name.startswith(OWN_PREFIXES)
        hint = " Name it in fixed or in space" if own else nearest(name, known)
        raise ValueError(f"{constraint.text!r}: {name} is no parameter of the study.{hint}")


def _shown(space: SearchSpace) -> str:
    return ", ".join(f"{name}={value}" for name, value in space.defaults().items())


class RandomSuggester:
    """Draws uniformly, as an `optuna.trial.Trial` proposes."""

    def __init__(self, seed: int) -> None:
        """Takes the seed."""
        self._random = random.Random(seed)

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """Draws a float in [low, high]."""
        if step is not None:
            return low + step * self._random.randint(0, round((high - low) / step))
        return math.exp(self._random.uniform(math.log(low), math.log(high))) if log else self._random.uniform(low, high)

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Draws an int in [low, high]."""
        if log:
            return min(high, max(low, round(math.exp(self._random.uniform(math.log(low), math.log(high))))))
        return self._random.randrange(low, high + 1, step)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Draws one of the choices."""
        return self._random.choice(choices)
