"""The folds: sealed, stratified, whole duplicate groups, repeatable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainables.dataset import folds
from trainables.dataset.folds import TrialRows, selection_rows, trial_rows, usable_rows, without_twin_in_other_split
from trainables.dataset.reader import TEST, TRAIN, Dataset, open_dataset
from trainables.dataset.writer import DatasetWriter
from trainables.errors import DatasetError

SEEDS = range(6)
RATIOS = (0.5, 0.8, 0.95)


def write(target: Path, images: list[tuple[int, int, int]], classes: tuple[str, ...] = ("happy", "sad")) -> Dataset:
    """Writes images given as (gray value, label, split); equal gray values are duplicates."""
    with DatasetWriter(target, classes) as writer:
        for number, (gray, label, split) in enumerate(images):
            writer.append(np.full((4, 4, 1), gray, np.uint8), label, split, f"{number}.png")
        writer.finish("arrays", "none")
    return open_dataset(target)


@pytest.fixture(scope="module", params=SEEDS)
def tangled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Many duplicates, some with other labels, some in both splits."""
    rng = np.random.default_rng(request.param)
    images = []
    for gray in range(200):
        label = int(rng.random() < 0.3)
        for _ in range(rng.integers(1, 6)):
            images.append((gray, label ^ int(rng.random() < 0.1), TEST if rng.random() < 0.05 else TRAIN))
    return write(tmp_path_factory.mktemp("tangled") / "data", images)


def groups(dataset: Dataset, rows: folds.Rows) -> set[int]:
    return set(dataset.groups[rows].tolist())


def assert_sound(dataset: Dataset, parts: TrialRows) -> None:
    rows = [parts.fit, parts.validation, parts.selection]
    assert all(r.dtype == np.int64 and np.array_equal(r, np.unique(r)) for r in rows)
    assert np.array_equal(np.sort(np.concatenate(rows)), usable_rows(dataset))
    sealed = groups(dataset, folds.test_rows(dataset))
    names = [groups(dataset, r) for r in rows]
    assert not (names[0] & names[1] or names[0] & names[2] or names[1] & names[2])
    assert not any(name & sealed for name in names)


@pytest.mark.parametrize("ratio", RATIOS)
def test_no_duplicate_straddles_and_no_usable_image_is_lost(tangled: Dataset, ratio: float) -> None:
    for seed in SEEDS:
        assert_sound(tangled, trial_rows(tangled, 0.15, ratio, seed))


def test_classes_keep_their_shares(tangled: Dataset) -> None:
    whole = np.bincount(tangled.labels[usable_rows(tangled)]) * 0.15
    for seed in SEEDS:
        chosen = np.bincount(tangled.labels[selection_rows(tangled, 0.15, seed)])
        assert np.abs(chosen - whole).max() <= 10  # a few duplicates with the other label


def test_the_selection_fold_is_the_same_for_every_split_ratio(tangled: Dataset) -> None:
    first = selection_rows(tangled, 0.15, 3)
    assert all(np.array_equal(trial_rows(tangled, 0.15, ratio, 3).selection, first) for ratio in RATIOS)
    assert not np.array_equal(selection_rows(tangled, 0.15, 4), first)


def test_the_same_seed_and_ratio_repeat_the_split(tangled: Dataset) -> None:
    once, again, other = (trial_rows(tangled, 0.15, 0.8, seed) for seed in (5, 5, 6))
    assert np.array_equal(once.fit, again.fit) and np.array_equal(once.validation, again.validation)
    assert not np.array_equal(once.fit, other.fit)


def test_a_larger_split_ratio_only_adds_fit_images(tangled: Dataset) -> None:
    small, middle, large = (set(trial_rows(tangled, 0.15, ratio, 1).fit.tolist()) for ratio in RATIOS)
    assert small < middle < large


def test_untwinned_drops_rows_whose_twin_is_in_the_other_split(tmp_path: Path) -> None:
    data = write(tmp_path / "data", [(1, 0, TRAIN), (1, 0, TRAIN), (2, 1, TRAIN), (2, 1, TEST), (3, 0, TEST)])
    assert without_twin_in_other_split(data, np.arange(5)).tolist() == [0, 1, 4]
    assert usable_rows(data).tolist() == [0, 1]
    assert folds.test_rows(data).tolist() == [3, 4]


def test_a_group_with_two_labels_counts_for_the_commoner_one(tmp_path: Path) -> None:
    images = [(gray, 0, TRAIN) for gray in range(40)] + [(gray, 1, TRAIN) for gray in range(40, 43)]
    mixed = [(100, 1, TRAIN), (100, 0, TRAIN), (100, 0, TRAIN)]
    data = write(tmp_path / "data", images + mixed)
    for seed in SEEDS:
        parts = trial_rows(data, 0.15, 0.8, seed)
        assert_sound(data, parts)
        sad = [int((data.labels[r] == 1).sum()) for r in (parts.fit, parts.validation, parts.selection)]
        assert min(sad) >= 1, "each part has one of the three sad groups"


def test_too_few_different_images_of_a_class_are_refused(tmp_path: Path) -> None:
    images = [(gray, 0, TRAIN) for gray in range(40)] + [(200, 1, TRAIN)] * 9 + [(201, 1, TRAIN), (201, 1, TEST)]
    data = write(tmp_path / "data", images)
    with pytest.raises(DatasetError, match=r"at least 3 different train images.*Received: 1 for 'sad'.*Add images"):
        trial_rows(data, 0.15, 0.8, 0)


@pytest.mark.parametrize(("share", "ratio", "name"), [(0.0, 0.8, "selection share"), (0.15, 1.0, "split_ratio")])
def test_shares_out_of_range_are_refused(tangled: Dataset, share: float, ratio: float, name: str) -> None:
    with pytest.raises(DatasetError, match=rf"{name} must be above 0 and below 1\. Received: [01]\.0"):
        trial_rows(tangled, share, ratio, 0)


def test_synthetic_faces_divide_evenly(faces: Path) -> None:
    data = open_dataset(faces)
    parts = trial_rows(data, 0.15, 0.8, 0)
    assert_sound(data, parts)
    counts = np.bincount(data.labels[parts.selection])
    assert counts.min() == counts.max() == 9


def test_fer2013_divides_without_a_leak(fer2013: Path) -> None:
    data = open_dataset(fer2013)
    parts = trial_rows(data, 0.15, 0.8, 0)
    assert_sound(data, parts)
    usable = usable_rows(data)
    assert (
        len(np.flatnonzero(data.splits == TEST)) - len(without_twin_in_other_split(data, folds.test_rows(data))) == 280
    )
    assert abs(len(parts.selection) / len(usable) - 0.15) < 0.001
    assert abs(len(parts.fit) / (len(usable) - len(parts.selection)) - 0.8) < 0.001
    shares = [np.bincount(data.labels[r]) / len(r) for r in (usable, parts.fit, parts.validation, parts.selection)]
    assert max(np.abs(share - shares[0]).max() for share in shares) < 0.002
