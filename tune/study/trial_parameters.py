"""Checks a study's parameters against what a trial takes: kind, range, choices. `TrialConfig` says what that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from search_spaces import CategoricalParameter, SearchSpace, Value
from search_spaces.parameters import AnyParameter, FloatParameter
from trainables.config import OWN_PREFIXES, TRIAL_PARAMETERS, TrialConfig, parameter_kind
from tune.errors import nearest
from tune.yaml_values import parse_number

NEW_STUDY: dict[str, Value] = {"weight_average": 0.995, "mirror": True, "precision": "auto", "warmup_epochs": 0.25}
"""What a study fixes where its file says nothing. They are written into the study, so that a later default changes no
study; one that does not have them was begun before they were there, and keeps `TrialConfig`'s own, which are off."""

_CHOICES = {"boolean": "{type: categorical, choices: [true, false], default: true}", "text": "type: categorical"}


class LocatedError(ValueError):
    """A broken rule of which the place in the study file is known."""

    def __init__(self, location: tuple[str | int, ...], message: str) -> None:
        """Takes the place and what is wrong there."""
        super().__init__(message)
        self.location = location


def coerce_value(name: str, value: Any) -> Any:
    """Returns a value as its parameter wants it: text that reads as a number is one, and 32.0 is 32 for an integer.

    Anything else is returned as it is; `check_parameters` refuses what does not fit.
    """
    kind = parameter_kind(name) if name in TRIAL_PARAMETERS else "text"
    if kind not in ("integer", "number"):
        return value
    if isinstance(value, str):
        try:
            found = parse_number(value)
        except ValueError:
            found = None
        value = value if found is None else found
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def coerce_space(space: Any) -> Any:
    """Returns the raw mapping of a search space with its values as their parameters want them."""
    if not isinstance(space, Mapping):
        return space
    return {name: _coerce_parameter(str(name), raw) for name, raw in space.items()}


def _coerce_parameter(name: str, raw: Any) -> Any:
    if not isinstance(raw, Mapping):
        return raw
    wanted = dict(raw)
    for key in ("low", "high", "step", "default"):
        # the ends of a float range stay what they are: `type: float` where an integer is wanted is told as that
        if key in wanted and (wanted.get("type") != "float" or isinstance(wanted[key], str)):
            wanted[key] = coerce_value(name, wanted[key])
    if isinstance(wanted.get("scale_by"), Mapping):
        wanted["scale_by"] = {
            other: {v: coerce_value(name, factor) for v, factor in factors.items()}
            if isinstance(factors, Mapping)
            else factors
            for other, factors in wanted["scale_by"].items()
        }
    if isinstance(wanted.get("choices"), list):
        wanted["choices"] = [coerce_value(name, choice) for choice in wanted["choices"]]
    if isinstance(wanted.get("when"), Mapping):
        wanted["when"] = {
            other: [coerce_value(str(other), v) for v in values]
            if isinstance(values, list)
            else coerce_value(other, values)
            for other, values in wanted["when"].items()
        }
    return wanted


def coerce_fixed(fixed: Any) -> Any:
    """Returns the raw mapping of fixed parameters with its values as they are wanted.

    Raises:
        LocatedError: a value is a list or a range, or missing.
    """
    if not isinstance(fixed, Mapping):
        return {} if fixed is None else fixed
    for name, value in fixed.items():
        if isinstance(value, list):
            example = f"{name}: {{type: categorical, choices: {value}, default: {value[0] if value else '...'}}}"
            raise LocatedError(
                ("fixed", name),
                f"fixed.{name}: must be one value. Received: {value}. A list belongs in space: {example}",
            )
        if isinstance(value, Mapping):
            raise LocatedError(
                ("fixed", name), f"fixed.{name}: must be one value. Received: {dict(value)}. A range belongs in space"
            )
        if value is None:
            raise LocatedError(
                ("fixed", name), f"fixed.{name}: must be one value. Received: none. Write one, or remove it"
            )
    return {name: coerce_value(str(name), value) for name, value in fixed.items()}


def coerce_points(points: Any) -> Any:
    """Returns raw configurations to try first with their values as they are wanted."""
    if not isinstance(points, list):
        return [] if points is None else points
    return [
        {name: coerce_value(str(name), value) for name, value in point.items()} if isinstance(point, Mapping) else point
        for point in points
    ]


