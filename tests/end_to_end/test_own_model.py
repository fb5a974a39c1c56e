"""A study of what is all the user's own: tried, searched, confirmed, gone on with, replayed, exported, opened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.fixtures_study import emotune, lines, write_study_file
from tests.support.own_models import OWN_MODEL
from tests.support.own_pipelines import OWN_PIPELINE
from tests.support.own_training import OPTIMIZER, OWN_TRAINING, SCHEDULE

SPACE = {
    "learning_rate": {"type": "float", "low": 1e-3, "high": 1e-2, "log": True, "default": 3e-3},
    "model.depth": {"type": "int", "low": 1, "high": 6, "default": 1},
}
STUDY = {
    "name": "own",
    "space": SPACE,
    "fixed": {
        "model": "my_models.py:build",
        "model.act": "gelu",
        "preprocessing": "my_aug.py:training",
        "preprocessing.strength": 0.3,
        "optimizer": OPTIMIZER,
        "optimizer.beta": 0.5,
        "schedule": SCHEDULE,
    },
    "constraints": ["model.depth == 1 or learning_rate < 0.002"],
    "trials": 2,
    "asha": {"max_epochs": 2},
    "folds": {"max_images_per_fold": 64},
    "confirm": {"top": 1, "seeds": 2},
    "export": {},
}

ALONE = """
import sys
import keras, numpy as np
images = np.load("images.npy")
layer = keras.layers.TFSMLayer("export/saved_model", call_endpoint="serving_default")
served = np.asarray(layer(images)["probabilities"])
sys.path.insert(0, "export/code")
import my_models
opened = keras.saving.load_model("export/model.keras").predict(images, verbose=0)
np.testing.assert_allclose(served, opened, atol=1e-5)
print("told apart:", "tune" in sys.modules or "trainables" in sys.modules)
"""


@pytest.mark.slow
def test_a_study_of_ones_own_model_from_end_to_end(
    ray_cluster: str, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_models.py").write_text(OWN_MODEL)
    (tmp_path / "my_aug.py").write_text(OWN_PIPELINE)
    (tmp_path / "my_training.py").write_text(OWN_TRAINING)
    home = tmp_path / "home"
    home.mkdir()
    (home / "my_models.py").write_text("raise SystemExit('not this file')\n")
    monkeypatch.chdir(home)  # where another file of that name lies
    file = write_study_file(tmp_path, faces, **STUDY)
    assert emotune("run", file, "--no-calibrate") == 0
    said = capsys.readouterr().out
    assert "my_models.py:build is in order: " in said and "model.depth 1" in said
    assert "my_aug.py:training is in order: it mirrors images, and evaluation takes a pipeline of its own" in said
    assert f"{OPTIMIZER} is in order: SignDescent" in said and f"{SCHEDULE} is in order: 0.25 to 1 of learn" in said

    # depth 6 leaves nothing of 48 pixels
    assert emotune("enqueue", tmp_path / "runs/own", "model.depth=6", "learning_rate=1e-3") == 0
    assert emotune("resume", tmp_path / "runs/own", "--trials", 3) == 0
    events = lines(tmp_path / "runs/own/journal.jsonl")
    faults = [event for event in events if event["event"] == "fault"]
    assert [(fault["kind"], fault["retried"]) for fault in faults] == [("infeasible", False)]
    assert "no model can be built" in faults[0]["reason"] and "shape=" in faults[0]["reason"]
    rates = [event["metrics"]["learning_rate"] for event in events if event["event"] == "epoch" and event["trial"] == 0]
    assert rates == [3e-3, 3e-3 / 4]
    assert emotune("replay", tmp_path / "runs/own", 0) == 0

    export = tmp_path / "runs/own/export"
    assert json.loads((export / "labels.json").read_text())["own_layers"] == "my_models.py:build"
    assert (export / "code/my_models.py").read_text() == OWN_MODEL
    assert (export / "code/my_aug.py").read_text() == OWN_PIPELINE
    evaluation = json.loads((export / "preprocessing.json").read_text())["transform"]["transforms"]
    assert evaluation == []  # the models do it
    pictures = [export.parent / "image.png"]
    cv2.imwrite(str(pictures[0]), np.random.default_rng(0).integers(0, 256, (48, 48)).astype(np.uint8))
    assert emotune("predict", export, *pictures) == 0
    np.save(export.parent / "images.npy", np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1)).astype(np.uint8))
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE], cwd=export.parent, capture_output=True, text=True, check=False
    )
    assert "told apart: False" in done.stdout, done.stderr


def test_a_broken_model_starts_nothing(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tune.errors import OwnCodeError
    from tune.session import own_models

    (tmp_path / "my_models.py").write_text(
        "import time\n\ndef build(image, classes):\n    time.sleep(100)\n"  # a build that takes a minute and more
    )
    monkeypatch.setattr(own_models.check_own_models, "__kwdefaults__", {"limit_s": 1.0})
    study = {**STUDY, "space": {"batch_size": {"type": "int", "low": 8, "high": 9, "default": 8}}, "constraints": []}
    file = write_study_file(tmp_path, faces, **{**study, "fixed": {"model": "my_models.py:build"}})
    with pytest.raises(OwnCodeError, match=r"^my_models\.py:build must be built in 1 s\. Received: none after"):
        emotune("run", file)
    assert not (tmp_path / "runs").exists()
