"""What holds for every model and every source of preprocessing: a training that is stopped goes on to the last digit, a
trial again from its seeds is the same, and batches in parts learn as whole ones, also when two processes share them.

Files and exports: test_parity.py, test_builtin.py, test_applications.py. Workers of a study: test_data_parallel.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from benchmarks.trial_training import open_training, trial_setup
from tests.support.own_models import own_parameters
from tests.support.own_pipelines import SOURCES
from tests.support.servers import free_port
from trainables.dataset.face_boxes import find_faces
from trainables.models.builtin import MODELS
from trainables.training.epochs import TrialTraining
from tune.dataset.synth import write_faces

# Keras 3.15.1 reads its own variables with numpy.array(variable), which numpy 2 deprecates for their __array__.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]

OWN = "own"
CASES = [*zip(cycle([*MODELS, OWN]), SOURCES), ("applications:MobileNetV2", "crop")]
"""Each source with one model, and each kind of model with some source."""


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn faces of a folder of their own: their boxes are written beside them."""
    dataset = write_faces(tmp_path_factory.mktemp("data") / "faces", train_images=140, test_images=14)
    find_faces(dataset)
    return dataset.directory


def parameters_of(model: str, source: str) -> dict[str, Any]:
    chosen = own_parameters(depth=1) if model == OWN else {"model": model, "width": 0.25}
    code = {**chosen.get("code", {}), **SOURCES[source].get("code", {})}
    options = {"image_size_px": 48, "dropout": 0.3, "weight_average": 0.9, "mirror": True}
    return {**options, **chosen, **SOURCES[source], **({"code": code} if code else {})}


def scores(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key.startswith(("training_", "validation_", "selection_"))}


@pytest.mark.parametrize(("model", "source"), CASES)
def test_a_training_goes_on_where_it_stopped_is_the_same_again_and_learns_in_micro_batches(
    model: str, source: str, faces: Path, tmp_path: Path
) -> None:
    def begun(**how: Any) -> TrialTraining:
        folds = {"max_epochs": 2, "max_images_per_fold": 64}
        return open_training(TrialTraining(), faces, parameters_of(model, source), **folds, **how)

    whole = begun()
    first = whole._train_epoch()
    whole.save_checkpoint(str(tmp_path))
    second = whole._train_epoch()
    assert scores(first) != scores(second)
    stopped = begun()
    stopped.load_checkpoint(str(tmp_path))
    assert scores(stopped._train_epoch()) == scores(second)
    if model.startswith("applications:"):  # its one epoch takes as long as all of the others' together
        return
    assert scores(begun()._train_epoch()) == scores(first)
    assert begun(micro_batches=2)._train_epoch()["training_loss"] == pytest.approx(first["training_loss"], rel=0.1)


WITH_STATE = """
import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("with_state")
class Centred(layers.Layer):
    def build(self, shape):
        self.mean = self.add_weight(shape=(shape[-1],), trainable=False, initializer="zeros")
        self.unused = self.add_weight(shape=(2,))
        super().build(shape)

    def call(self, x, training=None):
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * ops.mean(x, axis=0))
        return x - self.mean


def build(image, classes) -> keras.Model:
    x = image.input()
    y = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 5, strides=4, activation="tanh")(image.standardized(x)))
    return keras.Model(x, layers.Dense(classes)(Centred()(y)))
"""
"""A statistic that each process would keep of its own images, and a weight without a gradient."""


@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables")  # Keras' own words of it
@pytest.mark.parametrize("model", [*MODELS, "applications:MobileNetV2", "with state"])
def test_two_processes_train_what_one_does(model: str, faces: Path) -> None:
    chosen = own_parameters(WITH_STATE) if model == "with state" else parameters_of(model, "crop")
    parameters = {**chosen, "weight_average": 0.9, "dropout": 0.0, "batch_size": 15}  # each would draw masks of its own
    # In a fresh MobileNetV2 a batch's images in another order make 2 % of the loss after three steps: one is compared.
    setup = {"max_images_per_fold": 15 if model.startswith("applications:") else 60}
    addresses = [f"127.0.0.1:{port}" for port in (free_port(), free_port())]
    command = [sys.executable, "-m", "tests.support.replica", json.dumps(addresses)]
    given = json.dumps(trial_setup(faces, parameters, **setup))
    run = partial(subprocess.run, capture_output=True, text=True, timeout=240)
    with ThreadPoolExecutor() as threads:
        workers = threads.map(run, ([*command, str(rank), given] for rank in range(2)))
        alone = open_training(TrialTraining(), faces, parameters, **setup)._train_epoch()
        ended = list(workers)
    assert [worker.returncode for worker in ended] == [0, 0], ended[0].stderr[-3000:]
    first, second = (json.loads(worker.stdout.splitlines()[-1]) for worker in ended)
    assert (scores(first), first["weights"]) == (scores(second), second["weights"])
    losses = ("training_loss", "validation_loss", "selection_loss")
    assert [first[name] for name in losses] == pytest.approx([alone[name] for name in losses], rel=1e-3)
