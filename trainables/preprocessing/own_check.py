"""Tries a pipeline of the user's own before a study starts, in a process of its own: `python -m` with a file's path.

What is asked and answered, and by whom, is in `trainables/own_check_process.py`.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainables.config import TrialConfig
from trainables.errors import OwnCodeError
from trainables.own_check_process import BUILT, READY, answer, without_prints
from trainables.own_code import call_error
from trainables.own_signature import EVALUATION
from trainables.preprocessing.methods import (
    evaluation_pipeline,
    mirrors,
    reseed,
    strengths_of,
    training_pipeline,
)
from trainables.preprocessing.own_pipelines import process

if TYPE_CHECKING:
    import albumentations as A

_IMAGES = 48
_SEED = 7


def main(request_file: Path) -> None:
    """Answers one request."""
    answer(request_file, check_pipeline)


def check_pipeline(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Builds a pipeline and has it process images.

    Args:
        request: `config` of a trial, `shape` of the images.
        folder: where files may be written.

    Returns:
        `mirrors`: whether it may mirror images; `evaluation`: whether evaluation has a pipeline too.

    Raises:
        OwnCodeError: the pipeline breaks the contract.
    """
    (folder / READY).touch()
    config = TrialConfig.model_validate(request["config"])
    name, shape = config.preprocessing, tuple(request["shape"])
    given = (name, strengths_of(config), shape, config.code)
    with without_prints(name), warnings.catch_warnings():
        # Albumentations 2.0.8 only warns of arguments that a transform does not have, and leaves them out.
        warnings.filterwarnings("error", r"Argument\(s\) ", UserWarning)
        training, evaluation = [training_pipeline(*given) for _ in range(2)], evaluation_pipeline(*given)
        (folder / BUILT).touch()
        images = _images(shape)
        _check_training(name, training, images)
        if evaluation is not None:
            _check_evaluation(f"{name.partition(':')[0]}:{EVALUATION}", evaluation, images)
    return {"mirrors": mirrors(*given), "evaluation": evaluation is not None}


def _images(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Returns noise, and a black and a white image."""
    images = np.random.default_rng(_SEED).integers(0, 256, (_IMAGES, *shape)).astype(np.uint8)
    images[0], images[1] = 0, 255
    return images


def _processed(name: str, pipeline: A.Compose, images: NDArray[np.uint8], seed: int, elsewhere: int) -> Any:
    """Returns what a pipeline makes of images, with its own stream and everybody's other stream started anew."""
    reseed(pipeline, (seed,))
    np.random.seed(elsewhere)
    random.seed(elsewhere)
    return np.stack([process(pipeline, image.copy(), name) for image in images])


def _check_training(name: str, pipelines: list[A.Compose], images: NDArray[np.uint8]) -> None:
    # The second time the first has been used before, as one is that prepares a later part of an epoch.
    made = [_processed(name, pipeline, images, _SEED, n) for n, pipeline in enumerate([*pipelines, pipelines[0]])]
    if not all(np.array_equal(made[0], other) for other in made[1:]):
        raise OwnCodeError(
            f"{name} must make the same of the same images for the same seed. Received: two that differ. Draw random "
            "numbers from self.py_random and self.random_generator of its transforms"
        )


def _check_evaluation(name: str, pipeline: A.Compose, images: NDArray[np.uint8]) -> None:
    import albumentations as A

    one, other = (_processed(name, pipeline, images, seed, seed) for seed in (_SEED, _SEED + 1))
    if not np.array_equal(one, other):
        raise OwnCodeError(
            f"{name} must make the same of an image each time. Received: two that differ. Leave out what is random"
        )
    try:
        opened = A.from_dict(A.to_dict(pipeline))
    except Exception as error:  # whatever Albumentations raises for what it cannot save, as a Lambda without a name
        raise call_error(name, "cannot be saved and opened, as in an export", error) from None
    if not np.array_equal(_processed(name, opened, images, _SEED, _SEED), one):
        raise OwnCodeError(
            f"{name} must do the same after it was saved and opened, as in an export. Received: other pixels. Write it "
            "with other transforms"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
