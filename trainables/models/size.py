"""How large a model and its checkpoint are, worked out without Keras."""

from __future__ import annotations

from trainables.config import TrialConfig
from trainables.models.builtin import MODELS
from trainables.models.optimizers import OPTIMIZERS


def checkpoint_mib(config: TrialConfig, channels: int, classes: int) -> float | None:
    """Returns about how large a checkpoint is: weights, their average and the optimizer's values, 4 bytes each; None
    for a model or an optimizer of the user's own, or one of Keras' applications."""
    if config.model not in MODELS or config.optimizer not in OPTIMIZERS:
        return None
    copies = 1 + (config.weight_average > 0) + OPTIMIZERS[config.optimizer].slots
    return MODELS[config.model].parameters(config, channels, classes) * 4 * copies / 2**20
