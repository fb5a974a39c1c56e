"""What may vary: the search space's model and the spaces that come with emotune. Imports neither Ray nor Keras."""

from __future__ import annotations

from pathlib import Path

from search_spaces.parameters import (
    WRITTEN,
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    Suggester,
    Value,
)
from search_spaces.space import SearchSpace

__all__ = [
    "WRITTEN",
    "CategoricalParameter",
    "FloatParameter",
    "IntParameter",
    "Parameter",
    "SearchSpace",
    "Suggester",
    "Value",
    "builtin_spaces",
]


def builtin_spaces() -> dict[str, Path]:
    """Returns the YAML file of every space that comes with emotune, by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}
