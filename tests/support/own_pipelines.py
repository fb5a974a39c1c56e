"""Pipelines of a user's own, written from docs/own-pipelines.md alone: a saved file, a function with an evaluation.

`SOURCES` has them beside the methods that come with emotune.
"""

from __future__ import annotations

import json
from typing import Any

import albumentations as A

from trainables.config import TrialConfig
from trainables.preprocessing.methods import METHODS

OWN_PIPELINE = """\
import albumentations as A


def training(shape, strength: float = 0.5, *, flip: bool = True) -> A.Compose:
    height, width, channels = shape
    keep = 1 - 0.5 * strength
    crop = [A.RandomCrop(round(keep * height), round(keep * width), p=1), A.Resize(height, width, p=1)]
    return A.Compose([A.HorizontalFlip(p=0.5 * flip), *crop])


def evaluation(strength: float = 1.0) -> A.Compose:
    return A.Compose([A.CLAHE(clip_limit=(1 + strength, 1 + strength), tile_grid_size=(4, 4), p=1)])
"""


BESIDE = {
    "preprocessing": "beside.py:training",
    "code": {
        "beside.py": {
            "text": """\
import albumentations as A


def training() -> A.Compose:
    return A.Compose([A.HorizontalFlip(p=0.5)])


def evaluation() -> A.Compose:
    return A.Compose([A.Equalize(p=1)])
"""
        }
    },
}
"""A trial's parameters with a pipeline whose evaluation has no operations in a model: it lies beside an export's."""


def saved_pipeline(*transforms: Any) -> str:
    """Returns what `A.save` writes."""
    return json.dumps(A.to_dict(A.Compose(list(transforms))))


def own_config(name: str, text: str, **parameters: Any) -> TrialConfig:
    """Returns the configuration of a trial with a pipeline of that text."""
    file = name.partition(":")[0]
    given = {f"preprocessing.{parameter}": value for parameter, value in parameters.items()}
    return TrialConfig.model_validate({"preprocessing": name, "code": {file: {"text": text}}, **given})


SOURCES: dict[str, dict[str, Any]] = {
    **{method: {"preprocessing": method} for method in METHODS},
    "saved file": {
        "preprocessing": "mine.json",
        "code": {"mine.json": {"text": saved_pipeline(A.HorizontalFlip(p=0.5), A.RandomBrightnessContrast(p=1))}},
    },
    "own function": {"preprocessing": "mine.py:training", "code": {"mine.py": {"text": OWN_PIPELINE}}},
    "own function beside the models": BESIDE,
}
"""A trial's parameters, by where its images' pipeline is from."""
