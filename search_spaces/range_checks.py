"""What a range and its choices must be: ends in order, numbers that Optuna holds exactly, choices that differ.

Whether a value lies in a range or on its steps is decided by Optuna's own distribution, at check time: what it would
round, drop or not take back from its storage is refused before anything is trained.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from optuna.distributions import FloatDistribution, IntDistribution, distribution_to_json, json_to_distribution

if TYPE_CHECKING:
    from search_spaces.parameters import FloatParameter, IntParameter, Value

_MAX_STEPS = 1_000_000
_LARGEST_INTEGER = 2**53


def distribution_contains(distribution: FloatDistribution | IntDistribution, value: float) -> bool:
    """Says whether Optuna takes a value as one of a distribution, and gives the same one back."""
    try:
        internal = distribution.to_internal_repr(value)  # type: ignore[arg-type]
        return distribution._contains(internal) and distribution.to_external_repr(internal) == value
    except (ValueError, ArithmeticError):
        return False


def check_choices(choices: Sequence[Value]) -> None:
    """Refuses choices that are not finite, or equal."""
    if not all(math.isfinite(choice) for choice in choices if isinstance(choice, int | float)):
        raise ValueError(f"choices must be finite. Received: {choices}. Remove the one that is not")
    for index, choice in enumerate(choices):
        # Optuna and a trial take 1, 1.0 and true for the same, and 0.0 and -0.0.
        equal = next((other for other in choices[:index] if other == choice), None)
        if equal is not None:
            raise ValueError(f"choices must differ. Received: {equal!r} and {choice!r}, which are equal. Remove one")


def check_distribution(parameter: FloatParameter | IntParameter) -> None:
    """Refuses a range that Optuna changes, cannot hold, or does not take back from its storage."""
    low, high, step = parameter.low, parameter.high, parameter.step
    received = f"low={low!r}, high={high!r}" + (f", step={step!r}" if step not in (None, 1) else "")
    if parameter.type == "int" and max(abs(low), abs(high)) > _LARGEST_INTEGER:
        raise ValueError(f"Optuna holds integers up to 2^53. Received: {received}. Narrow the range")
    if parameter.type == "float" and step is not None and (high - low) / step > _MAX_STEPS:
        raise ValueError(f"a range must have at most {_MAX_STEPS:,} steps. Received: {received}. Write a larger step")
    try:
        with warnings.catch_warnings(record=True) as warned:  # that it changes `high`, be it to the same float
            warnings.simplefilter("always")
            distribution = parameter.distribution()
            stored = json_to_distribution(distribution_to_json(distribution))
        if not math.isfinite(high - low):
            raise OverflowError
    except (ValueError, ArithmeticError):  # a decimal or a float that cannot hold it
        raise ValueError(f"Optuna must be able to hold the range. Received: {received}. Narrow it") from None
    if distribution.high != high:
        raise ValueError(
            f"high must be low plus a whole number of steps. Received: {received}. "
            f"Write high: {distribution.high!r}, or another step"
        )
    lost = next((value for value in parameter.checked_values() if not distribution_contains(distribution, value)), None)
    if lost is not None or warned or stored != distribution:
        what = f" Optuna does not hold {lost!r} exactly" if lost is not None else " its storage rounds them"
        raise ValueError(
            f"low, high and step must be numbers that Optuna holds.{what}. Received: {received}. Round them"
        )
    if not distribution_contains(distribution, parameter.default):
        steps = round((parameter.default - low) / step) if step else 0
        near = f". Write default: {low + steps * step!r}" if step else ""
        raise ValueError(
            f"default must be low plus a whole number of steps. Received: {parameter.default!r}, {received}{near}"
        )


def _short(value: float) -> str:
    """Returns a number in six digits where these are all it has."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def check_range(low: float, high: float, default: float, log: bool, stepped: bool) -> None:
    """Refuses a range whose ends, default and scale do not go together."""
    if low > high:
        raise ValueError(f"low={_short(low)} must be <= high={_short(high)}. Exchange them")
    if not low <= default <= high:
        raise ValueError(
            f"default must be in [low, high] = [{_short(low)}, {_short(high)}]. Received: {_short(default)}"
        )
    if log and low <= 0:
        raise ValueError(f"log: true needs low > 0. Received: low={_short(low)}")
    if log and stepped:
        raise ValueError("log and step exclude each other. Remove one of them")
