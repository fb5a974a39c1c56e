"""One parameter of a search space: a range of floats or of integers, or choices; its default and its conditions.

What a range or choices must be is in `range_checks.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, Protocol, Self

from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
    model_validator,
)

from search_spaces.range_checks import check_choices, check_distribution, check_range, distribution_contains

WRITTEN = "written by emotune"
"""Validation context of what emotune wrote itself: rules that were added since do not keep it from opening."""

_MAX_CHECKED = 10_000
"""Steps of a range that are tried at check time; of more, so many evenly spaced ones."""


def _scalar_value(value: object) -> object:
    if not isinstance(value, bool | int | float | str):
        raise ValueError("must be one number, one text, true or false")
    return value if isinstance(value, bool | str) else _number_value(value)


def _number_value(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError("must be a number of at most 64 bits")
    return value


def _integer_value(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return _number_value(value)


def value_text(value: Value) -> str:
    """Returns a value as `scale_by` names it; 64 and 64.0 are one."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.9g}" if isinstance(value, int | float) else value


def _factors_by_text(raw: object) -> object:
    if not isinstance(raw, Mapping):
        raise ValueError("must have a factor for each value, for instance {sgd: 30}")
    return {value_text(key) if isinstance(key, bool | int | float) else key: factor for key, factor in raw.items()}


Value = Annotated[StrictBool | StrictInt | StrictFloat | StrictStr, BeforeValidator(_scalar_value)]
_Float = Annotated[float, BeforeValidator(_number_value)]
_Factor = Annotated[_Float, Field(gt=0, allow_inf_nan=False)]
_Int = Annotated[StrictInt, BeforeValidator(_integer_value)]


