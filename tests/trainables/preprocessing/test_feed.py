"""The feed: the right rows, the same stream whoever prepares it, and no waiting for what could be ready."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.dataset.face_boxes import find_faces
from trainables.dataset.reader import TRAIN, Dataset, open_dataset
from trainables.errors import DatasetError, PreprocessingError
from trainables.preprocessing.feed import Batch, Feed
from trainables.preprocessing.methods import METHODS, evaluation_pipeline
from tune.dataset.synth import write_faces

SMALL = {"chunk_images": 32}  # several chunks even of a small data set


@pytest.fixture(scope="module")
def dataset(faces: Path) -> Dataset:
    return open_dataset(faces)


@pytest.fixture(scope="module")
def rows(dataset: Dataset) -> np.ndarray:
    return np.flatnonzero(dataset.splits == TRAIN)[:150]


@pytest.fixture(scope="module")
def with_boxes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    data = write_faces(tmp_path_factory.mktemp("boxes") / "data", train_images=28, test_images=7)
    find_faces(data)
    return data


@pytest.fixture(scope="module")
def spread(dataset: Dataset, ray_cluster: str) -> Iterator[Feed]:
    """Two warm Ray actors."""
    feed = Feed(dataset, "augment", {}, workers=2, **SMALL)
    yield feed
    feed.close()


def stream(batches: Iterator[Batch]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def same(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def feed_threads() -> int:
    return sum(thread.name.startswith("feed") for thread in threading.enumerate())


def process_id(actor: Any) -> int:
    import ray

    return int(ray.get(actor.__ray_call__.remote(lambda self: os.getpid())))


# --- what comes out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 32, 50, 64, 149])
def test_training_shuffles_every_row_and_drops_the_remainder(
    dataset: Dataset, rows: np.ndarray, batch_size: int
) -> None:
    batches = list(Feed(dataset, "none", {}, **SMALL).training_batches(rows, batch_size, (0,), 0))
    assert [len(images) for images, _ in batches] == [batch_size] * (150 // batch_size)
    images, labels = stream(iter(batches))
    assert images.dtype == np.uint8 and labels.dtype == np.int32
    known = {(dataset.image(row).tobytes(), int(dataset.labels[row])): row for row in rows.tolist()}
    seen = [known[image.tobytes(), label] for image, label in zip(images, labels.tolist(), strict=True)]
    assert len(set(seen)) == len(seen) and seen != sorted(seen)


def test_fewer_rows_than_a_batch_make_one_short_batch(dataset: Dataset, rows: np.ndarray) -> None:
    batches = list(Feed(dataset, "shifts", {}).training_batches(rows[:5], 32, (0,), 0))
    assert [len(images) for images, _ in batches] == [5]


def test_no_rows_make_no_batches(dataset: Dataset, rows: np.ndarray) -> None:
    feed = Feed(dataset, "shifts", {})
    assert not list(feed.training_batches(rows[:0], 32, (0,), 0))
    assert not list(feed.evaluation_batches(rows[:0], 32))


@pytest.mark.parametrize("method", ["none", "crop", "equalize"])
def test_evaluation_keeps_order_and_drops_nothing(dataset: Dataset, rows: np.ndarray, method: str) -> None:
    pipeline = evaluation_pipeline(method, {}, dataset.info.shape)
    expected = dataset.images(rows)
    if pipeline is not None:
        expected = np.stack([pipeline(image=image)["image"] for image in expected])
    images, labels = stream(Feed(dataset, method, {}, **SMALL).evaluation_batches(rows, 64))
    assert np.array_equal(images, expected) and np.array_equal(labels, dataset.labels[rows])


def test_batches_are_contiguous_uint8(dataset: Dataset, rows: np.ndarray, spread: Feed) -> None:
    for feed in (spread, Feed(dataset, "crop", {}, **SMALL)):
        feed.reconfigure("crop", {})
        for batches in (feed.training_batches(rows, 48, (0,), 0), feed.evaluation_batches(rows, 48)):
            for images, labels in batches:
                assert images.flags.c_contiguous and images.dtype == np.uint8 and labels.dtype == np.int32
                assert images.shape == (len(labels), *dataset.info.shape)


# --- the stream ---------------------------------------------------------------------------------------------------


def test_the_same_seeds_repeat_the_stream(dataset: Dataset, rows: np.ndarray) -> None:
    one, other = (Feed(dataset, "augment", {}, **SMALL) for _ in range(2))
    assert same(stream(one.training_batches(rows, 32, (1, 2), 3)), stream(other.training_batches(rows, 32, (1, 2), 3)))


@pytest.mark.parametrize(("seed", "epoch"), [((1, 2), 4), ((1, 3), 3), ((0, 2), 3)], ids=["epoch", "trial", "study"])
def test_another_epoch_trial_or_study_has_another_stream(
    dataset: Dataset, rows: np.ndarray, seed: tuple[int, int], epoch: int
) -> None:
    feed = Feed(dataset, "noise", {}, **SMALL)
    images, labels = stream(feed.training_batches(rows, 32, (1, 2), 3))
    others, other_labels = stream(feed.training_batches(rows, 32, seed, epoch))
    assert not np.array_equal(labels, other_labels), "another order"
    assert not np.array_equal(np.sort(images.sum(axis=(1, 2, 3))), np.sort(others.sum(axis=(1, 2, 3)))), "other noise"


@pytest.mark.parametrize("method", ["augment", "crop", "none"])
def test_ray_actors_give_the_stream_of_one_thread(
    dataset: Dataset, rows: np.ndarray, spread: Feed, method: str
) -> None:
    alone = Feed(dataset, method, {}, **SMALL)
    spread.reconfigure(method, {})
    for epoch in range(2):
        assert same(
            stream(spread.training_batches(rows, 16, (1, 2), epoch)),
            stream(alone.training_batches(rows, 16, (1, 2), epoch)),
        )
    assert same(stream(spread.evaluation_batches(rows, 64)), stream(alone.evaluation_batches(rows, 64)))


def test_a_killed_actor_comes_back_and_no_chunk_is_lost(dataset: Dataset, rows: np.ndarray, spread: Feed) -> None:
    spread.reconfigure("augment", {})
    expected = stream(spread.training_batches(rows, 16, (5,), 0))
    victim = process_id(spread._actors[0])
    batches = spread.training_batches(rows, 16, (5,), 0)
    first = next(batches)
    os.kill(victim, signal.SIGKILL)
    images, labels = stream(iter([first, *batches]))
    assert same((images, labels), expected)
    assert process_id(spread._actors[0]) != victim


# --- a warm feed --------------------------------------------------------------------------------------------------


def test_a_reconfigured_feed_is_like_a_new_one_and_keeps_its_actors(
    dataset: Dataset, rows: np.ndarray, spread: Feed
) -> None:
    spread.reconfigure("augment", {})
    list(spread.training_batches(rows, 32, (0,), 0))
    actors = list(spread._actors)
    spread.reconfigure("noise", {"noise_std": 0.3, "crop_keep": 0.5})
    fresh = Feed(dataset, "noise", {"noise_std": 0.3}, **SMALL)
    assert same(stream(spread.training_batches(rows, 32, (0,), 0)), stream(fresh.training_batches(rows, 32, (0,), 0)))
    assert spread._actors == actors


def test_a_wrong_method_is_refused_at_once_and_the_old_one_stays(dataset: Dataset, rows: np.ndarray) -> None:
    feed = Feed(dataset, "none", {})
    with pytest.raises(PreprocessingError, match=r"Unknown preprocessing method 'shift'\. Did you mean 'shifts'"):
        feed.reconfigure("shift", {})
    with pytest.raises(PreprocessingError, match=r"noise_std must be 0 to 0\.5\. Received: 2"):
        feed.reconfigure("noise", {"noise_std": 2})
    assert np.array_equal(stream(feed.evaluation_batches(rows, 32))[0], dataset.images(rows))


def test_a_consumer_that_leaves_early_leaves_no_thread_behind(dataset: Dataset, rows: np.ndarray) -> None:
    before = feed_threads()
    batches = Feed(dataset, "augment", {}, **SMALL).training_batches(rows, 8, (0,), 0)
    next(batches)
    assert feed_threads() == before + 1
    batches.close()  # type: ignore[attr-defined]
    assert feed_threads() == before


def test_an_error_in_the_thread_reaches_the_consumer(dataset: Dataset) -> None:
    beyond = np.array([0, len(dataset)])
    with pytest.raises(IndexError, match=rf"rows must be 0 to {len(dataset) - 1}"):
        list(Feed(dataset, "none", {}).evaluation_batches(np.append(np.zeros(0, int), beyond), 2))


def test_waiting_is_measured_from_each_call(dataset: Dataset, rows: np.ndarray) -> None:
    feed = Feed(dataset, "augment", {}, **SMALL)
    list(feed.training_batches(rows, 32, (0,), 0))
    assert feed.wait_s > 0
    batches = feed.evaluation_batches(rows, 32)
    assert feed.wait_s == 0
    list(batches)
    assert feed.wait_s > 0


# --- faces --------------------------------------------------------------------------------------------------------


def test_face_needs_boxes(dataset: Dataset, tmp_path: Path) -> None:
    bare = write_faces(tmp_path / "data", train_images=7, test_images=7)
    with pytest.raises(DatasetError, match=r"'face' needs face boxes\. Received: none in .*find_faces"):
        Feed(bare, "face", {})


def test_each_image_is_cropped_to_its_own_box(with_boxes: Dataset) -> None:
    boxes, rows = find_faces(with_boxes), np.arange(len(with_boxes))
    pipeline = evaluation_pipeline("face", {"face_margin": 0}, with_boxes.info.shape)
    assert pipeline is not None and (boxes[:, 0] >= 0).any()
    expected = [pipeline(image=with_boxes.image(row), face_box=boxes[row])["image"] for row in rows]
    images, _ = stream(Feed(with_boxes, "face", {"face_margin": 0}, **SMALL).evaluation_batches(rows[::-1], 8))
    assert np.array_equal(images, np.stack(expected[::-1]))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_feeds(with_boxes: Dataset, method: str) -> None:
    feed = Feed(with_boxes, method, {})
    rows = np.arange(28)
    images, labels = stream(feed.training_batches(rows, 14, (0,), 0))
    assert images.shape == (28, 48, 48, 1) and sorted(labels) == sorted(with_boxes.labels[rows])
