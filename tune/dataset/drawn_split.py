"""Draws the test split of a source that has none. Pure: looks at pixels' hashes and classes alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable


def draw_test_images(images: Iterable[tuple[bytes, str]], share: float) -> frozenset[bytes]:
    """Draws the same share of every class, so that every import of the same images agrees, whatever they are called.

    Images with equal pixels are drawn together. A class of two different images or more has one of them in each split.

    Args:
        images: the hash of an image's pixels, and its class.
        share: of the different images of a class, 0 to less than 1.

    Returns:
        The hashes of the test images.
    """
    classes: dict[bytes, str] = {}
    for pixel_hash, class_name in images:
        classes[pixel_hash] = min(class_name, classes.get(pixel_hash, class_name))
    by_class = defaultdict[str, list[bytes]](list)
    for pixel_hash, class_name in classes.items():
        by_class[class_name].append(pixel_hash)
    drawn: set[bytes] = set()
    for hashes in by_class.values():
        wanted = min(len(hashes) - 1, max(1, round(share * len(hashes)))) if share else 0
        drawn.update(sorted(hashes)[:wanted])
    return frozenset(drawn)
