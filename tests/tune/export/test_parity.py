"""Every format, preprocessing source and built-in model gives training's answers, in a process without emotune."""

from __future__ import annotations

import dataclasses
import json
from itertools import chain, repeat
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
from scipy.special import softmax

from tests.support.checkpoints import with_config, write_checkpoint
from tests.support.own_pipelines import SOURCES
from trainables.config import TrialConfig
from trainables.dataset.face_boxes import detect_face, find_faces
from trainables.dataset.folds import test_rows as rows_of_test
from trainables.dataset.reader import Dataset, Rows
from trainables.models.builtin import MODELS
from trainables.models.weight_average import load_average
from trainables.preprocessing.feed import Feed
from trainables.preprocessing.methods import evaluation_pipeline, strengths_of
from tune.dataset.synth import write_faces
from tune.errors import ExportError
from tune.export import parity
from tune.export.export import LABELS_FILE, METRICS_FILE, PREPROCESSING_FILE, export_checkpoint
from tune.export.formats import FORMATS
from tune.export.parity import TOLERANCE, accuracy_difference, check_parity, run_formats
from tune.export.predict import load_export

pytestmark = [
    # Keras 3.15.1 reads its own variables with numpy.array(variable), which numpy 2 deprecates for their __array__.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    # tf2onnx 1.17 looks for np.object.
    pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning"),
    # TensorFlow 2.21 announces that its converter will move to another package.
    pytest.mark.filterwarnings("ignore:.*tf.lite:UserWarning"),
]


def evaluates(config: TrialConfig) -> bool:
    """Says whether evaluation does something to an image."""
    return evaluation_pipeline(config.preprocessing, strengths_of(config), (48, 48, 1), config.code) is not None


CHANGING = [source for source in SOURCES if evaluates(TrialConfig.model_validate(SOURCES[source]))]
OTHERS = [source for source in SOURCES if source not in CHANGING]
MODEL_OF = dict(zip((*CHANGING, *OTHERS), chain(MODELS, repeat("alexnet")), strict=False))  # the fastest to write
CASES = {f"{source}, {MODEL_OF[source]}": [source] for source in CHANGING} | {f"mean of {', '.join(OTHERS)}": OTHERS}
"""Sources by export. Those that evaluate images as they are differ in nothing that is exported: one has their mean."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    dataset = write_faces(tmp_path_factory.mktemp("data") / "faces", train_images=84, test_images=42)
    find_faces(dataset)
    return dataset


@pytest.fixture(scope="module")
def checkpoints(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of a small trial of each model; the averages of their weights are what was scored."""
    root, small = tmp_path_factory.mktemp("trials"), {"width": 0.05, "weight_average": 0.5, "steps": 20}
    return {model: write_checkpoint(root / model, dataset, model=model, **small) for model in MODELS}


def answers_of_training(checkpoint: Path, dataset: Dataset, rows: Rows, *, evaluated: bool = True) -> np.ndarray:
    """Returns the probabilities that a trial is scored by, (n, classes), from nothing that an export is made with.

    Args:
        checkpoint: the trial's.
        dataset: its data set.
        rows: the images.
        evaluated: whether they go through the evaluation's pipeline first, as they do in training.
    """
    import keras

    config = TrialConfig.model_validate(json.loads((checkpoint / "state.json").read_text())["config"])
    model = keras.saving.load_model(checkpoint / "model.keras", compile=False)
    load_average(model, checkpoint / "average.npz")
    feed = Feed(dataset, config.preprocessing, strengths_of(config), config.code)
    ((pixels, _),) = feed.evaluation_batches(rows, len(rows))
    return softmax(np.asarray(model.predict_on_batch(pixels if evaluated else dataset.images(rows))), axis=1)


