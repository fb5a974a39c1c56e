"""What people feed the exported models: the right label, or an error that says what is expected; no other label."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.checkpoints import with_config, write_checkpoint
from trainables.config import TrialConfig
from trainables.dataset.folds import test_rows as rows_of_test
from trainables.dataset.reader import Dataset, open_dataset
from trainables.models.alexnet import build_alexnet
from trainables.preprocessing.feed import Feed
from tune.export.export import export_checkpoint
from tune.export.graph import Part, classifier, pixel_classifier, write_saved_model
from tune.export.predict import load_export

# Keras 3.15.1 reads its own variables with numpy.array(variable), which numpy 2 deprecates for their __array__.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

# Runs where emotune cannot be imported. Each format is fed the right images first: after them Keras and TensorFlow
# check less. Takes METHOD:FORMAT,... and prints {method: {format: {input: probabilities or the error}}}.
FEED_THEM = """
import functools, json, sys
import numpy as np, tensorflow as tf, keras

def outcome(call, images):
    try:
        answer = call(images)
        answer = answer["probabilities"] if isinstance(answer, dict) else answer
        return np.asarray(answer).tolist()
    except Exception as error:
        return type(error).__name__ + ": " + str(error)

found = {}
for argument in sys.argv[1:]:
    method, wanted = argument.split(":")
    right = np.load(method + "/images.npy")
    inputs = {
        "right": right,
        "RGB": np.repeat(right, 3, axis=3),
        "no batch axis": right[0],
        "another size": np.zeros((1, 64, 64, 1), np.uint8),
        "floats 0-1": right / 255,
        "no batch and channel axis": right[0, ..., 0],
        "channels first": right.transpose(0, 3, 1, 2),
        "float32 0-1": (right / 255).astype(np.float32),
        "right again": right[:2],
    }
    fresh = lambda: keras.saving.load_model(method + "/model.keras")
    layer = lambda **endpoint: keras.layers.TFSMLayer(method + "/saved_model", **endpoint)
    saved = tf.saved_model.load(method + "/saved_model")
    signature = saved.signatures["serving_default"]
    formats = {
        "__call__": fresh,
        "predict": lambda: functools.partial(fresh().predict, verbose=0),
        "predict_on_batch": lambda: fresh().predict_on_batch,
        "signature": lambda: lambda images: signature(image=tf.constant(images)),
        "signature of arrays": lambda: lambda images: signature(image=images),
        "serve": lambda: saved.serve,
        "TFSMLayer": lambda: layer(call_endpoint="serving_default"),
        "TFSMLayer serve": layer,
    }
    found[method] = {}
    for form in wanted.split(","):
        call = formats[form]()
        fed = inputs if wanted.count(",") > 1 else list(inputs)[:5] + ["right again"]
        found[method][form] = {name: outcome(call, inputs[name]) for name in fed}
assert not {"tune", "trainables", "albumentations"} & set(sys.modules)
print(json.dumps(found))
"""
KERAS_FORMATS = ("__call__", "predict", "predict_on_batch")
FORMATS = (*KERAS_FORMATS, "signature", "signature of arrays", "serve", "TFSMLayer", "TFSMLayer serve")
FED = {"none": ("predict", "signature of arrays"), "crop": FORMATS}
EACH = [(method, form) for method in FED for form in FED[method]]


def cases(every: list[str], crop: list[str]) -> pytest.MarkDecorator:
    """Every export with some inputs, one of them with more."""
    found = [(*each, name) for each in EACH for name in (every + crop if each[0] == "crop" else every)]
    return pytest.mark.parametrize(("method", "form", "name"), found)


@pytest.fixture(scope="module")
def dataset(faces: Path) -> Dataset:
    return open_dataset(faces)


@pytest.fixture(scope="module")
def exports(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the exports of two trials, the images they are fed, and as evaluation sees them."""
    root = tmp_path_factory.mktemp("exports")
    checkpoint = write_checkpoint(root / "checkpoint", dataset, width=0.05, steps=10)
    rows = rows_of_test(dataset)[:3]
    for method in FED:
        copy = with_config(checkpoint, root / f"checkpoint-{method}", preprocessing=method)
        export_checkpoint(copy, dataset, root / method, study_yaml="", selection={})
        ((pixels, _),) = Feed(dataset, method, {}).evaluation_batches(rows, 3)
        np.save(root / method / "evaluated.npy", pixels)
        np.save(root / method / "images.npy", dataset.images(rows))
    return root


