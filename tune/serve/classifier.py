"""Classifies single images of many requests in batches. Runs in the replica's process; knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from tune.export.export import LABELS_FILE
from tune.export.predict import Prediction, UnreadPicture, load_export

MAX_BATCH = 32
BATCH_WAIT_S = 0.05
"""How long an image waits at most for others that are being read."""

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
        self._waiting: deque[tuple[bytes, asyncio.Future[Prediction | UnreadPicture]]] = deque()
        self._arriving = 0
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self.metrics = CollectorRegistry()
        ProcessCollector(registry=self.metrics)
        self._batches = Histogram(
            "emotune_batch_images", "Images in a batch", buckets=(1, 2, 4, 8, 16, MAX_BATCH), registry=self.metrics
        )
        self._labels = Counter("emotune_predictions", "Images classified, by label", ["label"], registry=self.metrics)
        for name in self.classes:
            self._labels.labels(name)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """While a request is being read: a batch waits for its image."""
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1
            self._changed.set()

    async def classify(self, image: bytes) -> Prediction | UnreadPicture:
        """Classifies the content of an image file, together with others that come at the same time."""
        answer: asyncio.Future[Prediction | UnreadPicture] = asyncio.get_running_loop().create_future()
        self._waiting.append((image, answer))
        self._changed.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._classify_waiting())
        found = await answer
        if isinstance(found, Prediction):
            self._labels.labels(found.label).inc()
        return found

    async def _classify_waiting(self) -> None:
        while self._waiting:
            await self._wait_for_others()
            batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
            self._batches.observe(len(batch))
            found: Iterable[Any]
            try:
                found = await asyncio.to_thread(self._classified, [image for image, _ in batch])
            except Exception as error:  # each request of the batch has it; the next batch is another's
                found = [error] * len(batch)
            for (_, answer), one in zip(batch, found, strict=True):
                if answer.done():  # its request was cancelled
                    continue
                if isinstance(one, Exception):
                    answer.set_exception(one)
                else:
                    answer.set_result(one)

    def _classified(self, images: Iterable[bytes]) -> list[Prediction | UnreadPicture]:
        return list(self._predictor.predict_pictures((_UPLOAD, partial(bytes, image)) for image in images))

    async def _wait_for_others(self) -> None:
        """Returns when no further request is being read, a batch is full, or `BATCH_WAIT_S` is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BATCH_WAIT_S):
                while self._arriving and len(self._waiting) < MAX_BATCH:
                    self._changed.clear()
                    await self._changed.wait()
