"""Scores an export on labelled images, in one format or in all. Trains nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.dataset.folds import test_rows
from trainables.dataset.node_cache import open_data
from trainables.dataset.reader import INFO_FILE, Pixels
from trainables.errors import DatasetError
from trainables.models.compiled import Floats
from trainables.places import Place
from trainables.training.metrics import evaluate, expected_calibration_error, wilson_interval
from tune.export.export import MODEL_FILE
from tune.export.formats import FORMATS, check_formats
from tune.export.parity import accuracy_difference, run_formats
from tune.export.predict import Predictor
from tune.sources.decoding import UnreadableImage, silence_decoders
from tune.sources.opening import open_source


def evaluate_on(predictor: Predictor, data: str, folder: Path | None = None) -> dict[str, Any]:
    """Returns the scores; `tune.evaluate_export` says which.

    Args:
        predictor: The export, loaded.
        data: A folder or an address.
        folder: The export, to score its other formats beside `model.keras`.

    Raises:
        DatasetError: The data cannot be read, has no images to score, or has a class that the export does not know.
        ExportError: Another format's package is not installed, or it does not run.
    """
    others = _other_formats(folder) if folder else []
    check_formats(others)
    with silence_decoders():
        images, truth, unread, divided = _read(data, predictor)
    found = predictor.predict(images)
    shares = np.array([list(one.probabilities.values()) for one in found], np.float32)
    figures = evaluate(np.log(np.maximum(shares, np.finfo(np.float32).tiny)), truth, len(predictor.classes))
    scores = {
        **figures,
        "accuracy_interval": list(wilson_interval(int(np.trace(figures["confusion"])), len(truth))),
        "expected_calibration_error": expected_calibration_error(shares, truth),
        "classes": list(predictor.classes),
        "unread": len(unread),
        "unread_images": unread,
        "looks_divided": divided,
    }
    if folder:
        beside = run_formats(folder, others, predictor.entries(images)) if others else {}
        scores["formats"] = {name: _beside_keras(theirs, shares, truth) for name, theirs in beside.items()}
    return scores


def _read(data: str, predictor: Predictor) -> tuple[list[Pixels], npt.NDArray[np.int32], dict[str, str], int]:
    """Returns images of the model's size, their places in the classes, why others could not be decoded, by name, and
    how many look divided by 255."""
    classes = predictor.classes
    labelled = _of_dataset(data) if Place(data).exists(INFO_FILE) else _of_source(Path(data))
    images, labels, divided = [], [], 0
    unread: dict[str, str] = {}
    for name, where, read in labelled:
        if name not in classes:
            known = ", ".join(classes)
            raise DatasetError(f"Classes must be the export's: {known}. Received: {name} in {data}. Rename its folder.")
        try:
            image = read()
        except UnreadableImage as error:
            unread[where] = str(error)
            continue
        divided += int(image.max()) == 1
        images.append(predictor.fitted(image))  # photos of people's telephones would fill the memory
        labels.append(classes.index(name))
    if not labels:
        raise DatasetError(f"There must be labelled images to score. Received: none in {data}. Name other data.")
    return images, np.array(labels, np.int32), unread, divided


def _other_formats(folder: Path) -> list[str]:
    return [name for name, one in FORMATS.items() if one.file != MODEL_FILE and (folder / one.file).exists()]


def _beside_keras(theirs: Floats, ours: Floats, labels: npt.NDArray[np.int32]) -> dict[str, Any]:
    return {
        "accuracy": float((theirs.argmax(1) == labels).mean()),
        "max_difference": float(np.abs(theirs - ours).max()),
        **accuracy_difference(theirs, ours, labels),
    }


def _of_dataset(data: str) -> Iterator[tuple[str, str, Callable[[], Pixels]]]:
    dataset = open_data(data)
    for row in test_rows(dataset):
        name = dataset.info.classes[dataset.labels[row]]
        yield name, str(row), lambda row=row: dataset.image(row)  # type: ignore[misc]


def _of_source(path: Path) -> Iterator[tuple[str, str, Callable[[], Pixels]]]:
    source = open_source(path)
    for item in source:
        yield item.class_name, item.path, lambda item=item: source.pixels(item)  # type: ignore[misc]
