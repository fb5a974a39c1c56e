"""ASHA's rungs: whom they stop, and that the journal brings them back."""

from __future__ import annotations

import pytest

from tune.search.scheduler import Rungs
from tune.study.spec_sections import AshaSettings as AshaSpec
from tune.study.trial_record import RungDecision


def test_rungs_stand_at_the_grace_period_times_powers_of_the_reduction_factor() -> None:
    assert AshaSpec(max_epochs=28, grace_epochs=1, reduction_factor=3).rungs == [1, 3, 9, 27]
    assert AshaSpec(max_epochs=27, grace_epochs=1, reduction_factor=3).rungs == [1, 3, 9]
    assert AshaSpec(max_epochs=1, grace_epochs=1).rungs == []
    assert AshaSpec(max_epochs=28, stop=False).rungs == []
    assert AshaSpec(max_epochs=5, grace_epochs=1, reduction_factor=1.3).rungs == [1, 2, 3, 4]


def test_the_worked_example_of_the_docstring() -> None:
    rungs = Rungs([1], 3, "max")
    for trial, value in enumerate([0.30, 0.50, 0.40]):
        rungs.decide(trial, 1, value)
    low, high = rungs.decide(3, 1, 0.42), rungs.decide(4, 1, 0.45)
    assert low is not None and low.cutoff == pytest.approx(0.4333, abs=1e-4)
    assert (low.stopped, low.rank, low.among) == (True, 2, 4)
    assert high is not None and not high.stopped


def test_nobody_is_stopped_before_as_many_as_the_reduction_factor_have_reached_a_rung() -> None:
    rungs = Rungs([1], 3, "max")
    first, second, third = (rungs.decide(trial, 1, value) for trial, value in enumerate([0.5, 0.1, 0.4]))
    assert first is not None and second is not None and third is not None
    assert (second.stopped, second.cutoff, second.rank, second.among) == (False, None, 2, 2)
    assert not first.stopped and not third.stopped and third.cutoff == pytest.approx(0.3667, abs=1e-4)


def test_a_value_at_the_cutoff_goes_on_so_that_equal_trials_do_not_stop_one_another() -> None:
    rungs = Rungs([1], 2, "max")
    decisions = [rungs.decide(trial, 1, 0.25) for trial in range(4)]
    assert [d is not None and (d.stopped, d.rank) for d in decisions] == [(False, 1)] * 4


def test_a_smaller_loss_is_better_when_the_mode_is_min() -> None:
    rungs = Rungs([1], 2, "min")
    rungs.decide(0, 1, 1.0)
    worse, better = rungs.decide(1, 1, 2.0), rungs.decide(2, 1, 0.5)
    assert worse is not None and worse.stopped and worse.cutoff == 1.0
    assert better is not None and not better.stopped and better.rank == 1


def test_nothing_is_decided_between_rungs() -> None:
    assert Rungs([1, 3], 3, "max").decide(0, 2, 0.5) is None


def test_a_rung_reported_again_gets_the_same_answer_and_is_counted_once() -> None:
    rungs = Rungs([1], 3, "max")
    first = rungs.decide(0, 1, 0.4)
    assert rungs.decide(0, 1, 0.9) is first
    assert len(rungs.decisions[1]) == 1


def test_rungs_rebuilt_from_past_decisions_decide_alike() -> None:
    values = [0.31, 0.52, 0.44, 0.2, 0.61, 0.35]
    straight = Rungs([1], 3, "max")
    expected = [straight.decide(trial, 1, value) for trial, value in enumerate(values)]
    before = Rungs([1], 3, "max")
    past = [d for trial in range(3) if isinstance(d := before.decide(trial, 1, values[trial]), RungDecision)]
    after = Rungs([1], 3, "max", past)
    assert [after.decide(trial, 1, value) for trial, value in enumerate(values)] == expected
