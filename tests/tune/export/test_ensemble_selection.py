"""Which models' mean is taken, on answers whose right choice is known."""

from __future__ import annotations

import numpy as np
import pytest

from tune.export.ensemble_selection import select_members

LABELS = np.array([0, 0, 1, 1])


def answers(*of_class_0: list[float]) -> list[np.ndarray]:
    """Returns each model's probabilities of two classes, from those of the first."""
    return [np.stack([np.array(p), 1 - np.array(p)], axis=1) for p in of_class_0]


def test_a_model_that_errs_on_other_images_joins_and_one_that_knows_nothing_stays_out() -> None:
    good, other, guess = [0.9, 0.4, 0.1, 0.1], [0.4, 0.9, 0.1, 0.1], [0.1, 0.1, 0.9, 0.9]
    assert select_members(answers(good, guess, other), LABELS, most=5) == [0, 2]


def test_the_first_model_is_always_there_and_alone_where_nobody_helps() -> None:
    best, worse = [0.99, 0.99, 0.01, 0.01], [0.6, 0.6, 0.4, 0.4]
    assert select_members(answers(best, worse, worse), LABELS, most=5) == [0]
    assert select_members(answers(worse, best), LABELS, most=5) == [0, 1]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_more_models_than_asked_for_are_taken_the_most_useful_first(most: int) -> None:
    several = answers([0.6, 0.4, 0.1, 0.1], [0.5, 0.6, 0.3, 0.3], [0.4, 0.99, 0.1, 0.1], [0.6, 0.5, 0.1, 0.3])
    chosen = select_members(several, LABELS, most)
    assert len(chosen) <= most and chosen[:2] == [0, 2][:most]


def test_probabilities_that_are_no_numbers_join_nothing() -> None:
    assert select_members(answers([0.6, 0.6, 0.4, 0.4], [float("nan")] * 4), LABELS, most=3) == [0]
