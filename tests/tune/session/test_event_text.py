"""What events say in words, and which of these words the live table says by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.recorded_study import record_study
from tune.session.event_text import event_text, line_shown_by_table, shown_by_table
from tune.study.journal import read_events
from tune.study.study_state import StudyState
from tune.study.trial_record import REFIT_SEED, SEED_STRIDE

RUNG = {"event": "rung", "epoch": 1, "value": 0.5, "cutoff": 0.4, "rank": 1, "among": 2, "stopped": False}
END = {"event": "end", "state": "complete", "reason": "trained all its epochs"}


def test_a_line_alone_tells_as_well_as_its_event_whether_the_table_shows_it(tmp_path: Path) -> None:
    study, state, told = record_study(tmp_path / "study", 12), StudyState(), set()
    for event in read_events(study.journal):
        state.apply(event)
        text = event_text(study.spec, state, event)
        if text:
            assert line_shown_by_table(text) == shown_by_table(event), text
            told.add(event["event"])
    assert {"session", "started", "epoch", "rung", "fault", "end", "confirmed"} <= told


@pytest.mark.parametrize("event", [RUNG, END, {**END, "state": "failed"}], ids=["rung", "end", "failure"])
@pytest.mark.parametrize("seed", [2, REFIT_SEED, REFIT_SEED + 1])
def test_lines_of_confirmations_and_of_the_final_fit_are_told_apart_too(
    tmp_path: Path, event: dict[str, Any], seed: int
) -> None:
    study = record_study(tmp_path / "study", 1, finished=False)
    text = event_text(study.spec, StudyState(), {**event, "trial": 1 + seed * SEED_STRIDE})
    assert text.startswith("trial 1 seed 2" if seed == 2 else "trial 1 final fit")
    assert line_shown_by_table(text) == shown_by_table(event)
