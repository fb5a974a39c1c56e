"""What scores a trial: one metric of the selection fold, a weighted mean of several, and perhaps a second objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from tune.study.trial_parameters import LocatedError

WEIGHTED = "selection_score"
"""The metric that trials report where the objective is a weighted mean of others."""

Weighable = Literal["selection_accuracy", "selection_macro_f1", "selection_macro_recall", "selection_macro_precision"]
Objective = Literal[Weighable, "selection_loss", "selection_score"]
SecondObjective = Literal[Weighable, "selection_loss", "parameters", "images_per_s"]
ObjectiveWeights = dict[Weighable, Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]]
SPLIT = ("objective_weights", "second_objective")
"""What a study keeps of an `objective` that is no single metric."""

_SMALL = ("selection_loss", "parameters")


def mode_of(metric: str) -> Literal["min", "max"]:
    """Returns whether a metric is to be made small or large."""
    return "min" if metric in _SMALL else "max"


def split_objective(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a study file's content with `objective`, a list of two or a mapping of weights, as fields of a study.

    Raises:
        LocatedError: another list.
    """
    objective = raw.get("objective")
    if isinstance(objective, list | tuple):
        if len(objective) != 2 or None in objective:
            raise LocatedError(
                ("objective",),
                "objective must be one metric, a mapping of weights, or a list of two. "
                f"Received: {list(objective)}. Name two, as in [selection_accuracy, parameters]",
            )
        raw = {**raw, "objective": objective[0], "second_objective": objective[1]}
    if isinstance(raw.get("objective"), Mapping):
        raw = {**raw, "objective": WEIGHTED, "objective_weights": raw["objective"]}
    return raw


def check_objectives(objective: str, second: str | None, weights: ObjectiveWeights, target: float | None) -> None:
    """Refuses two objectives that are one, a weighted one without its weights, and a target that no trial can have.

    Raises:
        ValueError: one of these.
    """
    if second == objective:
        raise ValueError(f"objective must be two different metrics. Received: {second} twice. Name another")
    if (objective == WEIGHTED) != bool(weights):
        raise ValueError(
            f"objective {WEIGHTED} is a weighted mean of metrics, and needs at least one. Received: "
            f"{dict(weights) or 'none'}. Write objective: {{selection_accuracy: 2, selection_macro_f1: 1}}"
        )
    mode = mode_of(objective)
    if target is not None and (target <= 0 or (mode == "max" and target > 1)):
        allowed = "above 0 and at most 1" if mode == "max" else "above 0"
        raise ValueError(f"budget.target of {objective} must be {allowed}. Received: {target:g}. Change it")


def shares(weights: ObjectiveWeights) -> dict[str, float]:
    """Returns weights as shares of their sum, so that the score of metrics from 0 to 1 is from 0 to 1 too."""
    return {metric: weight / sum(weights.values()) for metric, weight in weights.items()}
