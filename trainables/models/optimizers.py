"""Names to Keras optimizers, and the learning rate of each epoch. Knows nothing of models, data or Ray.

What the user's own functions make is in `own_optimizer.py`.

The schedules are plain arithmetic on epochs, so a resumed trial needs its epoch and a `PlateauState`, nothing else.
Keras is imported when an optimizer is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trainables.config import TrialConfig
from trainables.errors import EmotuneError, nearest
from trainables.models.own_optimizer import build_own_optimizer, own_rate_share
from trainables.own_code import find_reference

if TYPE_CHECKING:
    import keras

COSINE_FLOOR = 0.01
"""Share of the starting learning rate that the cosine schedule ends at."""

NOT_DECAYED = ("bias", "gamma", "beta")
"""Variables whose name holds one of these are not decayed; only kernels are."""


@dataclass(frozen=True)
class Optimizer:
    """One optimizer.

    Attributes:
        parameters: its fields of `TrialConfig` besides `learning_rate`.
        build: how it is made from them.
        slots: values that it keeps for each weight, at most; `size.py` reckons with them.
    """

    parameters: tuple[str, ...]
    build: Callable[[TrialConfig], keras.optimizers.Optimizer]
    slots: int


def _sgd(config: TrialConfig) -> keras.optimizers.Optimizer:
    from keras.optimizers import SGD

    return SGD(config.learning_rate, momentum=config.momentum, nesterov=config.nesterov and config.momentum > 0)


def _adam(config: TrialConfig) -> keras.optimizers.Optimizer:
    from keras.optimizers import Adam

    return Adam(config.learning_rate, beta_1=config.beta_1, beta_2=config.beta_2)


def _adamw(config: TrialConfig) -> keras.optimizers.Optimizer:
    from keras.optimizers import AdamW

    return AdamW(config.learning_rate, weight_decay=config.weight_decay, beta_1=config.beta_1, beta_2=config.beta_2)


def _rmsprop(config: TrialConfig) -> keras.optimizers.Optimizer:
    from keras.optimizers import RMSprop

    return RMSprop(config.learning_rate, rho=config.rho, momentum=config.momentum)


def _nadam(config: TrialConfig) -> keras.optimizers.Optimizer:
    from keras.optimizers import Nadam

    return Nadam(config.learning_rate, beta_1=config.beta_1, beta_2=config.beta_2)


def _lion(config: TrialConfig) -> keras.optimizers.Optimizer:
    from keras.optimizers import Lion

    return Lion(config.learning_rate, weight_decay=config.weight_decay, beta_1=config.beta_1, beta_2=config.beta_2)


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(("momentum", "nesterov"), _sgd, slots=1),
    "adam": Optimizer(("beta_1", "beta_2"), _adam, slots=2),
    "adamw": Optimizer(("beta_1", "beta_2", "weight_decay"), _adamw, slots=2),
    "rmsprop": Optimizer(("momentum", "rho"), _rmsprop, slots=2),
    "nadam": Optimizer(("beta_1", "beta_2"), _nadam, slots=2),
    "lion": Optimizer(("beta_1", "beta_2", "weight_decay"), _lion, slots=1),
}


def build_optimizer(config: TrialConfig, *, micro_batches: int = 1) -> keras.optimizers.Optimizer:
    """Returns the Keras optimizer that `config.optimizer` names, at `config.learning_rate`.

    That may be a function of the user's own. Ours leave biases and normalisation scales out of weight decay, and take a
    nesterov step without momentum as plain SGD. With `micro_batches` above 1 it makes one step of the mean gradient of
    so many calls.

    Raises:
        EmotuneError: The name is not in `OPTIMIZERS`.
        OwnCodeError: The user's function makes no optimizer of these parameters.
    """
    if find_reference(config.optimizer):
        optimizer = build_own_optimizer(config)
    elif config.optimizer in OPTIMIZERS:
        entry = OPTIMIZERS[config.optimizer]
        optimizer = entry.build(config)
        if "weight_decay" in entry.parameters:
            optimizer.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
    else:
        raise EmotuneError(f"No optimizer is called {config.optimizer!r}.{nearest(config.optimizer, OPTIMIZERS)}")
    if micro_batches > 1:
        optimizer.gradient_accumulation_steps = micro_batches
    return optimizer


def restore_optimizer(
    config: TrialConfig,
    saved: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
    *,
    micro_batches: int = 1,
) -> keras.optimizers.Optimizer:
    """Returns `build_optimizer(config)` with the step, learning rate and slots of an optimizer that a file held.

    Args:
        config: The configuration that `saved` was built from.
        saved: Optimizer of a model from `keras.saving.load_model`.
        variables: That model's `trainable_variables`.
        micro_batches: as in `build_optimizer`.
    """
    # Keras 3.15 does not save exclude_from_weight_decay: the loaded optimizer itself would decay biases.
    optimizer = build_optimizer(config, micro_batches=micro_batches)
    optimizer.build(variables)
    copy_state(optimizer, saved, micro_batches)
    return optimizer


def copy_state(
    optimizer: keras.optimizers.Optimizer, saved: keras.optimizers.Optimizer, micro_batches: int = 1
) -> None:
    """Gives a built optimizer the step, learning rate and slots of another of its kind.

    Raises:
        ValueError: the other is of another kind; nothing was changed.
    """
    slots, others = _slots(optimizer), _slots(saved)
    if [slot.shape for slot in slots] != [slot.shape for slot in others]:
        raise ValueError(f"it was saved with another optimizer, {type(saved).__name__}")
    for own, value in zip(slots, others, strict=True):
        own.assign(value)
    optimizer.variables[0].assign(saved.iterations * micro_batches)  # Keras counts the micro-batches of a batch


def copy_training(model: keras.Model, saved: keras.Model, micro_batches: int = 1) -> None:
    """Gives a compiled model the weights and the optimizer's state of another.

    Raises:
        ValueError: the other has weights of other shapes, or another optimizer; nothing was changed.
    """
    if [weight.shape for weight in saved.weights] != [weight.shape for weight in model.weights]:
        raise ValueError("it was trained with other code, whose weights have other shapes")
    copy_state(model.optimizer, saved.optimizer, micro_batches)
    model.set_weights(saved.get_weights())


def _slots(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Returns an optimizer's variables without the sums of gradients, which are empty between two batches."""
    sums = {id(variable) for variable in getattr(optimizer, "_accumulated_gradients", ())}
    return [variable for variable in optimizer.variables if id(variable) not in sums]


