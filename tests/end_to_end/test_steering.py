"""A study is steered from another terminal while it runs, and gives its best configurations to the next."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.end_to_end.test_interrupt import start, wait_for_line
from tests.end_to_end.test_survival import trial_processes
from tests.support.fixtures_study import write_study_file
from tests.tune.cli.test_cli import emotune, refused
from tune.study.studies import load_study_folder

pytestmark = pytest.mark.slow


def test_a_running_study_takes_up_what_another_terminal_asks_and_the_next_what_it_found(
    ray_cluster: str, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    here, no = (partial(run, monkeypatch=monkeypatch, capsys=capsys) for run in (emotune, refused))
    epochs = 60
    asha = {"max_epochs": epochs, "grace_epochs": epochs}
    file = write_study_file(tmp_path, faces, trials=3, asha=asha, resources={"max_concurrent": 1, "cpus_per_trial": 1})
    process = start(file)
    wait_for_line(process, lambda line: "trial 0 epoch 1/" in line)
    [trial] = trial_processes(process)
    assert "PL_DISABLE_FORK" not in trial.environ()  # Ray Tune's runtime environment, which costs seconds
    assert "enqueued in tiny, to be tried next" in here("enqueue", "tiny", "dropout=0.2")
    wait_for_line(process, lambda line: line.startswith("enqueued, to be tried next: ") and "dropout 0.2" in line)
    assert here("drop", "tiny", 0) == "trial 0 of tiny ends at the end of its epoch; what it did so far is kept\n"
    wait_for_line(process, lambda line: "trial 0 pruned: dropped by emotune drop" in line)
    wait_for_line(process, lambda line: "trial 1 epoch 1/" in line)
    here("drop", "tiny", 1)
    wait_for_line(process, lambda line: "trial 2 epoch 1/" in line)
    here("drop", "tiny", 2)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said

    study = load_study_folder(tmp_path / "runs/tiny")
    state = study.state()
    assert state.trials[1].values["dropout"] == 0.2 and not state.enqueued and len(state.requests) == 4
    assert [trial.state for trial in state.trials.values()] == ["pruned"] * 3
    assert 1 < max(state.trials[0].epochs) < epochs
    assert (study.export / "model.keras").exists()  # a dropped trial's score and checkpoint count
    assert not list((study.directory / "requests").glob("*"))

    assert no("drop", "tiny", 0) == "error: a trial must not have ended to be dropped. Received: trial 0, pruned\n"
    for words, message in (
        (["drop", "tiny", "9"], "error: tiny has no trial 9."),
        (["enqueue", "tiny", "dropout=7"], "error: dropout must be from 0 to 0.5 in steps of 0.1. Received: 7."),
        (["enqueue", "tiny", "dropout"], "error: a value is given as PARAMETER=VALUE"),
        (
            ["enqueue", "tiny", "dropout=0.1", "dropout=0.3"],
            "error: a parameter has one value. Received: dropout twice",
        ),
    ):
        assert no(*words).startswith(message)
    shorter = {"max_epochs": 1, "grace_epochs": 1}
    more = {"points_to_evaluate": [{"dropout": 0.4}], "transfer_from": "tiny"}
    write_study_file(tmp_path, faces, name="second", trials=2, asha=shorter, **more)
    assert here("run", "second.yaml", "--no-calibrate").count("enqueued, to be tried next: ") == 4
    second = load_study_folder(tmp_path / "runs/second").state()
    assert second.trials[1].values["dropout"] == 0.4
    assert list(second.enqueued.values()) == [trial.values for trial in study.ranked(state)]
    waits = here("enqueue", "tiny", "dropout=0.2")
    assert "when the study has more trials: emotune resume runs/tiny --trials 4" in waits
