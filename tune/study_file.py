"""Reads a study's YAML: file, `--set` overrides, line numbers. Knows no rule of the study; `spec.py` does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from search_spaces import builtin_spaces
from tune.errors import StudyFileError, nearest

Location = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML with repeated keys refused: the second would silently win."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    own = sum(key_node.tag != "tag:yaml.org,2002:merge" for key_node, _ in node.value)
    loader.flatten_mapping(node)  # what `<<` brings in stands first, and may be overridden
    merged = len(node.value) - own
    result: dict[Any, Any] = {}
    written: set[Any] = set()
    for index, (key_node, value_node) in enumerate(node.value):
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool | None):
            raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key_node.start_mark)
        if key in written:
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands here twice", key_node.start_mark)
        if index >= merged:
            written.add(key)
        result[key] = loader.construct_object(value_node, deep=True)
    return result


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """Reads one YAML mapping.

    Raises:
        StudyFileError: the file is missing, unreadable, no YAML, no mapping, or names a key twice.
    """
    return _parse(read_text(path, what), str(path), what)


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


def _parse(text: str, name: str, what: str) -> dict[str, Any]:
    try:
        raw = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise StudyFileError(f"{what} must be valid YAML ({name}{line}): {error.problem}. Mend that line") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise StudyFileError(f"{what} must be valid YAML ({name}): {' '.join(str(error).split())}. Mend it") from None
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else type(raw).__name__
        raise StudyFileError(f"{what} must be a mapping of keys to values ({name}). Received: {found}")
    return raw


def read_study_file(
    path: Path, overrides: Sequence[str] = (), values: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Reads a study file, puts its search space in place, and applies the overrides in order.

    Args:
        path: the study file.
        overrides: `dotted.path=value`; the value is YAML, so `[16, 32]` is a list and `null` removes a value.
        values: whole keys, replaced last; None leaves a key alone.

    Returns:
        The raw mapping; `space` is a mapping of parameters whatever the file said.

    Raises:
        StudyFileError: a file or override cannot be read.
    """
    raw = read_yaml(path, "a study file")
    space = raw.get("space")
    for override in overrides:  # an override of the whole space comes before any override inside it
        if override.startswith("space="):
            space = _value(override)
    if isinstance(space, str):
        raw["space"] = _read_space(space, path.parent)
    elif space is not None:
        raw["space"] = space
    for override in overrides:
        if not override.startswith("space="):
            _apply(raw, override)
    return raw | {name: value for name, value in (values or {}).items() if value is not None}


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


def _value(override: str) -> Any:
    _, _, text = override.partition("=")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError):
        raise StudyFileError(f"--set takes a YAML value. Received: {override!r}. Quote or mend the value") from None


def _apply(raw: dict[str, Any], override: str) -> None:
    path, equals, _ = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise StudyFileError(f"--set takes path=value, as in asha.max_epochs=8. Received: {override!r}")
    place = raw
    for key in keys[:-1]:
        inner = place.setdefault(key, {})
        if not isinstance(inner, dict):
            raise StudyFileError(f"--set cannot reach into {key!r}, which is no mapping. Received: {override!r}")
        place = inner
    if not override.partition("=")[2].strip():
        raise StudyFileError(f"--set takes a value after the =, or null to remove a key. Received: {override!r}")
    value = _value(override)
    if value is None:
        place.pop(keys[-1], None)
    else:
        place[keys[-1]] = value


def line_of(path: Path, location: Location) -> int | None:
    """Returns the line (from 1) on which the nearest key of `location` stands in a YAML file, or None."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
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
    """Writes a mapping as YAML, to a temporary name first."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(yaml.safe_dump(dict(values), sort_keys=False, width=120), encoding="utf-8")
    temporary.replace(path)
