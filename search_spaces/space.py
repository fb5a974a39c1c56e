"""The search space: float, int and categorical parameters with conditions and defaults. Knows no trial, no file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, Self

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import BaseModel, Field, RootModel, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

Value = StrictBool | StrictInt | StrictFloat | StrictStr


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
        return all(name in values and values[name] in wanted for name, wanted in self.conditions().items())

    def conditions(self) -> dict[str, list[Value]]:
        """Returns `when` with every single value as a list of one."""
        return {name: wanted if isinstance(wanted, list) else [wanted] for name, wanted in self.when.items()}


class FloatParameter(_Parameter, frozen=True):
    """A float in [low, high], uniform, in steps, or uniform in its logarithm."""

    type: Literal["float"]
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    default: float = Field(allow_inf_nan=False)
    log: bool = False
    step: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_range(self.low, self.high, self.default, self.log, self.step is not None)
        if self.step is not None:
            _check_on_grid("high", self.high, self.low, self.step)
            _check_on_grid("default", self.default, self.low, self.step)
        return self

    def distribution(self) -> BaseDistribution:
        """Returns Optuna's distribution of this parameter."""
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def suggest(self, name: str, trial: Suggester) -> float:
        """Asks the trial for a value."""
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Value) -> bool:
        """Says whether a value lies in the range."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high


class IntParameter(_Parameter, frozen=True):
    """An integer in [low, high], uniform, in steps, or uniform in its logarithm."""

    type: Literal["int"]
    low: StrictInt
    high: StrictInt
    default: StrictInt
    log: bool = False
    step: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_range(self.low, self.high, self.default, self.log, self.step != 1)
        _check_on_grid("high", self.high, self.low, self.step)
        _check_on_grid("default", self.default, self.low, self.step)
        return self

    def distribution(self) -> BaseDistribution:
        """Returns Optuna's distribution of this parameter."""
        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    def suggest(self, name: str, trial: Suggester) -> int:
        """Asks the trial for a value."""
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Value) -> bool:
        """Says whether a value lies in the range."""
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high


class CategoricalParameter(_Parameter, frozen=True):
    """One of several choices without an order."""

    type: Literal["categorical"]
    choices: list[Value] = Field(min_length=1)
    default: Value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({(type(c), c) for c in self.choices}) != len(self.choices):
            raise ValueError(f"choices must differ. Received: {self.choices}. Remove the repeated one")
        if self.default not in self.choices:
            raise ValueError(f"default must be one of choices={self.choices}. Received: {self.default!r}")
        return self

    def distribution(self) -> BaseDistribution:
        """Returns Optuna's distribution of this parameter."""
        return CategoricalDistribution(self.choices)

    def suggest(self, name: str, trial: Suggester) -> Value:
        """Asks the trial for a value."""
        value: Value = trial.suggest_categorical(name, self.choices)
        return value

    def contains(self, value: Value) -> bool:
        """Says whether a value is one of the choices."""
        return value in self.choices


_AnyParameter = FloatParameter | IntParameter | CategoricalParameter
Parameter = Annotated[FloatParameter | IntParameter | CategoricalParameter, Field(discriminator="type")]


