"""What a batch is trained towards: labels as probabilities, smoothed, mixed and weighted. NumPy alone.

Works on whole batches, before they are shared out among micro-batches or workers, so the targets of an image do not
depend on who trains on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainables.config import TrialConfig
from trainables.dataset.reader import Pixels
from trainables.models.compiled import Floats

if TYPE_CHECKING:
    from trainables.preprocessing.feed import Labels

_MIXUP_STREAM = 5


class Targets:
    """Makes the targets of a trial's batches.

    Args:
        config: Reads `label_smoothing`, `class_weights`, `mixup`, and `sampling`: classes drawn evenly weigh the same.
        labels: int32, (n,), of all images that are trained on: what is rare is weighed by them.
        n_classes: Number of classes.
    """

    def __init__(self, config: TrialConfig, labels: NDArray[np.int32], n_classes: int) -> None:
        self._mixup = config.mixup
        rule = "none" if config.sampling == "balanced" else config.class_weights
        self._weights = class_weights(rule, labels, n_classes)
        smooth = np.float32(config.label_smoothing)
        # In Keras' order and precision: emotune 0.1 left it to Keras, and its trials are replayed to the last digit.
        self._rows = np.eye(n_classes, dtype=np.float32) * np.float32(1 - config.label_smoothing)
        self._rows += smooth / np.float32(n_classes)
        self._weighted = rule != "none"

    def begin_epoch(self, seed: tuple[int, ...]) -> None:
        """Starts the random stream of an epoch; the same seed gives the same mixtures."""
        self._rng = np.random.default_rng((*seed, _MIXUP_STREAM))

    def __call__(self, pixels: Pixels, labels: Labels) -> tuple[Pixels, Floats, Floats | None]:
        """Returns a batch's images, its targets, and what each image weighs in the loss.

        Args:
            pixels: uint8, (n, height, width, channels).
            labels: int32, (n,); or soft ones, the shares of the classes, float32, (n, classes), which are smoothed
                like others; such an image weighs what its largest class weighs.

        Returns:
            The images, mixed where `mixup` is on, uint8; the targets, float32, (n, classes), rows of a sum of 1: of
            others TensorFlow's softmax cross-entropy has a wrong gradient; the weights, float32, (n,), None for 1.
        """
        soft = labels.ndim == 2
        targets: Floats = np.matmul(labels, self._rows, dtype=np.float32) if soft else self._rows[labels]
        weights = self._weights[labels.argmax(axis=1) if soft else labels] if self._weighted else None
        if not self._mixup:
            return pixels, targets, weights
        # One share for the batch, as the paper's own code has it (Zhang et al.: mixup, 2018), and a partner for each.
        share = np.float32(self._rng.beta(self._mixup, self._mixup))
        partner = self._rng.permutation(len(labels))
        mixed = share * pixels.astype(np.float32) + (1 - share) * pixels[partner].astype(np.float32)
        pixels = np.rint(mixed).astype(np.uint8)
        if weights is None:
            return pixels, share * targets + (1 - share) * targets[partner], None
        own, others = share * weights, (1 - share) * weights[partner]
        weights = own + others
        own, others = own / weights, others / weights
        return pixels, own[:, None] * targets + others[:, None] * targets[partner], weights


def class_weights(rule: str, labels: NDArray[np.int32], n_classes: int) -> Floats:
    """Returns each class's weight in the loss, float32, (n_classes,); over all images they have a mean of 1.

    Args:
        rule: `none`, `balanced` (one over the class's share) or `sqrt` (its square root).
        labels: int32, (n,).
        n_classes: Number of classes; one without images has weight 0.
    """
    counts = np.bincount(labels, minlength=n_classes).astype(np.float64)
    power = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}[rule]
    with np.errstate(divide="ignore"):
        weights = np.where(counts > 0, counts**-power, 0.0)
    return np.asarray(weights * counts.sum() / (weights * counts).sum(), np.float32)
