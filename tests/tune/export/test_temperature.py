"""One temperature brings confidence to accuracy in every format, changes no label, and is left out where it is luck."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from tests.support.checkpoints import write_checkpoint
from trainables.config import TrialContext
from trainables.dataset.folds import test_rows as rows_of_test
from trainables.dataset.folds import trial_rows
from trainables.dataset.reader import Dataset, open_dataset
from trainables.training.metrics import expected_calibration_error
from tune.export.checkpoints import load_checkpoints, logits_of
from tune.export.export import export_checkpoint
from tune.export.graph import Part, pixel_classifier
from tune.export.parity import TOLERANCE, run_formats
from tune.export.predict import load_export
from tune.export.sealed_test import evaluate_sealed
from tune.export.temperature import calibrate, fit_temperature, judge_temperature

pytestmark = [
    # Keras 3.15.1 reads its own variables with numpy.array(variable), which numpy 2 deprecates for their __array__.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    # tf2onnx 1.17 looks for np.object.
    pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning"),
    # TensorFlow 2.21 announces that its converter will move to another package.
    pytest.mark.filterwarnings("ignore:.*tf.lite:UserWarning"),
]
TEMPERATURE = 2.5


def drawn(images: int, *, seed: int = 0) -> tuple[Any, Any]:
    """Returns logits of seven classes that are right as often as they say, and labels drawn by them."""
    rng = np.random.default_rng(seed)
    logits = (2 * rng.normal(size=(images, 7))).astype(np.float32)
    labels = (softmax(logits, axis=1).cumsum(1) > rng.random((images, 1))).argmax(1)
    return logits, labels.astype(np.int32)


@pytest.mark.parametrize("temperature", [3.0, 0.5])
def test_a_model_that_is_too_sure_or_not_sure_enough_is_given_its_temperature(temperature: float) -> None:
    logits, labels = drawn(3000)
    found = calibrate(logits * temperature, labels, np.arange(3000))
    assert found is not None and found["kept"]
    assert found["temperature"] == pytest.approx(temperature, rel=0.1)
    assert found["expected_calibration_error"]["after"] < 0.3 * found["expected_calibration_error"]["before"]
    assert found["loss"]["before"] - found["loss"]["after"] == pytest.approx(found["loss_gain"])
    low, high = found["loss_gain_interval"]
    assert 0 < low < found["loss_gain"] < high


@pytest.mark.parametrize("seed", range(5))
def test_what_is_calibrated_already_and_what_chance_could_explain_keep_their_probabilities(seed: int) -> None:
    logits, labels = drawn(3000, seed=seed)
    found = calibrate(logits, labels, np.arange(3000))
    assert found is not None and not found["kept"]
    found = calibrate(1.1 * logits[:30], labels[:30], np.arange(30))
    assert found is not None and not found["kept"]


def test_images_without_an_error_keep_their_probabilities() -> None:
    logits, _ = drawn(100)
    found = calibrate(logits, logits.argmax(axis=1).astype(np.int32), np.arange(100))
    assert found is not None and found["loss_gain_interval"][0] > 0 and not found["kept"]


def test_a_temperature_is_scored_on_images_whose_twins_it_was_not_fitted_to() -> None:
    logits, labels = drawn(20)
    twins = np.repeat(np.arange(20), 50)
    whole, divided = (calibrate(logits[twins], labels[twins], groups) for groups in (twins, np.arange(1000)))
    assert whole is not None and divided is not None
    assert whole["temperature"] == divided["temperature"]
    assert divided["loss_gain"] > 0 > whole["loss_gain"]


def test_nothing_is_said_of_logits_that_are_no_numbers_or_of_hardly_any_images() -> None:
    logits, labels = drawn(40)
    assert calibrate(logits[:4], labels[:4], np.arange(4)) is None
    logits[3, 2] = np.nan
    assert calibrate(logits, labels, np.arange(40)) is None


def test_the_fitted_temperature_has_the_least_cross_entropy_of_all() -> None:
    logits, labels = drawn(500, seed=3)
    best = fit_temperature(1.7 * logits, labels)

    def loss(temperature: float) -> float:
        return float(-np.log(softmax(1.7 * logits / temperature, axis=1)[np.arange(500), labels]).mean())

    assert all(loss(best) <= loss(best * factor) for factor in (0.3, 0.9, 0.99, 1.01, 1.1, 3))


@pytest.fixture(scope="module")
def dataset(faces: Path) -> Dataset:
    return open_dataset(faces)


@pytest.fixture(scope="module")
def mean(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of two models, each the mean over image and mirror, after a crop."""
    root = tmp_path_factory.mktemp("mean")
    settings = {"preprocessing": "crop", "mirror": True}
    return [write_checkpoint(root / str(steps), dataset, steps=steps, **settings) for steps in (20, 40)]


