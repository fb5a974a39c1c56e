"""The test split that is drawn: the same share of every class, the same images whatever they are called."""

from __future__ import annotations

from collections import Counter

import numpy as np

from tune.dataset.drawn_split import draw_test_images

SIZES = {"disgusted": 40, "happy": 700, "sad": 5, "rare": 2, "alone": 1}
IMAGES = [(np.random.default_rng((i, n)).bytes(16), name) for n, name in enumerate(SIZES) for i in range(SIZES[name])]


def drawn_by_class(share: float) -> Counter[str]:
    drawn = draw_test_images(IMAGES, share)
    return Counter(name for pixel_hash, name in IMAGES if pixel_hash in drawn)


def test_every_class_gives_the_same_share_and_none_is_emptied() -> None:
    assert drawn_by_class(0.1) == {"disgusted": 4, "happy": 70, "sad": 1, "rare": 1}
    assert drawn_by_class(0.9) == {"disgusted": 36, "happy": 630, "sad": 4, "rare": 1}
    assert drawn_by_class(0) == {}


def test_order_and_copies_change_nothing_and_a_larger_share_holds_the_smaller() -> None:
    drawn = draw_test_images(IMAGES, 0.2)
    assert draw_test_images([*IMAGES[::-1], *IMAGES[:50]], 0.2) == drawn
    assert draw_test_images(IMAGES, 0.1) < drawn


def test_an_image_of_two_classes_is_drawn_once_for_both() -> None:
    twice = [*IMAGES, (IMAGES[0][0], "happy")]
    assert draw_test_images(twice, 0.1) == draw_test_images(twice[::-1], 0.1)
