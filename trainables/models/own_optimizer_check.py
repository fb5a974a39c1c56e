"""Tries an optimizer or a schedule of the user's own before a study starts, in a process of its own: `python -m` with a
file's path.

What is asked and answered, and by whom, is in `trainables/own_check_process.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.config import TrialConfig
from trainables.errors import OwnCodeError
from trainables.keras_setup import import_keras
from trainables.models.optimizers import build_optimizer, restore_optimizer
from trainables.models.own_check import same_weights
from trainables.models.own_optimizer import own_rate_share
from trainables.own_check_process import BUILT, READY, answer, without_prints
from trainables.own_code import call_error

if TYPE_CHECKING:
    import keras

_STEPS = 3
_SEED = 7


def main(request_file: Path) -> None:
    """Answers one request."""
    answer(request_file, check)


def check(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Tries what a configuration names.

    Args:
        request: `config` of a trial, `what` (`optimizer` or `schedule`), and in `lengths` how many
            epochs a training may have.
        folder: where files may be written.

    Returns:
        `kind`, the optimizer's class; or `least` and `most`, shares of the learning rate.

    Raises:
        OwnCodeError: the function breaks the contract.
    """
    config = TrialConfig.model_validate(request["config"])
    name = config.optimizer if request["what"] == "optimizer" else config.schedule
    with without_prints(name):
        if request["what"] == "optimizer":
            found = _check_optimizer(config, folder)
        else:
            found = _check_schedule(config, request["lengths"], folder)
    return found


def _check_schedule(config: TrialConfig, lengths: Sequence[int], folder: Path) -> dict[str, Any]:
    (folder / READY).touch()
    asked = [(epoch, length) for length in lengths for epoch in range(length)]
    shares, again = ([own_rate_share(config, epoch, length) for epoch, length in asked] for _ in range(2))
    (folder / BUILT).touch()
    if shares != again:
        raise OwnCodeError(
            f"{config.schedule} must return the same for the same epoch, as a trial may be resumed and replayed. "
            "Received: two numbers that differ. Keep nothing between two calls, and draw nothing"
        )
    return {"least": min(shares), "most": max(shares)}


def _check_optimizer(config: TrialConfig, folder: Path) -> dict[str, Any]:
    """Makes some steps; saves, goes on, and compares with the same steps after the model was opened again."""
    import_keras()
    import keras

    (folder / READY).touch()
    name = config.optimizer
    models = [_trained(config) for _ in range(2)]
    (folder / BUILT).touch()
    weights = [model.get_weights() for model in models]
    if not all(np.isfinite(weight).all() for weight in weights[0]):
        raise OwnCodeError(
            f"{name} must keep weights finite. Received: NaN or infinite ones after {_STEPS} steps. Correct it"
        )
    if not same_weights(*weights):
        raise OwnCodeError(
            f"{name} must make the same steps for the same gradients. Received: two that differ. Make the optimizer "
            "anew in every call, and keep nothing between two calls"
        )
    try:
        models[0].save(folder / "model.keras")
        saved = keras.saving.load_model(folder / "model.keras")
        saved.compile(restore_optimizer(config, saved.optimizer, saved.trainable_variables), "mse")
    except OwnCodeError:
        raise
    except Exception as error:  # Keras raises whatever get_config and from_config raise
        raise call_error(name, "cannot be saved and opened again with its model", error) from None
    for model in (models[0], saved):
        _step(model)
    if not same_weights(models[0].get_weights(), saved.get_weights()):
        raise OwnCodeError(
            f"{name} must go on after it was saved and opened. Received: another step. Keep all that it needs in its "
            "variables (add_variable_from_reference) and in get_config"
        )
    return {"kind": type(models[0].optimizer).__name__}


def _trained(config: TrialConfig) -> keras.Model:
    """Returns a small model after some steps of the optimizer."""
    import keras

    keras.utils.set_random_seed(_SEED)
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    model.compile(build_optimizer(config), "mse")
    try:
        for _ in range(_STEPS):
            _step(model)
    except Exception as error:  # the optimizer is the user's code
        raise call_error(config.optimizer, "cannot make a step", error) from None
    return model


def _step(model: keras.Model) -> None:
    draws = np.random.default_rng(_SEED)
    model.train_on_batch(draws.normal(size=(8, 4)).astype(np.float32), draws.normal(size=(8, 3)).astype(np.float32))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
