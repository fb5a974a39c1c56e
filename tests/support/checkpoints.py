"""Writes the checkpoint folder of a trial, as the trainable leaves it, after a few real training steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from trainables.config import TrialConfig
from trainables.dataset.reader import TRAIN, Dataset
from trainables.keras_setup import import_keras
from trainables.models.compiled import compiled_model
from trainables.models.weight_average import WeightAverage


def write_checkpoint(folder: Path, dataset: Dataset, *, steps: int = 40, rows: Any = None, **config: Any) -> Path:
    import_keras()
    import keras

    chosen = TrialConfig.model_validate(
        {"image_size_px": 48, "width": 0.1, "dropout": 0.1, "optimizer": "adamw", "weight_decay": 0, **config}
    )
    info = dataset.info
    keras.utils.set_random_seed(0)
    model = compiled_model(dataset, chosen)
    if rows is None:
        rows = np.random.default_rng(0).permutation(np.flatnonzero(dataset.splits == TRAIN))[:64]
    average = WeightAverage(model, chosen.weight_average)
    for _ in range(steps):
        model.train_on_batch(dataset.images(rows), np.eye(len(info.classes))[dataset.labels[rows]])
        average.count_step()
    folder.mkdir(parents=True)
    model.save(folder / "model.keras")
    if chosen.weight_average:
        average.save(folder / "average.npz")
    state = {"trial": 3, "config": chosen.model_dump(), "epoch": 5, "best": {"epoch": 5, "value": 0.5}}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def with_config(checkpoint: Path, copy: Path, **config: Any) -> Path:
    """Copies a checkpoint folder as one of a trial with other parameters; returns the copy."""
    shutil.copytree(checkpoint, copy)
    state = json.loads((copy / "state.json").read_text())
    state["config"].update(config)
    (copy / "state.json").write_text(json.dumps(state))
    return copy
