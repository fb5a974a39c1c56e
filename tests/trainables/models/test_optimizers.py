"""Every optimizer takes a real step with its own parameters; every schedule gives the figures its formula gives."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from trainables.config import OptimizerName, TrialConfig
from trainables.errors import EmotuneError
from trainables.models.optimizers import OPTIMIZERS, PlateauState, build_optimizer, learning_rate_at, restore_optimizer

# Keras 3.15.1 reads its own variables with numpy.array(variable), which numpy 2 deprecates for their __array__.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def dense_model() -> Any:
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="ones")])


def numbers(variable: Any) -> np.ndarray:
    import keras

    return keras.ops.convert_to_numpy(variable)


def test_the_registry_and_the_configuration_name_the_same_optimizers() -> None:
    assert set(OPTIMIZERS) == set(get_args(OptimizerName))
    assert all(set(entry.parameters) <= set(TrialConfig.model_fields) for entry in OPTIMIZERS.values())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_gets_its_parameters_and_lowers_a_loss(name: str) -> None:
    given = {"momentum": 0.5, "nesterov": True, "beta_1": 0.8, "beta_2": 0.95, "rho": 0.7, "weight_decay": 0.01}
    optimizer = build_optimizer(TrialConfig(optimizer=name, learning_rate=0.01, **given))
    settings = optimizer.get_config()
    assert settings["learning_rate"] == pytest.approx(0.01)
    assert {key: settings[key] for key in OPTIMIZERS[name].parameters} == {
        key: given[key] for key in OPTIMIZERS[name].parameters
    }
    model = dense_model()
    model.compile(optimizer, "mse")
    x, y = np.eye(3, dtype=np.float32), np.zeros((3, 2), np.float32)
    losses = [float(model.train_on_batch(x, y)) for _ in range(10)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_weight_decay_shrinks_kernels_and_leaves_biases(name: str) -> None:
    import keras

    optimizer = build_optimizer(TrialConfig(optimizer=name, learning_rate=0.1, weight_decay=0.5))
    layer = keras.layers.Dense(2, kernel_initializer="ones", bias_initializer="ones")
    layer.build((None, 3))
    optimizer.apply([keras.ops.zeros((3, 2)), keras.ops.zeros((2,))], layer.trainable_variables)
    np.testing.assert_allclose(numbers(layer.kernel), 0.95, rtol=1e-6)
    np.testing.assert_allclose(numbers(layer.bias), 1.0)


def test_a_restored_optimizer_keeps_its_slots_and_still_spares_biases(tmp_path: Path) -> None:
    import keras

    config = TrialConfig(optimizer="adamw", learning_rate=0.1, weight_decay=0.5)
    model = dense_model()
    model.compile(build_optimizer(config), "mse")
    x, y = np.eye(3, dtype=np.float32), np.ones((3, 2), np.float32)
    model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.compile(restore_optimizer(config, loaded.optimizer, loaded.trainable_variables), "mse")
    for own, saved in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(numbers(own), numbers(saved))
    for _ in range(3):
        assert float(loaded.train_on_batch(x, y)) == pytest.approx(float(model.train_on_batch(x, y)), rel=1e-6)
    for own, original in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_allclose(numbers(own), numbers(original), rtol=1e-6)


def test_nesterov_without_momentum_is_plain_descent() -> None:
    assert build_optimizer(TrialConfig(optimizer="sgd", momentum=0, nesterov=True)).nesterov is False


def test_an_unknown_optimizer_is_answered_with_the_nearest() -> None:
    config = TrialConfig.model_construct(optimizer="adamm")
    with pytest.raises(EmotuneError, match=r"No optimizer is called 'adamm'\. Did you mean 'adam'\? Known: adam, "):
        build_optimizer(config)


def test_constant_never_moves() -> None:
    config = TrialConfig(learning_rate=0.01)
    assert {learning_rate_at(config, epoch, 10, PlateauState(reductions=3)) for epoch in range(10)} == {0.01}


def test_cosine_falls_from_the_start_to_one_per_cent_at_the_last_epoch() -> None:
    config = TrialConfig(learning_rate=0.01, schedule="cosine")
    rates = [learning_rate_at(config, epoch, 11) for epoch in range(11)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[5] == pytest.approx(0.01 * 0.505)
    assert rates[10] == pytest.approx(0.0001)
    assert rates == sorted(rates, reverse=True)
    assert learning_rate_at(config, 50, 11) == pytest.approx(0.0001)


def test_cosine_of_a_single_epoch_trains_at_the_full_rate() -> None:
    assert learning_rate_at(TrialConfig(learning_rate=0.01, schedule="cosine"), 0, 1) == pytest.approx(0.01)


def test_plateau_halves_after_each_run_of_stalled_epochs() -> None:
    config = TrialConfig(learning_rate=0.08, schedule="plateau", plateau_factor=0.5, plateau_patience=2)
    state, rates = PlateauState(), []
    for loss in [1.0, 0.9, 0.95, 0.9, 0.91, 0.92, 0.5, 0.6]:
        state = state.update(loss, config.plateau_patience)
        rates.append(learning_rate_at(config, len(rates) + 1, 20, state))
    assert rates == [0.08, 0.08, 0.08, 0.04, 0.04, 0.02, 0.02, 0.02]
    assert state == PlateauState(best=0.5, stalled_epochs=1, reductions=2)


def test_plateau_counts_nan_as_no_improvement() -> None:
    state = PlateauState(best=1.0).update(math.nan, 1)
    assert state == PlateauState(best=1.0, stalled_epochs=0, reductions=1)


def test_plateau_state_goes_through_json_and_back() -> None:
    for state in (PlateauState(), PlateauState(0.25, 1, 2)):
        assert PlateauState(**json.loads(json.dumps(asdict(state)))) == state


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_keeps_as_many_values_for_each_weight_as_its_entry_says(name: str) -> None:
    import keras

    weight = keras.Variable(np.ones((3, 5), np.float32), name="kernel")
    optimizer = build_optimizer(TrialConfig(optimizer=name, momentum=0.9))
    optimizer.build([weight])
    kept = [variable for variable in optimizer.variables if tuple(variable.shape) == (3, 5)]
    assert len(kept) == OPTIMIZERS[name].slots
