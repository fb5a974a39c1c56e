"""What batches are trained towards: smoothed, weighted and mixed labels, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.config import TrialConfig
from trainables.training.targets import Targets, class_weights

LABELS = np.array([0, 0, 0, 0, 1], np.int32)


PIXELS = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2, 1) * 10


def weighted_batch(**config: object) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    targets = Targets(TrialConfig.model_validate(config), LABELS, 2)
    targets.begin_epoch((1, 2))
    return targets(PIXELS, LABELS)


def batch(**config: object) -> tuple[np.ndarray, np.ndarray]:
    images, targets, weights = weighted_batch(**config)
    assert weights is None
    return images, targets


def test_labels_are_one_hot_and_images_as_they_are_unless_something_is_asked_for() -> None:
    images, targets = batch()
    assert targets.tolist() == [[1, 0], [1, 0], [1, 0], [1, 0], [0, 1]]
    assert images.dtype == np.uint8 and images[4, 1, 1, 0] == 190


def test_smoothing_takes_from_the_true_class_what_all_get() -> None:
    assert batch(label_smoothing=0.2)[1][0].tolist() == pytest.approx([0.9, 0.1])


def test_soft_labels_are_the_targets_and_are_smoothed_weighed_and_mixed_like_others() -> None:
    shares = np.array([[1, 0], [0.75, 0.25], [1, 0], [1, 0], [0.25, 0.75]], np.float32)

    def soft(**config: object) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        targets = Targets(TrialConfig.model_validate(config), LABELS, 2)
        targets.begin_epoch((1, 2))
        return targets(PIXELS, shares)

    assert soft()[1].tolist() == shares.tolist() and soft()[1].dtype == np.float32
    assert soft(label_smoothing=0.2)[1][1].tolist() == pytest.approx([0.7, 0.3])
    hard, weighed = weighted_batch(class_weights="balanced")[2], soft(class_weights="balanced")[2]
    assert hard is not None and weighed is not None and hard.tolist() == weighed.tolist()
    images, targets, _ = soft(mixup=1.0)
    assert (images == batch(mixup=1.0)[0]).all() and targets.sum(1).tolist() == pytest.approx([1] * 5)


def test_classes_that_are_drawn_evenly_weigh_the_same() -> None:
    assert weighted_batch(class_weights="balanced")[2] is not None
    assert weighted_batch(class_weights="balanced", sampling="balanced")[2] is None


def test_rare_classes_weigh_more_and_the_mean_over_all_images_stays_1() -> None:
    assert class_weights("none", LABELS, 2).tolist() == [1, 1]
    assert class_weights("balanced", LABELS, 2).tolist() == pytest.approx([0.625, 2.5])
    root = class_weights("sqrt", LABELS, 2)
    assert root[1] / root[0] == pytest.approx(2) and root[LABELS].mean() == pytest.approx(1)
    assert class_weights("balanced", LABELS, 3)[2] == 0
    _, targets, weights = weighted_batch(class_weights="balanced")
    assert weights is not None and weights.sum() == pytest.approx(5) and targets.sum(1).tolist() == [1] * 5
    _, targets, weights = weighted_batch(class_weights="balanced", mixup=1.0)
    assert weights is not None and targets.sum(1).tolist() == pytest.approx([1] * 5)


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_a_weighed_image_moves_the_weights_as_so_many_images_would(mixup: float) -> None:
    import keras

    from trainables.models.compiled import compile_model

    def step(images: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        keras.utils.set_random_seed(0)
        image = keras.Input((2, 2, 1), dtype="uint8")
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
        model = keras.Model(image, keras.layers.Dense(2, use_bias=False)(x))
        compile_model(model, keras.optimizers.SGD(1.0))
        before = model.get_weights()[0]
        model.train_on_batch(images, targets, weights)
        return (model.get_weights()[0] - before) * len(images)

    images, targets, weights = weighted_batch(class_weights="balanced", mixup=mixup)
    assert weights is not None
    alone = [float(w) * step(images[i : i + 1], targets[i : i + 1], None) for i, w in enumerate(weights)]
    np.testing.assert_allclose(step(images, targets, weights), sum(alone), rtol=1e-4, atol=1e-6)


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