def complete_fixed(fixed: Mapping[str, Value], varied: Mapping[str, AnyParameter]) -> dict[str, Value]:
    """Returns a new study's fixed parameters with those of `NEW_STUDY` that no trial would have otherwise.

    One that the space has under `when` is there as well: trials in which it does not count have it.
    """
    always = {name for name, parameter in varied.items() if not parameter.when}
    return {**{name: value for name, value in NEW_STUDY.items() if name not in always}, **fixed}


def check_parameters(space: SearchSpace, fixed: Mapping[str, Value], *, written: bool) -> None:
    """Refuses parameters that a trial does not have, and values that it does not take.

    Args:
        space: what varies.
        fixed: what does not.
        written: by emotune itself, perhaps by a version that did not look at kinds.

    Raises:
        LocatedError: a rule is broken.
    """
    known = TRIAL_PARAMETERS
    always = {name: varied for name, varied in space.parameters.items() if not varied.when}
    choices = {name: varied.choices for name, varied in always.items() if isinstance(varied, CategoricalParameter)}
    for name in fixed:
        if name not in known and not name.startswith(OWN_PREFIXES):
            raise LocatedError(("fixed", name), f"fixed.{name} is no parameter of a trial.{nearest(name, known)}")
        if name in space.parameters and not (name in NEW_STUDY and space.parameters[name].when):
            raise LocatedError(("fixed", name), f"{name} stands in both fixed and space. Remove one of them")
    for name, parameter in space.parameters.items():
        if name.startswith(OWN_PREFIXES):
            continue  # `own_files.py` knows what it takes
        if name not in known:
            raise LocatedError(("space", name), f"space.{name} is no parameter of a trial.{nearest(name, known)}")
        if not written:
            _check_type(name, parameter)
        scaled = isinstance(parameter, FloatParameter) and bool(parameter.scale_by)
        for value in _ends(parameter, choices):
            _check_value(("space", name), name, value, written=written)
        if not written and not scaled:  # before it is multiplied a default may be anything
            _check_value(("space", name, "default"), name, parameter.default, written=False)
    for name, value in fixed.items():
        if not name.startswith(OWN_PREFIXES):
            _check_value(("fixed", name), name, value, written=written)


def _ends(parameter: AnyParameter, choices: Mapping[str, Sequence[Value]]) -> Sequence[Value]:
    if isinstance(parameter, CategoricalParameter):
        return parameter.choices
    return parameter.bounds(choices) if isinstance(parameter, FloatParameter) else parameter.bounds()


def _check_type(name: str, parameter: AnyParameter) -> None:
    kind, location = parameter_kind(name), ("space", name, "type")
    if kind == "integer" and parameter.type == "float":
        raise LocatedError(
            location, f"space.{name}: is a whole number, and its type must be int. Received: float. Write type: int"
        )
    if kind in _CHOICES and parameter.type != "categorical":
        raise LocatedError(
            location,
            f"space.{name}: is {'true or false' if kind == 'boolean' else 'a name'}, and its type must be categorical. "
            f"Received: {parameter.type}. Write {_CHOICES[kind]}",
        )


def _check_value(location: tuple[str, ...], name: str, value: Value, *, written: bool) -> None:
    kind, where = parameter_kind(name), ".".join(location)
    if not written:
        if kind == "boolean" and not isinstance(value, bool):
            raise LocatedError(location, f"{where}: must be true or false. Received: {value!r}. Write one of them")
        if kind in ("integer", "number") and isinstance(value, str):
            raise LocatedError(location, f"{where}: must be a number. Received: {value!r}{_why_no_number(value)}")
    if isinstance(value, bool) and kind != "boolean":
        raise LocatedError(location, f"{where}: must not be true or false. Received: {value}")
    try:
        TrialConfig.model_validate({name: value})
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise LocatedError(location, f"{where}: {message[0].lower()}{message[1:]}. Received: {value!r}") from None


def _why_no_number(text: str) -> str:
    try:
        parse_number(text)
    except ValueError as error:
        return f": {error}"
    return ". Write one"
