"""Which trials are the best for their size."""

from __future__ import annotations

from pathlib import Path

from tests.support.recorded_study import record_study
from tune.session.study_text import size_line
from tune.study.trade_off import Sized, size_front, sized_trials


def test_a_trial_is_on_the_front_where_nothing_smaller_is_as_good() -> None:
    trials = [Sized(0, 100, 0.5), Sized(1, 100, 0.6), Sized(2, 200, 0.6), Sized(3, 300, 0.7), Sized(4, 400, 0.65)]
    assert [one.trial for one in size_front(trials, "max")] == [1, 3]
    assert [one.trial for one in size_front(trials, "min")] == [0]
    assert size_front([], "max") == []


def test_show_names_the_front_best_first_and_says_nothing_of_models_of_one_size(tmp_path: Path) -> None:
    study = record_study(tmp_path / "sizes", 20, finished=False)
    state = study.state()
    front = size_front(sized_trials(study.spec, state), "max")
    assert len(front) > 1
    best = front[-1]
    assert size_line(study, state).startswith(
        f"by size      trial {best.trial}: {best.score:.4f} with {best.parameters:,}"
    )
    for trial in state.trials.values():
        for metrics in trial.epochs.values():
            metrics["parameters"] = 7
    assert size_line(study, state) == ""
