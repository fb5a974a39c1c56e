"""Rows and a preprocessing method become uint8 batches, prepared ahead of the device. Knows nothing of Keras.

The rows of an epoch are shuffled and cut into chunks, and every chunk is seeded by (seed..., epoch, chunk number): the
stream is the same whoever prepares the chunk. Chunks are a whole number of batches, so batches are slices of them.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from trainables.config import Sampling
from trainables.dataset.face_boxes import load_faces
from trainables.dataset.node_cache import open_data
from trainables.dataset.reader import Dataset, Pixels, Rows
from trainables.errors import DatasetError
from trainables.own_code import SourceFile, find_pipeline
from trainables.preprocessing.methods import (
    NO_CODE,
    Code,
    Strength,
    evaluation_pipeline,
    find_method,
    is_own,
    needs_faces,
    reseed,
    training_pipeline,
)
from trainables.preprocessing.own_pipelines import process
from trainables.preprocessing.sampling import epoch_rows

Labels: TypeAlias = NDArray[np.int32] | NDArray[np.float32]
Batch: TypeAlias = tuple[Pixels, Labels]
Job = TypeVar("Job")

_CHUNK_BYTES = 64 * 2**20  # large images: fewer to a chunk than `chunk_images`, but always a whole batch
_CHUNKS_AHEAD = 2  # of each thread or actor
_RETRIES = 3  # of one chunk, when the actor that prepares it dies


class _Recipe(NamedTuple):
    """What turns rows into pixels, but for the seed; small enough to travel with every chunk."""

    method: str
    strengths: dict[str, Strength]
    code: dict[str, SourceFile]
    training: bool


class Feed:
    """Batches of one data set for one preprocessing method; stays warm when the method changes.

    Args:
        dataset: the opened data set.
        method: a key of `trainables.preprocessing.methods.METHODS`, or a pipeline of the user's own.
        strengths: the method's strengths; more keys are fine.
        code: the files of the user's own; that of the method is among them, if it is one.
        workers: 0 prepares in one thread of this process; N > 0 in N Ray actors of one CPU each, which start with the
            first augmented batch, inside the caller's placement group, and live until `close`.
        chunk_images: images prepared in one go.
        source: what Ray actors, perhaps on other machines, open it by; default: its folder.

    Attributes:
        wait_s: seconds the consumer has waited for batches since it last asked for an epoch or an evaluation.

    Raises:
        PreprocessingError: unknown method, or a strength out of range.
        OwnCodeError: a pipeline of the user's own cannot be built.
        DatasetError: the method needs face boxes and the data set has none.
    """

    def __init__(
        self,
        dataset: Dataset,
        method: str,
        strengths: Mapping[str, Any],
        code: Code = NO_CODE,
        *,
        workers: int = 0,
        chunk_images: int = 512,
        source: str = "",
    ) -> None:
        self.wait_s = 0.0
        self._source = source
        self._dataset = dataset
        self._workers = workers
        self._chunk_images = chunk_images
        self._actors: list[Any] = []
        self.reconfigure(method, strengths, code)

    def reconfigure(self, method: str, strengths: Mapping[str, Any], code: Code = NO_CODE) -> None:
        """Changes the method for the batches to come; actors stay. Arguments and errors as in the constructor."""
        own = find_pipeline(method) if is_own(method) else None
        known = strengths if own else find_method(method).strengths
        needed = {name: strengths[name] for name in known if name in strengths}
        file = {own.file: code[own.file]} if own and own.file in code else {}
        recipe = _Recipe(method, needed, file, training=True)
        for training in (True, False):  # errors belong here, not to the first batch
            _Preparer(self._dataset, recipe._replace(training=training))
        self._recipe = recipe

    def training_batches(
        self, rows: Rows, batch_size: int, seed: tuple[int, ...], epoch: int, sampling: Sampling = "natural"
    ) -> Iterator[Batch]:
        """Returns one epoch of augmented batches in random order.

        The last, smaller batch is dropped when there is at least one full batch.

        Args:
            rows: row numbers, (n,).
            batch_size: images in a batch.
            seed: non-negative integers, for instance (study seed, trial); seed and epoch together fix the stream.
            epoch: 0 or above.
            sampling: which rows an epoch has, as in `epoch_rows`.

        Returns:
            Pairs of images, uint8, (batch, height, width, channels), 0-255, C-contiguous, possibly read-only, and
            labels, int32, (batch,); of a data set with soft labels their shares, float32, (batch, classes).
        """
        shuffled = epoch_rows(rows, self._dataset.labels[rows], sampling, (*seed, epoch))
        if len(rows) > batch_size:
            shuffled = shuffled[: len(rows) // batch_size * batch_size]
        return self._batches(shuffled, batch_size, self._recipe, (*seed, epoch))

    def evaluation_batches(self, rows: Rows, batch_size: int) -> Iterator[Batch]:
        """Returns every row once, in order, through the evaluation pipeline: pairs of images and labels, int32."""
        return self._batches(np.asarray(rows), batch_size, self._recipe._replace(training=False), ())

    def close(self) -> None:
        """Ends the Ray actors; the feed starts new ones if it is used again."""
        if self._actors:
            import ray

            for actor in self._actors:
                ray.kill(actor)
            self._actors = []

    def _batches(self, rows: Rows, batch_size: int, recipe: _Recipe, seed: tuple[int, ...]) -> Iterator[Batch]:
        self.wait_s = 0.0
        affordable = min(self._chunk_images, _CHUNK_BYTES // int(np.prod(self._dataset.info.shape)))
        size = max(1, affordable // batch_size) * batch_size
        chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
        preparer = _Preparer(self._dataset, recipe)
        if self._workers and not preparer.only_copies:  # a copy is cheaper than the way to an actor and back
            return self._slice(chunks, self._from_actors(chunks, recipe, seed), batch_size, recipe.training)
        return self._slice(chunks, _from_thread(chunks, preparer, seed), batch_size, recipe.training)

    def _slice(
        self, chunks: list[Rows], prepared: Generator[Pixels], batch_size: int, training: bool
    ) -> Iterator[Batch]:
        soft = self._dataset.shares if training else None
        with closing(prepared):
            for rows in chunks:
                asked = time.perf_counter()
                images = next(prepared)
                self.wait_s += time.perf_counter() - asked
                labels: Labels = self._dataset.labels[rows] if soft is None else soft[rows]
                for start in range(0, len(rows), batch_size):
                    yield images[start : start + batch_size], labels[start : start + batch_size]

    def _from_actors(self, chunks: list[Rows], recipe: _Recipe, seed: tuple[int, ...]) -> Generator[Pixels]:
        import ray

        if not self._actors:
            # Ray itself restarts a dead actor and redoes its chunks.
            actor_class = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=_RETRIES)(_Augmenter)
            source = self._source or os.path.abspath(self._dataset.directory)
            fingerprint = self._dataset.info.fingerprint
            self._actors = [actor_class.remote(source, fingerprint) for _ in range(self._workers)]

        def submit(number: int) -> Any:
            actor = self._actors[number % len(self._actors)]
            return actor.prepare.remote(recipe, chunks[number], (*seed, number))

        for reference in _submit_ahead(submit, len(chunks), _CHUNKS_AHEAD * len(self._actors)):
            try:
                yield ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise (error.cause or error) from None


class _Preparer:
    """One recipe made ready for one thread: Albumentations pipelines change themselves as they run."""

    def __init__(self, dataset: Dataset, recipe: _Recipe) -> None:
        self._dataset = dataset
        self._training = recipe.training
        build = training_pipeline if recipe.training else evaluation_pipeline
        self._pipeline = build(recipe.method, recipe.strengths, dataset.info.shape, recipe.code)
        self._own = recipe.method if is_own(recipe.method) else ""
        self._boxes = load_faces(dataset) if needs_faces(recipe.method) else None
        if self._boxes is None and needs_faces(recipe.method):
            raise DatasetError(
                f"Preprocessing method {recipe.method!r} needs face boxes. Received: none in {dataset.directory}. "
                "Let trainables.dataset.face_boxes.find_faces find them first."
            )

    @property
    def only_copies(self) -> bool:
        """Whether the images stay as they are."""
        return self._pipeline is None or not self._pipeline.transforms

    def __call__(self, rows: Rows, seed: tuple[int, ...]) -> Pixels:
        """Returns uint8 (n, height, width, channels) for n rows."""
        images, pipeline = self._dataset.images(rows), self._pipeline
        if pipeline is None or self.only_copies:
            return images
        if self._training:
            reseed(pipeline, seed)
        if self._boxes is None:
            for place, image in enumerate(images):
                images[place] = process(pipeline, image, self._own)
        else:
            for place, (image, box) in enumerate(zip(images, self._boxes[rows], strict=True)):
                images[place] = process(pipeline, image, face_box=box)
        return images


class _Augmenter:
    """What runs in a Ray actor: maps the data set once, keeps the pipelines until the recipe changes."""

    def __init__(self, source: str, fingerprint: str) -> None:
        self._dataset = open_data(source, fingerprint=fingerprint)
        self._recipe: _Recipe | None = None

    def prepare(self, recipe: _Recipe, rows: Rows, seed: tuple[int, ...]) -> Pixels:
        if recipe != self._recipe:
            self._preparer, self._recipe = _Preparer(self._dataset, recipe), recipe
        return self._preparer(rows, seed)


def _from_thread(chunks: list[Rows], preparer: _Preparer, seed: tuple[int, ...]) -> Generator[Pixels]:
    executor = ThreadPoolExecutor(1, "feed")
    try:
        submit = lambda number: executor.submit(preparer, chunks[number], (*seed, number))  # noqa: E731
        for future in _submit_ahead(submit, len(chunks), _CHUNKS_AHEAD):
            yield future.result()
    finally:  # also when the consumer leaves early
        executor.shutdown(cancel_futures=True)


def _submit_ahead(submit: Callable[[int], Job], count: int, ahead: int) -> Iterator[Job]:
    """Yields the jobs 0 to count - 1 in order, `ahead` of them already submitted behind the one that is yielded."""
    pending: deque[Job] = deque()
    for number in range(count):
        pending.append(submit(number))
        if len(pending) > ahead:
            yield pending.popleft()
    yield from pending
