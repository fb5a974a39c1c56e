"""Luck or not: repeated scores judged; noise is told from a real difference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.recorded_study import record_study
from tests.tune.study.test_budget import record, session, spec, trial
from tune.search.confirmation import (
    Findings,
    confirmation_candidates,
    confirmation_numbers,
    confirmation_scores,
    expected_runs,
    final_fit_numbers,
    judge,
)
from tune.session.confirm_best import final_fit_epochs
from tune.study.budget import consumed_budget
from tune.study.studies import StudyFiles
from tune.study.study_state import StudyState
from tune.study.trial_record import REFIT_SEED, SEED_STRIDE, run_label, run_name


def searched_and_confirmed(rng: np.random.Generator, spread: float, advantage: float) -> Findings:
    """A search of 40 trials whose scores scatter, of which trial 7 is better by an advantage, and its confirmation."""
    truth = np.full(40, 0.5)
    truth[7] += advantage
    search = truth + rng.normal(0, spread, 40)
    top = [int(n) for n in np.argsort(-search)[:3]]
    repeated = {n: (truth[n] + rng.normal(0, spread, 3)).tolist() for n in {*top, 0}}
    found = judge(repeated, (top[0], float(search[top[0]])), "max")
    assert found is not None
    return found


def test_on_pure_noise_the_searchs_best_is_called_luck() -> None:
    found = [searched_and_confirmed(np.random.default_rng(seed), 0.02, 0.0) for seed in range(200)]
    assert np.mean([f.verdict == "better" for f in found]) < 0.05
    # The best of 40 is about 2.16 spreads too good, and training it again shows it.
    assert np.mean([f.luck for f in found]) == pytest.approx(2.16 * 0.02, rel=0.1)
    assert np.mean([f.luck_interval[0] > 0 for f in found]) > 0.6


def test_a_real_difference_is_not_called_luck() -> None:
    found = [searched_and_confirmed(np.random.default_rng(seed), 0.01, 0.08) for seed in range(200)]
    assert np.mean([f.verdict == "better" and f.winner == 7 for f in found]) > 0.95
    for f in found:
        assert f.gain is not None and f.gain_interval is not None
    covered = [f.gain_interval[0] < 0.08 < f.gain_interval[1] for f in found if f.gain_interval]
    assert np.mean(covered) > 0.93


def test_the_winner_has_the_best_mean_and_not_the_best_score() -> None:
    found = judge({0: [0.5, 0.5], 1: [0.9, 0.1], 2: [0.6, 0.62]}, (1, 0.9), "max")
    assert found is not None
    assert (found.winner, found.repeated[0].mean) == (2, pytest.approx(0.61))
    assert found.luck == pytest.approx(0.4)


def test_the_interval_pools_the_spread_of_all_configurations() -> None:
    found = judge({0: [0.4, 0.6], 1: [0.7, 0.9]}, (1, 0.8), "max")
    assert found is not None
    # pooled spread sqrt((0.02 + 0.02) / 2), t(2, 97.5 %) = 4.3027, two seeds: 4.3027 x 0.1414 / sqrt 2
    low, high = found.repeated[0].interval
    assert (low, high) == (pytest.approx(0.8 - 0.43027, abs=1e-4), pytest.approx(0.8 + 0.43027, abs=1e-4))


def test_a_smaller_loss_wins_when_losses_are_minimised() -> None:
    found = judge({0: [1.2, 1.21], 5: [1.0, 1.01]}, (5, 0.9), "min")
    assert found is not None
    assert (found.winner, found.verdict) == (5, "better")
    assert found.gain == pytest.approx(0.2)
    assert found.luck == pytest.approx(0.105)


@pytest.mark.parametrize(
    ("repeated", "verdict"),
    [
        ({0: [0.9, 0.91], 3: [0.5, 0.51]}, "default"),
        ({3: [0.5, 0.51]}, "unknown"),
        ({0: [0.9], 3: [0.5, 0.6]}, "unknown"),
    ],
)
def test_other_verdicts(repeated: dict[int, list[float]], verdict: str) -> None:
    found = judge(repeated, (3, 0.6), "max")
    assert found is not None and found.verdict == verdict


def test_nothing_is_judged_without_two_scores_of_one_configuration() -> None:
    assert judge({0: [0.5], 1: [], 2: [0.7]}, (2, 0.7), "max") is None


def test_the_best_different_configurations_and_the_default_are_trained_again() -> None:
    events: list[dict[str, Any]] = [session()]
    for number, (value, dropout) in enumerate([(0.2, 0.25), (0.9, 0.1), (0.8, 0.1), (0.7, 0.3), (0.6, 0.4)]):
        made = trial(number, number, value)
        made[0]["values"] = {"dropout": dropout}
        events += made
    done = record(*events)
    assert confirmation_candidates(spec(confirm={"top": 2}), done) == [1, 3, 0]
    assert confirmation_candidates(spec(confirm={"top": 9}), done) == [1, 3, 4, 0]
    assert confirmation_numbers(spec(confirm={"seeds": 2}), [1, 0]) == [1_000_001, 1_000_000, 2_000_001, 2_000_000]


def test_luck_is_told_of_no_other_configuration() -> None:
    found = judge({7: [0.6], 3: [0.61, 0.62, 0.63], 0: [0.5, 0.51, 0.52]}, (7, 0.64), "max")
    assert found is not None and found.winner == 3 and found.luck is found.luck_interval is None
    assert found.verdict == "better" and 7 not in {row.trial for row in found.repeated}


def test_a_confirmation_that_a_spent_budget_forbade_is_owed_once_the_budget_is_raised(tmp_path: Path) -> None:
    done = confirmed({"winner": None, "skipped": "its epochs were used up", "budget": "epochs"})
    for epochs, owed in ((1, False), (1000, True)):
        files = StudyFiles(tmp_path, spec(confirm={"top": 2}, budget={"epochs": epochs}))
        assert files.owes_confirmation(done) is owed
    begun = confirmed({"winner": None, "skipped": "its epochs were used up", "budget": "epochs"}, (1, 2, "complete"))
    begun.last_search = -1
    files = StudyFiles(tmp_path, spec(confirm={"top": 2}, budget={"epochs": 1}))
    assert files.owes_confirmation(begun), "what has begun is brought to its end"


def test_trainings_of_an_earlier_confirmation_count_among_those_that_are_expected(tmp_path: Path) -> None:
    study = record_study(tmp_path / "extended", 12)
    state = study.state()
    state.confirmed, state.open_since, state.searching = None, 1.0, False
    wanted = confirmation_numbers(study.spec, confirmation_candidates(study.spec, state))
    assert expected_runs(study.spec, state) == len(wanted)
    overtaken = next(number for number in state.trials if SEED_STRIDE + number not in wanted)
    for number in (wanted[0], overtaken + SEED_STRIDE):
        state.confirmations[number] = replace(state.trials[number % SEED_STRIDE], number=number)
    assert expected_runs(study.spec, state) == len(wanted) + 1


def test_only_complete_confirmations_count() -> None:
    events = [session(), *trial(3, 0, 0.5)]
    for seed, (value, state) in enumerate([(0.4, "complete"), (0.9, "failed"), (0.6, "complete")], 1):
        events += trial(3 + seed * SEED_STRIDE, seed, value, state=state)
    done = record(*events)
    assert confirmation_scores(spec(), done, [3]) == {3: [0.4, 0.6]}
    assert sorted(done.trials) == [3]
    assert done.ended == [3]


def confirmed(findings: dict[str, Any], *runs: tuple[int, int, str]) -> StudyState:
    """Trial 3, its repetitions and fits as (seed, epochs, state), and what was found."""
    search, again = session(phase="search"), session(phase="confirm", number=2)
    events = [search, *trial(3, 0, 0.5, 0.6), again]
    for seed, epochs, state in runs:
        scores = [0.1 * epoch for epoch in range(1, epochs + 1)]
        events += trial(3 + seed * SEED_STRIDE, 10, *scores, state=state)
    return record(*events, {"event": "confirmed", "time": 99, "findings": findings})


def test_failed_repetitions_do_not_count_in_the_epochs_of_a_final_fit() -> None:
    done = confirmed({"winner": 3}, (1, 6, "complete"), (2, 4, "complete"), (3, 1, "failed"))
    assert final_fit_epochs(spec(), done, 3, repeated=True) == 5
    assert final_fit_epochs(spec(), done, 3, repeated=False) == 2  # the trial's own best


def test_final_fits_are_those_that_were_confirmed_and_come_before_the_repetitions() -> None:
    first, second = (3 + seed * SEED_STRIDE for seed in (REFIT_SEED, REFIT_SEED + 1))
    runs = ((1, 2, "complete"), (2, 3, "complete"), (REFIT_SEED, 2, "complete"), (REFIT_SEED + 1, 2, "complete"))
    for findings, fits in (
        ({"winner": 3, "final_fits": [first]}, [first]),
        ({"winner": 3, "final_fits": []}, []),  # of an earlier round
        ({"winner": 3}, [first, second]),  # as emotune wrote it when there was one
        ({"winner": None, "skipped": "", "final_fits": [second]}, [second]),
    ):
        done = confirmed(findings, *runs)
        found = [run.number for run in done.winners_runs("selection_accuracy", "max")]
        assert done.final_fits() == fits
        assert found == [*fits, *([3 + 2 * SEED_STRIDE, 3 + SEED_STRIDE] if findings["winner"] else [])]


def test_fits_of_other_lengths_and_failed_ones_are_made_again_with_seeds_of_their_own() -> None:
    seeds = [(REFIT_SEED, 4, "complete"), (REFIT_SEED + 1, 2, "failed"), (REFIT_SEED + 2, 2, "complete")]
    done = confirmed({"winner": 3}, *seeds)
    numbers = final_fit_numbers(spec(confirm={"refit": 2}), done, 3, 2)
    assert numbers == [3 + (REFIT_SEED + 2) * SEED_STRIDE, 3 + (REFIT_SEED + 3) * SEED_STRIDE]
    longer = spec(confirm={"refit": 2, "refit_epochs": 2})  # as many epochs, but of a schedule of their own
    assert final_fit_epochs(longer, done, 3, repeated=False) == 2
    assert final_fit_numbers(longer, done, 3, 2) == [3 + (REFIT_SEED + n) * SEED_STRIDE for n in (3, 4)]
    done.run(3 + (REFIT_SEED + 2) * SEED_STRIDE).schedule_epochs = 2
    assert final_fit_numbers(longer, done, 3, 2) == [3 + (REFIT_SEED + n) * SEED_STRIDE for n in (2, 3)]


@pytest.mark.parametrize(
    ("findings", "confirm", "owed"),
    [
        (None, {"top": 0, "refit": 0}, False),
        (None, {"top": 0, "refit": 1}, True),
        (None, {"top": 3}, True),
        ({"winner": 3, "final_fits": []}, {"refit": 0}, False),
        ({"winner": 3, "final_fits": []}, {"refit": 1}, True),  # wanted only now
        ({"winner": 3, "final_fits": [900_000_003]}, {"refit": 1}, False),
        ({"winner": 3, "final_fits": [900_000_003]}, {"refit": 1, "refit_epochs": 9}, True),  # longer ones, only now
        ({"winner": 3, "final_fits": [900_000_003]}, {"refit": 0}, False),
        ({"winner": None, "skipped": "its money was spent"}, {"refit": 1}, False),
        ({"winner": None, "skipped": "confirm.top is 0", "final_fits": []}, {"top": 0}, False),
        ({"winner": None, "skipped": "confirm.top is 0", "final_fits": []}, {"top": 3}, True),  # wanted only now
    ],
)
def test_a_study_is_settled_once_all_that_its_file_wants_is_trained(
    findings: dict[str, Any] | None, confirm: dict[str, Any], owed: bool, tmp_path: Path
) -> None:
    runs = [(number // SEED_STRIDE, 2, "complete") for number in (findings or {}).get("final_fits", [])]
    done = confirmed(findings, *runs) if findings else record(session(phase="search"), *trial(3, 0, 0.5))
    assert StudyFiles(tmp_path, spec(confirm=confirm)).owes_confirmation(done) is owed


def test_repetitions_that_are_wanted_only_now_are_expected() -> None:
    skipped = {"winner": None, "skipped": "confirm.top is 0", "final_fits": [900_000_003]}
    done, wanted = confirmed(skipped, (REFIT_SEED, 2, "complete")), spec(confirm={"top": 3, "seeds": 3, "refit": 1})
    runs = confirmation_numbers(wanted, confirmation_candidates(wanted, done))
    assert runs and expected_runs(wanted, done) == len({*done.confirmations, *runs})
    assert expected_runs(spec(confirm={"top": 0, "refit": 1}), done) == len(done.confirmations)


def test_final_fits_that_too_many_failures_kept_from_beginning_are_not_owed(tmp_path: Path) -> None:
    first, second = (3 + seed * SEED_STRIDE for seed in (REFIT_SEED, REFIT_SEED + 1))
    done = confirmed({"winner": 3, "final_fits": [first, second]}, (REFIT_SEED, 1, "failed"))
    assert not StudyFiles(tmp_path, spec(confirm={"refit": 2})).owes_confirmation(done)


def test_a_budget_that_a_confirmation_has_used_up_does_not_end_it() -> None:
    search, again = session(phase="search"), session(phase="confirm", number=2)
    assert not record(search, *trial(3, 0, 0.5)).confirming
    begun = record(search, *trial(3, 0, 0.5), again, *trial(3 + SEED_STRIDE, 9, 0.5))
    assert begun.confirming
    begun.apply({**search, "number": 3})
    assert not begun.confirming  # the search went on since
    limited = spec(budget={"epochs": 2}, time="1s")
    assert consumed_budget(limited, {"time": 9, "epochs": 2}) == "epochs"  # not hidden by the time, which ended it
    assert consumed_budget(limited, {"time": 9, "epochs": 1}) == ""


def test_names_of_runs() -> None:
    assert (run_name(7), run_label(7)) == ("trial-0007", "trial 7")
    assert (run_name(7 + 2 * SEED_STRIDE), run_label(7 + 2 * SEED_STRIDE)) == ("trial-0007-seed-2", "trial 7 seed 2")
    assert run_label(7 + REFIT_SEED * SEED_STRIDE) == "trial 7 final fit"
    assert run_label(7 + (REFIT_SEED + 1) * SEED_STRIDE) == "trial 7 final fit 2"
