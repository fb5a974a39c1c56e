"""What `emotune plan` says: warnings in words, a cluster that is only a file, columns that wrap, a real calibration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tune
from tests import ROOT
from tests.support.fixtures_study import emotune, write_study_file
from tests.tune.session.test_plan import capacity, spec
from trainables.dataset.reader import open_dataset
from trainables.training.calibration import Speed
from tune.cli.text import hanging_lines
from tune.errors import StudyFileError
from tune.session.calibrate import Calibration, drawn_configurations
from tune.session.plan import make_plan
from tune.session.study_plan import Machine, make_study_plan
from tune.session.study_warnings import epoch_warnings, machine_warnings, memory_warning, study_warnings
from tune.study.studies import StudyFiles

RATE = {"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "default": 1e-3}}
SPEED = Speed(100, 1000, 900, 1000, first_step_s=3, memory_mib=700, save_s=0.5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trials": 14, "space": {"batch_size": {"type": "categorical", "choices": [8, 16], "default": 8}}}, "2 conf"),
        ({"asha": {"max_epochs": 5, "grace_epochs": 5}}, "no trial is ever stopped: asha.grace_epochs=5 is not below"),
        ({"budget": {"epochs": 2}, "asha": {"grace_epochs": 3}}, "asha.grace_epochs=3 is longer than budget.epochs=2"),
        ({"trials": 8}, "the search stays random: the sampler learns after startup_trials=8, and there are 8 trials"),
        (
            {
                "space": {
                    **RATE,
                    "optimizer": {"type": "categorical", "choices": ["adam", "sgd"], "default": "adam"},
                    "nesterov": {
                        "type": "categorical",
                        "choices": [True, False],
                        "default": True,
                        "when": {"optimizer": "sgd"},
                    },
                    "beta_1": {
                        "type": "float",
                        "low": 0.8,
                        "high": 0.9,
                        "default": 0.9,
                        "when": {"optimizer": "adam", "nesterov": True},
                    },
                }
            },
            "beta_1 is never active: it wants optimizer adam, nesterov True, which no configuration has",
        ),
        (
            {"space": {**RATE, "momentum": {"type": "float", "low": 0.5, "high": 0.9, "default": 0.9}}},
            "momentum changes nothing: it counts with optimizer sgd or rmsprop, and no trial has that",
        ),
        ({"fixed": {"batch_size": 2048}}, "batch_size=2048 is larger than the"),
        ({"folds": {"max_images_per_fold": 20}}, "batch_size=32 is larger than the 20 images that train, of folds"),
    ],
)
def test_what_is_odd_is_said_in_one_line_each(faces: Path, changes: dict[str, Any], words: str) -> None:
    found = study_warnings(spec(**{"space": RATE, **changes}), open_dataset(faces))
    assert len(found) == 1 and words in found[0], found


def test_a_class_without_a_test_image_is_said(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(faces)
    counts = {**dataset.info.counts, "test": {**dataset.info.counts["test"], "sad": 0, "happy": 0}}
    monkeypatch.setattr(dataset, "info", dataset.info.model_copy(update={"counts": counts}))
    said = "no test image of happy, sad: the sealed test says nothing of that"
    assert study_warnings(spec(space=RATE), dataset) == [said]


def test_a_sound_study_has_no_warning(faces: Path) -> None:
    assert not study_warnings(
        tune.check_study(ROOT / "studies/quickstart.yaml", data=faces, trials=20), open_dataset(faces)
    )


def test_a_grace_period_longer_than_the_time_is_said_with_both() -> None:
    study = spec(time="10m", asha={"grace_epochs": 3, "max_epochs": 4})
    [line] = epoch_warnings(study, 200, 20)
    assert "3 epochs of one trial take 10 min, and time is 10 min" in line


def test_a_longest_training_that_the_time_does_not_hold_is_said_with_one_that_it_does() -> None:
    study = spec(time="10m", asha={"max_epochs": 20})
    assert not epoch_warnings(study, 29, 20) and not epoch_warnings(spec(asha={"max_epochs": 20}), 290, 20)
    [line] = epoch_warnings(study, 58, 20)
    assert "asha.max_epochs=20 take 20 min, and time is 10 min" in line and "--set asha.max_epochs=3" in line


def test_without_a_gpu_the_time_of_an_epoch_is_said() -> None:
    slow = Speed(10, 1000, 14_400, 0)
    plan = make_plan(spec(), capacity({"CPU": 2}), 10, Calibration(slow, (), None, 9.0, 20.0))
    assert machine_warnings(spec(), plan) == [
        "no GPU was found: trials train on the processor, where an epoch takes 24 min"
    ]
    [line] = machine_warnings(spec(), make_plan(spec(), capacity({"CPU": 2, "GPU": 1}), 10))
    assert "1 GPUs are there and the study uses none" in line


def test_trials_that_do_not_fit_in_memory_together_are_said() -> None:
    assert not memory_warning(1000, 4, 4096)
    [line] = memory_warning(1500, 4, 4096)
    assert line.endswith("--set resources.max_concurrent=2") and "5.9 GiB, and this machine has 4.0 GiB" in line


def test_what_costs_the_same_is_not_measured_twice() -> None:
    assert drawn_configurations(spec(space=RATE), 4) == []
    batches = {"batch_size": {"type": "categorical", "choices": [8, 16, 32], "default": 8}}
    found = drawn_configurations(spec(space=batches, constraints=["batch_size < 32"]), 4, without={"batch_size": [8]})
    assert found == [{"batch_size": 16}] * 4


def test_nothing_is_known_of_time_where_nothing_may_be_measured_and_no_trial_fits(faces: Path, tmp_path: Path) -> None:
    study = StudyFiles(tmp_path / "runs/a", spec(resources={"gpus_per_trial": 1}, storage=str(tmp_path / "runs")))
    found = make_study_plan(study, open_dataset(faces), Machine(capacity({"CPU": 2})), measure=True)
    told = found.as_dict()
    assert told["at_once"] is told["wall_s"] is told["calibration"] is None
    assert "gpus_per_trial=1 and Ray found 0 GPUs" in told["unknown"]
    assert told["trials"]["middle"] == 20 and 20 < told["epochs"]["middle"] < 400
    assert f"speed     not known: {told['unknown']}" in str(found)
    assert not (tmp_path / "runs").exists()


def test_a_cluster_that_is_only_a_file_gives_trials_at_once_and_the_price_of_an_hour(
    faces: Path, tmp_path: Path
) -> None:
    file = write_study_file(tmp_path, faces, trials=100, resources={"gpus_per_trial": 0.25, "feed_workers": 1})
    said: list[str] = []
    found = tune.plan_study(file, cluster=ROOT / "cluster.yaml", on_progress=said.append)
    told = found.as_dict()
    assert told["at_once"] == 32 and told["hour_price"] == pytest.approx(8.02, abs=0.01)
    assert "measure there, with RAY_ADDRESS set" in told["unknown"]
    assert "at most 8 gpu-spot of 8 CPUs and 1 GPUs" in told["machine"] and not said
    assert not (tmp_path / "runs").exists()
    for wrong in ("clusters/kuberay.yaml", "clusters/on-premise.yaml"):
        with pytest.raises(StudyFileError, match="RAY_ADDRESS"):
            tune.plan_study(file, cluster=ROOT / wrong)


@pytest.mark.parametrize("width", [80, 200])
def test_a_plan_fits_the_terminal_and_loses_no_word(width: int) -> None:
    rows = [("wall time", "17 min (14 min to 18 min) " * 9), ("", "two words " * 30), ("warning", "one " * 3)]
    lines = hanging_lines(rows, width).splitlines()
    assert max(map(len, lines)) <= width and all(line == line.rstrip() for line in lines)
    assert max(map(len, lines)) > width - 12
    assert " ".join(lines).split() == " ".join(f"{word} {text}" for word, text in rows).split()
    assert {line.index(line.split()[0]) for line in lines} == {0, 11}


def test_in_a_pipe_a_line_stays_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert hanging_lines([("wall time", "word " * 60)]).count("\n") == 0


@pytest.mark.slow
def test_a_plan_measures_this_machine_and_writes_nothing(
    ray_cluster: str, faces: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_study_file(tmp_path, faces, confirm={"top": 1, "seeds": 2})
    assert emotune("plan", file, "--json") == 0
    told = json.loads(capfd.readouterr().out)
    assert not (tmp_path / "runs").exists()
    assert told["at_once"] == 1 and told["trials"]["middle"] == 6 and told["ended_by"] == "finished"
    calibration = told["calibration"]
    assert len(calibration["drawn"]) == 4 and not calibration["failures"]
    for speed in (calibration["default"], *calibration["drawn"]):
        assert speed["training_images_per_s"] > 10 and speed["first_step_s"] > 0 and speed["save_s"] > 0
        assert speed["training_images"] < 420 and 50 < speed["memory_mib"] < 8000
    assert len({speed["training_images"] for speed in calibration["drawn"]}) > 1  # by their split ratios
    wall, search = told["wall_s"], told["search_s"]
    assert search["low"] <= search["middle"] <= search["high"]
    parts = told["before_s"] + told["both_s"]["middle"] + told["export_s"]
    assert wall["middle"] == pytest.approx(parts) and wall["middle"] > search["middle"] > calibration["process_start_s"]
    assert told["disk_mib"] > told["checkpoint_mib"][0] > 0 and told["cost"] is told["gpu_hours"] is None


@pytest.mark.slow
def test_of_a_study_that_has_ended_nothing_is_left(finished_study: StudyFiles, faces: Path) -> None:
    files = sorted(finished_study.directory.rglob("*"))
    found = make_study_plan(finished_study, open_dataset(faces), Machine(capacity({"CPU": 2})), measure=True)
    assert found.unknown == "nothing is left to search: emotune resume extends the study"
    assert found.plan.trials == found.plan.forecast.epochs.high == 0
    extended = StudyFiles(finished_study.directory, finished_study.spec.model_copy(update={"trials": 8}))
    machine = Machine(capacity({"CPU": 2}), here=False)
    assert make_study_plan(extended, open_dataset(faces), machine, measure=True).plan.forecast.trials.middle == 2
    assert sorted(finished_study.directory.rglob("*")) == files