class Suggester(Protocol):
    """What proposes values: an `optuna.trial.Trial` has these three methods."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """Proposes a float in [low, high]."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Proposes an int in [low, high]."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Proposes one of the choices."""


class _Parameter(BaseModel, frozen=True, extra="forbid"):
    when: dict[str, Value | list[Value]] = Field(default_factory=dict)

    def active(self, values: Mapping[str, Value]) -> bool:
        """Says whether every condition of `when` holds for the values chosen so far."""
        return all(
            name in values and any(same_value(values[name], value) for value in wanted)
            for name, wanted in self.conditions().items()
        )

    def factor(self, values: Mapping[str, Value]) -> float:
        """Returns what the range is multiplied by under the values chosen so far."""
        return 1.0

    def exact(self, value: Value) -> Value:
        """Returns a value as it is proposed: without the last digit that arithmetic may have added to it."""
        return value

    def conditions(self) -> dict[str, list[Value]]:
        """Returns `when` with every single value as a list of one."""
        return {name: wanted if isinstance(wanted, list) else [wanted] for name, wanted in self.when.items()}


class FloatParameter(_Parameter, frozen=True):
    """A float in [low, high], uniform, in steps, or uniform in its logarithm.

    Range and default are multiplied by the factors that `scale_by` has for the values of other parameters: what suits
    one optimizer is 30 times too small for another. Optuna is told what it was before, so that it learns for all.
    """

    type: Literal["float"]
    low: _Float = Field(allow_inf_nan=False)
    high: _Float = Field(allow_inf_nan=False)
    default: _Float = Field(allow_inf_nan=False)
    log: StrictBool = False
    step: _Float | None = Field(None, gt=0, allow_inf_nan=False)
    scale_by: dict[str, Annotated[dict[str, _Factor], BeforeValidator(_factors_by_text)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        check_range(self.low, self.high, self.default, self.log, self.step is not None)
        if self.scale_by and self.step is not None:
            raise ValueError(f"scale_by and step exclude each other. Received: step={self.step}. Remove one of them")
        if info.context != WRITTEN:
            check_distribution(self)
        return self

    def distribution(self) -> FloatDistribution:
        """Returns Optuna's distribution of this parameter."""
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def factor(self, values: Mapping[str, Value]) -> float:
        """Returns what the range is multiplied by under the values chosen so far."""
        found = 1.0
        for name, factors in self.scale_by.items():
            found *= factors.get(value_text(values[name]), 1.0) if name in values else 1.0
        return found

    def exact(self, value: Value) -> Value:
        """Returns the end of the range that a value only misses by its last digit, else the value."""
        return next((end for end in (self.low, self.high) if end != value and same_value(value, end)), value)

    def bounds(self, choices: Mapping[str, Sequence[Value]] | None = None) -> tuple[float, float]:
        """Returns the smallest and the largest value that can be proposed, whatever the other parameters are.

        Args:
            choices: of other parameters, by name; without a parameter's, it may have a value that no factor is for.
        """
        known = choices or {}
        factors = [
            [named.get(value_text(value), 1.0) for value in known[name]] if name in known else [1.0, *named.values()]
            for name, named in self.scale_by.items()
        ]
        smallest, largest = math.prod(map(min, factors)), math.prod(map(max, factors))
        ends = [end * factor for end in (self.low, self.high) for factor in (smallest, largest)]
        return min(ends), max(ends)

    def suggest(self, name: str, trial: Suggester) -> float:
        """Asks the trial for a value, before it is multiplied."""
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def every_value(self) -> list[float] | None:
        """Returns all values that can be proposed, before they are multiplied; None for a range without steps."""
        if self.step is None:
            return [self.low] if self.low == self.high else None
        low, step = Decimal(str(self.low)), Decimal(str(self.step))
        return [float(low + k * step) for k in range(round((self.high - self.low) / self.step) + 1)]

    def contains(self, value: Value) -> bool:
        """Says whether a value can be proposed."""
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and distribution_contains(self.distribution(), value)
        )

    def checked_values(self) -> Iterator[float]:
        """Yields values that can be proposed: both ends, and with steps as many between them as are worth trying."""
        yield from (self.low, self.high)
        if self.step is not None:
            steps = round((self.high - self.low) / self.step)
            yield from (self.low + k * self.step for k in range(1, steps, steps // _MAX_CHECKED + 1))


class IntParameter(_Parameter, frozen=True):
    """An integer in [low, high], uniform, in steps, or uniform in its logarithm."""

    type: Literal["int"]
    low: _Int
    high: _Int
    default: _Int
    log: StrictBool = False
    step: _Int = Field(1, ge=1)

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        check_range(self.low, self.high, self.default, self.log, self.step != 1)
        if info.context != WRITTEN:
            check_distribution(self)
        return self

    def distribution(self) -> IntDistribution:
        """Returns Optuna's distribution of this parameter."""
        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    def bounds(self) -> tuple[int, int]:
        """Returns the smallest and the largest value."""
        return self.low, self.high

    def suggest(self, name: str, trial: Suggester) -> int:
        """Asks the trial for a value."""
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def every_value(self) -> Sequence[int]:
        """Returns all values that can be proposed."""
        return range(self.low, self.high + 1, self.step)

    def contains(self, value: Value) -> bool:
        """Says whether a value can be proposed."""
        return (
            isinstance(value, int) and not isinstance(value, bool) and distribution_contains(self.distribution(), value)
        )

    def checked_values(self) -> Iterator[int]:
        """Yields values that can be proposed: both ends; steps between integers are exact."""
        yield from (self.low, self.high)


class CategoricalParameter(_Parameter, frozen=True):
    """One of several choices without an order."""

    type: Literal["categorical"]
    choices: list[Value] = Field(min_length=1)
    default: Value

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        if info.context != WRITTEN:
            check_choices(self.choices)
        if self.default not in self.choices:
            raise ValueError(f"default must be one of choices={self.choices}. Received: {self.default!r}")
        return self

    def distribution(self) -> CategoricalDistribution:
        """Returns Optuna's distribution of this parameter."""
        return CategoricalDistribution(self.choices)

    def suggest(self, name: str, trial: Suggester) -> Value:
        """Asks the trial for a value."""
        value: Value = trial.suggest_categorical(name, self.choices)
        return value

    def exact(self, value: Value) -> Value:
        """Returns the choice that a value is: Optuna compares to the last digit."""
        return next((choice for choice in self.choices if same_value(value, choice) and choice != value), value)

    def every_value(self) -> Sequence[Value]:
        """Returns the choices."""
        return self.choices

    def contains(self, value: Value) -> bool:
        """Says whether a value is one of the choices."""
        return any(same_value(value, choice) for choice in self.choices)


AnyParameter = FloatParameter | IntParameter | CategoricalParameter
Parameter = Annotated[FloatParameter | IntParameter | CategoricalParameter, Field(discriminator="type")]


def same_value(one: Value, other: Value) -> bool:
    """Says whether two values count as one: a number is no truth value, and a step's last digit does not matter."""
    if isinstance(one, bool) or isinstance(other, bool) or isinstance(one, str) or isinstance(other, str):
        return type(one) is type(other) and one == other
    return math.isclose(one, other, rel_tol=1e-9)


def is_continuous(parameter: AnyParameter) -> bool:
    """Says whether a parameter hardly ever proposes the same value twice."""
    return isinstance(parameter, FloatParameter) and parameter.step is None and parameter.low < parameter.high
