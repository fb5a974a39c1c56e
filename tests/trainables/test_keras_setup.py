"""Trials and exports beside another project's keras.json and KERAS_BACKEND, in processes that really read them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests import ROOT
from tests.support.checkpoints import write_checkpoint
from trainables.config import TrialConfig, TrialContext
from trainables.dataset.reader import TRAIN, Dataset, open_dataset
from trainables.dataset.writer import DatasetWriter
from trainables.keras_setup import SETTINGS, onednn_setting
from trainables.node_probe import tensorflow_gpus
from tune.export.export import export_checkpoint
from tune.study.provenance import differences, provenance

# Keras 3.15.1 reads its own variables with numpy.array(variable), which numpy 2 deprecates for their __array__.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

ANOTHER_PROJECTS = {"image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.1, "backend": "torch"}
ENVIRONMENT = {"KERAS_BACKEND": "jax", "TF_USE_LEGACY_KERAS": "1"}

TRIAL = """
import json, sys
from trainables.training.classifier import Classifier
classifier = Classifier(json.loads(sys.argv[1]))
found = [classifier.step() for _ in range(2)]
classifier.save_checkpoint(sys.argv[2])
measured = ("images_per_s", "wait_s", "epoch_s", "process_memory_mib", "process", "selection_confusion")
kept = [{name: value for name, value in epoch.items() if name not in measured} for epoch in found]
print(json.dumps(kept, default=list))
"""


def python(*arguments: str, home: Path | None = None, isolated: bool = False, **environment: str) -> str:
    """Runs Python in a process of its own, with a keras.json where `home` has one; returns what it printed."""
    foreign = {"KERAS_HOME": str(home)} if home else {}
    done = subprocess.run(
        [sys.executable, *(["-I"] if isolated else []), *arguments],
        env={**os.environ, **foreign, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def keras_json(tmp_path: Path) -> Path:
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "keras.json").write_text(json.dumps(ANOTHER_PROJECTS))
    return tmp_path / "keras" / "keras.json"


@pytest.mark.slow
def test_a_trial_beside_another_projects_settings_is_the_same_to_the_last_digit(
    faces: Path, keras_json: Path, tmp_path: Path
) -> None:
    context = TrialContext(
        dataset=str(faces),
        seed=3,
        objective="selection_accuracy",
        mode="max",
        max_epochs=2,
        rungs=(),
        selection_share=0.15,
        max_images_per_fold=64,
    )
    parameters = TrialConfig(image_size_px=32, width=0.05, normalization="standardize")
    config = {"trial": 0, "parameters": parameters.model_dump(), "study": context.model_dump(), "resume_from": []}
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    expected = python("-c", TRIAL, json.dumps(config), str(tmp_path / "here"))
    found = python("-c", TRIAL, json.dumps(config), str(tmp_path / "there"), home=keras_json.parent, **ENVIRONMENT)
    assert json.loads(found) == json.loads(expected)
    assert json.loads(expected)[1]["epoch"] == 2
    assert json.loads(keras_json.read_text()) == ANOTHER_PROJECTS


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    ['{"floatx": "bfloat16", "backend": "theano", "epsilon": 1, "nnx_enabled": true}', None],
    ids=["values of other versions", "a folder"],
)
def test_a_keras_json_that_keras_itself_cannot_read_is_in_nobodys_way(content: str | None, tmp_path: Path) -> None:
    if content is None:
        (tmp_path / "keras.json").mkdir()
    else:
        (tmp_path / "keras.json").write_text(content)
    code = (
        "import os; before = dict(os.environ)\n"
        "from trainables.keras_setup import import_keras; import_keras()\n"
        "from keras.config import backend, epsilon, floatx, image_data_format\n"
        "print(backend(), floatx(), image_data_format(), epsilon())\n"
        "kept = lambda all: {name: value for name, value in all.items() if name.startswith('KERAS_')}\n"
        "assert kept(os.environ) == kept(before) and len(kept(before)) == 4"
    )
    more = {"KERAS_NNX_ENABLED": "true", "KERAS_MAX_EPOCHS": "many"}
    said = python("-c", code, home=tmp_path, **ENVIRONMENT, **more)
    assert said.split() == ["tensorflow", "float32", "channels_last", "1e-07"]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="TensorFlow's own choice is kept elsewhere")
@pytest.mark.parametrize(("environment", "expected"), [({}, "True"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "False")])
def test_onednn_is_used_unless_the_user_says_no(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    code = (
        "import os; before = dict(os.environ)\n"
        "from trainables.keras_setup import import_keras; import_keras()\n"
        "name = 'TF_ENABLE_ONEDNN_OPTS'; assert os.environ.get(name) == before.get(name)\n"
        "from tensorflow.python.framework.test_util import IsMklEnabled; print(IsMklEnabled())"
    )
    assert python("-c", code, **environment).split() == [expected]


def test_tensorflow_counts_gpus_beside_another_projects_settings(
    keras_json: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras_json.write_text('{"floatx": "bfloat16"}')
    monkeypatch.setenv("KERAS_HOME", str(keras_json.parent))
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert tensorflow_gpus()[0] == 0


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two classes of coloured noise, not square: what rows, columns and channels are cannot be mixed up unnoticed."""
    folder = tmp_path_factory.mktemp("data") / "colours"
    random = np.random.default_rng(0)
    with DatasetWriter(folder, ["red", "green"]) as writer:
        for number in range(64):
            image = random.integers(0, 256, (24, 40, 3), dtype=np.uint8)
            image[..., number % 2] = 255
            writer.append(image, number % 2, TRAIN, f"{number}.png")
        writer.finish(source="noise", source_fingerprint="noise")
    return open_dataset(folder)


