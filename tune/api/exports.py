"""Exports: opened, and used on images, from Python and the command line."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tune.export.predict import Prediction, Predictor


def load_export(export: str | PathLike[str]) -> Predictor:
    """Loads an export; its `predict` takes image files and arrays.

    Args:
        export: a folder, or a bucket's address.

    Raises:
        ExportError: it is missing, is no export, or is damaged.
        PlaceError: the bucket cannot be reached.
    """
    from trainables.local_copies import local_folder
    from tune.export.predict import load_export as load_folder

    with local_folder(str(export)) as folder:
        return load_folder(folder)


def predict(export: str | PathLike[str], images: Sequence[str | PathLike[str]]) -> list[Prediction]:
    """Classifies image files; says what is wrong with their names before it loads the model.

    Args:
        export: a folder, or a bucket's address.
        images: files: gray, colour or 16 bits, of any size.

    Raises:
        ImageError: one is missing, a folder, empty, too large or not an image.
        ExportError: the export is missing, is none, or is damaged.
    """
    from pathlib import Path

    from tune.export.predict import check_images

    paths = [Path(image) for image in images]
    check_images(paths)
    return load_export(export).predict(paths)


@contextmanager
def process_left_as_it_was() -> Iterator[None]:
    """Takes back what the block sets for TensorFlow, and keeps what it logs of a SavedModel (2.21) out of a cell.

    A GPU that was hidden from TensorFlow would be hidden from the next study's Ray too.
    """
    before, logger = dict(os.environ), logging.getLogger("tensorflow")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was_disabled
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
