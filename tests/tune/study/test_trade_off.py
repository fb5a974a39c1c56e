"""Which trials are the best for their size, and why one with a better score may not be the best."""

from __future__ import annotations

from pathlib import Path

from tests.support.recorded_study import record_study
from tune.report.search_charts import history
from tune.session.study_text import front_line, stopped_higher_line
from tune.study.trade_off import Sized, pareto_front, size_front, sized_trials


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
    assert front_line(study, state).startswith(
        f"by size      trial {best.trial}: {best.score:.4f} with {best.parameters:,}"
    )
    for trial in state.trials.values():
        for metrics in trial.epochs.values():
            metrics["parameters"] = 7
    assert front_line(study, state) == ""


def test_with_two_objectives_show_names_the_front_and_how_one_of_it_is_exported(tmp_path: Path) -> None:
    study = record_study(tmp_path / "two", 20, finished=False, objective=["selection_accuracy", "parameters"])
    state = study.state()
    front = pareto_front(study.spec, state)
    assert len(front) > 1 and front[0].first == max(one.first for one in front)
    for one in front:
        beaten = [other for other in front if other.first >= one.first and other.second <= one.second]
        assert beaten == [one]
    line, choose = front_line(study, state).split("\n")
    assert line.startswith(
        f"front        trial {front[0].trial}: {front[0].first:.4f}, {front[0].second:,.0f} parameters; "
    )
    assert choose == f"             choose: emotune export {study.shell_name} --trial N --to FOLDER"


def test_show_says_why_a_trial_with_a_better_score_is_not_the_best(tmp_path: Path) -> None:
    study = record_study(tmp_path / "stopped", 20, finished=False)
    state = study.state()
    assert stopped_higher_line(study, state) == ""
    best, *_, last = study.ranked(state)
    assert last.state == "pruned"
    for metrics in last.epochs.values():
        metrics["validation_accuracy"] = metrics["selection_accuracy"] = 0.9876
    assert study.ranked(state)[0] is best
    assert stopped_higher_line(study, state).split(": ") == [
        f"             trial {last.number} had 0.9876 and was stopped",
        "those that ran to their end come first",
    ]


def test_a_trial_that_failed_is_neither_on_the_front_nor_the_best_so_far(tmp_path: Path) -> None:
    study = record_study(tmp_path / "failed", 20, finished=False)
    state = study.state()
    [first, *_] = size_front(sized_trials(study.spec, state), "max")
    state.trials[first.trial].state = "failed"
    for metrics in state.trials[first.trial].epochs.values():
        metrics["validation_accuracy"] = metrics["selection_accuracy"] = 0.9876
    assert first.trial not in {one.trial for one in sized_trials(study.spec, state)}
    drawn = history(study.spec, state)
    assert drawn is not None and len(drawn.rows) == 19 and "0.9876" not in drawn.takeaway
