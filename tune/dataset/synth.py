"""Draws cartoon faces with FER-2013's seven expressions, for a first run that needs no download.

Every image is a function of (seed, split, index) alone. Expressions differ in brows, eyes, nose and mouth; identity,
pose, light and noise vary independently of them, and weak expressions overlap, so a small network learns them in a
few epochs and still errs. `tune/dataset/face_drawing.py` holds the pen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from trainables.dataset.reader import SPLITS, Dataset, Pixels, open_dataset
from trainables.dataset.target import existing_dataset
from trainables.dataset.writer import DatasetWriter
from tune.dataset.face_drawing import EXPRESSIONS, SIZE_PX, draw_face
from tune.errors import SourceError

CLASSES: Final = tuple(sorted(EXPRESSIONS))
TRAIN_IMAGES: Final = 2800
TEST_IMAGES: Final = 700
_VERSION: Final = 1


def write_faces(
    target: Path,
    *,
    train_images: int = TRAIN_IMAGES,
    test_images: int = TEST_IMAGES,
    seed: int = 0,
    replace: bool = False,
    on_image: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Writes a data set of faces, or opens the one that is there if it was drawn with the same arguments.

    Args:
        target: folder to create.
        train_images: images of the train split, the classes in equal shares.
        test_images: images of the test split.
        seed: a number from 0; other seeds give other faces.
        replace: whether another data set at the target may give way.
        on_image: called with (images so far, images in all).

    Raises:
        SourceError: too few images for one of each class, or a negative seed.
        DatasetError: the target is in the way or cannot be written.
    """
    if train_images < len(CLASSES) or test_images < len(CLASSES) or seed < 0:
        raise SourceError(
            f"Faces need at least {len(CLASSES)} images in each split and a seed from 0. "
            f"Received: {train_images} train, {test_images} test, seed {seed}; ask for more."
        )
    settings = f"synth {_VERSION} {SIZE_PX} {train_images} {test_images} {seed}"
    fingerprint = hashlib.blake2b(settings.encode(), digest_size=16).hexdigest()
    if (existing := existing_dataset(target, fingerprint)) is not None:
        return existing
    total = train_images + test_images
    with DatasetWriter(target, CLASSES, replace=replace, expected_images=total) as writer:
        for split, images in enumerate((train_images, test_images)):
            for index in range(images):
                label = index % len(CLASSES)
                name = f"{SPLITS[split]}/{CLASSES[label]}/im{index // len(CLASSES)}.png"
                writer.append(draw_synthetic(CLASSES[label], seed, split, index), label, split, name)
                if on_image is not None:
                    on_image(index + 1 + split * train_images, total)
        writer.finish(source=f"cartoon faces, seed {seed}", source_fingerprint=fingerprint)
    return open_dataset(target)


def draw_synthetic(expression: str, seed: int, split: int, index: int) -> Pixels:
    """Draws the face that a data set holds at this place: uint8, (48, 48, 1), 0-255."""
    return draw_face(expression, np.random.default_rng((seed, split, index)))
