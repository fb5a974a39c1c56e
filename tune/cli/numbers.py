"""Makes every number of the command line be read by the rules of the study file; typer's own take `010` and `1_000`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import typer
from pydantic_core import PydanticCustomError
from typer.models import ParameterInfo

from tune.yaml_values import parse_number


def read_numbers_like_yaml(app: typer.Typer) -> None:
    """Gives every option and argument of all commands that is a number our parser."""
    for command in app.registered_commands:
        if command.callback is None:
            continue
        hints = get_type_hints(command.callback, include_extras=True)
        for annotation in hints.values():
            kind, info = _number_option(annotation)
            if info is not None:
                info.parser = _parser(kind, info.min, info.max)
        command.callback.__annotations__ = hints  # they were text, which makes new options each time it is read
    for group in app.registered_groups:
        if group.typer_instance is not None:
            read_numbers_like_yaml(group.typer_instance)


def _number_option(annotation: Any) -> tuple[type, ParameterInfo | None]:
    wanted, *extras = get_args(annotation) or (annotation,)
    info = next((extra for extra in extras if isinstance(extra, ParameterInfo) and extra.parser is None), None)
    kinds = {wanted, *get_args(wanted)}
    return (int, info) if int in kinds else (float, info) if float in kinds else (str, None)


def _parser(kind: type, low: float | None, high: float | None) -> Callable[[Any], int | float]:
    what = "a valid integer" if kind is int else "a valid number"
    bounds = " and ".join(
        f"{words} {bound:g}" for words, bound in (("at least", low), ("at most", high)) if bound is not None
    )

    def read(given: Any) -> int | float:
        value = parse_number(given.strip()) if isinstance(given, str) else given
        if kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None or (kind is int and not isinstance(value, int)):
            raise ValueError(f"must be {what}. Received: {given!r}")
        if (low is not None and value < low) or (high is not None and value > high):
            raise ValueError(f"must be {bounds}. Received: {given!r}")
        return kind(value)  # type: ignore[no-any-return]

    def parse(given: Any) -> int | float:
        try:
            return read(given)
        except ValueError as error:  # pydantic, which calls this, would put "Value error" before it
            raise PydanticCustomError("number", "{why}.", {"why": str(error)}) from None

    return parse
