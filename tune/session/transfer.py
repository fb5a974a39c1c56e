"""The configurations that a study tries first: those that its file names, and the best of an earlier study.

Of the latter as many values as the study's space has. Trains nothing.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tune.errors import StudyError
from tune.study.spec import StudySpec
from tune.study.studies import find_study
from tune.study.study_state import StudyState

TRANSFERRED = 3
"""How many of its best configurations a study takes over."""

_TRANSFER = "transfer_from"


def owes_transfer(spec: StudySpec, state: StudyState) -> bool:
    """Says whether the best of an earlier study are still to be taken over, which happens once for each."""
    taken = (f"{_TRANSFER} {spec.transfer_from} ", *(f"{_TRANSFER} {place}" for place in range(1, TRANSFERRED + 1)))
    # Earlier versions did not write which study it was.
    return bool(spec.transfer_from) and not any(
        request.startswith(taken[0]) or request in taken[1:] for request in state.requests
    )


def first_configurations(spec: StudySpec, state: StudyState) -> list[tuple[str, dict[str, Any]]]:
    """Returns what is tried after the default configuration, each complete, with a name that stays the same for it.

    Args:
        spec: the study.
        state: what has happened in it; what it has taken over of an earlier study is not taken over again.

    Raises:
        StudyError, PlaceError: as `transferred_configurations`.
    """
    points = [spec.complete(given) for given in spec.points_to_evaluate]
    best = transferred_configurations(spec) if owes_transfer(spec, state) else []
    return [
        *((f"points_to_evaluate {_digest(values)}", values) for values in points),
        *((f"{_TRANSFER} {spec.transfer_from} {place}", values) for place, values in enumerate(best, 1)),
    ]


def _digest(values: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=6).hexdigest()


def transferred_configurations(spec: StudySpec) -> list[dict[str, Any]]:
    """Returns the best configurations of the study that `transfer_from` names, best first, each complete.

    A parameter that only one of the spaces has is left out, or has its default. A configuration with a value that this
    space does not have is passed over, and the next best takes its place.

    Raises:
        StudyError: there is no such study, no trial of it has a score, or this space has none of its configurations.
        PlaceError: its bucket cannot be reached.
    """
    if not spec.transfer_from:
        return []
    earlier = find_study(spec.transfer_from, spec.storage)
    state = earlier.state()
    ranked = earlier.ranked(state)
    if (best := earlier.best_trial(state)) is not None:  # of those that were trained again, with several seeds
        ranked = [best, *(record for record in ranked if record is not best)]
    if not ranked:
        raise StudyError(f"transfer_from must name a study with scores. Received: {spec.transfer_from}, without one")
    found: list[dict[str, Any]] = []
    reason = ""
    for record in ranked:
        try:
            values = _shared_values(spec, {**earlier.spec.fixed, **record.values})
        except ValueError as error:
            reason = reason or str(error)
            continue
        if values not in found:
            found.append(values)
        if len(found) == TRANSFERRED:
            break
    if not found:
        raise StudyError(
            f"the space must have one of the configurations of {spec.transfer_from}. The best does not fit: {reason}. "
            "Widen the space, or remove transfer_from"
        )
    return found


def _shared_values(spec: StudySpec, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values that count in this study's space, completed.

    Raises:
        ValueError: one is out of its range.
    """
    shared: dict[str, Any] = {}
    for name, parameter in spec.space.parameters.items():
        known = spec.space.complete(shared)
        if name in values and parameter.active(known):
            shared[name] = values[name]
    return spec.complete(shared)