class SearchSpace(RootModel[dict[str, Parameter]], frozen=True):
    """Named parameters in order; a condition may only look at parameters above it.

    ```yaml
    optimizer: {type: categorical, choices: [sgd, adam], default: adam}
    momentum: {type: float, low: 0.8, high: 0.99, default: 0.9, when: {optimizer: sgd}}
    ```
    """

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.root:
            raise ValueError("a search space needs at least one parameter. Received: none")
        above: dict[str, _AnyParameter] = {}
        for name, parameter in self.root.items():
            for other, wanted in parameter.conditions().items():
                if other not in above:
                    raise ValueError(
                        f"{name}: when may only name a parameter above it. Received: {other!r}. "
                        f"Parameters above: {', '.join(above) or 'none'}"
                    )
                strange = [value for value in wanted if not above[other].contains(value)]
                if strange or not wanted:
                    raise ValueError(
                        f"{name}: when {other} must be among that parameter's values. Received: {strange or wanted}"
                    )
            above[name] = parameter
        return self

    @property
    def parameters(self) -> dict[str, _AnyParameter]:
        """The parameters by name, in order."""
        return self.root

    def suggest(self, trial: Suggester) -> dict[str, Value]:
        """Asks for a value of every parameter whose conditions hold.

        Args:
            trial: an `optuna.trial.Trial`, or anything with its three suggest methods.

        Returns:
            Values by name; parameters that are not active are absent.
        """
        values: dict[str, Value] = {}
        for name, parameter in self.root.items():
            if parameter.active(values):
                values[name] = parameter.suggest(name, trial)
        return values

    def defaults(self) -> dict[str, Value]:
        """Returns the default of every parameter that is active under the defaults above it."""
        values: dict[str, Value] = {}
        for name, parameter in self.root.items():
            if parameter.active(values):
                values[name] = parameter.default
        return values

    def distributions(self, values: Mapping[str, Value]) -> dict[str, BaseDistribution]:
        """Returns Optuna's distribution of each parameter named in `values`."""
        return {name: self.root[name].distribution() for name in values}

    def breaks(self, wider: SearchSpace) -> list[str]:
        """Returns why a study with this space cannot go on with another; nothing when the other only widens it.

        Bounds may be wider and choices added; a parameter may be added that only counts under an added choice. Then
        every value tried so far is still one that could be proposed.

        Args:
            wider: the other space.
        """
        reasons = [f"{name} is gone" for name in self.root if name not in wider.root]
        for name, new in wider.root.items():
            old = self.root.get(name)
            if old is None:
                if not any(self._all_new(other, wanted) for other, wanted in new.conditions().items()):
                    reasons.append(f"{name} is new, and earlier trials have no value of it")
            else:
                reasons += [f"{name}: {reason}" for reason in _breaks(old, new)]
        return reasons

    def _all_new(self, name: str, wanted: Sequence[Value]) -> bool:
        return name in self.root and not any(self.root[name].contains(value) for value in wanted)

    def digest(self) -> str:
        """Returns 12 hex digits that change when any parameter changes and stay the same across versions of Python."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _breaks(old: _AnyParameter, new: _AnyParameter) -> list[str]:
    if isinstance(old, CategoricalParameter) and isinstance(new, CategoricalParameter):
        gone = [choice for choice in old.choices if choice not in new.choices]
        reasons = [f"its choices lose {', '.join(map(str, gone))}"] if gone else []
    elif isinstance(old, CategoricalParameter) or isinstance(new, CategoricalParameter) or old.type != new.type:
        return [f"its type changes from {old.type} to {new.type}"]
    else:
        reasons = []
        if new.low > old.low or new.high < old.high:
            reasons.append(f"its bounds shrink from {old.low:g}-{old.high:g} to {new.low:g}-{new.high:g}")
        if (new.log, new.step) != (old.log, old.step):
            reasons.append("its scale changes")
        elif new.step and not math.isclose((shift := (old.low - new.low) / new.step), round(shift), abs_tol=1e-6):
            reasons.append("its steps fall elsewhere")
    if new.default != old.default:
        reasons.append(f"its default changes from {old.default} to {new.default}, and trial 0 has run with the former")
    if new.conditions() != old.conditions():
        reasons.append("its conditions change")
    return reasons


def _check_range(low: float, high: float, default: float, log: bool, stepped: bool) -> None:
    if low > high:
        raise ValueError(f"low={low:g} must be <= high={high:g}. Exchange them")
    if not low <= default <= high:
        raise ValueError(f"default must be in [low, high] = [{low:g}, {high:g}]. Received: {default:g}")
    if log and low <= 0:
        raise ValueError(f"log: true needs low > 0. Received: low={low:g}")
    if log and stepped:
        raise ValueError("log and step exclude each other. Remove one of them")


def _check_on_grid(what: str, value: float, low: float, step: float) -> None:
    steps = (value - low) / step
    if not math.isclose(steps, round(steps), abs_tol=1e-6):
        raise ValueError(
            f"{what} must be low plus a whole number of steps. Received: {value:g}, low={low:g}, step={step:g}"
        )
