"""A study's journal read as it grows, in a folder and in a bucket; and about how long the study still takes."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import tune
from tests.support.fixtures_study import emotune
from tests.support.recorded_study import record_study
from trainables.places import Place
from tune.errors import StudyError
from tune.session.create_or_resume import write_study_file
from tune.study.journal import Journal, is_locked, read_events
from tune.study.studies import StudyFiles, load_bucket_study, opened_journal
from tune.study.study_follower import StudyFollower
from tune.study.study_state import StudyState
from tune.study.time_left import seconds_left


def kinds(follower: StudyFollower) -> list[str]:
    return [event["event"] for event in follower.read()]


def test_each_event_is_read_once_when_its_line_is_whole(tmp_path: Path) -> None:
    study = record_study(tmp_path / "study", 2, finished=False)
    follower = StudyFollower(study)
    before = kinds(follower)
    assert len(before) == len(read_events(study.journal)) and before[0] == "session"
    assert not kinds(follower)
    line = json.dumps({"event": "nodes", "time": 1.0, "count": 3}).encode() + b"\n"
    with study.journal.open("ab") as file:
        file.write(line[:9])
    assert not kinds(follower)
    with study.journal.open("ab") as file:
        file.write(line[9:])
    assert kinds(follower) == ["nodes"]
    assert follower.state == study.state() and not follower.restarts


def test_another_journal_in_its_place_is_read_from_its_beginning(tmp_path: Path) -> None:
    study = record_study(tmp_path / "study", 2, finished=False)
    other = record_study(tmp_path / "other", 3, finished=False, seed=1)
    follower = StudyFollower(study)
    kinds(follower)
    other.journal.replace(study.journal)
    assert kinds(follower) and len(follower.state.trials) == 3 and follower.restarts == 1
    study.journal.unlink()
    with pytest.raises(StudyError, match="journal.jsonl is gone"):
        kinds(follower)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    study = record_study(tmp_path / "study", 1, finished=False)
    follower = StudyFollower(study)
    kinds(follower)
    with study.journal.open("ab") as file:
        file.write(b"scribble\n")
    with pytest.raises(StudyError, match="the line at byte .* is damaged"):
        kinds(follower)


def test_who_looks_whether_a_study_runs_keeps_no_driver_from_it(tmp_path: Path) -> None:
    study = record_study(tmp_path / "study", 1, finished=False)
    follower = StudyFollower(study)
    assert not follower.is_running()
    with closing(Journal(study.journal)):
        assert follower.is_running() and is_locked(study.journal)
    assert not follower.is_running()


def test_a_study_in_a_bucket_is_followed_from_another_machine(bucket: str, tmp_path: Path) -> None:
    recorded = record_study(tmp_path / "driver", 2, finished=False)
    place = Place(bucket.format("followed"))
    driver = StudyFiles(recorded.directory, recorded.spec, place)
    with opened_journal(driver) as journal:
        journal.append("nodes", count=2)
    elsewhere = replace(load_bucket_study(place), directory=tmp_path / "elsewhere")
    follower = StudyFollower(elsewhere)
    assert kinds(follower)[-1] == "nodes" and not follower.is_running()
    with opened_journal(driver) as journal:
        assert not kinds(follower) and follower.is_running()
        journal.append("nodes", count=3)
    assert kinds(follower) == ["nodes"] and not follower.is_running()
    assert follower.state.rates.nodes == 3
    extended = replace(driver, spec=driver.spec.model_copy(update={"trials": 9}))
    with opened_journal(extended) as journal:
        write_study_file(extended)
        journal.append("session", number=2, pid=1, fingerprint="f")
    assert kinds(follower) == ["session"] and follower.study.spec.trials == 9


def test_a_study_in_a_bucket_that_another_machine_runs_grows_and_says_that_it_runs(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = record_study(tmp_path / "driver", 2, finished=False)
    place = Place(bucket.format("seen"))
    driver = StudyFiles(recorded.directory, recorded.spec, place)
    with opened_journal(driver):
        pass
    files = load_bucket_study(place)
    seen = tune.Study(files)
    assert (seen.state.rates.nodes, seen.running, files.status(seen.state)) == (1, False, "unfinished")
    with opened_journal(driver) as journal:
        assert seen.running and not files.running_here and files.status(seen.state) == "running"
        emotune("show", place.name)
        assert "of another machine" in capsys.readouterr().out
        journal.append("nodes", count=3)
    assert (seen.state.rates.nodes, seen.running) == (3, False)


def test_the_time_left_is_about_what_the_study_then_takes(tmp_path: Path) -> None:
    study = record_study(tmp_path / "study", 60)
    state, begun = StudyState(), 0.0
    told: dict[int, float | None] = {}
    events = read_events(study.journal)
    end = next(event["time"] for event in events if event["event"] == "session_end")
    for event in events:
        state.apply(event)
        begun = begun or event["time"]
        told[len(state.ended)] = seconds_left(study.spec, state, 60, event["time"])
        if len(state.ended) == 20:
            real = end - event["time"]
    assert told[0] is None
    assert told[20] == pytest.approx(real, rel=0.4)
    assert told[60] is None  # nothing is left to wait for once the session has ended


def test_a_budget_of_time_or_of_epochs_ends_the_waiting(tmp_path: Path) -> None:
    study = record_study(tmp_path / "study", 12, finished=False)
    state = study.state()
    now = state.last_event
    wide = seconds_left(study.spec, state, 100, now)
    assert wide is not None and wide > 1000
    timed = study.spec.model_copy(update={"time": state.search_s + 30})
    assert seconds_left(timed, state, 100, now) == pytest.approx(30, abs=1)
    budget = study.spec.budget.model_copy(update={"epochs": state.epochs_trained})
    counted = study.spec.model_copy(update={"budget": budget})
    assert seconds_left(counted, state, 100, now) == 0
