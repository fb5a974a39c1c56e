"""Scores logits against labels: loss, accuracy, macro figures, confusion matrix, calibration. No Keras.

Macro figures come from the confusion matrix. Keras' own `Precision()` thresholds every cell of the one-hot matrix at
0.5 and pools them, which is neither macro precision nor accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

_NO_CLASS = -1
_BINS = 15


def evaluate(logits: FloatArray, labels: IntArray, n_classes: int) -> dict[str, Any]:
    """Returns the scores of a set of predictions, in plain numbers and lists that JSON can hold.

    A class without labels has no recall: its `per_class_recall` is None and it is left out of the macro figures (a
    prediction of it still costs the true class its recall). A class that has labels and is never predicted has
    precision 0. Macro F1 is the mean of the classes' F1, as in scikit-learn.

    Args:
        logits: float32, (n, n_classes), n >= 1. Not probabilities. Rows with NaN make the loss NaN and count as wrong.
        labels: int32, (n,), 0 to n_classes - 1.
        n_classes: Number of classes, at least 2.

    Returns:
        `loss` (mean cross-entropy in nats, without label smoothing), `accuracy`, `macro_precision`, `macro_recall`,
        `macro_f1` (0-1), `per_class_recall` (n_classes floats or None), `confusion` (n_classes lists of n_classes
        counts; row: true class, column: predicted; rows with NaN logits are in no cell) and `images` (n).

    Raises:
        ValueError: Shapes that do not fit, no rows, or a label out of range.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 2 or logits.shape[1] != n_classes or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(
            f"logits must be (n, {n_classes}) and labels (n,), n >= 1. Received: {logits.shape} and {labels.shape}."
        )
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(f"labels must be 0 to {n_classes - 1}. Received: {labels.min()} to {labels.max()}.")

    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    predicted = np.where(np.isnan(logits).any(axis=1), _NO_CLASS, logits.argmax(axis=1))
    classes = np.arange(n_classes)
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=classes, average=None, zero_division=0
    )
    present = support > 0
    return {
        "loss": float(cross_entropies(logits, labels).mean()),
        "accuracy": float((predicted == labels).mean()),
        "macro_precision": float(precision[present].mean()),
        "macro_recall": float(recall[present].mean()),
        "macro_f1": float(f1[present].mean()),
        "per_class_recall": [float(r) if p else None for r, p in zip(recall, present, strict=True)],
        "confusion": confusion_matrix(labels, predicted, labels=classes).tolist(),
        "images": len(labels),
    }


def with_score(scores: dict[str, Any], weights: Mapping[str, float]) -> dict[str, Any]:
    """Returns the figures of `evaluate`, and their weighted mean as `score` where an objective has weights.

    Args:
        scores: what `evaluate` returned.
        weights: shares of a sum of 1 by metric, `selection_accuracy` for `accuracy`; empty for no such objective.
    """
    if not weights:
        return scores
    mean = sum(weight * scores[metric.removeprefix("selection_")] for metric, weight in weights.items())
    return {**scores, "score": float(mean)}


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the Wilson score interval (E. B. Wilson, JASA 1927, equation 4) of a share of successes, each end 0-1.

    Args:
        successes: 0 to n.
        n: At least 1.
        confidence: Coverage, between 0 and 1.

    Raises:
        ValueError: Arguments outside these ranges.
    """
    if not 0 <= successes <= n or n < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"successes must be 0 to n, n at least 1 and confidence between 0 and 1. "
            f"Received: successes={successes}, n={n}, confidence={confidence}."
        )
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def expected_calibration_error(probabilities: FloatArray, labels: IntArray) -> float:
    """Returns the expected calibration error, 0-1: by how much confidence and accuracy differ, over 15 equal bins of
    confidence, weighted by their images (Guo et al., On Calibration of Modern Neural Networks, 2017, equation 3).

    Args:
        probabilities: (n, classes), n at least 1.
        labels: (n,).
    """
    confidence = np.asarray(probabilities, np.float64).max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    gaps = np.bincount(bins, right, _BINS) - np.bincount(bins, confidence, _BINS)
    return float(np.abs(gaps).sum() / len(labels))


def cross_entropies(logits: FloatArray, labels: IntArray) -> npt.NDArray[np.float64]:
    """Returns the cross-entropy of each image in nats, (n,)."""
    from scipy.special import log_softmax

    # An infinite logit subtracts to NaN, and a NaN loss is the answer; the warning would be noise.
    with np.errstate(invalid="ignore"):
        each: npt.NDArray[np.float64] = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
        return each
