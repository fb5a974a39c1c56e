"""Budgets: which one fires, and the exit code that tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tune.session.plan import may_search, spent_budget
from tune.study.budget import BUDGETS, exhausted_budget, exit_code, result_meets_target, stagnant_trials
from tune.study.spec import StudySpec
from tune.study.studies import StudyFiles
from tune.study.study_state import StudyState
from tune.study.wording import spent_text


def spec(**changes: Any) -> StudySpec:
    space = {"dropout": {"type": "float", "low": 0.0, "high": 0.5, "default": 0.25}}
    return StudySpec.model_validate({"name": "a", "data": "d", "space": space, **changes})


def session(at: float = 0, **changes: Any) -> dict[str, Any]:
    return {"event": "session", "time": at, "number": 1, "pid": 1, "fingerprint": "f", **changes}


def trial(number: int, at: float, *values: float, state: str = "complete") -> list[dict[str, Any]]:
    """A trial that starts at a time, reports one epoch a second, and ends."""
    events: list[dict[str, Any]] = [
        {"event": "trial", "time": at, "trial": number, "values": {}},
        {"event": "started", "time": at, "trial": number},
    ]
    for epoch, value in enumerate(values, 1):
        metrics = {"selection_accuracy": value, "validation_accuracy": value}
        events.append({"event": "epoch", "time": at + epoch, "trial": number, "epoch": epoch, "metrics": metrics})
    return [*events, {"event": "end", "time": at + len(values), "trial": number, "state": state, "reason": ""}]


def record(*events: dict[str, Any]) -> StudyState:
    made = StudyState()
    for event in events:
        made.apply(event)
    return made


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({}, ""),
        ({"time": 99}, "time"),
        ({"budget": {"epochs": 4}}, "epochs"),
        ({"budget": {"epochs": 5}}, ""),
        ({"budget": {"gpu_hours": 0.5 * 4 / 3600}}, "gpu_hours"),
        ({"budget": {"cost": 0.003, "node_hour_price": 0.9}}, "cost"),
        ({"budget": {"target": 0.6}}, "target"),
        ({"budget": {"target": 0.61}}, ""),
        ({"budget": {"stagnation": 1}}, "stagnation"),
        ({"budget": {"stagnation": 2}}, ""),
        ({"budget": {"target": 0.6, "epochs": 1}}, "epochs"),
    ],
    ids=str,
)
def test_the_first_budget_that_is_spent_is_named(limits: dict[str, Any], name: str) -> None:
    done = record(
        session(nodes=3, gpus_per_trial=0.5, node_hour_price=0.9), *trial(0, 0, 0.5, 0.6), *trial(1, 2, 0.3, 0.4)
    )
    assert exhausted_budget(spec(**limits), done, now=4.0, searched_s=100) == name
    assert not name or name in BUDGETS


def test_a_loss_meets_its_target_from_above() -> None:
    done = record(session(), *trial(0, 0))
    metrics = {"selection_loss": 1.1, "validation_loss": 1.0}
    done.apply({"event": "epoch", "time": 1, "trial": 0, "epoch": 1, "metrics": metrics})
    assert exhausted_budget(spec(objective="selection_loss", budget={"target": 1.2}), done, 1, 1) == "target"
    assert exhausted_budget(spec(objective="selection_loss", budget={"target": 1.0}), done, 1, 1) == ""


def test_gpus_are_counted_while_trials_hold_them_and_machines_while_a_session_is_open() -> None:
    done = record(
        session(at=100, nodes=2, gpus_per_trial=0.25, node_hour_price=3.6),
        *trial(0, 110, 0.1, 0.2, 0.3),  # holds its quarter for 3 s
        {"event": "nodes", "time": 120, "count": 4},
        {"event": "session_end", "time": 130, "search_s": 30, "finished": True, "ended_by": "finished"},
    )
    spent = done.spent(now=10_000)
    assert spent.gpu_hours * 3600 == pytest.approx(0.75)
    assert spent.cost == pytest.approx((20 * 2 + 10 * 4) * 3.6 / 3600)
    assert spent.epochs == 3


def test_between_a_killed_session_and_the_next_nothing_is_used() -> None:
    done = record(
        session(at=0, node_hour_price=3600.0),
        *trial(0, 0, 0.5, state="complete")[:-1],
        session(at=1000, number=2, node_hour_price=3600.0),
    )
    assert done.spent(now=1001).cost == pytest.approx(1 + 1)
    assert not done.running


def test_the_time_since_a_driver_was_killed_is_charged_to_no_budget(tmp_path: Path) -> None:
    study = StudyFiles(tmp_path / "a", spec(trials=3, budget={"gpu_hours": 1, "cost": 5, "node_hour_price": 1}))
    done = record(session(at=0, gpus_per_trial=1.0, nodes=1, node_hour_price=1.0), *trial(0, 0, 0.5, 0.6))
    for event in ({"event": "trial", "trial": 1, "values": {}}, {"event": "started", "trial": 1}):
        done.apply({**event, "time": 60})
    assert done.spent(now=24 * 3600).gpu_hours > 23  # as in a session that is open
    assert spent_budget(study, done) == "" and may_search(study, done)


def test_an_open_session_is_charged_up_to_now() -> None:
    done = record(session(at=0, gpus_per_trial=1.0), {"event": "trial", "time": 0, "trial": 0, "values": {}})
    done.apply({"event": "started", "time": 0, "trial": 0})
    assert done.spent(now=3600).gpu_hours == pytest.approx(1.0)


def test_epochs_that_a_crash_made_necessary_again_are_counted_again() -> None:
    events = trial(0, 0, 0.1, 0.2)[:-1]
    done = record(session(), *events, *events[-1:])
    assert done.spent(2).epochs == 3
    assert sorted(done.trials[0].epochs) == [1, 2]
    assert done.epochs_repeated == 1 and spent_text(spec(), done) == f"{done.epochs_trained} epochs (1 of them again)"


def test_stagnation_counts_ended_trials_in_the_order_in_which_they_ended() -> None:
    done = record(session(), *trial(1, 0, 0.5), *trial(0, 1, 0.9), *trial(2, 2, 0.1, state="failed"), *trial(3, 3, 0.2))
    assert stagnant_trials(spec(), done) == 2


def test_what_stagnation_cut_does_not_take_the_stagnation_back() -> None:
    ended = [*trial(0, 0, 0.5), *trial(1, 1, 0.4), *trial(2, 2, 0.3)]
    study = spec(budget={"stagnation": 2})
    done = record(session(), *ended, *trial(3, 3, 0.9, state="cut"))
    assert stagnant_trials(study, done) == 2 and exhausted_budget(study, done, now=9.0, searched_s=1) == "stagnation"


def test_a_stopped_trial_is_no_best_and_before_one_ran_to_its_end_nothing_stagnates() -> None:
    stopped = [*trial(0, 0, 0.7, state="pruned"), *trial(1, 1, 0.6, state="pruned")]
    assert stagnant_trials(spec(), record(session(), *stopped)) == 0
    assert stagnant_trials(spec(), record(session(), *stopped, *trial(2, 2, 0.5), *trial(3, 3, 0.55))) == 0


def test_the_epoch_that_reaches_the_target_is_its_trials_last() -> None:
    done = record(session(), *trial(0, 0, 0.5, 0.55)[:-1])
    study = spec(budget={"target": 0.6})
    for value, met in ((0.59, False), (0.6, True)):
        result = {"epoch": 3, "selection_accuracy": value, "validation_accuracy": 0.9, "done": False}
        assert result_meets_target(study, done.trials[0], result) is met
    assert sorted(done.trials[0].epochs) == [1, 2]
    assert not result_meets_target(spec(), done.trials[0], {**result, "selection_accuracy": 1.0})


def test_what_a_failed_trial_scored_is_no_best_and_meets_no_target() -> None:
    done = record(session(), *trial(0, 0, 0.5), *trial(1, 1, 0.9, state="failed"), *trial(2, 2, 0.6), *trial(3, 3, 0.1))
    assert stagnant_trials(spec(), done) == 1  # trial 2 is the best that can be exported
    assert exhausted_budget(spec(budget={"target": 0.7}), done, now=9.0, searched_s=1) == ""


@pytest.mark.parametrize(
    ("ended_by", "code"),
    [("finished", 0), ("target", 4), ("interrupted", 130), *[(name, 3) for name in BUDGETS if name != "target"]],
)
def test_every_ending_has_its_exit_code(ended_by: str, code: int) -> None:
    assert exit_code(ended_by) == code
