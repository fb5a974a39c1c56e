"""Which epoch of a trial counts: inner validation chooses it as the trial goes on. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

_SHARES = ("accuracy", "macro_f1", "macro_recall", "macro_precision")
"""Of inner validation's scores those that are shares of images; a loss has no such error."""

_ERRORS = 0.5
"""Standard errors within which two epochs are equally good. One training's epochs see the same images, so the error of
their difference is about half of one score's (docs/design.md has the figures)."""


def tolerance(metric: str, value: float, images: int | None) -> float:
    """Returns by how much a score of inner validation may be worse than the best and still be as good.

    Args:
        metric: `validation_accuracy` and the like.
        value: the best score.
        images: that inner validation has; None where the epoch was journalled before that was noted.
    """
    if not images or metric.removeprefix("validation_") not in _SHARES or not 0 <= value <= 1:
        return 0.0
    return _ERRORS * math.sqrt(value * (1 - value) / images)


@dataclass(frozen=True)
class BestEpoch:
    """The epoch that counts so far: the latest that is about as good as the best, whose score may be luck.

    Like the one-standard-error rule (Breiman et al.: Classification and Regression Trees, 1984), for trainings whose
    later epochs are better as a rule, as those of averaged weights or of a falling learning rate are.

    Attributes:
        epoch: the latest within the tolerance, 0 before the first.
        value: the best score.
        improved: the epoch of that score.
    """

    epoch: int = 0
    value: float | None = None
    improved: int = 0

    def after(self, epoch: int, metric: str, value: float, mode: str, images: int | None) -> BestEpoch:
        """Returns what counts after a further epoch; of epochs without `images`, only a better one does.

        Args:
            epoch: from 1.
            metric: `validation_accuracy` and the like.
            value: its score, a finite one.
            mode: `min` or `max`.
            images: see `tolerance`.
        """
        gain = math.inf if self.value is None else (value - self.value) * (1 if mode == "max" else -1)
        if gain > 0:
            return BestEpoch(epoch, value, epoch)
        near = bool(images) and self.value is not None and -gain <= tolerance(metric, self.value, images)
        return BestEpoch(epoch if near else self.epoch, self.value, self.improved)
