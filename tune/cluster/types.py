"""A cluster file as it was read, and a problem found in it. Knows no rule; `check.py` and the providers' modules do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune.study.yaml_source import Location, line_of

_PLACEHOLDER = re.compile(r"FILL-IN[A-Z0-9-]*")


@dataclass(frozen=True)
class FileProblem:
    """One broken rule: where, the rule with what was received, and the remedy."""

    location: Location
    rule: str
    remedy: str

    def line(self, path: Path) -> str:
        """Returns the problem in one line: `place: rule. Remedy (file, line)`."""
        place = ".".join(map(str, self.location)).replace("\n", " ")
        line = line_of(path, self.location)
        where = f"{path}, line {line}" if line else f"{path}"
        return " ".join(f"{place + ': ' if place else ''}{self.rule}. {self.remedy} ({where})".split())


@dataclass(frozen=True)
class ClusterNodeType:
    """One entry of `available_node_types`."""

    name: str
    is_head: bool
    raw: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """What goes to the cloud's API."""
        return self.raw["node_config"]  # type: ignore[no-any-return]

    @property
    def max_workers(self) -> int:
        """Most nodes of this type."""
        return int(self.raw["max_workers"])

    @property
    def min_workers(self) -> int:
        """Nodes of this type that are always there."""
        return int(self.raw["min_workers"])

    def location(self, *keys: str | int) -> tuple[str | int, ...]:
        """Returns the location of a key of this type."""
        return ("available_node_types", self.name, *keys)


def node_types(config: dict[str, Any]) -> list[ClusterNodeType]:
    """Returns the node types of a prepared launcher file, the head first."""
    head = config["head_node_type"]
    found = [ClusterNodeType(name, name == head, raw) for name, raw in config["available_node_types"].items()]
    return sorted(found, key=lambda node: not node.is_head)


def mapping(value: Any) -> dict[str, Any]:
    """Returns a mapping as it is, and an empty one for anything else: what is missing is then said to be missing."""
    return value if isinstance(value, dict) else {}


def mappings(value: Any) -> list[dict[str, Any]]:
    """Returns the mappings in a list; none for anything else."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def texts(value: Any) -> list[str]:
    """Returns the texts in a list; none for anything else."""
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []


def as_number(value: Any) -> float:
    """Returns a number, also one written as text as Kubernetes likes it, and 0 for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0


def unfilled_placeholders(value: Any, location: Location = (), seen: set[str] | None = None) -> Iterator[FileProblem]:
    """Yields a problem for every placeholder that is left, where it first stands."""
    seen = set() if seen is None else seen
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from unfilled_placeholders(inner, (*location, key), seen)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from unfilled_placeholders(inner, (*location, index), seen)
    elif isinstance(value, str):
        for name in sorted(set(_PLACEHOLDER.findall(value)) - seen):
            seen.add(name)
            remedy = f"Put your own in place of every {name}; the page in the file's first lines says which"
            yield FileProblem(location, f"must be filled in. Received: {value!r}", remedy)