@pytest.fixture(scope="module")
def outcomes(exports: Path) -> Any:
    command = [sys.executable, "-I", "-c", FEED_THEM, *(f"{method}:{','.join(forms)}" for method, forms in FED.items())]
    done = subprocess.run(command, cwd=exports, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def evaluated(exports: Path, method: str) -> np.ndarray:
    """The probabilities that training's own evaluation gives."""
    import keras

    model = keras.saving.load_model(exports / "checkpoint" / "model.keras", compile=False)
    logits = np.asarray(model.predict_on_batch(np.load(exports / method / "evaluated.npy")))
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "form"), EACH)
def test_right_images_get_the_probabilities_of_training(method: str, form: str, outcomes: Any, exports: Path) -> None:
    expected = evaluated(exports, method)
    got = outcomes[method][form]
    np.testing.assert_allclose(got["right"], expected, atol=1e-6)
    np.testing.assert_allclose(got["right again"], expected[:2], atol=1e-6)


@pytest.mark.slow
@cases(["RGB", "another size"], ["channels first"])
def test_another_shape_is_an_error_that_names_the_right_one(method: str, form: str, name: str, outcomes: Any) -> None:
    error = outcomes[method][form][name]
    assert isinstance(error, str)
    assert any(shape in error for shape in ("(None, 48, 48, 1)", "[?,48,48,1]", "[0,48,48,1]")), error


@pytest.mark.slow
@cases(["no batch axis"], ["no batch and channel axis"])
def test_an_image_without_its_batch_axis_is_an_error(method: str, form: str, name: str, outcomes: Any) -> None:
    error = outcomes[method][form][name]
    assert isinstance(error, str)
    # Keras 3.15 has forgotten how many axes there are, and fails in words of its own.
    assert "48" in error or "unknown TensorShape" in error


@pytest.mark.slow
@cases(["floats 0-1"], ["float32 0-1"])
def test_floats_0_to_1_get_the_right_label_or_an_error_that_says_uint8(
    method: str, form: str, name: str, outcomes: Any, exports: Path
) -> None:
    got = outcomes[method][form][name]
    if form in KERAS_FORMATS or (form, name) in {("serve", "float32 0-1"), ("TFSMLayer serve", "floats 0-1")}:
        np.testing.assert_allclose(got, evaluated(exports, method), atol=1e-6)
    elif isinstance(got, str):
        assert "uint8" in got
    else:
        np.testing.assert_allclose(got, evaluated(exports, method), atol=1e-6)


@pytest.fixture(scope="module")
def tiny() -> Any:
    import keras

    keras.utils.set_random_seed(0)
    config = TrialConfig(image_size_px=32, width=0.01)
    return build_alexnet(height_px=32, width_px=32, channels=1, classes=5, config=config)


@pytest.fixture(scope="module")
def looking(tiny: Any) -> Any:
    return classifier(pixel_classifier([Part(tiny)]))


def noise(n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 32, 32, 1), dtype=np.uint8)


black_and_white = (noise() > 99).astype(np.float32)


