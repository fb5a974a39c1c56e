"""Which trial of a study is the best one, and where a study is looked for."""

from __future__ import annotations

from pathlib import Path

from tests.support.recorded_study import record_study
from tune.study.study_state import StudyState


def test_the_best_trial_is_the_searchs_until_a_confirmation_has_another_winner(tmp_path: Path) -> None:
    study = record_study(tmp_path / "study", 6, finished=False)
    state = study.state()
    found = study.best_trial(state)
    assert found is not None and found == study.ranked(state)[0] == study.best_run(state)
    other = study.ranked(state)[1].number
    state.confirmed = {"winner": other}
    assert study.best_trial(state) == state.trials[other]
    state.confirmed = {"winner": None}
    assert study.best_trial(state) == found
    assert study.best_trial(StudyState()) is None
