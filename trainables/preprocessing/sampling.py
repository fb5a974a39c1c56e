"""Which rows an epoch trains on, and in which order. Knows nothing of images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainables.config import Sampling
from trainables.dataset.reader import Rows


def epoch_rows(rows: Rows, labels: NDArray[np.int32], sampling: Sampling, seed: tuple[int, ...]) -> Rows:
    """Returns as many rows as there are, in random order.

    Args:
        rows: row numbers of the fold, (n,).
        labels: int32, (n,), their classes.
        sampling: `natural`, each row once; `balanced`, each class as often as any other, but for one time, and within a
            class each row as often as any other, but for one time: rows of a rare class repeat, of a frequent one not
            all come up.
        seed: non-negative integers; the same seed gives the same rows.
    """
    random = np.random.default_rng(seed)
    if sampling == "natural" or not len(rows):
        return random.permutation(rows)
    classes = np.unique(labels)
    share, left_over = divmod(len(rows), len(classes))
    counts = np.full(len(classes), share)
    counts[random.permutation(len(classes))[:left_over]] += 1
    drawn = [_draw(rows[labels == label], count, random) for label, count in zip(classes, counts.tolist(), strict=True)]
    return random.permutation(np.concatenate(drawn))


def _draw(rows: Rows, count: int, random: np.random.Generator) -> Rows:
    rounds = [random.permutation(rows) for _ in range(-(-count // len(rows)))]
    return np.concatenate(rounds)[:count]
