"""Soft labels: what people voted of an image, as the shares of the data set's classes. Reads no votes itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from tune.errors import SourceError
from tune.sources.folder_layout import Item

SOFT_LABELS_NOTE: Final = "soft labels: trials train towards the shares of the votes, and are scored by the majority"


def class_shares(item: Item, labels: Mapping[str, int]) -> npt.NDArray[np.float32]:
    """Returns each class's share of an image's votes; votes for what is no class of the data set do not count.

    Args:
        item: the image, with its votes.
        labels: the label of each class.

    Returns:
        float32, (classes,), of a sum of 1.

    Raises:
        SourceError: nobody has voted on it.
    """
    shares = np.zeros(len(labels), np.float64)
    for name, share in item.shares:
        if name in labels:
            shares[labels[name]] += share
    if not shares.any():
        raise SourceError(
            f"--soft-labels needs votes on every image, as FER+ has them. Received: {item.path} without; name them "
            "with --labels, or leave --soft-labels out."
        )
    return np.asarray(shares / shares.sum(), np.float32)
