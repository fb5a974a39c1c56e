"""Which trial of a study is the best one, and a bucket's study as several processes look at it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.recorded_study import record_study
from trainables.places import Place
from tune.api.studies import Study
from tune.cli.show import print_studies
from tune.errors import StudyError
from tune.study.bucket_study import download_study
from tune.study.journal import Journal
from tune.study.studies import find_study
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


def test_readers_that_look_into_a_bucket_at_once_fill_the_working_folder_one_after_the_other(tmp_path: Path) -> None:
    study, folder = record_study(tmp_path / "bucket", 1), tmp_path / "working"
    inside, most = [], []

    class Counting(Place):
        def download(self, path: str, local: Path) -> None:
            inside.append(path)
            most.append(len(inside))
            time.sleep(0.05)
            super().download(path, local)
            inside.remove(path)

    place = Counting(str(study.directory))
    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(download_study, place, folder) for _ in range(3)]:
            done.result(timeout=30)
    assert most == [1]  # the study file, by the first of them
    assert (folder / "study.yaml").read_bytes() == study.study_file.read_bytes()
    assert (folder / "journal.jsonl").read_bytes() == study.journal.read_bytes()


def test_a_study_file_of_the_same_size_is_brought_from_the_bucket_and_a_newer_one_is_kept(tmp_path: Path) -> None:
    study, folder = record_study(tmp_path / "bucket", 20, finished=False), tmp_path / "working"
    place = Place(str(study.directory))
    download_study(place, folder)
    before = study.study_file.read_text()
    extended = before.replace("trials: 20", "trials: 30")  # by another machine
    study.study_file.write_text(extended)
    with closing(Journal(study.journal)) as journal:
        journal.append("session", number=2, phase="search", pid=1, fingerprint="f")
    download_study(place, folder)
    assert (folder / "study.yaml").read_text() == extended != before

    longer = extended.replace("trials: 30", "trials: 1000")  # by this one, whose driver died before it went up
    (folder / "study.yaml").write_text(longer)
    with closing(Journal(folder / "journal.jsonl")) as journal:
        journal.append("session", number=3, phase="search", pid=1, fingerprint="f")
    download_study(place, folder)
    assert (folder / "study.yaml").read_text() == longer


def test_a_folder_that_holds_no_study_is_not_in_the_way_of_one_of_that_name_in_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = record_study(tmp_path / "runs/faces", 1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()
    assert find_study("faces", "runs").study_file.samefile(stored.study_file)
    with pytest.raises(StudyError, match="^faces holds no study"):
        find_study("faces", "elsewhere")
    here = record_study(tmp_path / "here/faces", 2)
    monkeypatch.chdir(tmp_path / "here")
    assert find_study("faces", str(tmp_path / "runs")).study_file.samefile(here.study_file)


def test_a_study_whose_best_are_being_trained_again_is_listed_as_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = record_study(tmp_path / "faces", 2)
    state = study.state()
    assert state.finished and study.status(state) == "finished" and study.status(StudyState()) == "unfinished"
    with closing(Journal(study.journal)):
        assert study.status(state) == "running" and "running" in repr(Study(study))
        print_studies(str(tmp_path))
    assert capsys.readouterr().out.split()[:2] == ["faces", "running"]
