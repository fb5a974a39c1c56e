"""Reads a study's YAML or mapping: overrides, line numbers. Knows no rule of the study; `spec.py` does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from search_spaces import builtin_spaces
from trainables.config import OWN_PREFIXES
from trainables.errors import one_line
from trainables.places import Place
from tune.errors import StudyFileError, nearest
from tune.study.narrowed_space import follow_parents
from tune.yaml_values import UnclearValue, Yaml11Loader, Yaml12Loader, dump, parse

Location = tuple[str | int, ...]
Overrides = Sequence[str] | Mapping[str, Any]
"""`dotted.path=value` as `--set` takes it, or a mapping of dotted paths to values, as Python gives it."""

GIVEN = Path("the study's mapping")
"""Where a value was written that came from Python rather than from a file, for messages."""

BROKEN_YAML = (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError)
"""What PyYAML 6 raises for text that is no YAML, or that its own constructors cannot make a value of."""

_MOST_VALUES = 100_000
_OPTIONS = {"budget.cost": "--max-cost"}


def read_yaml(path: Path, what: str, loader: type[Yaml11Loader] = Yaml12Loader) -> dict[str, Any]:
    """Reads one YAML mapping.

    Args:
        path: the file.
        what: what it is, for messages.
        loader: how its values are read; `Yaml11Loader` for files that are Ray's, `WrittenLoader` for those we wrote.

    Raises:
        StudyFileError: the file is missing, unreadable, no YAML, no mapping, names a key twice, or holds a value that
            readers of YAML take for different things.
    """
    return _parse(read_text(path, what), str(path), what, loader)


def read_text(path: Path, what: str) -> str:
    """Reads a text file.

    Raises:
        StudyFileError: it is missing, a folder, not UTF-8 or larger than a megabyte.
    """
    if path.is_dir():
        raise StudyFileError(f"{what} must be a YAML file. Received: the folder {path}. Name the file in it")
    if path.exists() and not path.is_file():
        raise StudyFileError(f"{what} must be a YAML file. Received: {path}, which is none. Name a file")
    try:
        if path.stat().st_size > 1 << 20:
            raise StudyFileError(f"{what} must be smaller than 1 MiB. Received: {path}. Is it the right file?")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = nearest(str(path), near) if near else " Check the path."
        raise StudyFileError(f"{what} {path} does not exist.{hint}") from None
    except UnicodeDecodeError:
        raise StudyFileError(f"{what} must be UTF-8 text. Received: {path}. Is it a YAML file?") from None
    except OSError as error:
        raise StudyFileError(f"{what} {path} cannot be read: {error.strerror}. Check path and permissions") from None


def _parse(text: str, name: str, what: str, loader: type[Yaml11Loader]) -> dict[str, Any]:
    try:
        raw = _without_aliases(parse(text, loader))
    except UnclearValue as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise StudyFileError(f"{what} ({name}{line}): {error.problem}") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise StudyFileError(f"{what} must be valid YAML ({name}{line}): {error.problem}. Fix that line") from None
    except BROKEN_YAML as error:
        raise StudyFileError(f"{what} must be valid YAML ({name}): {one_line(error)}. Fix it") from None
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else type(raw).__name__
        raise StudyFileError(f"{what} must be a mapping of keys to values ({name}). Received: {found}")
    return raw


def read_study_file(
    source: Path | Mapping[str, Any], overrides: Overrides = (), values: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Reads a study file, puts its search space in place, and applies the overrides in order.

    Args:
        source: the study file, or what one holds; the latter is left as it is.
        overrides: `dotted.path=value`; the value is YAML, so `[16, 32]` is a list and `null` removes a value. In a
            mapping of dotted paths, None does.
        values: dotted paths that options of the command line give, replaced last; None leaves one alone.

    Returns:
        The raw mapping; `space` is a mapping of parameters whatever the file said. Keys that begin with `x-` are left
        out: they hold what the file's aliases repeat.

    Raises:
        StudyFileError: a file or override cannot be read.
    """
    given = read_yaml(source, "a study file") if isinstance(source, Path) else _plain(source)
    raw = {key: value for key, value in given.items() if not str(key).startswith("x-")}
    if isinstance(overrides, Mapping):
        sets = [(str(key).split("."), _plain(value), f"{key}={value!r}") for key, value in overrides.items()]
    else:
        sets = [_override(text) for text in overrides]
    for keys, value, _ in sets:  # an override of the whole space comes before any override inside it
        if keys == ["space"]:
            _set_value(raw, keys, value, "")
    if isinstance(raw.get("space"), str):
        raw["space"] = _read_space(raw["space"], source.parent if isinstance(source, Path) else Path())
    for keys, value, text in sets:
        if keys != ["space"]:
            _set_value(raw, keys, value, text)
    inside = [_with_own_names(keys)[1] for keys, _, _ in sets if keys[0] == "space" and len(keys) > 1]
    if inside and isinstance(raw.get("space"), dict):
        fixed = raw.get("fixed")
        follow_parents(raw["space"], inside, fixed if isinstance(fixed, Mapping) else {})
    for name, value in (values or {}).items():
        if value is not None:
            _set_value(raw, name.split("."), value, name)
    return raw


