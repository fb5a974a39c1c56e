"""Optimizers and learning-rate schedules of the user's own: what their functions are given and have to return.

docs/own-training.md is the contract. Keras is imported when an optimizer is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trainables.config import TrialConfig
from trainables.errors import OwnCodeError
from trainables.own_code import bound_function, call_error
from trainables.own_signature import OPTIMIZER, SCHEDULE

if TYPE_CHECKING:
    import keras

_HIGHEST_SHARE = 1000.0
"""Of a learning rate, that a schedule may ask for: more is taken for a rate where a share is wanted."""


def build_own_optimizer(config: TrialConfig) -> keras.optimizers.Optimizer:
    """Returns the optimizer that the function named by `config.optimizer` makes.

    Raises:
        OwnCodeError: the function cannot be imported, fails, or makes no optimizer whose learning rate can be set.
    """
    import keras

    name, wanted = config.optimizer, config.learning_rate
    optimizer = _call(name, config, config.optimizer_parameters, OPTIMIZER, "cannot make an optimizer")(wanted)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise OwnCodeError(
            f"{name} must return a keras.optimizers.Optimizer. Received: {type(optimizer).__name__}. "
            "Return the optimizer that it makes"
        )
    if not isinstance(optimizer._learning_rate, keras.Variable):  # Keras cannot set another one
        raise OwnCodeError(
            f"{name} must take its learning rate as a number. Received: {type(optimizer._learning_rate).__name__}. Use "
            "learning_rate as it is given, and name a function of yours under schedule"
        )
    if optimizer.use_ema and not optimizer.ema_overwrite_frequency:  # Keras takes it up at the end of fit() alone
        raise OwnCodeError(
            f"{name} must leave averaged weights to weight_average. Received: use_ema=True. Remove it: that average "
            "would never be scored or exported"
        )
    if optimizer.gradient_accumulation_steps:  # emotune sets it, where a batch does not fit
        raise OwnCodeError(
            f"{name} must leave the accumulation of gradients to emotune, which trains what does not fit in parts. "
            f"Received: gradient_accumulation_steps={optimizer.gradient_accumulation_steps}. Remove it, and raise "
            "batch_size"
        )
    received = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    if not math.isclose(received, wanted, rel_tol=1e-4):
        raise OwnCodeError(
            f"{name} must use the learning rate that it is given. Received: {received:g} for {wanted:g}. Pass it on"
        )
    return optimizer


def own_rate_share(config: TrialConfig, epoch: int, max_epochs: int) -> float:
    """Returns what the function named by `config.schedule` multiplies the learning rate of an epoch by.

    Args:
        config: a trial's.
        epoch: the epoch about to be trained; the first is 0.
        max_epochs: that the study allows a trial, or a final fit.

    Raises:
        OwnCodeError: the function cannot be imported, fails, or returns no number from 0 to 1000.
    """
    name = config.schedule
    share = _call(name, config, config.schedule_parameters, SCHEDULE, "cannot tell a learning rate")(epoch, max_epochs)
    number = isinstance(share, int | float) and not isinstance(share, bool)
    if not number or not 0 <= share <= _HIGHEST_SHARE:  # NaN is not
        raise OwnCodeError(
            f"{name} must return a number from 0 to {_HIGHEST_SHARE:g}, the share of learning_rate in that epoch. "
            f"Received: {share!r} for epoch {epoch} of {max_epochs}. Correct it"
        )
    return float(share)


def _call(
    name: str, config: TrialConfig, chosen: dict[str, Any], positional: Sequence[str], what: str
) -> Callable[..., Any]:
    """Returns a function of the user's with its chosen parameters; whatever it raises is told as its fault."""
    function = bound_function(name, config.code, chosen, positional)

    def call(*given: Any) -> Any:
        try:
            return function(*given)
        except Exception as error:
            raise call_error(name, what, error) from None

    return call
