"""Learning curves of any configuration, from those that were recorded: what `benchmarks.search` searches.

Extremely randomised trees (Geurts, Ernst, Wehenkel 2006) map a configuration to its whole curve. What a search sees is
that curve plus noise of two kinds: of the fold's images, the same in every epoch, and of each epoch.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import KFold, cross_val_predict

from benchmarks.record_curves import EPOCHS, HOLDOUT_IMAGES, PARQUET, RATE_SCALE, REPEATS_FROM, TRAIN_IMAGES

CHOICES = {
    "optimizer": ("sgd", "adam", "adamw", "rmsprop", "nadam", "lion"),
    "schedule": ("constant", "cosine", "plateau"),
    "preprocessing": ("none", "shifts", "crop", "noise", "equalize", "augment", "face"),
    "normalization": ("unit", "standardize", "per_image"),
}
AMOUNTS = ("dropout", "split_ratio", "momentum", "beta_1", "rho", "label_smoothing", "shift_limit", "crop_keep")
AMOUNTS += ("noise_std", "clip_limit", "augment_strength", "face_margin")
SELECTION_SHARE = 0.1
FOLD_NOISE, EPOCH_NOISE = 0.008, 0.005
"""Standard deviations of a score on FER-2013's own selection fold of 2,871 images, around what the model is worth."""


def features(values: Mapping[str, Any]) -> NDArray[np.float64]:
    """Returns a configuration as numbers; what does not count for it is 0."""
    rate = math.log10(values["learning_rate"])
    usual = math.log10(RATE_SCALE.get(values["optimizer"], 1.0))
    decay = values.get("weight_decay")
    found = [rate, rate - usual, math.log2(values["batch_size"]), math.log10(decay) if decay else 0.0]
    found += [rate - usual - 0.5 * math.log2(values["batch_size"] / 32) * math.log10(2)]
    found += [float(values.get(name, 0.0)) for name in AMOUNTS]
    found += [float(values.get(name) == choice) for name, choices in CHOICES.items() for choice in choices]
    return np.array(found)


class Recorded:
    """The recorded trials as arrays: `x` features, `average` and `last` accuracies after each epoch, `seconds`."""

    def __init__(self, path: Path = PARQUET) -> None:
        rows = pd.read_parquet(path)
        rows = rows[(rows.epoch >= 1) & (rows.trial < REPEATS_FROM)].sort_values(["trial", "epoch"])
        x, average, last, seconds, self.values = [], [], [], [], []
        selection, holdout = SELECTION_SHARE * TRAIN_IMAGES, HOLDOUT_IMAGES
        for _, trial in rows.groupby("trial"):
            values = json.loads(trial["values"].iloc[0])
            both = (selection * trial.selection_average + holdout * trial.holdout_average) / (selection + holdout)
            gap = trial.selection_last - trial.selection_average
            self.values.append(values)
            x.append(features(values))
            average.append(_whole(both))
            last.append(_whole(both + gap))
            seconds.append(float(trial.train_s.iloc[1:].median() if len(trial) > 1 else trial.train_s.iloc[0]))
        self.x, self.average, self.last = np.array(x), np.array(average), np.array(last)
        self.seconds = np.array(seconds)


def _whole(curve: pd.Series[float]) -> NDArray[np.float64]:
    """Returns the curve of a trial; one that broke off stays where it was."""
    found = np.asarray(curve, np.float64)[:EPOCHS]
    return np.concatenate([found, np.full(EPOCHS - len(found), found[-1])])


def trees(seed: int = 0) -> ExtraTreesRegressor:
    """Returns the model, not fitted."""
    return ExtraTreesRegressor(n_estimators=200, min_samples_leaf=2, max_features=0.5, random_state=seed, n_jobs=1)


class Surrogate:
    """A world (`benchmarks.simulation.World`) made of recorded curves.

    Args:
        recorded: What was recorded.
        seed: Of the trees and of the noise: another is another world like it.
        weights: `average` scores the averaged weights, `last` those of the last step.
    """

    def __init__(self, recorded: Recorded, seed: int = 0, weights: str = "average") -> None:
        self._seed = seed
        rng = np.random.default_rng(seed)
        rows = rng.integers(len(recorded.x), size=len(recorded.x))  # another sample of trials as well
        targets = np.hstack([recorded.average, recorded.last, recorded.seconds[:, None]])
        self._trees = trees(seed).fit(recorded.x[rows], targets[rows])
        self._weights = weights
        self._known: dict[bytes, tuple[NDArray[np.float64], NDArray[np.float64], float]] = {}

    def curve(self, values: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Returns accuracies after each epoch, of averaged and of last weights, and the seconds of an epoch."""
        x = features(values)
        key = x.tobytes()
        if key not in self._known:
            found = self._trees.predict(x[None])[0]
            self._known[key] = found[:EPOCHS], found[EPOCHS : 2 * EPOCHS], float(found[-1])
        return self._known[key]

    def observed(self, values: Mapping[str, Any], epoch: int) -> float:
        """Returns what the selection fold says."""
        key = zlib.crc32(features(values).tobytes())
        fold = np.random.default_rng((self._seed, key)).normal(0, FOLD_NOISE)
        jitter = np.random.default_rng((self._seed, key, epoch)).normal(0, EPOCH_NOISE)
        average, last, _ = self.curve(values)
        return float((average if self._weights == "average" else last)[epoch - 1] + fold + jitter)

    def score(self, values: Mapping[str, Any], epoch: int) -> float:
        """Returns the accuracy that the exported model has."""
        average, last, _ = self.curve(values)
        return float((average if self._weights == "average" else last)[epoch - 1])

    def epoch_s(self, values: Mapping[str, Any]) -> float:
        """Returns the seconds of an epoch."""
        return self.curve(values)[2]


def held_out_error(recorded: Recorded) -> tuple[float, float]:
    """Returns how far the trees are from trials that they have not seen, at the end: error, and rank correlation."""
    from scipy.stats import spearmanr

    folds = KFold(min(10, len(recorded.x)), shuffle=True, random_state=0)
    predicted = cross_val_predict(trees(), recorded.x, recorded.average, cv=folds)[:, -1]
    actual = recorded.average[:, -1]
    return float(np.sqrt(np.mean((predicted - actual) ** 2))), float(spearmanr(predicted, actual).statistic)
