"""Chooses which rows of a data set fit, validate, select and test. Knows nothing of images or models.

    train split ── groups with a twin in test ──> in no fold
                └─ the rest ── selection fold (one per study; scores every trial, no trial trains on it)
                            └─ pool ── fit rows and inner-validation rows (by the trial's split ratio)
    test split ──> sealed until the search is over

A duplicate group (images with identical pixels) is never divided. Its class is that of most of its labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.dataset.reader import TEST, TRAIN, Dataset, Rows
from trainables.errors import DatasetError

_SELECTION_STREAM, _TRIAL_STREAM = 1, 2  # keep the two draws of one seed apart


@dataclass(frozen=True)
class TrialRows:
    """The rows of one trial: sorted int64 arrays that share no row and no duplicate group."""

    fit: Rows
    validation: Rows
    selection: Rows


def selection_rows(dataset: Dataset, share: float, seed: int) -> Rows:
    """Returns the rows that score every trial of a study.

    Args:
        dataset: the opened data set.
        share: share of the usable train images, above 0 and below 1; classes keep their proportions.
        seed: the study's seed; the same seed gives the same rows.

    Returns:
        Sorted int64 rows of the train split.

    Raises:
        DatasetError: a class has fewer than three usable duplicate groups, or share is out of range.
    """
    return _divide(dataset, usable_rows(dataset), share, "selection share", (seed, _SELECTION_STREAM), needed=3)[0]


def trial_rows(
    dataset: Dataset, selection_share: float, split_ratio: float, seed: int, limit: int | None = None
) -> TrialRows:
    """Returns the rows of a trial: the study's selection fold, and the rest split for fitting and inner validation.

    A larger split ratio moves images from validation to fit and never the other way, so that trials which differ in
    their ratio still share as many images as they can.

    Args:
        dataset: the opened data set.
        selection_share: as in `selection_rows`.
        split_ratio: share of the remaining pool that trains, above 0 and below 1.
        seed: the study's seed.
        limit: images of each fold at most; None for all.

    Raises:
        DatasetError: as in `selection_rows`.
    """
    selection = selection_rows(dataset, selection_share, seed)
    pool = np.setdiff1d(usable_rows(dataset), selection, assume_unique=True)
    fit, validation = _divide(dataset, pool, split_ratio, "split_ratio", (seed, _TRIAL_STREAM), needed=2)
    return TrialRows(*(_limited(rows, limit, seed) for rows in (fit, validation, selection)))


def test_rows(dataset: Dataset) -> Rows:
    """Returns the rows of the sealed test split, sorted."""
    return np.flatnonzero(dataset.splits == TEST).astype(np.int64)


def usable_rows(dataset: Dataset) -> Rows:
    """Returns the train rows without a twin in the test split, sorted: all that a search may see."""
    return without_twin_in_other_split(dataset, np.flatnonzero(dataset.splits == TRAIN))


def without_twin_in_other_split(dataset: Dataset, rows: NDArray[np.integer[Any]]) -> Rows:
    """Returns those rows whose duplicate group has no image in the other split, in their order.

    Args:
        dataset: the opened data set.
        rows: row numbers of either split.
    """
    group_count = int(dataset.groups.max(initial=-1)) + 1
    train, test = (
        np.bincount(dataset.groups[dataset.splits == split], minlength=group_count) for split in (TRAIN, TEST)
    )
    straddles = (train > 0) & (test > 0)
    kept: Rows = rows[~straddles[dataset.groups[rows]]].astype(np.int64)
    return kept


def _divide(
    dataset: Dataset, rows: Rows, share: float, what: str, seed: tuple[int, int], *, needed: int
) -> tuple[Rows, Rows]:
    """Divides rows in two, class by class and by whole groups; the first part holds about `share` of each class."""
    # scikit-learn's stratified split refuses parts smaller than the number of classes and can leave a small class out
    # of one part. Each class here has a group in either part.
    if not 0 < share < 1:
        raise DatasetError(f"{what} must be above 0 and below 1. Received: {share}. Use 0.15 or 0.8, for instance.")
    groups, group_of_row = np.unique(dataset.groups[rows], return_inverse=True)
    labels = np.zeros((len(groups), len(dataset.info.classes)), np.int64)
    np.add.at(labels, (group_of_row, dataset.labels[rows]), 1)
    sizes, group_label = labels.sum(axis=1), labels.argmax(axis=1)

    in_first = np.zeros(len(groups), bool)
    for label, name in enumerate(dataset.info.classes):
        members = np.flatnonzero(group_label == label)
        if len(members) < needed:
            raise DatasetError(
                f"Each class needs at least {needed} different train images without a twin in test for the {what}. "
                f"Received: {len(members)} for {name!r} in {dataset.directory}. Add images or drop the class."
            )
        shuffled = np.random.default_rng((*seed, label)).permutation(members)
        images = np.cumsum(sizes[shuffled])
        cut = int(np.abs(images - share * images[-1]).argmin()) + 1
        in_first[shuffled[: min(max(cut, 1), len(members) - (needed - 1))]] = True
    chosen = in_first[group_of_row]
    return rows[chosen], rows[~chosen]


def _limited(rows: Rows, limit: int | None, seed: int) -> Rows:
    """Returns the rows of a fold, or `limit` of them, always the same ones for a seed."""
    if limit is None or limit >= len(rows):
        return rows
    return np.sort(np.random.default_rng(seed).permutation(rows)[:limit])
