"""Real studies that several test files look at; `conftest.py` lists this module as a plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tune.spec import load_study
from tune.studies import Study, open_or_create

TINY: dict[str, Any] = {
    "space": "quickstart",
    "fixed": {"image_size_px": 48, "width": 0.0625, "batch_norm": True},
    "trials": 6,
    "startup_trials": 6,
    "asha": {"max_epochs": 4, "grace_epochs": 1, "reduction_factor": 2},
    "confirm": {"top": 0},
}


def write_study_file(folder: Path, data: Path, **changes: Any) -> Path:
    """Writes a tiny study's file; `changes` replace its keys."""
    path = folder / f"{changes.get('name', 'tiny')}.yaml"
    values = {"name": "tiny", "data": str(data), "storage": str(folder / "runs"), **TINY, **changes}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def run_here(study_file: Path, *overrides: str) -> Study:
    """Runs a study in this process, on the Ray that is there, and returns it."""
    from tune.runner import run_study
    from tune.study_data import prepare_data

    spec = load_study(study_file, overrides)
    dataset = prepare_data(spec, print)
    study = open_or_create(spec, dataset.info.fingerprint)
    run_study(study, dataset, calibrate=False, announce=lambda plan: "")
    return study


@pytest.fixture(scope="session")
def finished_study(ray_cluster: str, faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of six trials on the small faces, run to its end, some trials stopped at rungs, exported."""
    return run_here(write_study_file(tmp_path_factory.mktemp("study"), faces))
