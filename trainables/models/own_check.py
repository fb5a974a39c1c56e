"""Tries a model of the user's own before a study starts. Run in a process of its own: `python -m` with a file's path.

What it returns is `{"parameters": n}` (`trainables/own_check_process.py`).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.config import TrialConfig
from trainables.errors import OwnCodeError, one_line
from trainables.keras_setup import import_keras
from trainables.models.compiled import compile_model
from trainables.models.own_model import ImageSpec, own_build, with_float32_logits
from trainables.models.precision import layer_precision
from trainables.own_check_process import BUILT, READY, answer, without_prints
from trainables.own_code import call_error, load_function

if TYPE_CHECKING:
    import keras

_IMAGES = 8
_SEED = 7
_SAVED, _EXPECTED = "model.keras", "expected.npz"


def main(request_file: Path) -> None:
    """Answers one request."""
    answer(
        request_file, lambda request, folder: _reopen(request) if "folder" in request else check_model(request, folder)
    )


def check_model(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Builds a model three times, and tries and saves one of them.

    Args:
        request: `config` of a trial, `shape` of the images, `classes` (how many), `mean` and `std` as in `ImageSpec`,
            `bfloat16` (whether trials may calculate in that).
        folder: where files may be written.

    Raises:
        OwnCodeError: the model breaks the contract.
    """
    import_keras()
    import keras

    (folder / READY).touch()
    config = TrialConfig.model_validate(request["config"])
    name, classes = config.model, int(request["classes"])
    height_px, width_px, channels = request["shape"]
    image = ImageSpec(height_px, width_px, channels, tuple(request["mean"]), tuple(request["std"]))
    before = _global_state()
    with without_prints(name):
        load_function(name, config.code)
        built = [_built(config, image, classes, _SEED)]
        (folder / BUILT).touch()
        built.append(_built(config, image, classes, _SEED))
        other_draw = _built_in(request["bfloat16"], config, image, classes)
    changed = [what for what, value in _global_state().items() if value != before[what]]
    if changed:
        raise OwnCodeError(
            f"{name} must leave settings of the process alone. Received: it changes {', '.join(changed)}. Remove that"
        )
    (model, draw), (again, _) = built
    if draw == other_draw:
        raise OwnCodeError(f"{name} must not set seeds, every trial has its own. Received: one set. Remove that")
    if {id(v) for v in model.variables} & {id(v) for v in again.variables}:
        raise OwnCodeError(
            f"{name} must build every model anew. Received: two models that share weights. Make layers inside it"
        )
    if not same_weights(model.get_weights(), again.get_weights()):
        raise OwnCodeError(
            f"{name} must build the same model for the same seed. Received: two that differ. Draw random numbers with "
            "keras.random or keras.initializers, keep nothing between two calls"
        )
    pixels = np.random.default_rng(_SEED).integers(0, 256, (_IMAGES, *image.shape)).astype(np.uint8)
    logits = _check_logits(name, model, pixels)
    try:
        model.save(folder / _SAVED)
    except Exception as error:  # Keras raises whatever a layer's get_config raises
        raise _saving_error(name, "be saved", error) from None
    np.savez(folder / _EXPECTED, pixels=pixels, logits=logits)
    _check_training(name, again, pixels)
    _check_reopened(request, folder)
    return {"parameters": int(model.count_params()), "keras": keras.__version__}


def _built(config: TrialConfig, image: ImageSpec, classes: int, seed: int) -> tuple[keras.Model, float]:
    """Returns a model built under a seed, and the next number that the seed gives."""
    import keras

    keras.utils.set_random_seed(seed)
    try:
        model = own_build(config)(image, classes)
    except Exception as error:
        raise call_error(config.model, "cannot build a model", error) from None
    draw = random.random()
    return with_float32_logits(model, image, classes, config.model), draw


