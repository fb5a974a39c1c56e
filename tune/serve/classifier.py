"""Classifies single images of many requests in batches. Runs in the replica's process; knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from ray.serve import batch

from tune.export.export import LABELS_FILE
from tune.export.predict import Prediction, UnreadPicture, load_export

MAX_BATCH = 32
BATCH_WAIT_S = 0.005
"""How long an image waits for others."""

_UPLOAD = "the upload"


class BatchingClassifier:
    """An export, loaded.

    Attributes:
        classes: Class names in the order of the probabilities.
        size: Height and width in px, channels: what images are brought to.
        metrics: Prometheus' registry: sizes of batches, labels given, and what the process uses.
    """

    def __init__(self, folder: Path) -> None:
        """Loads an export, and lets TensorFlow make its graph of batches of any size: that takes the first calls."""
        self._predictor = load_export(folder)
        self.classes = self._predictor.classes
        labels = json.loads((folder / LABELS_FILE).read_bytes())
        self.size = (labels["height_px"], labels["width_px"], labels["channels"])
        for images in (1, 2, 3):
            self._predictor.predict(np.zeros((images, *self.size), np.uint8))
        self.metrics = CollectorRegistry()
        ProcessCollector(registry=self.metrics)
        self._batches = Histogram(
            "emotune_batch_images", "Images in a batch", buckets=(1, 2, 4, 8, 16, MAX_BATCH), registry=self.metrics
        )
        self._labels = Counter("emotune_predictions", "Images classified, by label", ["label"], registry=self.metrics)
        for name in self.classes:
            self._labels.labels(name)

    async def classify(self, image: bytes) -> Prediction | UnreadPicture:
        """Classifies the content of an image file, together with others that come at the same time."""
        found: Prediction | UnreadPicture = await self._classify_batch(image)
        if isinstance(found, Prediction):
            self._labels.labels(found.label).inc()
        return found

    @batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_S)
    async def _classify_batch(self, images: list[bytes]) -> list[Any]:
        self._batches.observe(len(images))
        pictures = [(_UPLOAD, partial(bytes, image)) for image in images]
        return await asyncio.to_thread(lambda: list(self._predictor.predict_pictures(pictures)))
