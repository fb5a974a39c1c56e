"""A study with a weighted score and a second objective, from its first trial to the export of one of its front."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tune
from tests.support.fixtures_study import emotune, optuna_study, write_study_file
from tune.study.studies import load_study_folder
from tune.study.trade_off import pareto_front

pytestmark = pytest.mark.slow


def test_a_study_goes_on_shows_its_front_and_exports_what_is_chosen_from_it(
    ray_cluster: str, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"width": {"type": "categorical", "choices": [0.0625, 0.125, 0.25], "default": 0.125}}
    file = write_study_file(
        tmp_path,
        faces,
        space=sizes,
        fixed={"image_size_px": 32, "batch_norm": True},
        trials=2,
        startup_trials=1,
        asha={"max_epochs": 1},
        objective=[{"selection_accuracy": 1, "selection_macro_f1": 1}, "parameters"],
    )
    assert emotune("run", file, "--no-calibrate") == 0
    assert emotune("resume", tmp_path / "runs/tiny", "--trials", 3) == 0
    study = load_study_folder(tmp_path / "runs/tiny")
    state = study.state()
    trained = [trial for trial in state.trials.values() if trial.state != "repeat"]
    assert (len(trained), state.sessions, state.finished) == (3, 2, True)
    for trial in trained:
        metrics = trial.epochs[1]
        mean = (metrics["selection_accuracy"] + metrics["selection_macro_f1"]) / 2
        assert metrics["selection_score"] == pytest.approx(mean)
        told = optuna_study(study).get_trials()[trial.number].values
        assert told == [metrics["selection_score"], metrics["parameters"]]
    front = pareto_front(study.spec, state)
    smallest = min(trained, key=lambda trial: trial.epochs[1]["parameters"])
    assert front[-1].trial == smallest.number
    assert tune.load_study(study.directory).front == [state.trials[one.trial] for one in front]

    capsys.readouterr()
    assert emotune("show", study.directory) == 0
    shown = capsys.readouterr().out
    assert f"trial {smallest.number}: {front[-1].first:.4f}, {front[-1].second:,.0f} parameters" in shown
    assert emotune("export", study.directory, "--trial", smallest.number, "--to", tmp_path / "small") == 0
    assert json.loads((tmp_path / "small/metrics.json").read_text())["trial"] == smallest.number
    assert emotune("replay", study.directory, smallest.number) == 0
