"""Keras' applications as a trial's model: every name is known, pixels become logits, weights are fetched or told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.application_names import APPLICATIONS, find_application
from trainables.config import TrialConfig
from trainables.errors import ApplicationError
from trainables.models.application_check import check_application
from trainables.models.applications import build_application
from trainables.models.precision import in_float32, layer_precision

# Keras 3.15.1 reads its own variables with numpy.array(variable), which numpy 2 deprecates for their __array__.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def build(name: str, channels: int = 1, **config: Any) -> Any:
    given = TrialConfig.model_validate({"model": f"applications:{name}", "image_size_px": 48, **config})
    return build_application(height_px=48, width_px=48, channels=channels, classes=7, config=given)


def test_the_names_are_those_of_keras() -> None:
    import keras

    found = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(APPLICATIONS) == found and len(APPLICATIONS) == len(found)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    assert find_application("applications:VGG16") == "VGG16"
    assert find_application("VGG16") is None and find_application("applications:VGG") is None
    with pytest.raises(ValueError, match=r"one of Keras' applications after applications: Did you mean 'MobileNetV2'"):
        TrialConfig(model="applications:MobilNetV2")


def test_gray_pixels_become_logits_through_the_familys_own_preprocessing(tmp_path: Path) -> None:
    import keras

    model = build("MobileNetV2")
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), dtype=np.uint8)
    logits = model.predict_on_batch(images)
    assert (logits.shape, logits.dtype, model.input.dtype) == ((3, 7), np.float32, "uint8")
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    entered = np.asarray(keras.Model(model.input, first.input)(images))
    expected = keras.applications.mobilenet_v2.preprocess_input(np.repeat(images, 3, axis=-1).astype(np.float32))
    np.testing.assert_allclose(entered, expected, atol=1e-6)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms and {layer.momentum for layer in norms} == {0.9}
    model.save(tmp_path / "model.keras")
    opened = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(opened.predict_on_batch(images), logits, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet50", "ConvNeXtTiny"])
def test_a_familys_model_opens_as_it_was_saved(name: str, tmp_path: Path) -> None:
    import keras

    model = build(name, channels=3, image_size_px=32)
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    logits = model.predict_on_batch(images)
    model.save(tmp_path / "model.keras")
    opened = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(opened.predict_on_batch(images), logits, atol=1e-5)


def test_weights_of_imagenet_are_what_training_begins_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras
    from keras.src.applications import mobilenet_v3

    plain = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(224, 224, 3))
    plain.save_weights(tmp_path / "downloaded.weights.h5")
    asked = []

    def fetched(file: str, origin: str, **options: Any) -> str:
        asked.append(origin)
        return str(tmp_path / "downloaded.weights.h5")

    monkeypatch.setattr(mobilenet_v3.file_utils, "get_file", fetched)
    model = build("MobileNetV3Small", weights="imagenet")
    assert asked and asked[0].startswith("https://")
    given = {layer.name: layer.get_weights() for layer in plain.layers}
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) > 20
    assert all(np.array_equal(layer.get_weights()[0], given[layer.name][0]) for layer in convolutions)


def check(folder: Path, **config: Any) -> dict[str, Any]:
    given = TrialConfig.model_validate({"model": "applications:MobileNetV3Small", "image_size_px": 48, **config})
    return check_application({"config": given.model_dump(), "shape": (48, 48, 1), "classes": 7}, folder)


def test_what_cannot_be_built_or_fetched_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from keras.src.backend import config

    assert check(tmp_path)["parameters"] == 939_120 + 7 * 577
    monkeypatch.setattr(config, "_KERAS_DIR", str(tmp_path / "keras"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody answers
    with pytest.raises(ApplicationError, match=r"weights: imagenet of applications:MobileNetV3Small must be in Keras'"):
        check(tmp_path, weights="imagenet")
    with pytest.raises(ApplicationError, match=r"InceptionV3 cannot be built for image_size_px=48.*at least 75x75"):
        check(tmp_path, model="applications:InceptionV3")


@pytest.mark.slow
def test_a_model_trained_in_bfloat16_is_exported_with_the_layers_that_it_was_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras
    from keras.src.applications import efficientnet

    plain = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(224, 224, 3))
    plain.save_weights(tmp_path / "downloaded.weights.h5")
    monkeypatch.setattr(
        efficientnet.file_utils, "get_file", lambda *given, **options: str(tmp_path / "downloaded.weights.h5")
    )
    with layer_precision("bfloat16"):
        trained = build("EfficientNetB0", weights="imagenet")
    scalings = [layer for layer in trained.layers if isinstance(layer, keras.layers.Rescaling)]
    assert len(scalings) > 1  # one of them comes with ImageNet's weights alone
    exported = in_float32(trained)
    assert [type(layer) for layer in exported.layers] == [type(layer) for layer in trained.layers]
    assert {layer.dtype_policy.name for layer in exported.layers} <= {"float32", "uint8"}
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)
    np.testing.assert_allclose(exported.predict_on_batch(images), trained.predict_on_batch(images), atol=0.05)