@dataclass(frozen=True)
class PlateauState:
    """How the inner validation loss has gone; small enough for a checkpoint (`dataclasses.asdict`).

    Attributes:
        best: Lowest finite loss so far.
        stalled_epochs: Epochs since `best`, or since the last reduction.
        reductions: How often the learning rate has been multiplied by `plateau_factor`.
    """

    best: float = math.inf
    stalled_epochs: int = 0
    reductions: int = 0

    def update(self, loss: float, patience_epochs: int) -> PlateauState:
        """Returns the state after an epoch's inner validation loss; NaN counts as no improvement.

        Args:
            loss: Inner validation loss of the epoch just ended.
            patience_epochs: Epochs without improvement that lower the learning rate once.
        """
        if loss < self.best:
            return replace(self, best=loss, stalled_epochs=0)
        if self.stalled_epochs + 1 >= patience_epochs:
            return replace(self, stalled_epochs=0, reductions=self.reductions + 1)
        return replace(self, stalled_epochs=self.stalled_epochs + 1)


def learning_rate_at(
    config: TrialConfig, epoch: int, max_epochs: int, plateau_state: PlateauState | None = None
) -> float:
    """Returns the learning rate of one epoch under `config.schedule`.

    `constant` keeps `config.learning_rate`. `cosine` falls along half a cosine (Loshchilov, Hutter: SGDR, 2017,
    without restarts) to 1 % of it at the last epoch. `plateau` multiplies it by `plateau_factor` for each reduction
    in `plateau_state`. A function of the user's own multiplies it by what it returns.

    Args:
        config: Reads `learning_rate`, `schedule` and `plateau_factor`.
        epoch: The epoch about to be trained; the first is 0.
        max_epochs: Epochs the study allows a trial; later epochs stay at the floor.
        plateau_state: State after the epochs already trained; None is the state before the first.

    Raises:
        OwnCodeError: The user's function fails, or returns no such number.
    """
    if find_reference(config.schedule):
        return config.learning_rate * own_rate_share(config, epoch, max_epochs)
    if config.schedule == "cosine":
        done = min(epoch / max(max_epochs - 1, 1), 1.0)
        return config.learning_rate * (COSINE_FLOOR + (1 - COSINE_FLOOR) * (1 + math.cos(math.pi * done)) / 2)
    if config.schedule == "plateau" and plateau_state is not None:
        return float(config.learning_rate * config.plateau_factor**plateau_state.reductions)
    return config.learning_rate


def warmup_share(config: TrialConfig, epochs_done: float) -> float:
    """Returns what the learning rate is multiplied by after so many epochs, fractions included: 0 to 1.

    The rate rises linearly over `config.warmup_epochs` (Goyal et al.: Accurate, Large Minibatch SGD, 2017).
    """
    return min(1.0, epochs_done / config.warmup_epochs) if config.warmup_epochs else 1.0
