"""AlexNet against the paper's figures, and its files against a Keras that has never heard of emotune."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.plain_keras import assert_opens_in_plain_keras
from trainables.config import TrialConfig
from trainables.models.alexnet import build_alexnet

# Keras 3.15.1 reads its own variables with numpy.array(variable), which numpy 2 deprecates for their __array__.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def small(channels: int = 1, mean: Any = None, std: Any = None, **config: Any) -> Any:
    config = {"image_size_px": 48, "width": 0.1, "dropout": 0.0, **config}
    return build_alexnet(
        height_px=48, width_px=48, channels=channels, classes=7, config=TrialConfig(**config), mean=mean, std=std
    )


def images(n: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 48, 48, channels), dtype=np.uint8)


@pytest.mark.parametrize(("conv_groups", "parameters"), [(1, 62_378_344), (2, 60_965_224)])
def test_published_size_has_the_published_parameters_and_shapes(conv_groups: int, parameters: int) -> None:
    model = build_alexnet(
        height_px=227, width_px=227, channels=3, classes=1000, config=TrialConfig(), conv_groups=conv_groups
    )
    assert model.count_params() == parameters
    shapes = {layer.name: layer.output.shape[1:] for layer in model.layers}
    assert shapes["conv1"] == (55, 55, 96)
    assert shapes["pool1"] == (27, 27, 96)
    assert shapes["conv2"] == (27, 27, 256)
    assert shapes["conv3"] == shapes["conv4"] == (13, 13, 384)
    assert shapes["pool5"] == (6, 6, 256)
    assert shapes["dense6"] == shapes["dense7"] == (4096,)


@pytest.mark.parametrize("image_size_px", [32, 48, 64, 127, 128, 227])
def test_every_size_reaches_the_dense_layers_with_something_left(image_size_px: int) -> None:
    shape = small(image_size_px=image_size_px).get_layer("pool5").output.shape
    assert min(shape[1:3]) >= 2


def test_quarter_width_at_48_pixels_has_1_9_million_parameters() -> None:
    assert 1.8e6 < small(width=0.25, batch_norm=True).count_params() < 2.0e6


def test_width_scales_channels_and_never_below_eight() -> None:
    model = small(width=0.01)
    assert {model.get_layer(f"conv{i}").filters for i in (1, 3)} == {8}
    assert small(width=2.0).get_layer("conv1").filters == 192


def test_batch_normalisation_takes_the_place_of_bias_and_lrn() -> None:
    plain, normalised = small(), small(batch_norm=True)
    assert normalised.get_layer("conv1").use_bias is False
    assert plain.get_layer("conv1").use_bias is True
    names = [layer.name for layer in normalised.layers]
    assert names.index("conv1") < names.index("norm1") < names.index("relu1")
    assert normalised.get_layer("pool1").input is normalised.get_layer("relu1").output
    assert plain.get_layer("pool1").input is not plain.get_layer("relu1").output


def test_lrn_is_the_papers_formula() -> None:
    import keras

    model = small()
    after_relu = model.get_layer("relu1").output
    normalised = model.get_layer("pool1").input
    a, b = keras.Model(model.input, [after_relu, normalised]).predict_on_batch(images(2))
    expected = np.empty_like(a)
    for channel in range(a.shape[-1]):
        near = a[..., max(0, channel - 2) : channel + 3]
        expected[..., channel] = a[..., channel] / (2 + 1e-4 * (near**2).sum(-1)) ** 0.75
    np.testing.assert_allclose(b, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [
        ("unit", lambda x: x / 255),
        ("standardize", lambda x: (x / 255 - [0.4, 0.5, 0.6]) / [0.1, 0.2, 0.3]),
        ("per_image", lambda x: (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)),
    ],
)
def test_normalisation_lives_in_the_graph(normalization: str, expected: Any) -> None:
    import keras

    model = small(channels=3, mean=[0.4, 0.5, 0.6], std=[0.1, 0.2, 0.3], normalization=normalization)
    x = images(4, channels=3)
    got = keras.Model(model.input, model.get_layer("conv1").input).predict_on_batch(x)
    np.testing.assert_allclose(got, expected(x.astype(np.float64)), atol=1e-4)


def test_a_constant_image_normalised_per_image_stays_finite() -> None:
    logits = small(normalization="per_image").predict_on_batch(np.full((2, 48, 48, 1), 7, np.uint8))
    assert np.isfinite(logits).all()


def test_standardize_without_statistics_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"needs a mean and a positive standard deviation for each of 1 channels"):
        small(normalization="standardize")


def test_output_is_float32_logits_not_probabilities() -> None:
    logits = small().predict_on_batch(images(8))
    assert logits.dtype == np.float32
    assert logits.shape == (8, 7)
    assert not np.allclose(logits.sum(axis=1), 1)


def test_four_images_can_be_learned_by_heart() -> None:
    import keras

    keras.utils.set_random_seed(0)
    model = small(batch_norm=True)
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = images(4), np.arange(4)
    losses = [float(model.train_on_batch(x, y)) for _ in range(30)]
    assert losses[-1] < 0.1 * losses[0]


def test_saved_models_open_in_a_keras_without_emotune(tmp_path: Path) -> None:
    x = images(3, channels=3)
    colour = {"channels": 3, "mean": [0.4] * 3, "std": [0.2] * 3, "normalization": "standardize", "image_size_px": 64}
    models = {"with": small(batch_norm=True, **colour), "without": small(batch_norm=False, **colour)}
    assert_opens_in_plain_keras(models, x, tmp_path, atol=1e-5)
