"""Opens the sealed test split: what a model that is about to be exported gets right there, and its surest mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainables.dataset.folds import test_rows, without_twin_in_other_split
from trainables.dataset.reader import Dataset
from trainables.models.compiled import Floats
from trainables.training.metrics import evaluate, expected_calibration_error, wilson_interval
from tune.errors import ExportError
from tune.export.checkpoints import load_checkpoints, logits_of, release_members

_MOST_MISTAKES = 24


def evaluate_sealed(checkpoints: Path | Sequence[Path], dataset: Dataset, temperature: float = 1.0) -> dict[str, Any]:
    """Opens the test split: scores a checkpoint on it, or the mean of several, all images and those without a twin in
    train.

    Args:
        checkpoints: As in `export_checkpoint`.
        dataset: Their data set.
        temperature: What is exported divides its logits by it.

    Returns:
        What `trainables.training.metrics` returns, `accuracy_interval` (95 %, Wilson), `expected_calibration_error`;
        under `untwinned` the same for the images without a twin, None when there are none; the `temperature`, and
        under `uncalibrated` loss and calibration error without it; `mistakes`: `row` in the data set, `label`,
        `predicted` (places of classes) and `confidence` of the wrong answers that are surest, at most 24.

    Raises:
        ExportError: The checkpoint is damaged or does not fit, or the data set has no test split.
        DatasetError: The method needs face boxes and there are none.
    """
    members = load_checkpoints([checkpoints] if isinstance(checkpoints, Path) else checkpoints, dataset)
    if not len(test_rows(dataset)):
        raise ExportError(f"The data set must have test images. Received: none in {dataset.directory}.")
    logits = logits_of(members, dataset, test_rows(dataset))
    release_members(members)
    plain = _scores(logits, dataset)
    before = {name: plain[name] for name in ("loss", "expected_calibration_error")}
    scores = plain if temperature == 1 else _scores(logits / np.float32(temperature), dataset)
    mistakes = _surest_mistakes(logits / np.float32(temperature), dataset)
    return {**scores, "temperature": temperature, "uncalibrated": before, "mistakes": mistakes}


def _probabilities(logits: Floats) -> Floats:
    from scipy.special import softmax

    with np.errstate(over="ignore", invalid="ignore"):  # of a trial that diverged
        shares: Floats = softmax(logits, axis=1)
    return shares


def _surest_mistakes(logits: Floats, dataset: Dataset) -> list[dict[str, Any]]:
    rows, shares = test_rows(dataset), _probabilities(logits)
    labels, predicted, confidence = dataset.labels[rows], shares.argmax(axis=1), shares.max(axis=1)
    wrong = np.flatnonzero(np.isfinite(confidence) & (predicted != labels))
    return [
        {
            "row": int(rows[place]),
            "label": int(labels[place]),
            "predicted": int(predicted[place]),
            "confidence": round(float(confidence[place]), 4),
        }
        for place in wrong[np.argsort(-confidence[wrong], kind="stable")][:_MOST_MISTAKES]
    ]


def _scores(logits: Floats, dataset: Dataset) -> dict[str, Any]:
    rows, probabilities = test_rows(dataset), _probabilities(logits)
    alone = np.isin(rows, without_twin_in_other_split(dataset, rows))

    def scores(chosen: Any) -> dict[str, Any]:
        labels = dataset.labels[rows[chosen]]
        figures = evaluate(logits[chosen], labels, len(dataset.info.classes))
        hits = int(np.trace(figures["confusion"]))
        return {
            **figures,
            "accuracy_interval": list(wilson_interval(hits, figures["images"])),
            "expected_calibration_error": expected_calibration_error(probabilities[chosen], labels),
        }

    return {**scores(np.ones(len(rows), bool)), "untwinned": scores(alone) if alone.any() else None}