def _built_in(bfloat16: bool, config: TrialConfig, image: ImageSpec, classes: int) -> float:
    """Builds a model in the precision that trials may have, under another seed; returns the seed's next number."""
    import keras

    with layer_precision("bfloat16" if bfloat16 else "float32"):
        wanted = keras.config.dtype_policy().name
        try:
            _, draw = _built(config, image, classes, _SEED + 1)
        except OwnCodeError as error:  # in float32 it was built twice
            if not bfloat16:
                raise
            raise OwnCodeError(
                f"{config.model} must calculate in bfloat16 as well, as precision: auto may choose. Received: {error}"
                " Give its constants the dtype of what they meet, or write precision: float32 under fixed"
            ) from None
        if keras.config.dtype_policy().name != wanted:
            raise OwnCodeError(
                f"{config.model} must leave settings of the process alone. Received: keras.config.dtype_policy is set "
                "back, as keras.backend.clear_session() does. Remove that"
            )
    return draw


def _global_state() -> dict[str, Any]:
    import keras

    return {
        "keras.config.floatx": keras.config.floatx(),
        "keras.config.epsilon": keras.config.epsilon(),
        "keras.config.image_data_format": keras.config.image_data_format(),
        "keras.config.dtype_policy": keras.config.dtype_policy().name,
        "the current folder": os.getcwd(),
        "os.environ": dict(os.environ),
        "numpy's error settings": np.geterr(),
    }


def same_weights(one: list[Any], other: list[Any]) -> bool:
    """Says whether two lists of arrays, as `get_weights` returns them, are equal to the last digit."""
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _check_logits(name: str, model: keras.Model, pixels: Any) -> Any:
    try:
        outputs = [np.asarray(model(pixels, training=training)) for training in (True, False)]
    except Exception as error:
        raise call_error(name, "cannot build a model", error) from None
    for logits in outputs:
        if not np.isfinite(logits).all():
            raise OwnCodeError(f"{name} must return finite logits. Received: NaN or infinite ones. Scale its images")
        sums = logits.sum(axis=1)
        last = getattr(getattr(model.layers[-1], "activation", None), "__name__", "")
        if last in ("softmax", "sigmoid") or (logits.min() >= 0 and np.allclose(sums, 1, atol=1e-3)):
            raise OwnCodeError(
                f"{name} must return logits. Received: probabilities. Remove the softmax or sigmoid of its last layer"
            )
    return outputs[-1]


def _check_training(name: str, model: keras.Model, pixels: Any) -> None:
    """Makes a step and a prediction in graphs, as trials do: what a layer asks of a tensor may have no answer there."""
    import keras

    labels = np.eye(model.output_shape[-1], dtype=np.float32)[np.arange(len(pixels)) % model.output_shape[-1]]
    try:
        compile_model(model, keras.optimizers.SGD(1e-3))
        model.train_on_batch(pixels, labels)
        model.predict_on_batch(pixels)
    except Exception as error:
        raise call_error(name, "cannot be trained", error) from None


def _check_reopened(request: Mapping[str, Any], folder: Path) -> None:
    """Opens the saved model in a fresh process, as exports and resumed trials do."""
    inner = folder / "reopen.json"
    inner.write_text(json.dumps({"config": request["config"], "folder": str(folder)}), encoding="utf-8")
    command = [sys.executable, "-m", "trainables.models.own_check", str(inner)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    answer = json.loads(inner.read_text(encoding="utf-8"))
    if "error" in answer or done.returncode:
        words = (done.stderr.strip().splitlines() or ["the process died"])[-1]
        raise OwnCodeError(str(answer.get("error", words)))


def _reopen(request: Mapping[str, Any]) -> dict[str, Any]:
    import_keras()
    import keras

    config, folder = TrialConfig.model_validate(request["config"]), Path(request["folder"])
    load_function(config.model, config.code)
    try:
        model = keras.saving.load_model(folder / _SAVED)
    except Exception as error:  # Keras raises whatever a layer's from_config raises
        raise _saving_error(config.model, "be opened again", error) from None
    with np.load(folder / _EXPECTED) as expected:
        found = np.asarray(model(expected["pixels"], training=False))
        if not np.allclose(found, expected["logits"], atol=1e-4):
            raise OwnCodeError(
                f"{config.model} must compute the same after it was saved and opened. Received: other logits. Keep all "
                "that its layers need in get_config and in weights"
            )
    return {}


def _saving_error(name: str, what: str, error: Exception) -> OwnCodeError:
    words = one_line(error)
    return OwnCodeError(
        f"{name}: its model must {what}. Received: {type(error).__name__}: {words}. Give its layers a get_config that "
        "returns what their __init__ takes"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