@pytest.mark.slow
def test_a_single_model_divides_its_logits(mean: list[Path], dataset: Dataset) -> None:
    import keras

    model = keras.saving.load_model(mean[0] / "model.keras", compile=False)
    images = dataset.images(rows_of_test(dataset)[:9])
    logits = np.asarray(model.predict_on_batch(images))
    pixels = pixel_classifier([Part(model)], temperature=TEMPERATURE)
    np.testing.assert_allclose(pixels.predict_on_batch(images), softmax(logits / TEMPERATURE, axis=1), atol=1e-6)
    assert abs(pixel_classifier([Part(model)]).predict_on_batch(images) - pixels.predict_on_batch(images)).max() > 0.01


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_model_whose_own_layers_are_called_as_ours_is_exported(temperature: float) -> None:
    import keras

    image = keras.Input((4, 4, 1), dtype="uint8")
    weights = keras.layers.Softmax(name="softmax")(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image)))
    logits = keras.layers.Dense(3, name="temperature")(weights)
    model = keras.Model(image, logits)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
    expected = softmax(np.asarray(model.predict_on_batch(pixels)) / temperature, axis=1)
    exported = pixel_classifier([Part(model)], temperature=temperature)
    np.testing.assert_allclose(exported.predict_on_batch(pixels), expected, atol=1e-6)


@pytest.mark.slow
def test_every_format_has_the_temperature_and_every_label_stays(
    mean: list[Path], dataset: Dataset, tmp_path: Path
) -> None:
    calibration = {
        "temperature": TEMPERATURE,
        "kept": True,
        "images": 100,
        "loss": {"before": 2.0, "after": 1.5},
        "expected_calibration_error": {"before": 0.2, "after": 0.1},
        "loss_gain": 0.5,
        "loss_gain_interval": [0.4, 0.6],
    }
    sealed = evaluate_sealed(mean, dataset, TEMPERATURE)
    plain = evaluate_sealed(mean, dataset)
    same = ("accuracy", "macro_f1", "confusion")
    assert [sealed[name] for name in same] == [plain[name] for name in same]
    before = {name: plain[name] for name in ("loss", "expected_calibration_error")}
    assert sealed["uncalibrated"] == before and sealed["temperature"] == TEMPERATURE
    assert all(sealed[name] != before[name] for name in before)

    export_checkpoint(
        mean,
        dataset,
        tmp_path / "export",
        study_yaml="",
        selection={},
        sealed=sealed,
        calibration=calibration,
        formats=["keras", "onnx", "litert_int8"],
    )
    rows = rows_of_test(dataset)
    logits = logits_of(load_checkpoints(mean, dataset), dataset, rows)
    expected, without = softmax(logits / TEMPERATURE, axis=1), softmax(logits, axis=1)
    assert abs(expected - without).max() > 100 * TOLERANCE
    formats = json.loads((tmp_path / "export/metrics.json").read_text())["formats"]
    assert formats["litert_int8"]["max_difference"] < 0.5
    predicted = load_export(tmp_path / "export").predict(dataset.images(rows))
    shares = np.array([list(one.probabilities.values()) for one in predicted])
    for found in (shares, run_formats(tmp_path / "export", ["onnx"], dataset.images(rows))["onnx"]):
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)
        np.testing.assert_array_equal(found.argmax(1), without.argmax(1))
    card = (tmp_path / "export/model_card.md").read_text()
    assert "Logits are divided by 2.5000 in every format" in card and "error 0.2000 without, 0.1000 with it" in card
    assert f"{sealed['expected_calibration_error']:.4f} with it; loss {before['loss']:.4f}" in card


@pytest.mark.slow
def test_the_selection_fold_alone_chooses_for_the_mean_that_is_exported(mean: list[Path], dataset: Dataset) -> None:
    context = TrialContext(
        dataset=str(dataset.directory),
        seed=0,
        objective="selection_accuracy",
        mode="max",
        max_epochs=1,
        rungs=(),
        selection_share=0.2,
    )
    found = judge_temperature(mean, dataset, context)
    rows = trial_rows(dataset, 0.2, 0.8, 0).selection
    logits = logits_of(load_checkpoints(mean, dataset), dataset, rows)
    assert found is not None and found["images"] == len(rows)
    assert found["temperature"] == pytest.approx(fit_temperature(logits, dataset.labels[rows]), rel=1e-3)
    error = expected_calibration_error(softmax(logits, axis=1), dataset.labels[rows])
    assert found["expected_calibration_error"]["before"] == pytest.approx(error, abs=1e-4)
