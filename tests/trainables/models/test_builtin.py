"""Every model that comes with emotune: shapes, weights, files. How each trains: test_conformance.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from tests.support.plain_keras import assert_opens_in_plain_keras
from trainables.config import ModelName, TrialConfig
from trainables.models.builtin import MODELS
from trainables.models.compiled import compile_model
from trainables.models.optimizers import build_optimizer

# Keras 3.15.1 reads its own variables with numpy.array(variable), which numpy 2 deprecates for their __array__.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

NAMES = sorted(MODELS)


def build(name: Any, px: int = 48, channels: int = 1, classes: int = 7, **config: Any) -> Any:
    given = TrialConfig(model=name, **{"image_size_px": px, "width": 0.25, **config})
    model = MODELS[name]
    built = model.build(height_px=48, width_px=48, channels=channels, classes=classes, config=given)
    return built, model.parameters(given, channels, classes)


def test_every_name_has_a_model() -> None:
    assert set(MODELS) == set(get_args(ModelName))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("px", "channels", "classes"), [(32, 3, 2), (48, 1, 7), (97, 1, 10)])
def test_pixels_become_logits_and_the_weights_are_as_many_as_foretold(
    name: str, px: int, channels: int, classes: int
) -> None:
    model, foretold = build(name, px, channels, classes)
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48, channels), dtype=np.uint8)
    logits = model.predict_on_batch(images)
    assert (logits.shape, logits.dtype, model.input.dtype) == ((3, classes), np.float32, "uint8")
    assert np.isfinite(logits).all() and np.ptp(logits, axis=0).max() > 0
    assert abs(model.count_params() - foretold) <= 0.001 * foretold


@pytest.mark.parametrize("name", NAMES)
def test_an_image_that_is_enlarged_is_trained_by_xla_as_on_a_gpu_and_one_that_shrinks_without_it(name: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)
    labels = np.eye(7, dtype=np.float32)[:4]
    for px, compiled in ((64, True), (32, False)):
        model, _ = build(name, px)
        compile_model(model, build_optimizer(TrialConfig()))
        if compiled:
            model.jit_compile = True  # what Keras makes of "auto" where there is a GPU
        else:
            with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
                model.jit_compile = True
        assert model.jit_compile is compiled
        assert np.isfinite(model.train_on_batch(images, labels)[0])


def test_the_small_residual_net_has_half_a_million_weights_and_sees_small_images_whole() -> None:
    model, _ = build("resnet_small", width=1.0)
    assert 400_000 < model.count_params() < 550_000
    assert model.get_layer("stage1_conv2").output.shape[1:] == (48, 48, 16)
    assert model.get_layer("stage4_pool").output.shape[1:] == (3, 3, 160)


@pytest.mark.slow
def test_saved_models_open_where_emotune_is_not(tmp_path: Path) -> None:
    models = {name: build(name, normalization="per_image")[0] for name in NAMES if name != "alexnet"}  # test_alexnet.py
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), dtype=np.uint8)
    assert_opens_in_plain_keras(models, images, tmp_path, atol=1e-4)