def source_of(location: Location, overrides: Overrides, values: Mapping[str, object] | None) -> str | None:
    """Returns the override or the option that the value at a location comes from, None for the file."""
    options = {name: _OPTIONS.get(name, f"--{name}") for name, value in (values or {}).items() if value is not None}
    if isinstance(overrides, Mapping):
        given = {str(key): f"overrides: {key}" for key in overrides} | options
    else:
        given = {text.partition("=")[0].strip(): f"--set {text}" for text in overrides} | options
    for path, source in reversed(given.items()):
        keys = tuple(path.split("."))
        common = min(len(keys), len(location))
        if common and keys[:common] == tuple(map(str, location[:common])):
            return source
    return None


def _read_space(name: str, folder: Path) -> dict[str, Any]:
    builtin = builtin_spaces()
    if name in builtin:
        return read_yaml(builtin[name], "a search space")
    if not name.endswith((".yaml", ".yml")):
        raise StudyFileError(
            f"space must name a space of emotune or a YAML file. Received: {name!r}.{nearest(name, builtin)}"
        )
    beside = folder / name
    return read_yaml(beside if beside.exists() else Path(name), "a search space")


def read_assignments(texts: Sequence[str]) -> dict[str, Any]:
    """Returns the values of several `PARAMETER=VALUE`, read as in a study file.

    Raises:
        StudyFileError: one is none, or stands twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, written = (part.strip() for part in text.partition("="))
        if not (name and equals and written):
            raise StudyFileError(f"a value is given as PARAMETER=VALUE, as in learning_rate=1e-3. Received: {text!r}")
        if name in found:
            raise StudyFileError(f"a parameter has one value. Received: {name} twice. Remove one")
        try:
            found[name] = parse(written)
        except UnclearValue as error:
            raise StudyFileError(f"{name}: {error.problem}") from None
        except BROKEN_YAML:
            raise StudyFileError(f"a value must be one of YAML. Received: {text!r}. Quote or fix it") from None
    return found


def _override(text: str) -> tuple[list[str], Any, str]:
    """Returns the keys, the value and the text of `PATH=VALUE`."""
    path, equals, written = text.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise StudyFileError(f"--set takes path=value, as in asha.max_epochs=8. Received: {text!r}")
    if not written.strip():
        raise StudyFileError(f"--set takes a value after the =, or null to remove a key. Received: {text!r}")
    try:
        return keys, _without_aliases(parse(written)), text
    except UnclearValue as error:
        raise StudyFileError(f"--set {path.strip()}: {error.problem}") from None
    except BROKEN_YAML:
        raise StudyFileError(f"--set takes a YAML value. Received: {text!r}. Quote or fix the value") from None


def _set_value(raw: dict[str, Any], keys: Sequence[str], value: Any, text: str) -> None:
    place, keys = raw, _with_own_names(keys)
    for key in keys[:-1]:
        if place.get(key) is None:
            place[key] = {}
        if not isinstance(place[key], dict):
            raise StudyFileError(f"--set cannot reach into {key!r}, which is no mapping. Received: {text!r}")
        place = place[key]
    if value is None:
        place.pop(keys[-1], None)
    else:
        place[keys[-1]] = value


def _with_own_names(keys: Sequence[str]) -> list[str]:
    """Returns keys in which the name of a parameter of the user's own is one: `space.model.depth.high`."""
    keys = list(keys)
    of_itself = {"type", "choices", "default", "when"}
    own = ".".join(keys[1:3]).startswith(OWN_PREFIXES)
    if own and (keys[0] == "fixed" or keys[0] == "space" and keys[2] not in of_itself):
        return [keys[0], ".".join(keys[1:3]), *keys[3:]]
    return keys


def _without_aliases(value: Any) -> Any:
    """Returns a value in which what aliases repeat are copies: an override of one must not change the other."""
    left = _MOST_VALUES

    def copy(part: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"its aliases make more than {_MOST_VALUES:,} values of it")
        if isinstance(part, dict):
            return {key: copy(inner) for key, inner in part.items()}
        return [copy(inner) for inner in part] if isinstance(part, list) else part

    return copy(value)


def _plain(value: Any) -> Any:
    """Returns a copy of a value from Python in which paths are text, tuples lists, and NumPy's numbers Python's."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def line_of(path: Path, location: Location) -> int | None:
    """Returns the line (from 1) on which the nearest key of `location` stands in a YAML file, or None."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, *BROKEN_YAML):
        return None
    line: int | None = None
    for key in location:
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                if key_node.value == str(key):
                    line, node = key_node.start_mark.line + 1, value_node
                    break
            else:
                return line
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
    return line


def write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a mapping as YAML, whole or not at all."""
    Place(str(path.parent)).write(path.name, dump(values).encode())
