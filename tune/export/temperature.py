"""One temperature for what an export answers: fitted on the selection fold, kept where it helps by more than chance.

A network that is trained to the end is surer than it is right, and the mean of several is less sure than it could be.
Dividing all logits by one number brings confidence back to accuracy and changes no label (Guo et al., On Calibration of
Modern Neural Networks, 2017, section 4.2). The sealed test has no part in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.config import TrialContext
from trainables.dataset.reader import Dataset
from trainables.models.compiled import Floats
from trainables.training.metrics import IntArray, cross_entropies, expected_calibration_error
from tune.export.checkpoints import load_checkpoints, logits_of, release_members, selection_fold

_PARTS = 5
"""Each is scored with the temperature of the others: that of all would flatter itself."""

_COLDEST, _HOTTEST = 0.1, 10.0


def judge_temperature(checkpoints: Sequence[Path], dataset: Dataset, context: TrialContext) -> dict[str, Any] | None:
    """Fits a temperature to what would be exported, and says whether it helps.

    Args:
        checkpoints: Folders of trials; of several the mean is exported.
        dataset: The data set that they were trained on.
        context: What the study's trials are told.

    Returns:
        What `calibrate` returns.

    Raises:
        ExportError: A checkpoint is damaged or does not fit.
    """
    members = load_checkpoints(checkpoints, dataset)
    rows = selection_fold(members[0].config, dataset, context)
    logits = logits_of(members, dataset, rows)
    release_members(members)
    return calibrate(logits, dataset.labels[rows], dataset.groups[rows])


def calibrate(logits: Floats, labels: IntArray, groups: npt.NDArray[Any]) -> dict[str, Any] | None:
    """Fits a temperature, and measures it on images that it was not fitted to.

    Args:
        logits: (n, classes); of a mean of probabilities, their logarithms.
        labels: (n,).
        groups: (n,): images of one group, twins, are never divided.

    Returns:
        `temperature`, `images`, `loss` and `expected_calibration_error` (each `before` and `after`), the `loss_gain` of
        an image in nats with its 95 % `loss_gain_interval`, and `kept`: the interval lies above 0 and the calibration
        error falls; never where no image was answered wrong. None where nothing can be said: logits that are no
        numbers, or too few groups.
    """
    from scipy.special import softmax
    from sklearn.model_selection import GroupKFold

    if not np.isfinite(logits).all() or len(np.unique(groups)) < _PARTS:
        return None
    cooled = np.empty_like(logits)
    for others, part in GroupKFold(_PARTS).split(logits, groups=groups):
        cooled[part] = logits[part] / fit_temperature(logits[others], labels[others])
    before, after = cross_entropies(logits, labels), cross_entropies(cooled, labels)
    gains = before - after
    gain, half = float(gains.mean()), 1.96 * float(gains.std(ddof=1)) / math.sqrt(len(gains))
    errors = [expected_calibration_error(softmax(one, axis=1), labels) for one in (logits, cooled)]
    return {
        "temperature": fit_temperature(logits, labels),
        "images": len(labels),
        "loss": {"before": float(before.mean()), "after": float(after.mean())},
        "expected_calibration_error": {"before": errors[0], "after": errors[1]},
        "loss_gain": gain,
        "loss_gain_interval": [gain - half, gain + half],
        # Without an error on these images the cross-entropy has no minimum, and an interval sees no error to come.
        "kept": gain - half > 0 and errors[1] < errors[0] and bool((logits.argmax(axis=1) != labels).any()),
    }


def fit_temperature(logits: Floats, labels: IntArray) -> float:
    """Returns the number, 0.1 to 10, by which logits divided have the least cross-entropy.

    Args:
        logits: (n, classes), finite.
        labels: (n,).
    """
    from scipy.optimize import minimize_scalar

    # In the inverse the cross-entropy is convex: there is one minimum.
    found = minimize_scalar(
        lambda inverse: cross_entropies(logits * inverse, labels).mean(),
        bounds=(1 / _HOTTEST, 1 / _COLDEST),
        method="bounded",
    )
    return float(1 / found.x)


def kept_temperature(calibration: Mapping[str, Any] | None) -> float:
    """Returns the temperature that an export has, by what `calibrate` returned; 1 changes nothing."""
    return float(calibration["temperature"]) if calibration and calibration["kept"] else 1.0
