"""An optimizer and a schedule of a user's own, written from docs/own-training.md alone."""

from __future__ import annotations

from typing import Any

from trainables.config import TrialConfig

OPTIMIZER, SCHEDULE = "my_training.py:make_optimizer", "my_training.py:schedule"

OWN_TRAINING = """\
import keras


@keras.saving.register_keras_serializable("my_training")
class SignDescent(keras.optimizers.Optimizer):
    def __init__(self, learning_rate=0.001, beta=0.9, name="sign_descent", **options):
        super().__init__(learning_rate=learning_rate, name=name, **options)
        self.beta = beta

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.means = [self.add_variable_from_reference(one, name="mean") for one in variables]

    def update_step(self, gradient, variable, learning_rate):
        mean = self.means[self._get_variable_index(variable)]
        rate = keras.ops.cast(learning_rate, variable.dtype)
        self.assign(mean, self.beta * mean + (1 - self.beta) * keras.ops.cast(gradient, variable.dtype))
        self.assign_sub(variable, rate * keras.ops.sign(mean))

    def get_config(self):
        return {**super().get_config(), "beta": self.beta}


def make_optimizer(learning_rate: float, *, beta: float = 0.9, decay: float = 0.0) -> keras.optimizers.Optimizer:
    if not 0 <= beta < 1:
        raise ValueError(f"beta is {beta}")
    return SignDescent(learning_rate, beta=beta, weight_decay=decay or None)


def schedule(epoch: int, max_epochs: int, *, power: float = 2.0) -> float:
    return (1 - epoch / max_epochs) ** power
"""


def own_training(text: str = OWN_TRAINING, **parameters: Any) -> TrialConfig:
    """Returns the configuration of a trial with the optimizer and the schedule of that text; `optimizer_beta` is
    `optimizer.beta`."""
    kinds = ("optimizer_", "schedule_")
    given = {n.replace("_", ".", 1) if n.startswith(kinds) else n: value for n, value in parameters.items()}
    own = {"optimizer": OPTIMIZER, "schedule": SCHEDULE, "code": {"my_training.py": {"text": text}}}
    return TrialConfig.model_validate({**own, **given})
