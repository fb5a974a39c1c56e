"""A job's lines become the live table of `emotune run`, or the lines of a file."""

from __future__ import annotations

import importlib.metadata
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.support.fixtures_study import write_study_file
from tests.tune.cli.test_cli import Terminal
from tune.errors import JobError
from tune.jobs.follow import Watcher, watch_job
from tune.jobs.job import Job
from tune.jobs.server import JobsServer
from tune.study.spec import StudySpec, load_spec


def job_lines() -> list[str]:
    """What a job of a study that goes on says: the events before, then those of its own with lines for people."""
    values = {"dropout": 0.25}
    metrics = {"selection_accuracy": 0.5, "validation_accuracy": 0.5, "training_loss": None}
    session = {"number": 1, "phase": "search", "pid": 1, "fingerprint": ""}
    told = [
        {"event": "history", "events": 5},
        {"event": "session", **session},
        {"event": "trial", "trial": 0, "values": values},
        {"event": "started", "trial": 0},
        {"event": "epoch", "trial": 0, "epoch": 1, "metrics": metrics},
        {"event": "end", "trial": 0, "state": "pruned", "reason": "stopped at rung 1"},
        {"event": "session", **session, "number": 2},
        {"event": "trial", "trial": 1, "values": values},
        {"event": "started", "trial": 1},
        {"event": "epoch", "trial": 1, "epoch": 1, "metrics": {**metrics, "selection_accuracy": 0.75}},
    ]
    events = [json.dumps({"event": e.pop("event"), "time": 1.0, **e}, separators=(",", ":")) for e in told]
    return [*events[:6], "starting Ray", *events[6:], "trial 1 epoch 1/4: selection_accuracy 0.7500", '{"event":"ep']


def test_a_terminal_sees_the_live_table_of_a_job_and_its_earlier_trials(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with Watcher(load_spec(write_study_file(tmp_path, faces)), terminal) as watcher:
        for line in job_lines() * 2:  # the job after a death tells its history again
            watcher.show_line(line)
    seen = terminal.getvalue()
    for part in ("starting Ray", "pruned", "running", "dropout 0.25", "0.7500", "1/6", '{"event":"ep'):
        assert part in seen
    assert "epoch 1/4" not in seen  # the table says it
    assert {n: t.state for n, t in watcher.state.trials.items()} == {0: "pruned", 1: "running"}


def test_a_file_gets_a_jobs_lines_and_none_of_its_events(faces: Path, tmp_path: Path) -> None:
    file = io.StringIO()
    with Watcher(load_spec(write_study_file(tmp_path, faces)), file) as watcher:
        for line in job_lines():
            watcher.show_line(line)
        watcher.show_line(None)
    assert file.getvalue() == 'starting Ray\ntrial 1 epoch 1/4: selection_accuracy 0.7500\n{"event":"ep\n'


class JobLines:
    """The network's side of a jobs server: it has these lines, and can do nothing but tell them."""

    address = "http://head:8265"

    def follow(self, job_id: str) -> Iterator[str | None]:
        yield from [*job_lines(), None]


def job_of(spec: StudySpec, version: str) -> Job:
    return Job("tiny-1", "tiny", "running", version, spec.model_dump_json(), 0.0, None, None, False, "")


def test_a_job_is_watched_to_its_end_and_never_submitted_again(faces: Path, tmp_path: Path) -> None:
    spec, file = load_spec(write_study_file(tmp_path, faces)), io.StringIO()
    watch_job(cast(JobsServer, JobLines()), job_of(spec, importlib.metadata.version("emotune")), file)
    assert file.getvalue().startswith("starting Ray\ntrial 1 epoch 1/4: selection_accuracy 0.7500\n")


def test_a_job_of_another_version_is_not_guessed_at(faces: Path, tmp_path: Path) -> None:
    job = job_of(load_spec(write_study_file(tmp_path, faces)), "0.0.1")
    with pytest.raises(
        JobError, match="submitted by emotune 0.0.1, this is .*emotune logs tiny -f --address http://head"
    ):
        watch_job(cast(JobsServer, JobLines()), job, io.StringIO())
