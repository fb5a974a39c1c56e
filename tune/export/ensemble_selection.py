"""Which models' mean answers best: members taken one after another as long as the mean gains. Knows no files.

Caruana, Niculescu-Mizil, Crew, Ksikes: Ensemble Selection from Libraries of Models, ICML 2004; here each model is taken
once at most, so that every one in an export is worth its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SMALLEST = 1e-12


def select_members(answers: Sequence[NDArray[Any]], labels: NDArray[Any], most: int) -> list[int]:
    """Returns the indices of the models whose mean has the least cross-entropy, the first always among them.

    The cross-entropy is the smoother guide: accuracy moves by whole images, and choosing by it finds chance.

    Args:
        answers: Probabilities of each model, (images, classes).
        labels: Right classes, (images,).
        most: Models taken at most, from 1.
    """

    def loss(total: NDArray[Any]) -> float:
        right = total[np.arange(len(labels)), labels] / total.sum(axis=1)
        return float(-np.log(np.maximum(right, _SMALLEST)).mean())

    chosen, total = [0], np.asarray(answers[0], np.float64)
    while len(chosen) < min(most, len(answers)):
        rest = [index for index in range(len(answers)) if index not in chosen]
        losses = [loss(total + answers[index]) for index in rest]
        best = int(np.argmin(losses))
        if not losses[best] < loss(total):
            break
        chosen.append(rest[best])
        total = total + answers[rest[best]]
    return chosen
