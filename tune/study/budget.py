"""Says when a study has used up a budget or reached its target, which one, and the exit code that tells. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tune.study.spec import StudySpec
from tune.study.study_state import StudyState
from tune.study.trial_record import TrialRecord

BUDGETS = {
    "time": "its time was over",
    "gpu_hours": "its GPU hours were used up",
    "epochs": "its epochs were used up",
    "cost": "its money was spent",
    "target": "its target was met",
    "stagnation": "no better trial was found for long enough",
    "failures": "too many trials in a row failed",
}
"""What can end a search early, and the words for it."""

NOT_REPEATED = "confirm.top is 0"
"""What is journalled as the reason where final fits follow on a search and its best were not trained again."""

_CONSUMED = ("gpu_hours", "epochs", "cost")

_EXIT_CODES = {"finished": 0, "target": 4, "interrupted": 130, "disk_full": 2}
BUDGET_SPENT = 3


def exit_code(ended_by: str) -> int:
    """Returns the command's exit code for how a study ended: 0 finished, 3 a budget, 4 its target, 130 interrupted."""
    return _EXIT_CODES.get(ended_by, BUDGET_SPENT)


def ended_words(ended_by: str) -> str:
    """Returns how a study ended in words: a budget's, else the name, `finished`, `disk full`; "" where it has not."""
    return BUDGETS.get(ended_by, ended_by.replace("_", " "))


def exhausted_budget(spec: StudySpec, state: StudyState, now: float, searched_s: float) -> str:
    """Returns the first budget that is spent, or "" while there is none.

    Args:
        spec: the study.
        state: what has happened.
        now: seconds since 1970.
        searched_s: wall time of the search, all sessions together.
    """
    budget = spec.budget
    if name := first_spent(spec, used_budgets(state, now, searched_s)):
        return name
    if budget.target is not None and target_is_met(spec, state):
        return "target"
    if budget.stagnation is not None and stagnant_trials(spec, state) >= budget.stagnation:
        return "stagnation"
    return ""


def used_budgets(state: StudyState, now: float, searched_s: float) -> dict[str, float]:
    """Returns what was used of each budget that has a limit, by name; the arguments are those of `exhausted_budget`."""
    spent = state.spent(now)
    return {"time": searched_s, "gpu_hours": spent.gpu_hours, "epochs": spent.epochs, "cost": spent.cost}


def first_spent(spec: StudySpec, used: Mapping[str, float]) -> str:
    """Returns the first of the budgets with a limit that is spent, or "" while there is none.

    Args:
        spec: the study.
        used: what is used of each, by the names of `StudySpec.limits`.
    """
    return next((name for name, limit in spec.limits.items() if limit is not None and used[name] >= limit), "")


def consumed_budget(spec: StudySpec, used: Mapping[str, float]) -> str:
    """Returns a spent budget of what confirmations use up as well, so that there are none; "" while there is none.

    Args:
        spec: the study.
        used: as in `first_spent`; what is missing is not used.
    """
    limits = {name: spec.limits[name] for name in _CONSUMED}
    return next((n for n, limit in limits.items() if limit is not None and used.get(n, 0.0) >= limit), "")


def forbids_confirmation(spec: StudySpec, state: StudyState) -> str:
    """Returns the budget that leaves nothing for training the best again once the search has ended, "" for none.

    What has begun is brought to its end.
    """
    return "" if state.confirming else consumed_budget(spec, used_budgets(state, state.last_event, state.search_s))


def repetitions_are_owed(spec: StudySpec, state: StudyState) -> bool:
    """Says whether nobody knows yet what training the search's best again shows, perhaps as it is wanted only now."""
    judged = state.judged
    return judged is None or (spec.confirm.top > 0 and judged.get("skipped") == NOT_REPEATED)


def target_is_met(spec: StudySpec, state: StudyState) -> bool:
    """Says whether a trial has reached the target, in the epoch that counts."""
    trials = (trial for trial in state.trials.values() if trial.state != "failed")  # which nobody can export
    return any(_reaches_target(spec, trial) for trial in trials)


def result_meets_target(spec: StudySpec, trial: TrialRecord, result: Mapping[str, Any]) -> bool:
    """Says whether a trial reaches the target with the epoch that it reports, which is not journalled yet.

    A further epoch might count in place of this one, and be worse.
    """
    if spec.budget.target is None:
        return False
    before = {epoch: metrics for epoch, metrics in trial.epochs.items() if epoch < result["epoch"]}
    return _reaches_target(spec, replace(trial, epochs={**before, result["epoch"]: dict(result)}))


def _reaches_target(spec: StudySpec, trial: TrialRecord) -> bool:
    sign, target = (1 if spec.mode == "max" else -1), spec.budget.target
    value = trial.best_value(spec.objective, spec.mode)
    return target is not None and value is not None and sign * value >= sign * target


def stagnant_trials(spec: StudySpec, state: StudyState) -> int:
    """Returns how many trials have ended since the one that ran to its end with the best score, failed and stopped ones
    among them; 0 while none ran to its end.

    Those that a budget cut do not count: what ended a search would be undone by its own end.
    """
    sign = 1 if spec.mode == "max" else -1
    best, since = None, 0
    for trial in (state.trials[number] for number in state.ended):
        if trial.state == "cut":
            continue
        since += best is not None
        value = trial.best_value(spec.objective, spec.mode) if trial.state in ("complete", "repeat") else None
        if value is not None and (best is None or sign * value > best):
            best, since = sign * value, 0
    return since
