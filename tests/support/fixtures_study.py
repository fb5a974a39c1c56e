"""Real studies that several test files look at; `conftest.py` lists this module as a plugin."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from trainables.dataset.node_cache import import_folder
from tune.cli.main import app
from tune.search.optuna_study import connect_storage, study_name
from tune.session.create_or_resume import open_or_create
from tune.study.spec import load_spec
from tune.study.studies import StudyFiles, find_study, load_study_folder

TINY: dict[str, Any] = {
    "space": "quickstart",
    "fixed": {"image_size_px": 48, "width": 0.0625, "batch_norm": True},
    "trials": 6,
    "startup_trials": 6,
    "asha": {"max_epochs": 4, "grace_epochs": 1, "reduction_factor": 2},
    "confirm": {"top": 0},
    "resources": {"max_concurrent": 1},  # each process at once imports TensorFlow, a third of a tiny study's time
    "export": {"formats": ["keras"], "ensemble": 1},  # studies that look at the rest of an export have `export={}`
}


def write_study_file(folder: Path, data: Path | str, **changes: Any) -> Path:
    """Writes a tiny study's file; `changes` replace its keys."""
    path = folder / f"{changes.get('name', 'tiny')}.yaml"
    values = {"name": "tiny", "data": str(data), "storage": str(folder / "runs"), **TINY, **changes}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def run_here(study_file: Path, *overrides: str) -> StudyFiles:
    """Runs a study in this process, on the Ray that is there, and returns it."""
    from tune.session.runner import run_study
    from tune.session.study_data import prepare_data

    spec = load_spec(study_file, overrides)
    dataset = prepare_data(spec, print)
    study = open_or_create(spec, dataset.info.fingerprint)
    run_study(study, dataset, calibrate=False, announce=lambda plan: "")
    return study


def emotune(*words: object) -> int:
    """Runs the command line in this process, on the Ray that is there; returns its exit code."""
    return int(app([str(word) for word in words], standalone_mode=False) or 0)


def optuna_study(study: StudyFiles) -> optuna.Study:
    """Opens what a study has told Optuna."""
    if study.spec.optuna_storage:
        return optuna.load_study(study_name=study_name(study.spec), storage=connect_storage(study.spec.optuna_storage))
    return optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(study.optuna_file))))


def goes_on(process: subprocess.Popen[str], seconds: float) -> bool:
    """Waits so long for the end of a process; says whether it still runs."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def lines(path: Path) -> list[dict[str, Any]]:
    """Returns the objects of a file of JSON lines, a journal or the events of `--events`."""
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]  # the last may be half written


@pytest.fixture(scope="session")
def finished_study(ray_cluster: str, faces: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyFiles:
    """A study of six trials on the small faces, run to its end, some trials stopped at rungs, exported.

    `events.jsonl` beside its file holds what `--events` said.
    """
    folder = tmp_path_factory.mktemp("study")
    file = write_study_file(folder, faces, export={})
    assert emotune("run", file, "--no-calibrate", "--events", folder / "events.jsonl") == 0
    return load_study_folder(folder / "runs/tiny")


@pytest.fixture(scope="session")
def bucket_study(ray_cluster: str, bucket: str, faces: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyFiles:
    """The same study in a bucket, its data set in a bucket too."""
    return _study_in(bucket, faces, tmp_path_factory.mktemp("bucket"))


@pytest.fixture(scope="session")
def google_study(
    ray_cluster: str, google_bucket: str, postgresql: str, faces: Path, tmp_path_factory: pytest.TempPathFactory
) -> StudyFiles:
    """The same in a bucket of Google's, Optuna's part of it in PostgreSQL."""
    return _study_in(google_bucket, faces, tmp_path_factory.mktemp("google"), optuna_storage=postgresql)


def _study_in(bucket: str, faces: Path, folder: Path, **changes: Any) -> StudyFiles:
    data = bucket.format("faces")
    with import_folder(data) as imported:
        shutil.copytree(faces, imported)
    file = write_study_file(folder, data, storage=bucket.format("runs"), export={}, **changes)
    assert emotune("run", file, "--no-calibrate") == 0
    return find_study(bucket.format("runs/tiny"), "")


@pytest.fixture(params=["finished_study", "bucket_study", "google_study"])
def whole_study(request: pytest.FixtureRequest) -> StudyFiles:
    """A study in a folder, in a bucket of S3, in one of Google's with PostgreSQL: each run to its end."""
    study: StudyFiles = request.getfixturevalue(request.param)
    return study
