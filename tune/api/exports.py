"""Exports: opened, and used on images, from Python and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING

from trainables.home_folder import expand_home

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

    with local_folder(expand_home(export)) as folder:
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

    paths = [Path(expand_home(image)) for image in images]
    check_images(paths)
    return load_export(export).predict(paths)