def as_labels_say(export: Path, images: np.ndarray) -> np.ndarray:
    """Returns images as labels.json asks for them: as they are, or through preprocessing.json."""
    labels = json.loads((export / LABELS_FILE).read_text())
    if not labels["expects_preprocessed_images"]:
        return images
    pipeline = A.from_dict(json.loads((export / PREPROCESSING_FILE).read_text()))
    boxes = [{"face_box": detect_face(image)} if labels["needs_faces"] else {} for image in images]
    return np.stack([pipeline(image=image, **box)["image"] for image, box in zip(images, boxes, strict=True)])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_format_gives_the_answers_of_training_where_emotune_is_not(
    case: str, checkpoints: dict[str, Path], dataset: Dataset, tmp_path: Path
) -> None:
    members = [
        with_config(checkpoints[MODEL_OF[source]], tmp_path / str(place), **SOURCES[source])
        for place, source in enumerate(CASES[case])
    ]
    export = tmp_path / "export"
    export_checkpoint(members, dataset, export, study_yaml="", selection={}, formats=list(FORMATS))

    written = json.loads((export / METRICS_FILE).read_text())["formats"]
    rows = rows_of_test(dataset)[:16]
    images = dataset.images(rows)
    expected = np.mean([answers_of_training(member, dataset, rows) for member in members], axis=0)
    for name, found in run_formats(export, list(FORMATS), as_labels_say(export, images)).items():
        if FORMATS[name].exact:
            np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE, err_msg=name)
        else:  # quantised, models of few weights are others: what that costs is told, not bounded
            np.testing.assert_allclose(found.sum(axis=1), 1, atol=0.05, err_msg=name)
            assert {"accuracy_difference", "interval", "max_difference"} < written[name].keys()
    predicted = [list(one.probabilities.values()) for one in load_export(export).predict(images)]
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=TOLERANCE, err_msg="emotune predict")
    if CASES[case] != OTHERS:
        plain = answers_of_training(members[0], dataset, rows, evaluated=False)
        assert np.abs(plain - expected).max() > 5 * TOLERANCE  # a format that left evaluation out would be seen


def test_other_probabilities_than_trainings_stop_the_export() -> None:
    expected = np.full((2, 2), 0.5, np.float32)
    assert check_parity({"onnx": expected + 5e-5, "litert_int8": expected + 0.1}, expected)["onnx"] < TOLERANCE
    for wrong in (expected + 2e-4, expected * np.nan):
        with pytest.raises(ExportError, match=r"The format onnx must give the probabilities of training to 0\.0001"):
            check_parity({"onnx": wrong}, expected)


def test_a_format_that_does_not_run_is_named_and_the_next_one_is_run(tmp_path: Path) -> None:
    images = np.zeros((2, 4, 4, 1), np.uint8)
    (tmp_path / "model.onnx").write_bytes(b"no model")
    for _ in range(2):
        with pytest.raises(
            ExportError, match=r"must run without emotune\. Received: .*model\.onnx: .*Leave the format"
        ):
            run_formats(tmp_path, ["onnx"], images)


def test_the_accuracy_of_int8_is_compared_image_by_image() -> None:
    labels = np.zeros(100, np.int32)
    right, wrong = np.array([[0.9, 0.1]] * 100), np.array([[0.9, 0.1]] * 90 + [[0.1, 0.9]] * 10)
    found = accuracy_difference(wrong, right, labels)
    assert found["accuracy_difference"] == pytest.approx(-0.1)
    assert found["interval"] == pytest.approx([-0.1588, -0.0412], abs=1e-4)


def test_the_limit_is_one_batchs_however_many_there_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slow = "import time\ndef run(path, images):\n    time.sleep(1)\n    return [[0.5, 0.5]] * len(images)"
    monkeypatch.setitem(parity.FORMATS, "keras", dataclasses.replace(parity.FORMATS["keras"], code=slow))
    run_formats(tmp_path, ["keras"], np.zeros((1, 8, 8, 1), np.uint8))  # the process is up
    monkeypatch.setattr(parity, "LIMIT_S", 4.0)
    found = run_formats(tmp_path, ["keras"], np.zeros((6 * parity._BATCH, 8, 8, 1), np.uint8))
    assert found["keras"].shape == (6 * parity._BATCH, 2)


def test_a_format_that_never_answers_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hung = "def run(path, images):\n    import time\n    time.sleep(600)"
    monkeypatch.setitem(parity.FORMATS, "keras", dataclasses.replace(parity.FORMATS["keras"], code=hung))
    monkeypatch.setattr(parity, "LIMIT_S", 2.0)
    with pytest.raises(ExportError, match="Every format must run without emotune. Received: no answer in 2 s"):
        parity.run_formats(tmp_path, ["keras"], np.zeros((1, 8, 8, 1), np.uint8))
