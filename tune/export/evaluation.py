"""Scores an export on labelled images: a data set's test split, or whatever can be imported. Trains nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trainables.dataset.folds import test_rows
from trainables.dataset.node_cache import open_data
from trainables.dataset.reader import INFO_FILE, Pixels
from trainables.errors import DatasetError
from trainables.places import Place
from trainables.training.metrics import evaluate, expected_calibration_error, wilson_interval
from tune.export.predict import Predictor
from tune.sources.decoding import UnreadableImage
from tune.sources.opening import open_source


def evaluate_on(predictor: Predictor, data: str) -> dict[str, Any]:
    """Returns the scores; `tune.evaluate_export` says which.

    Raises:
        DatasetError: The data cannot be read, has no images to score, or has a class that the export does not know.
    """
    labelled = _of_dataset(data) if Place(data).exists(INFO_FILE) else _of_source(Path(data))
    labels, probabilities, divided, unread = [], [], 0, 0
    for name, read in labelled:
        if name not in predictor.classes:
            known = ", ".join(predictor.classes)
            raise DatasetError(f"Classes must be the export's: {known}. Received: {name} in {data}. Rename its folder.")
        try:
            pixels = read()
        except UnreadableImage:
            unread += 1
            continue
        divided += int(pixels.max()) == 1
        labels.append(predictor.classes.index(name))
        probabilities.append(pixels)
    if not labels:
        raise DatasetError(f"There must be labelled images to score. Received: none in {data}. Name other data.")
    found = predictor.predict(probabilities)
    shares = np.array([list(one.probabilities.values()) for one in found], np.float32)
    truth = np.array(labels, np.int32)
    figures = evaluate(np.log(np.maximum(shares, np.finfo(np.float32).tiny)), truth, len(predictor.classes))
    return {
        **figures,
        "accuracy_interval": list(wilson_interval(int(np.trace(figures["confusion"])), len(truth))),
        "expected_calibration_error": expected_calibration_error(shares, truth),
        "classes": list(predictor.classes),
        "unread": unread,
        "looks_divided": divided,
    }


def _of_dataset(data: str) -> Iterator[tuple[str, Callable[[], Pixels]]]:
    dataset = open_data(data)
    for row in test_rows(dataset):
        yield dataset.info.classes[dataset.labels[row]], lambda row=row: dataset.image(row)  # type: ignore[misc]


def _of_source(path: Path) -> Iterator[tuple[str, Callable[[], Pixels]]]:
    source = open_source(path)
    for item in source:
        yield item.class_name, lambda item=item: source.pixels(item)  # type: ignore[misc]
