"""`emotune watch`: a study that another process writes, in a terminal and in a pipe; nothing of it is touched."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.fixtures_study import emotune
from tests.support.recorded_study import record_study
from tests.tune.cli.test_cli import Terminal
from tune.session.study_view import StudyView
from tune.session.watch import watch_study
from tune.study.journal import Journal
from tune.study.studies import StudyFiles

METRICS = {"selection_accuracy": 0.875, "validation_accuracy": 0.875, "training_loss": 1.0, "images_per_s": 9.0}
SESSION = {"number": 2, "pid": 1, "fingerprint": "f"}


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFiles:
    monkeypatch.setattr("tune.session.watch._LOOK_EVERY_S", 0.05)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    return record_study(tmp_path / "study", 4, finished=False)


def watched(study: StudyFiles, output: io.StringIO, drive: Callable[[Journal, Callable[[str], None]], None]) -> str:
    """Watches a study while `drive` writes it; `drive` may wait for what the watcher has to say."""

    def wait_for(text: str) -> None:
        until = time.monotonic() + 20
        while text not in output.getvalue():
            assert time.monotonic() < until, f"{text!r} was not said: {output.getvalue()}"
            time.sleep(0.01)

    with closing(Journal(study.journal)) as journal:
        watcher = threading.Thread(target=watch_study, args=(study, output))
        watcher.start()
        drive(journal, wait_for)
    watcher.join(20)
    assert not watcher.is_alive()
    return output.getvalue()


def test_a_pipe_gets_how_it_stands_a_line_per_event_and_how_it_ended(running: StudyFiles) -> None:
    def drive(journal: Journal, wait_for: Callable[[str], None]) -> None:
        wait_for("study: ")
        journal.append("trial", trial=4, values={"dropout": 0.25})
        journal.append("started", trial=4)
        wait_for("trial 4 started")
        journal.append("epoch", trial=4, epoch=1, metrics=METRICS)
        journal.append("rung", trial=4, epoch=1, value=0.875, cutoff=0.9, rank=4, among=5, stopped=True)
        journal.append("end", trial=4, state="pruned", reason="stopped at rung 1")
        journal.append("session_end", search_s=9.0, finished=False, ended_by="interrupted")

    said = watched(running, io.StringIO(), drive).splitlines()
    assert re.match(r"study: .* of search, \d+ epochs", said[0])
    assert said[1:6] == [
        "trial 4 started: dropout 0.25",
        "trial 4 epoch 1/12: selection_accuracy 0.8750, training loss 1.000, 9 images/s",
        "trial 4, rung 1: 0.8750, below the cutoff 0.9000 (at least that was needed), rank 4 of the 5 that had reached "
        "it by then; stopped",
        "trial 4 pruned: stopped at rung 1",
        "the session ends: interrupted",
    ]
    assert said[-1].startswith(f"unfinished   interrupted. Go on with: emotune resume {running.directory}")
    assert "\x1b" not in "".join(said)


def test_a_terminal_gets_the_live_table_and_then_that_of_the_confirmations(running: StudyFiles) -> None:
    def drive(journal: Journal, wait_for: Callable[[str], None]) -> None:
        wait_for("4/4")
        journal.append("trial", trial=4, values={"dropout": 0.123})
        journal.append("started", trial=4)
        wait_for("dropout 0.123")
        wait_for(" left")
        journal.append("session_end", search_s=9.0, finished=True, ended_by="finished")
        journal.append("session", phase="confirm", **SESSION)
        journal.append("trial", trial=1_000_000, values={"dropout": 0.456})
        wait_for("dropout 0.456")

    seen = watched(running, Terminal(), drive)
    assert re.search(r"about \d+ (s|min) left", seen)
    assert "0 seed 1" in seen[seen.index("session 2 begins: training the best again") :]
    assert "trial 4 started" not in seen  # the table says it
    assert "its driver has gone" in seen.splitlines()[-1]


def test_a_study_that_has_ended_is_told_and_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = record_study(tmp_path / "ended", 3)
    assert emotune("watch", study.directory) == 0
    said = capsys.readouterr().out
    assert "confirmed    trial" in said and "the search is over, its best model is not exported yet" in said


def test_ctrl_c_ends_the_watching_and_nothing_else(running: StudyFiles) -> None:
    command = [sys.executable, "-m", "tune.cli", "watch", str(running.directory)]
    with closing(Journal(running.journal)) as journal:
        watcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        assert watcher.stdout is not None
        assert watcher.stdout.readline().startswith("study: ")
        journal.append("nodes", count=2)
        assert watcher.stdout.readline() == "machines in the cluster: 2\n"
        watcher.send_signal(signal.SIGINT)
        said, errors = watcher.communicate(timeout=30)
        assert (watcher.returncode, said, errors) == (130, "the study goes on without this terminal\n", "")
        journal.append("nodes", count=3)
    assert running.state().rates.nodes == 3


@pytest.mark.parametrize("columns", [80, 200])
def test_the_line_below_the_table_fits_the_terminal(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    study, terminal = record_study(tmp_path / "study", 6, finished=False), Terminal()
    state = study.state()
    state.apply({"event": "trial", "time": state.last_event, "trial": 6, "values": {"dropout": 0.5}})
    state.apply({"event": "started", "time": state.last_event, "trial": 6})
    with StudyView(terminal, study.spec, state):
        pass
    line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).strip().splitlines()[-1]
    assert re.search(r"6/7 .*, about \d+ \w+ left best .*0\.\d{4} \(trial \d\)$", line.strip())
    assert "…" not in line and len(line.rstrip()) <= columns


@pytest.mark.slow
def test_a_real_study_that_has_ended_says_what_run_said(
    finished_study: StudyFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    assert emotune("watch", finished_study.directory) == 0
    said = capsys.readouterr().out
    assert "finished: 6 trials" in said and "sealed test  accuracy" in said
