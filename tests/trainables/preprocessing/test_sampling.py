"""Which rows an epoch has: each once, or each class as often."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainables.config import Sampling
from trainables.dataset.reader import TRAIN, open_dataset
from trainables.preprocessing.feed import Feed
from trainables.preprocessing.sampling import epoch_rows

LABELS = np.repeat(np.array([0, 2, 3], np.int32), [60, 7, 33])
ROWS = np.arange(1000, 1100)


def drawn(sampling: Sampling, *seed: int) -> np.ndarray:
    return epoch_rows(ROWS, LABELS, sampling, seed)


def test_natural_sampling_has_each_row_once() -> None:
    rows = drawn("natural", 1)
    assert sorted(rows) == ROWS.tolist() != rows.tolist()
    assert np.array_equal(rows, np.random.default_rng((1,)).permutation(ROWS))  # as emotune 0.1 had it


def test_balanced_sampling_has_each_class_as_often_and_repeats_rare_rows_evenly() -> None:
    extra = set()
    for epoch in range(20):
        rows = drawn("balanced", 1, 2, epoch)
        assert len(rows) == len(ROWS)
        counts = np.bincount(LABELS[rows - 1000], minlength=4)
        assert sorted(counts) == [0, 33, 33, 34] and counts[1] == 0
        extra.add(int(counts.argmax()))
        for label in (0, 2, 3):
            times = np.unique(rows[LABELS[rows - 1000] == label], return_counts=True)[1]
            assert times.max() - times.min() <= 1
        assert len(set(LABELS[rows - 1000][:33])) == 3  # in random order, not one class after the other
    assert extra == {0, 2, 3}  # no class is always the one that has more


def test_balanced_sampling_repeats_for_the_same_seed_and_differs_between_epochs() -> None:
    assert np.array_equal(drawn("balanced", 1, 2), drawn("balanced", 1, 2))
    first, second = drawn("balanced", 1, 2), drawn("balanced", 1, 3)
    assert not np.array_equal(first, second) and set(first) != set(second)


def test_no_rows_stay_none() -> None:
    assert not len(epoch_rows(ROWS[:0], LABELS[:0], "balanced", (0,)))


@pytest.mark.parametrize("batch_size", [16, 10])
def test_balanced_batches_of_a_rare_class(faces: Path, batch_size: int) -> None:
    dataset = open_dataset(faces)
    train = np.flatnonzero(dataset.splits == TRAIN)
    rare, frequent = (train[dataset.labels[train] == label][:n] for label, n in ((0, 5), (1, 45)))
    rows = np.sort(np.concatenate([rare, frequent]))
    feed = Feed(dataset, "shifts", {}, chunk_images=32)
    images, labels = zip(*feed.training_batches(rows, batch_size, (0, 1), 2, "balanced"), strict=True)
    assert [len(batch) for batch in labels] == [batch_size] * (50 // batch_size)
    if batch_size == 10:
        assert np.bincount(np.concatenate(labels)).tolist() == [25, 25]
    again, _ = zip(*feed.training_batches(rows, batch_size, (0, 1), 2, "balanced"), strict=True)
    assert np.array_equal(np.concatenate(images), np.concatenate(again))
