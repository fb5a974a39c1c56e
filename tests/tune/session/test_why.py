"""Why a trial ended: the rung, its value, the cutoff, its rank; and whether the first rung came too early."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tune.study.test_budget import record, session, spec, trial
from tune.errors import StudyError
from tune.search.why import rung_reports, why_study, why_trial
from tune.study.study_state import StudyState

SPEC = spec(asha={"max_epochs": 9, "grace_epochs": 1, "reduction_factor": 3})


def rung(number: int, value: float, cutoff: float | None, rank: int, among: int, *, stopped: bool) -> dict[str, Any]:
    fields = {"trial": number, "epoch": 1, "value": value, "cutoff": cutoff, "rank": rank, "among": among}
    return {"event": "rung", "time": 5, **fields, "stopped": stopped}


def study(finals: list[tuple[float, float]]) -> StudyState:
    """Complete trials with a value at the first rung and a final score each."""
    events: list[dict[str, Any]] = [session()]
    for number, (first, last) in enumerate(finals):
        made = trial(number, number, first, last)
        events += [*made[:-1], rung(number, first, None, 1, 1, stopped=False), made[-1]]
    return record(*events)


def test_a_stopped_trials_story_has_rung_value_cutoff_and_rank() -> None:
    made = trial(0, 0, 0.31, state="pruned")
    made[-1]["reason"] = "stopped at rung 1"
    done = record(session(), *made[:-1], rung(0, 0.31, 0.4417, 4, 7, stopped=True), made[-1])
    text = "\n".join(why_trial(SPEC, done, 0))
    assert "trial 0 is pruned after 1 epoch" in text
    assert "rung 1: 0.3100, below the cutoff 0.4417 (at least that was needed), rank 4 of the 7" in text
    assert "its score is selection_accuracy 0.3100, of epoch 1" in text


def test_a_rung_that_too_few_had_reached_to_stop_one_says_so() -> None:
    made = trial(0, 0, 0.31)
    done = record(session(), *made[:-1], rung(0, 0.31, None, 2, 2, stopped=False), made[-1])
    text = "\n".join(why_trial(SPEC, done, 0))
    assert "rung 1: 0.3100, rank 2 of the 2 that had reached it, too few to stop one; went on" in text


def test_faults_are_part_of_the_story() -> None:
    made = trial(0, 0, 0.5, 0.6)
    fault = {"event": "fault", "time": 1, "trial": 0, "kind": "hung", "reason": "no report for 300 s", "retried": True}
    text = "\n".join(why_trial(SPEC, record(session(), *made[:3], fault, *made[3:]), 0))
    assert "held up after 1 epoch (hung): no report for 300 s" in text


@pytest.mark.parametrize(
    ("confusion", "told"), [([[0, 9], [0, 4]], True), ([[5, 4], [0, 4]], False), ([[0, 0], [0, 9]], False), ([], False)]
)
def test_a_trial_that_gives_every_image_the_same_class_is_told(confusion: list[list[int]], told: bool) -> None:
    events = trial(0, 0, 0.5)
    for event in events:
        if event["event"] == "epoch":
            event["metrics"]["selection_confusion"] = confusion
    text = "\n".join(why_trial(SPEC, record(session(), *events), 0))
    assert ("it says the same class of every image" in text) == told


def test_an_unknown_trial_is_refused() -> None:
    with pytest.raises(StudyError, match="no trial 8. Received: 8, with trials 0 to 0"):
        why_trial(SPEC, record(session(), *trial(0, 0, 0.5)), 8)


def test_a_first_rung_that_foretells_nothing_came_too_early() -> None:
    reversed_ranks = study([(0.1, 0.9), (0.2, 0.8), (0.3, 0.7), (0.4, 0.65), (0.5, 0.6)])
    assert rung_reports(SPEC, reversed_ranks)[0].correlation == pytest.approx(-1)
    assert "grace period of 1 epochs was too short" in why_study(SPEC, reversed_ranks)[-1]
    assert "Raise asha.grace_epochs to 3" in why_study(SPEC, reversed_ranks)[-1]
    same_ranks = study([(0.1, 0.6), (0.2, 0.7), (0.3, 0.8), (0.4, 0.9)])
    assert rung_reports(SPEC, same_ranks)[0].correlation == pytest.approx(1)
    assert "was long enough" in why_study(SPEC, same_ranks)[-1]


def test_too_few_trials_say_nothing() -> None:
    lines = why_study(SPEC, study([(0.1, 0.6), (0.2, 0.7)]))
    assert "2 ran to the end, 4 are needed" in lines[0]
    assert lines[-1] == "whether the grace period was long enough cannot be said yet"
