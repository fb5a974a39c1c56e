"""The moving average of a model's weights: its figures, its resumption, and that it never leaves its weights behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.models.weight_average import EVERY_STEPS, WeightAverage, load_average, read_average


@pytest.fixture
def model() -> Any:
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])


def train(model: Any, average: WeightAverage, values: list[float]) -> None:
    """Sets all weights to a value, step by step."""
    for value in values:
        model.set_weights([np.full_like(weights, value) for weights in model.get_weights()])
        average.count_step()


def averaged(model: Any, average: WeightAverage) -> list[float]:
    with average.in_place():
        return [float(weights.flat[0]) for weights in model.get_weights()]


def test_the_average_follows_its_formula_with_a_momentum_that_warms_up(model: Any) -> None:
    train(model, average := WeightAverage(model, 0.9), [1.0] * EVERY_STEPS)
    first = averaged(model, average)
    train(model, average, [2.0] * EVERY_STEPS * 2)
    assert first[0] == pytest.approx(1.0, abs=0.03)  # of weights between -1 and 1 little is left: (9 / 18) ** 8
    at_16, at_24 = min(0.9, 17 / 26), min(0.9, 25 / 34)
    expected = first[0]
    for momentum in (at_16, at_24):
        expected += (2 - expected) * (1 - momentum**EVERY_STEPS)
    assert averaged(model, average)[0] == pytest.approx(expected, rel=1e-5)


def test_steps_between_two_looks_count_when_the_average_is_used(model: Any) -> None:
    train(model, average := WeightAverage(model, 0.9), [3.0, 3.0])
    found = averaged(model, average)
    start = (found[0] - 3.0) / (3 / 12) ** 2 + 3.0
    assert -2 < start < 2 and found[0] != 3.0


def test_the_model_has_its_own_weights_again_whatever_happens(model: Any) -> None:
    train(model, average := WeightAverage(model, 0.99), [1.0, 5.0])
    with pytest.raises(KeyError), average.in_place():
        assert model.get_weights()[0].flat[0] != 5.0
        raise KeyError
    assert all((weights == 5.0).all() for weights in model.get_weights())


def test_a_saved_average_goes_on_as_if_nothing_had_happened(model: Any, tmp_path: Path) -> None:
    train(model, average := WeightAverage(model, 0.99), [1.0, 5.0, 2.0])
    average.save(tmp_path / "average.npz")
    again = WeightAverage(model, 0.99)
    again.restore(read_average(tmp_path / "average.npz"), average.steps)
    assert all((weights == 2.0).all() for weights in model.get_weights())
    for one in (average, again):
        train(model, one, [4.0, 7.0])
    assert averaged(model, again) == averaged(model, average)


def test_weights_whose_paths_are_equal_are_kept_apart(tmp_path: Path) -> None:
    import keras

    def tower(name: str) -> Any:
        x = keras.Input((3,))
        return keras.Model(x, keras.layers.Dense(2, name="dense")(x), name=name)

    def built() -> Any:
        x = keras.Input((3,))
        return keras.Model(x, keras.layers.Add()([tower("one")(x), tower("other")(x)]))

    model = built()
    assert len({variable.path for variable in model.variables}) < len(model.variables)
    average = WeightAverage(model, 0.5)
    model.set_weights([np.full_like(weights, place) for place, weights in enumerate(model.get_weights())])
    average.count_step()
    expected = averaged(model, average)
    assert len(set(expected)) == len(expected)
    average.save(tmp_path / "average.npz")
    other = built()
    load_average(other, tmp_path / "average.npz")
    assert [float(weights.flat[0]) for weights in other.get_weights()] == pytest.approx(expected)
    again = WeightAverage(other, 0.5)
    again.restore(read_average(tmp_path / "average.npz"), average.steps)
    assert averaged(other, again) == pytest.approx(expected)
