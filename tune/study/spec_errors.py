"""Turns what pydantic finds wrong with a study into one line: rule, value, remedy, and where it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from search_spaces import CategoricalParameter, FloatParameter, IntParameter
from trainables.config import TRIAL_PARAMETERS
from tune.errors import nearest
from tune.study.objectives import SPLIT
from tune.study.trial_parameters import LocatedError
from tune.study.yaml_source import Location, Overrides, line_of, source_of


def explain(
    error: ValidationError,
    model: type[BaseModel],
    path: Path,
    raw: Mapping[str, Any],
    overrides: Overrides = (),
    values: Mapping[str, object] | None = None,
) -> str:
    """Returns the first rule that is broken, in one line.

    Args:
        error: what pydantic found.
        model: of the study.
        path: the study file.
        raw: what was read, overrides applied.
        overrides: the `--set` options or their like, which are named where the value comes from one.
        values: what other options gave.
    """
    first = error.errors()[0]
    found = first.get("ctx", {}).get("error")
    located = isinstance(found, LocatedError)
    location = found.location if isinstance(found, LocatedError) else _location_text(first["loc"])
    if location and location[0] in SPLIT and location[0] not in raw:
        location = ("objective", *location[1:])  # as the file has it
    line = line_of(path, location)
    place = source_of(location, overrides, values) or (f"{path}, line {line}" if line else str(path))
    name = ".".join(str(part) for part in location)
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        near = nearest(str(location[-1]), _keys_at(model, location[:-1], raw))
        return f"{name} is no key of a study file ({place}).{near}{more}"
    if first["type"] == "invalid_key":
        return f"a key of a study file must be text ({path}). Received: {first['input']!r}. Quote it{more}"
    if first["type"] == "missing":
        return f"{name} is missing ({place}). Add it{more}"
    message = re.sub(r"^(Value error|Assertion failed), ", "", first["msg"])
    if first["type"] == "string_pattern_mismatch":
        message = "must be letters, digits, dot, dash or underscore, at most 80, beginning with a letter or digit"
    elif first["type"] == "union_tag_invalid":
        message = "type must be float, int or categorical"
    elif first["type"] == "union_tag_not_found":
        message = "needs a type: float, int or categorical"
    elif first["type"] == "model_attributes_type" and location[0] == "space":
        message = "must be a parameter with a type: float, int or categorical; one value belongs in fixed"
    elif first["type"] in ("model_attributes_type", "dict_type"):
        message = "must be a mapping"
    elif first["type"] == "bool_type":
        message = "must be true or false"
    elif first["type"] == "string_type" and isinstance(first["input"], int | float):
        message = f"must be text. Received: {first['input']!r}. Quote it"
    text = f"{name}: {message}" if name and not located else message
    if "Received" not in text and not isinstance(first["input"], dict):
        text += f". Received: {first['input']!r}"
    return f"{text} ({place}){more}"


def _location_text(location: Sequence[int | str]) -> Location:
    """Drops what pydantic adds to a location: union tags and the names of types."""
    tags = {"float", "int", "categorical", "bool", "str", "constrained-str"}
    return tuple(
        part
        for index, part in enumerate(location)
        if not (part in tags and index > 0) and not str(part).startswith(("function-", "list[", "[key]"))
    )


def _keys_at(model: type[BaseModel], location: Location, raw: Mapping[str, Any]) -> Iterator[str]:
    if not location:
        return iter(model.model_fields)
    if location[0] == "space":
        parameter = raw.get("space", {}).get(location[1], {}) if len(location) > 1 else {}
        kinds: dict[Any, type[BaseModel]] = {"categorical": CategoricalParameter, "int": IntParameter}
        return iter(kinds.get(parameter.get("type"), FloatParameter).model_fields)
    section = model.model_fields[str(location[0])].annotation
    for candidate in (section, *get_args(section)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return iter(candidate.model_fields)
    return iter(TRIAL_PARAMETERS)
