"""How large a model and its checkpoint are, worked out without Keras."""

from __future__ import annotations

from trainables.config import TrialConfig
from trainables.models.optimizers import OPTIMIZERS


def parameters(config: TrialConfig, channels: int, classes: int) -> int:
    """Returns about how many weights AlexNet has: `trainables/models/alexnet.py`'s table, at any size and width."""
    from trainables.models.alexnet import MIN_WIDTH, PUBLISHED_STEM_FROM_PX

    def scaled(size: int) -> int:
        return max(MIN_WIDTH, round(size * config.width))

    side = config.image_size_px
    if side >= PUBLISHED_STEM_FROM_PX:
        side, stem = (side - 11) // 4 + 1, 11
        for _ in range(3):
            side = (side - 3) // 2 + 1
    else:
        stem = 3 if config.stem == "fine" else 7
        for _ in range(3 if config.stem == "fine" else 4):
            side = (side + 1) // 2
    layers = [(stem, channels, 96), (5, 96, 256), (3, 256, 384), (3, 384, 384), (3, 384, 256)]
    weights = 0
    for kernel, before, after in layers:
        inward = before if before == channels else scaled(before)
        weights += (kernel * kernel * inward + 1) * scaled(after)
    units = scaled(4096)
    return weights + (side * side * scaled(256) + 1) * units + (units + 1) * units + (units + 1) * classes


def checkpoint_mib(config: TrialConfig, channels: int, classes: int) -> float:
    """Returns about how large a checkpoint is: weights, their average and the optimizer's values, 4 bytes each."""
    copies = 1 + (config.weight_average > 0) + OPTIMIZERS[config.optimizer].slots
    return parameters(config, channels, classes) * 4 * copies / 2**20
