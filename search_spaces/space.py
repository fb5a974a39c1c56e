"""The search space: its parameters in order, what they propose together, and whether another only widens it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Self

from optuna.distributions import BaseDistribution
from pydantic import RootModel, ValidationInfo, model_validator

from search_spaces.parameters import (
    WRITTEN,
    AnyParameter,
    CategoricalParameter,
    FloatParameter,
    Parameter,
    Suggester,
    Value,
    is_continuous,
    value_text,
)


class SearchSpace(RootModel[dict[str, Parameter]], frozen=True):
    """Named parameters in order; a condition may only look at parameters above it.

    ```yaml
    optimizer: {type: categorical, choices: [sgd, adam], default: adam}
    momentum: {type: float, low: 0.8, high: 0.99, default: 0.9, when: {optimizer: sgd}}
    ```
    """

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        if not self.root:
            raise ValueError("a search space needs at least one parameter. Received: none")
        above: dict[str, AnyParameter] = {}
        for name, parameter in self.root.items():
            for other, wanted in parameter.conditions().items():
                if other not in above:
                    raise ValueError(
                        f"{name}: when may only name a parameter above it. Received: {other!r}. "
                        f"Parameters above: {', '.join(above) or 'none'}"
                    )
                if info.context == WRITTEN and wanted:
                    continue
                if is_continuous(above[other]):
                    raise ValueError(
                        f"{name}: when {other} must name values that are proposed again and again. Received: "
                        f"{wanted} of a range without steps. Give {other} a step, or choices"
                    )
                strange = [value for value in wanted if not above[other].contains(value)]
                if strange or not wanted:
                    raise ValueError(
                        f"{name}: when {other} must be among that parameter's values. Received: {strange or wanted}"
                    )
            self._check_scale(name, parameter, above)
            above[name] = parameter
        return self

    def _check_scale(self, name: str, parameter: AnyParameter, above: Mapping[str, AnyParameter]) -> None:
        for other, factors in parameter.scale_by.items() if isinstance(parameter, FloatParameter) else ():
            known = above.get(other)
            if not isinstance(known, CategoricalParameter):
                choices = [n for n, p in above.items() if isinstance(p, CategoricalParameter)]
                raise ValueError(
                    f"{name}: scale_by may only name a parameter above it that has choices. Received: {other!r}. "
                    f"Those above: {', '.join(choices) or 'none'}"
                )
            values = [value_text(choice) for choice in known.choices]
            strange = [value for value in factors if value not in values]
            if strange or not factors:
                raise ValueError(
                    f"{name}: scale_by {other} must name some of its choices, {', '.join(values)}. "
                    f"Received: {', '.join(strange) or 'none'}"
                )

    @property
    def parameters(self) -> dict[str, AnyParameter]:
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
                value, factor = parameter.suggest(_optuna_name(name, parameter), trial), parameter.factor(values)
                values[name] = value if factor == 1 else value * factor  # type: ignore[operator]
        return values

    def defaults(self) -> dict[str, Value]:
        """Returns the default of every parameter that is active under the defaults above it."""
        values: dict[str, Value] = {}
        for name, parameter in self.root.items():
            if parameter.active(values):
                factor = parameter.factor(values)
                values[name] = parameter.default if factor == 1 else parameter.default * factor  # type: ignore[operator]
        return values

    def complete(self, given: Mapping[str, Value]) -> dict[str, Value]:
        """Returns a configuration with these values, and the defaults of all other parameters that count beside them.

        Raises:
            ValueError: a parameter is not in the space or does not count beside the others, or a value is out of range.
        """
        strange = [name for name in given if name not in self.root]
        if strange:
            raise ValueError(
                f"{strange[0]} is not in the space. Received: {given[strange[0]]!r}. It has {self._names()}"
            )
        values: dict[str, Value] = {}
        for name, parameter in self.root.items():
            if not parameter.active(values):
                if name in given:
                    others = ", ".join(f"{other}={values.get(other)}" for other in parameter.conditions())
                    raise ValueError(f"{name} does not count where {others}. Received: {given[name]!r}. Leave it out")
                continue
            factor = parameter.factor(values)
            if not isinstance(given.get(name, 0), bool | int | float | str):
                raise ValueError(f"{name} must be one value. Received: {given[name]!r}")
            values[name] = given.get(name, parameter.default if factor == 1 else parameter.default * factor)  # type: ignore[operator]
            proposed = self.optuna_params(values)[_optuna_name(name, parameter)]
            if not parameter.contains(proposed):
                raise ValueError(f"{name} must be {_range(parameter, factor)}. Received: {given[name]!r}")
            if factor == 1:
                values[name] = proposed
        return values

    def _names(self) -> str:
        return ", ".join(self.root)

    def configurations(self, limit: int) -> list[dict[str, Value]] | None:
        """Returns every configuration of the space; None if those are more than `limit`, or without end.

        Worked example: two optimizers, of which one has a momentum of 0.8 or 0.9, are three configurations.
        """
        found: list[dict[str, Value]] = [{}]
        for name, parameter in self.root.items():
            wider: list[dict[str, Value]] = []
            for values in found:
                if not parameter.active(values):
                    wider.append(values)
                    continue
                choices, factor = parameter.every_value(), parameter.factor(values)
                if choices is None or len(wider) + len(choices) > limit:
                    return None
                wider += [{**values, name: v if factor == 1 else v * factor} for v in choices]  # type: ignore[operator]
            found = wider
        return found

    def optuna_params(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Returns a trial's values as Optuna knows them: by its names, and before they were multiplied."""
        params: dict[str, Value] = {}
        for name, value in values.items():
            parameter = self.root[name]
            if isinstance(parameter, FloatParameter) and parameter.scale_by:
                value = float(value) / parameter.factor(values)
            params[_optuna_name(name, parameter)] = parameter.exact(value)
        return params

    def distributions(self, values: Mapping[str, Value]) -> dict[str, BaseDistribution]:
        """Returns Optuna's distribution of each parameter named in `values`, by Optuna's names."""
        return {_optuna_name(name, self.root[name]): self.root[name].distribution() for name in values}

    def incompatible_changes(self, wider: SearchSpace) -> list[str]:
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
                if not any(self._holds_only_added_choices(other, wanted) for other, wanted in new.conditions().items()):
                    reasons.append(f"{name} is new, and earlier trials have no value of it")
            else:
                reasons += [f"{name}: {reason}" for reason in _incompatible_changes(old, new)]
        return reasons

    def _holds_only_added_choices(self, name: str, wanted: Sequence[Value]) -> bool:
        return name in self.root and not any(self.root[name].contains(value) for value in wanted)

    def key(self, values: Mapping[str, Value]) -> str:
        """Returns text that two configurations share if they are the same one; a step's last digit does not matter."""
        return json.dumps({name: value_text(value) for name, value in values.items()}, sort_keys=True)

    def digest(self) -> str:
        """Returns 12 hex digits that change when any parameter changes and stay the same across versions of Python."""
        dump = self.model_dump(mode="json")
        for parameter in dump.values():
            if not parameter.get("scale_by"):
                parameter.pop("scale_by", None)  # spaces have the digests that they had before there was one
        text = json.dumps(dump, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _range(parameter: AnyParameter, factor: float) -> str:
    if isinstance(parameter, CategoricalParameter):
        return f"one of {', '.join(map(str, parameter.choices))}"
    step = f" in steps of {parameter.step:g}" if parameter.step not in (None, 1) else ""
    return f"from {parameter.low * factor:g} to {parameter.high * factor:g}{step}"


def _optuna_name(name: str, parameter: AnyParameter) -> str:
    """Returns a parameter's name in Optuna: another where its numbers are others, multiplied afterwards."""
    return f"{name}_base" if isinstance(parameter, FloatParameter) and parameter.scale_by else name


def _incompatible_changes(old: AnyParameter, new: AnyParameter) -> list[str]:
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
        elif _factors(new) != _factors(old):
            reasons.append("its scale_by changes")
        elif new.step and not all(new.contains(v) for v in old.checked_values() if new.low <= v <= new.high):
            reasons.append("its steps fall elsewhere")
    if new.default != old.default:
        reasons.append(f"its default changes from {old.default} to {new.default}, and trial 0 has run with the former")
    if new.conditions() != old.conditions():
        reasons.append("its conditions change")
    return reasons


def _factors(parameter: AnyParameter) -> dict[str, dict[str, float]]:
    return parameter.scale_by if isinstance(parameter, FloatParameter) else {}
