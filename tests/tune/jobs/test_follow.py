"""A job's lines become the live table of `emotune run`, or the lines of a file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tests.support.fixtures_study import write_study_file
from tests.tune.cli.test_cli import Terminal
from tune.jobs.follow import Watcher
from tune.study.spec import load_spec


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
