"""A space of which `--set` has narrowed or removed a parameter: what depends on that one follows. Pure; checks nothing.

`--set space.optimizer.choices=[adam, adamw]` leaves `momentum`, which counts with others, out; `space.optimizer=null`
beside `fixed: {optimizer: adam}` keeps what counts with adam, and drops the condition.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from search_spaces.parameters import value_text
from trainables.config import TrialConfig

_SCALED = ("low", "high", "default")


def follow_parents(space: dict[str, Any], changed: Iterable[str], fixed: Mapping[str, Any]) -> None:
    """Drops conditions and parameters that can no longer hold, in place.

    Args:
        space: the raw space, overrides applied.
        changed: names of the parameters that overrides have narrowed or removed.
        fixed: the study's fixed values; a parameter that is neither there nor in the space has its default.
    """
    parents, dropped = {str(name) for name in changed}, set[str]()
    for name, parameter in list(space.items()):
        if not isinstance(parameter, dict) or not isinstance(parameter.get("when", {}), Mapping):
            continue
        conditions = dict(parameter.get("when") or {})
        for other in [other for other in conditions if other in parents]:
            wanted = conditions[other] if isinstance(conditions[other], list) else [conditions[other]]
            left = [value for value in wanted if _may_be(value, other, space, fixed) and other not in dropped]
            if not left:
                dropped.add(name)
            elif other in space:
                conditions[other] = left
            else:
                del conditions[other]
        if name in dropped:
            parents.add(name)
            del space[name]
            continue
        kept = {key: value for key, value in parameter.items() if key != "when"}
        space[name] = _without_lost_factors(kept | ({"when": conditions} if conditions else {}), parents, space, fixed)


def _without_lost_factors(
    parameter: dict[str, Any], parents: set[str], space: Mapping[str, Any], fixed: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a parameter without the factors of choices that are gone; that of a fixed value is multiplied in."""
    factors = parameter.get("scale_by")
    if not isinstance(factors, Mapping):
        return parameter
    kept, changed = dict(factors), dict(parameter)
    for other in [other for other in factors if other in parents and isinstance(factors[other], Mapping)]:
        left = {value: factor for value, factor in factors[other].items() if _may_be(value, other, space, fixed)}
        if other in space and left:
            kept[other] = left
            continue
        del kept[other]
        for factor in left.values():
            try:
                changed |= {key: float(changed[key]) * float(factor) for key in _SCALED if key in changed}
            except (TypeError, ValueError):
                return parameter  # no numbers: what checks the space says so
    del changed["scale_by"]
    return changed | ({"scale_by": kept} if kept else {})


def _may_be(value: Any, name: str, space: Mapping[str, Any], fixed: Mapping[str, Any]) -> bool:
    """Says whether a parameter may have a value: one of its choices, or the one that it has where it does not vary."""
    if name in space:
        parameter = space[name]
        choices = parameter.get("choices") if isinstance(parameter, Mapping) else None
        return not isinstance(choices, list) or _text(value) in map(_text, choices)
    field = TrialConfig.model_fields.get(name)
    return _text(fixed.get(name, field.default if field else None)) == _text(value)


def _text(value: Any) -> str:
    return value_text(value) if isinstance(value, bool | int | float) else str(value)
