"""What batches are trained towards: smoothed, weighted and mixed labels, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.config import TrialConfig
from trainables.training.targets import Targets, class_weights

LABELS = np.array([0, 0, 0, 0, 1], np.int32)


def batch(**config: object) -> tuple[np.ndarray, np.ndarray]:
    targets = Targets(TrialConfig.model_validate(config), LABELS, 2)
    targets.begin_epoch((1, 2))
    return targets(np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2, 1) * 10, LABELS)


def test_labels_are_one_hot_and_images_as_they_are_unless_something_is_asked_for() -> None:
    images, targets = batch()
    assert targets.tolist() == [[1, 0], [1, 0], [1, 0], [1, 0], [0, 1]]
    assert images.dtype == np.uint8 and images[4, 1, 1, 0] == 190


def test_smoothing_takes_from_the_true_class_what_all_get() -> None:
    assert batch(label_smoothing=0.2)[1][0].tolist() == pytest.approx([0.9, 0.1])


def test_rare_classes_weigh_more_and_the_mean_over_all_images_stays_1() -> None:
    assert class_weights("none", LABELS, 2).tolist() == [1, 1]
    assert class_weights("balanced", LABELS, 2).tolist() == pytest.approx([0.625, 2.5])
    root = class_weights("sqrt", LABELS, 2)
    assert root[1] / root[0] == pytest.approx(2) and root[LABELS].mean() == pytest.approx(1)
    assert class_weights("balanced", LABELS, 3)[2] == 0
    assert batch(class_weights="balanced")[1].sum() == pytest.approx(5)


def test_mixed_images_and_labels_have_the_same_shares_and_a_seed_repeats_them() -> None:
    images, targets = batch(mixup=1.0)
    again, repeated = batch(mixup=1.0)
    assert (images == again).all() and (targets == repeated).all()
    plain, _ = batch()
    assert targets.sum(1).tolist() == pytest.approx([1] * 5)
    share = max(targets[:, 0].min(), 1 - targets[:, 0].min())  # of the two images of one mixture
    pure = {tuple(row) for row in plain.reshape(5, -1).astype(int).tolist()}
    for image in images.reshape(5, -1).astype(float).tolist():
        assert any(
            np.allclose(image, np.rint(part * np.array(one) + (1 - part) * np.array(other)), atol=1)
            for one in pure
            for other in pure
            for part in (share, 1 - share)
        )
