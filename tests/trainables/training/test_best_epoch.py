"""Which epoch counts: the latest that is about as good as the best; what is only luck changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from trainables.training.best_epoch import BestEpoch, tolerance


def chosen(
    scores: Sequence[float], images: int | None = 1000, metric: str = "validation_accuracy", mode: str = "max"
) -> BestEpoch:
    best = BestEpoch()
    for epoch, score in enumerate(scores, 1):
        best = best.after(epoch, metric, score, mode, images)
    return best


def test_a_later_epoch_within_the_tolerance_counts_and_a_worse_one_does_not() -> None:
    within = 0.6 - 0.9 * tolerance("validation_accuracy", 0.6, 1000)
    beyond = 0.6 - 1.1 * tolerance("validation_accuracy", 0.6, 1000)
    assert chosen([0.5, 0.6, within]) == BestEpoch(3, 0.6, 2)
    assert chosen([0.5, 0.6, beyond]) == BestEpoch(2, 0.6, 2)
    assert chosen([0.5, 0.6, beyond, 0.6]) == BestEpoch(4, 0.6, 2)
    assert chosen([0.5, 0.6, within, 0.7, within]) == BestEpoch(4, 0.7, 4)  # what was near a lower best is forgotten
    assert chosen([]) == BestEpoch()


def test_the_tolerance_is_half_a_standard_error_of_a_share_and_nothing_for_a_loss() -> None:
    assert tolerance("validation_accuracy", 0.5, 100) == pytest.approx(0.025)
    assert tolerance("validation_macro_f1", 0.5, 400) == pytest.approx(0.0125)
    assert tolerance("validation_loss", 0.5, 100) == tolerance("validation_score", 0.5, 100) == 0.0
    assert chosen([1.2, 1.0, 1.001], metric="validation_loss", mode="min") == BestEpoch(2, 1.0, 2)
    assert chosen([1.2, 1.0, 1.0], metric="validation_loss", mode="min") == BestEpoch(3, 1.0, 2)


def test_epochs_of_an_earlier_version_count_as_they_did() -> None:
    assert chosen([0.5, 0.6, 0.6, 0.5999], images=None) == BestEpoch(2, 0.6, 2)


def test_on_curves_that_rise_and_settle_the_choice_is_better_than_the_luckiest_epochs() -> None:
    rng = np.random.default_rng(0)
    truth = 0.65 - 0.2 * np.exp(-np.arange(15) / 4)
    gains = []
    for _ in range(300):
        seen = rng.binomial(1292, truth) / 1292
        gains.append(truth[chosen(list(seen), 1292).epoch - 1] - truth[int(np.argmax(seen))])
    assert np.mean(gains) > 2 * np.std(gains) / np.sqrt(len(gains)) > 0
