"""The command line over a real study: list, show, export, predict, and what a study prints as it runs."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from tests import ROOT
from tests.support.fixtures_study import write_study_file
from trainables.dataset.reader import open_dataset
from trainables.places import Place
from tune.cli.main import command_line as main
from tune.cli.show import curve
from tune.cli.surroundings import given_words
from tune.session.live_display import LiveStudy
from tune.study.spec import load_spec
from tune.study.studies import StudyFiles
from tune.study.study_state import StudyState
from tune.study.wording import duration


def emotune(*words: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Runs the command in this process; returns what it printed."""
    monkeypatch.setattr(sys, "argv", ["emotune", *map(str, words)])
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert not end.value.code, said.err
    return said.out


def refused(*words: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Runs the command in this process; returns its one line of refusal."""
    monkeypatch.setattr(sys, "argv", ["emotune", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert end.value.code == 2 and said.err.count("\n") == 1, said.err
    return said.err


def test_the_home_folder_stands_for_a_tilde_that_the_shell_left(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["emotune", "predict", "~/faces", "--draw=~/boxes", "--set", "data=~", "--set=storage=~/runs", "~x", "a~/b"]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setenv("HOME", "/home/ann")
    changed = {"~/faces": "/home/ann/faces", "--draw=~/boxes": "--draw=/home/ann/boxes"}
    assert given_words() == [changed.get(word, word) for word in words[1:]]


@pytest.mark.slow
def test_list_and_show_tell_how_every_trial_ended(
    finished_study: StudyFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = finished_study.directory.parent
    state = finished_study.state()
    best = finished_study.ranked(state)[0]
    listed = emotune("list", "--storage", storage, monkeypatch=monkeypatch, capsys=capsys)
    assert f"best         trial {best.number}: selection_accuracy" in listed and "finished" in listed
    shown = emotune("show", "tiny", "--storage", storage, monkeypatch=monkeypatch, capsys=capsys)
    for trial in state.trials.values():
        assert trial.reason in shown
    assert "sealed test  accuracy" in shown and "without a twin" in shown
    assert f"tensorboard --logdir {finished_study.tensorboard}" in shown


@pytest.mark.slow
def test_an_export_classifies_images_from_the_command_line(
    finished_study: StudyFiles,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dataset = open_dataset(faces)
    for row in (0, 1):
        cv2.imwrite(str(tmp_path / f"{row}.png"), dataset.image(row))
    emotune("export", finished_study.directory, "--to", tmp_path / "model", monkeypatch=monkeypatch, capsys=capsys)
    images = [tmp_path / "0.png", tmp_path / "1.png"]
    told = emotune("predict", tmp_path / "model", *images, "--json", monkeypatch=monkeypatch, capsys=capsys)
    predictions = [json.loads(line) for line in told.splitlines()]
    assert [p["path"] for p in predictions] == [str(path) for path in images]
    for prediction in predictions:
        assert set(prediction["probabilities"]) == set(dataset.info.classes)
        assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert prediction["label"] == max(prediction["probabilities"], key=prediction["probabilities"].get)


def test_check_validates_and_starts_nothing(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, events = write_study_file(tmp_path, faces), tmp_path / "events.jsonl"
    said = emotune("run", file, "--check", "--events", events, monkeypatch=monkeypatch, capsys=capsys)
    assert "is in order: 6 trials" in said
    assert not (tmp_path / "runs").exists() and not events.exists()
    gone = ("run", file, "--check", "--events", tmp_path / "gone/events.jsonl")
    assert "--events must be a file that can be written" in refused(*gone, monkeypatch=monkeypatch, capsys=capsys)


def test_check_tries_whether_the_storage_can_be_written_and_leaves_nothing_there(
    faces: Path,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, there = write_study_file(tmp_path, faces), bucket.format("checked")
    for storage, said in {
        "/proc/runs": "storage must be a folder that can be written. Received: /proc/runs/tiny: No such file",
        there.replace("studies", "no-such-bucket"): "must be reachable and allow reading and writing",
    }.items():
        words = ("run", file, "--check", "--set", f"storage={storage}")
        assert said in refused(*words, monkeypatch=monkeypatch, capsys=capsys)
    emotune("run", file, "--check", "--set", f"storage={there}", monkeypatch=monkeypatch, capsys=capsys)
    assert Place(there).files() == []


def test_check_says_that_a_space_has_fewer_configurations_than_the_study_trials(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    choices = {"type": "categorical", "choices": [16, 32], "default": 32}
    file = write_study_file(tmp_path, faces, space={"batch_size": choices}, trials=14)
    said = emotune("run", file, "--check", monkeypatch=monkeypatch, capsys=capsys)
    assert "is in order: 2 trials" in said
    assert "the space has 2 configurations: the search ends when each was tried once, before 14 trials" in said


def test_the_readmes_check_is_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ROOT
    [command] = [line for line in (root / "README.md").read_text().splitlines() if line.endswith(" --check")]
    shutil.copytree(root / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    said = emotune(*shlex.split(command)[1:], monkeypatch=monkeypatch, capsys=capsys)
    assert "is in order: 4 trials" in said


def test_an_export_is_no_study_and_a_file_no_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export = tmp_path / "export"
    export.mkdir()
    (export / "study.yaml").write_text("name: tiny\n")
    told = refused("resume", export, monkeypatch=monkeypatch, capsys=capsys)
    assert "holds a study file and no journal: it is an export, or a study that was never begun" in told
    assert "no studies in" in emotune("list", "--storage", tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    file = export / "study.yaml"
    told = refused("list", "--storage", file, monkeypatch=monkeypatch, capsys=capsys)
    assert "--storage must be the folder of all studies. Received: " in told


def test_list_without_studies_says_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = emotune("list", "--storage", tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert "emotune run studies/quickstart.yaml" in said


def record_of_two_trials() -> StudyState:
    state = StudyState()
    for number, value in enumerate([0.25, 0.75]):
        state.apply({"event": "trial", "time": 0, "trial": number, "values": {"dropout": 0.25}})
        state.apply({"event": "started", "time": 0, "trial": number})
        for epoch in (1, 2):
            metrics = {"selection_accuracy": value * epoch / 2, "validation_accuracy": value * epoch / 2}
            state.apply({"event": "epoch", "time": 0, "trial": number, "epoch": epoch, "metrics": metrics})
    state.apply({"event": "end", "time": 0, "trial": 0, "state": "pruned", "reason": "stopped at rung 2"})
    return state


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_live_table_and_a_total_progress_bar(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    spec = load_spec(write_study_file(tmp_path, faces))
    terminal = Terminal()
    with LiveStudy(terminal, spec, record_of_two_trials(), 6) as live:
        live.event("hidden: the table shows it")
        live.refresh()
    seen = terminal.getvalue()
    for part in ("trial", "parameters", "epoch", "rung", "score", "state", "dropout 0.25", "0.7500", "2/4", "1/6"):
        assert part in seen
    assert "hidden" not in seen


def test_a_file_gets_one_line_per_event_and_no_table(faces: Path, tmp_path: Path) -> None:
    file = io.StringIO()
    with LiveStudy(file, load_spec(write_study_file(tmp_path, faces)), record_of_two_trials(), 6) as live:
        live.event("trial 0 started: dropout 0.25")
        live.refresh()
    assert file.getvalue() == "trial 0 started: dropout 0.25\n"


def test_the_table_leaves_room_for_the_line_below_it_however_high_its_rows_and_however_many_run(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    state = record_of_two_trials()
    for number in range(2, 40):
        values = {"dropout": number / 100, "learning_rate": 1e-3 * number, "preprocessing": "augment", "beta_1": 0.9}
        state.apply({"event": "trial", "time": 0, "trial": number, "values": {**values, "label_smoothing": 0.1}})
        state.apply({"event": "started", "time": 0, "trial": number})
    terminal = Terminal()
    with LiveStudy(terminal, load_spec(write_study_file(tmp_path, faces)), state, 60) as live:
        time.sleep(0.6)
        live.refresh()
        assert "1/60" in terminal.getvalue() and "0.7500 (trial 1)" in terminal.getvalue()


def test_a_trial_with_a_known_score_is_no_trial_more(faces: Path, tmp_path: Path) -> None:
    state, terminal = record_of_two_trials(), Terminal()
    state.apply({"event": "repeat", "time": 0, "trial": 2, "values": {"dropout": 0.25}, "of": 0})
    with LiveStudy(terminal, load_spec(write_study_file(tmp_path, faces)), state, 6):
        pass
    assert "1/6" in terminal.getvalue()


@pytest.mark.parametrize(
    ("terminal", "variables"),
    [(io.StringIO(), {"FORCE_COLOR": "1"}), (Terminal(), {"TERM": "dumb"}), (Terminal(), {"TTY_INTERACTIVE": "0"})],
)
def test_where_no_table_can_be_drawn_again_there_is_a_line_per_event(
    terminal: io.StringIO, variables: dict[str, str], faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with LiveStudy(terminal, load_spec(write_study_file(tmp_path, faces)), record_of_two_trials(), 6) as live:
        live.event("trial 0 started: dropout 0.25")
        live.refresh()
    assert terminal.getvalue() == "trial 0 started: dropout 0.25\n"


def test_a_curve_runs_from_the_lowest_bar_to_the_highest() -> None:
    trial = record_of_two_trials().trials[1]
    assert curve(trial, "selection_accuracy").startswith("▁█  0.3750 to 0.7500 in 2 epochs, 0.7500 in the last")


@pytest.mark.parametrize(("s", "text"), [(5.2, "5 s"), (99, "99 s"), (100, "2 min"), (3600, "1 h 00 min")])
def test_durations_read_well(s: float, text: str) -> None:
    assert duration(s) == text


def test_output_on_a_full_disk_is_one_line(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    command = [sys.executable, "-m", "tune.cli", "list", "--storage", str(tmp_path)]
    with full.open("w") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (
        2,
        "error: output: No space left on device. Check path, permissions and disk\n",
    )
