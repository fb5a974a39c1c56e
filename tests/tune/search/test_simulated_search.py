"""Simulated studies: as many epochs as real searches took, budgets that end them, what is left of begun ones."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tune.session.test_plan import spec
from tune.search.simulated_search import Beginning, Costs, SimulatedStudy, TrialCost, simulate_study
from tune.session.plan import forecast

TEN_SECONDS = Costs(TrialCost(0, 10, 10), lambda rng: TrialCost(0, 10, 10))


def simulated(trials: int, at_once: int = 2, seed: int = 0, **values: Any) -> SimulatedStudy:
    return simulate_study(spec(**values), Beginning(trials), at_once, TEN_SECONDS, seed)


@pytest.mark.parametrize(
    ("trials", "asha", "epochs", "stopped"),
    [
        # FER-2013, two at once: 40 minutes on 2026-11-25, 17 trials on 2026-11-22.
        (21, {"max_epochs": 15, "grace_epochs": 1, "reduction_factor": 3}, 114, None),
        (17, {"max_epochs": 15, "grace_epochs": 2, "reduction_factor": 4}, None, 12),
    ],
)
def test_real_searches_took_what_is_forecast(
    trials: int, asha: dict[str, Any], epochs: int | None, stopped: int | None
) -> None:
    found = forecast(spec(asha=asha), Beginning(trials), 2, None)
    if epochs is not None:
        assert found.epochs.low <= epochs <= found.epochs.high
        assert found.epochs.middle == pytest.approx(epochs, rel=0.2)
    if stopped is not None:
        assert found.stopped.low <= stopped <= found.stopped.high


def test_a_time_that_is_over_ends_the_search_with_the_epochs_that_run() -> None:
    found = simulated(1000, time=300, asha={"max_epochs": 20})
    assert found.ended_by == "time"
    assert 300 <= found.search_s < 300 + 15
    assert found.trials < 40 and found.confirm_epochs > 0
    assert found.epochs == pytest.approx(300 / 10 * 2, rel=0.35)


def test_a_time_ends_many_trials_at_once_only_where_it_is_shorter_than_they_take() -> None:
    study = {"asha": {"max_epochs": 20}, "confirm": {"top": 0}}
    free = simulated(1000, 1000, **study)
    assert free.ended_by == ""
    enough, short = (simulated(1000, 1000, **study, time=time) for time in (2 * free.search_s, 0.5 * free.search_s))
    assert enough.ended_by == "" and enough.trials == pytest.approx(1000)
    assert short.ended_by == "time" and short.search_s < 0.8 * free.search_s


def test_spent_epochs_leave_no_confirmation() -> None:
    found = simulated(1000, budget={"epochs": 25}, asha={"max_epochs": 20})
    assert found.ended_by == "epochs" and 25 <= found.epochs <= 26
    assert found.confirm_epochs == found.confirm_s == 0


def test_more_trials_than_are_simulated_follow_in_proportion_up_to_the_first_budget() -> None:
    study = {"asha": {"max_epochs": 9}, "confirm": {"top": 0}}
    few, many = simulated(80, **study), simulated(8000, **study)
    assert many.search_s == pytest.approx(100 * few.search_s)
    assert many.trials == 8000 and many.ended_by == ""
    limited = simulated(8000, **study, budget={"epochs": 5000}, time=1e9)
    assert limited.ended_by == "epochs" and limited.epochs == pytest.approx(5000)
    assert limited.trials < 8000


def test_what_a_begun_study_has_used_counts() -> None:
    study = spec(budget={"epochs": 100}, asha={"max_epochs": 20})
    fresh = simulate_study(study, Beginning(30), 2, TEN_SECONDS, 0)
    begun = simulate_study(study, Beginning(20, tried=10, used=(("epochs", 90.0),)), 2, TEN_SECONDS, 0)
    assert fresh.ended_by == begun.ended_by == "epochs"
    assert 100 <= fresh.epochs <= 101 and 10 <= begun.epochs <= 11


def test_confirmations_share_the_room_and_several_workers_follow_one_another() -> None:
    def confirm_s(at_once: int, **confirm: Any) -> float:
        study = spec(confirm={"top": 3, "seeds": 2, **confirm}, asha={"stop": False})
        return simulate_study(study, Beginning(4, trainings_at_once=at_once), at_once, TEN_SECONDS, 0).confirm_s

    one, two, all_at_once = confirm_s(1), confirm_s(2), confirm_s(8)
    assert one == pytest.approx(2 * two) and one in (pytest.approx(6 * all_at_once), pytest.approx(8 * all_at_once))
    assert confirm_s(8, workers=2) == pytest.approx(one / 2)
    assert confirm_s(1, refit=True) > one
    alone = confirm_s(2, top=0, refit=1)
    assert 0 < alone == confirm_s(2, top=0, refit=2) < confirm_s(2, top=0, refit=3) == pytest.approx(2 * alone)
    assert confirm_s(2, top=0, refit=1, refit_epochs=40) == pytest.approx(2 * alone)  # in place of 20


def test_without_warm_processes_every_trial_waits_for_its_own() -> None:
    costs = Costs(TrialCost(0, 1, 1), lambda rng: TrialCost(0, 1, 1), process_start_s=100)
    times = []
    for reuse in (True, False):
        study = spec(asha={"max_epochs": 1}, confirm={"top": 0}, resources={"reuse_processes": reuse})
        times.append(simulate_study(study, Beginning(10), 1, costs, 0).search_s)
    assert times[1] / times[0] == pytest.approx((10 * 100 + 10) / (100 + 10))