@pytest.mark.parametrize(
    ("as_fed", "pixels"),
    [
        (noise().astype(np.float64), noise()),
        (noise().astype(np.int64), noise()),
        ((noise() / 255).astype(np.float16), noise()),
        (noise() / 256, np.round(noise() * (255 / 256)).astype(np.uint8)),
        (noise() * 0.99, np.round(noise() * np.float32(0.99)).astype(np.uint8)),
        (noise() // 20, noise() // 20),
        (np.zeros_like(noise()), np.zeros_like(noise())),
        (
            np.concatenate([black_and_white, noise() / 255]),
            np.concatenate([noise() * 0 + 255 * (noise() > 99), noise()]),
        ),
        (np.concatenate([black_and_white, noise()]), np.concatenate([black_and_white.astype(np.uint8), noise()])),
        (np.concatenate([noise() / 100, noise()]), np.concatenate([np.round(noise() / 100).astype(np.uint8), noise()])),
        (noise(0), noise(0)),
    ],
    ids=[
        "floats 0-255",
        "int64",
        "float16 0-1",
        "floats below 1",
        "floats 0-255 that are no whole numbers",
        "dark uint8",
        "black",
        "black and white among floats 0-1",
        "dark uint8 among others",
        "dark floats among 0-255",
        "no images",
    ],
)
def test_numbers_of_a_clear_scale_are_classified_as_the_uint8_pixels_they_are(
    looking: Any, tiny: Any, as_fed: np.ndarray, pixels: np.ndarray
) -> None:
    if not len(as_fed) and pools_empty_batches_wrongly():
        pytest.skip("TensorFlow 2.21's oneDNN pooling leaves an empty batch the size that it had")
    expected = pixel_classifier([Part(tiny)])(pixels.astype(np.uint8))
    np.testing.assert_array_equal(np.asarray(looking(as_fed)), np.asarray(expected))


def pools_empty_batches_wrongly() -> bool:
    """Says whether TensorFlow has oneDNN's kernels in this process (docs/surprises.md)."""
    from tensorflow.python.framework.test_util import IsMklEnabled

    return bool(IsMklEnabled())


NO_PIXELS: dict[str, tuple[Callable[[], np.ndarray], str]] = {
    "-1 to 1": (lambda: noise() / 127.5 - 1, "-1"),
    "standardised": (lambda: (noise() - 128.0) / 64, "-2"),
    "16 bits": (lambda: noise().astype(np.uint16) * 257, "65535"),
    "floats 0-1 times 65535": (lambda: noise() / 255 * 65535, "65535"),
    "one NaN": (lambda: np.where(np.arange(32 * 32 * 3).reshape(3, 32, 32, 1) == 5, np.nan, noise()), "-1"),
    "infinity": (lambda: np.where(noise() > 9, noise(), np.inf), "1000000000"),
    "divided twice": (lambda: noise() / 255 / 255, "-1"),
    "black and white as 0 and 1": (lambda: black_and_white, "-1"),
    "a mask": (lambda: noise() > 99, "-1"),
    "0-1 with an overshoot": (lambda: noise() / 255 * 1.1, "-1"),
    "floats 0-1 beside 0-255": (lambda: np.concatenate([noise() / 255, noise()]), "-1"),
}


@pytest.mark.parametrize("name", NO_PIXELS)
def test_what_is_not_clearly_pixels_is_an_error_that_names_the_range(looking: Any, name: str) -> None:
    import tensorflow as tf

    make, shown = NO_PIXELS[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"= {shown}\d* is not in \[0, 256\)"):
        looking(make())


def test_where_the_backend_cannot_raise_nothing_is_a_number(tiny: Any) -> None:
    model = classifier(pixel_classifier([Part(tiny)]))
    model.compile(jit_compile=True)
    assert np.isfinite(model.predict_on_batch(noise())).all()
    assert np.isnan(model.predict_on_batch(-noise().astype(np.float32))).all()


def test_the_signature_refuses_floats_that_tensorflow_has_cut_to_0_and_1(tiny: Any, tmp_path: Path) -> None:
    import tensorflow as tf

    write_saved_model(pixel_classifier([Part(tiny)]), tmp_path / "saved_model")
    serve = tf.saved_model.load(tmp_path / "saved_model").signatures["serving_default"]
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"image must be uint8, \(None, 32, 32, 1\), 0-255; all its"
    ):
        serve(image=noise() / 255)
    if not pools_empty_batches_wrongly():
        assert serve(image=noise(0))["probabilities"].shape == (0, 5)


def test_an_export_of_an_earlier_version_still_classifies(exports: Path, dataset: Dataset, tmp_path: Path) -> None:
    import keras

    old = tmp_path / "old"
    shutil.copytree(exports / "none", old)
    checkpoint = keras.saving.load_model(exports / "checkpoint" / "model.keras", compile=False)
    pixel_classifier([Part(checkpoint)]).save(old / "model.keras")  # all that model.keras held
    for name in ("manifest.json", "model_card.md"):
        (old / name).unlink()
    images = [tmp_path / f"{row}.png" for row in range(3)]
    import cv2

    for row, path in enumerate(images):
        cv2.imwrite(str(path), dataset.image(row))
    assert load_export(old).predict(images) == load_export(exports / "none").predict(images)


def test_a_nearly_black_file_is_classified_by_emotune_itself(exports: Path, tmp_path: Path) -> None:
    import cv2

    dark = (np.arange(48 * 48).reshape(48, 48) % 2).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "dark.png"), dark)
    (prediction,) = load_export(exports / "none").predict([tmp_path / "dark.png"])
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
