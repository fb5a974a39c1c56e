"""A moving average of a model's weights over its training steps, evaluated in their place. Knows nothing of epochs.

The last step's weights jump about with the last batches; their average is better and steadier, without a falling
learning rate (Polyak, Juditsky: Acceleration of Stochastic Approximation by Averaging, 1992; the momentum's warm-up is
that of TensorFlow's ExponentialMovingAverage). Keras' own average (`use_ema` of its optimizers, 3.15) has no warm-up:
after 400 steps at 0.995 a seventh of it are the weights that the training began with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pathlib import Path

    import keras

EVERY_STEPS = 8
"""Steps between two looks at the weights: each costs a pass over all of them outside the graph of a step."""


class WeightAverage:
    """The average of one model's weights, and of the moving statistics of its normalisation layers.

    Args:
        model: Its weights are the average until steps are counted.
        momentum: What is kept of the average at each step, 0 to 1; less in the first steps: (1 + n) / (10 + n).

    Attributes:
        steps: Steps counted so far.
    """

    def __init__(self, model: keras.Model, momentum: float) -> None:
        self.steps = 0
        self._model, self._momentum = model, momentum
        self._pending = 0
        self._variables = _averaged_variables(model)
        self._average = [_copy(variable) for variable in self._variables]

    def count_step(self) -> None:
        """Counts a step of the optimizer that has just been made."""
        self.steps += 1
        self._pending += 1
        if self._pending == EVERY_STEPS:
            self.catch_up()

    def catch_up(self) -> None:
        """Takes the weights of the steps counted since the last look into the average."""
        if not self._pending:
            return
        kept = min(self._momentum, (1 + self.steps) / (10 + self.steps)) ** self._pending
        self._average = [
            average + (variable.value - average) * (1.0 - kept)
            for average, variable in zip(self._average, self._variables, strict=True)
        ]
        self._pending = 0

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Gives the model the average for the length of the block, and then its own weights back, whatever happens."""
        self.catch_up()
        own = [_copy(variable) for variable in self._variables]
        _assign(self._variables, self._average)
        try:
            yield
        finally:
            _assign(self._variables, own)

    def take(self, variables: Sequence[Any]) -> None:
        """Takes what some of the model's variables hold as their average."""
        places = {id(variable): place for place, variable in enumerate(self._variables)}
        for variable in variables:
            self._average[places[id(variable)]] = _copy(variable)

    def save(self, path: Path) -> None:
        """Writes the average as NumPy's `*.npz`, an array for each variable's path, numbered where two have the same.

        Keras' `save_weights` would write the optimizer's values with it, and `load_weights` change them (Keras 3.15).
        """
        self.catch_up()
        names = [variable.path for variable in self._variables]
        if len(set(names)) < len(names):
            names = [f"{place:05d}:{name}" for place, name in enumerate(names)]
        np.savez(path, **dict(zip(names, map(_array, self._average), strict=True)))

    def restore(self, saved: Mapping[str, NDArray[np.float32]], steps: int) -> None:
        """Takes up an average that `read_average` read, after so many steps."""
        from keras import ops

        self._average = [ops.convert_to_tensor(value) for value in _values_of(self._variables, saved)]
        self.steps, self._pending = steps, 0


def read_average(path: Path) -> dict[str, NDArray[np.float32]]:
    """Returns the average that `WeightAverage.save` wrote, by the paths of the model's variables."""
    with np.load(path, allow_pickle=False) as saved:
        return dict(saved)


def load_average(model: keras.Model, path: Path) -> None:
    """Gives a model the average that `WeightAverage.save` wrote as its weights.

    Raises:
        KeyError: The file is of another model.
    """
    variables = _averaged_variables(model)
    _assign(variables, _values_of(variables, read_average(path)))


def _values_of(variables: list[Any], saved: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Returns the saved value of each variable, by its path; in the order of the file where paths are others.

    Layers inside a layer of the user's own are numbered by Keras (3.15) anew in every process: `gate/dense_4/kernel`.
    """
    paths = {variable.path for variable in variables}
    if len(paths) < len(variables) or not paths <= saved.keys():
        values = list(saved.values())
        if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
            raise KeyError("it is of another model")
        return values
    return [saved[variable.path] for variable in variables]


def _array(value: Any) -> Any:
    from keras import ops

    return ops.convert_to_numpy(value)


def _averaged_variables(model: keras.Model) -> list[Any]:
    """Returns all variables but the states of random generators."""
    return [variable for variable in model.variables if "float" in str(variable.dtype)]


def _copy(variable: Any) -> Any:
    from keras import ops

    return ops.copy(ops.convert_to_tensor(variable))


def _assign(variables: list[Any], values: list[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