@pytest.fixture(scope="module")
def exported(colours: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    checkpoint = write_checkpoint(
        folder / "checkpoint", colours, width=0.05, steps=5, image_size_px=32, normalization="standardize"
    )
    export_checkpoint(checkpoint, colours, folder / "export", study_yaml="", selection={})
    np.save(folder / "images.npy", colours.images(np.arange(4)))
    return folder / "export"


@pytest.mark.slow
def test_an_exported_model_opened_beside_other_settings_gives_the_same_probabilities(
    exported: Path, keras_json: Path, tmp_path: Path
) -> None:
    keras_json.write_text(json.dumps(ANOTHER_PROJECTS | {"backend": "tensorflow"}))
    code = (
        "import sys, os, numpy as np, keras\n"
        "images = np.load(sys.argv[1] + '/../images.npy')\n"
        "model = keras.saving.load_model(sys.argv[1] + '/model.keras')\n"
        "print(keras.config.image_data_format(), keras.config.floatx())\n"
        "np.save(sys.argv[2], [model.predict_on_batch(images), model.predict(images / 255, verbose=0)])\n"
    )
    without = {"KERAS_HOME": str(tmp_path / "none")}
    python("-c", code, str(exported), str(tmp_path / "here.npy"), isolated=True, **without)
    said = python("-c", code, str(exported), str(tmp_path / "there.npy"), isolated=True, home=keras_json.parent)
    assert said.split() == ["channels_first", "float16"]
    expected, found = np.load(tmp_path / "here.npy"), np.load(tmp_path / "there.npy")
    assert expected.dtype == found.dtype == np.float32
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[0], atol=1e-6)


@pytest.mark.slow
def test_predict_answers_beside_another_projects_settings(
    exported: Path, colours: Dataset, keras_json: Path, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "red.png"), colours.image(0)[..., ::-1])
    words = ["-m", "tune.cli", "predict", str(exported), str(tmp_path / "red.png"), "--json"]
    probabilities = [
        json.loads(python(*words, home=home, **environment))
        for home, environment in ((None, {}), (keras_json.parent, ENVIRONMENT))
    ]
    assert probabilities[0] == probabilities[1]


def test_replay_names_a_setting_that_differs_and_nothing_that_was_never_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    then = provenance(tmp_path, {}, onednn=onednn_setting())
    assert then["keras"] == SETTINGS
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    now = provenance(tmp_path, {}, onednn=onednn_setting())
    assert differences(then, now) == [f"TF_ENABLE_ONEDNN_OPTS: 0 then, {onednn_setting() or 'none'} now"]
    other: dict[str, Any] = {**now, "keras": {**now["keras"], "floatx": "float64"}}
    assert differences(other, now) == ["Keras' floatx: float64 then, float32 now"]
    earlier = {name: value for name, value in now.items() if name not in ("keras", "environment")}
    assert differences(earlier, now) == []
