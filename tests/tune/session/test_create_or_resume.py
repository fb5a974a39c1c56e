"""A study's own file: written by the one driver that has the study, so that nothing else can change it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.recorded_study import record_study
from trainables.places import Place
from tune.errors import StudyError
from tune.session.create_or_resume import open_or_create, reopen
from tune.session.runner import run_study
from tune.study.journal import Journal
from tune.study.resolved_spec import read_spec
from tune.study.studies import StudyFiles, load_bucket_study, opened_journal


def exported_study(folder: Path) -> StudyFiles:
    """A study that has ended, with an export: nothing is left to be done, so that no Ray is asked for."""
    study = record_study(folder, 3)
    with closing(Journal(study.journal)) as journal:
        journal.append("export", path="export")
    study.export.mkdir()
    return study


def go_on(study: StudyFiles) -> None:
    run_study(study, cast(Any, None), calibrate=False, announce=lambda plan: "")


def test_a_second_driver_that_is_refused_has_changed_nothing_of_the_study(tmp_path: Path) -> None:
    study = exported_study(tmp_path / "study")
    before = study.study_file.read_bytes()
    longer = study.spec.model_copy(update={"time": 7200.0})
    extended = reopen(study, "f", trials=None, time="2h")
    with closing(Journal(study.journal)):
        for second in (open_or_create(longer, "f"), extended):
            with pytest.raises(StudyError, match="is being run by"):
                go_on(second)
    assert study.study_file.read_bytes() == before
    go_on(extended)
    assert read_spec(study.study_file).time == 7200


def test_a_study_in_a_bucket_keeps_what_it_was_extended_to(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMOTUNE_CACHE", str(tmp_path / "cache"))
    place, recorded = Place(bucket.format("extended")), exported_study(tmp_path / "driver")
    place.write("export/labels.json", b"{}")
    with opened_journal(StudyFiles(recorded.directory, recorded.spec, place)):
        pass
    go_on(reopen(load_bucket_study(place), "f", trials=None, time="2h"))
    assert load_bucket_study(place).spec.time == 7200
    assert b"time: 7200.0" in (place.read("study.yaml") or b"")
