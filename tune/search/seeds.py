"""The seed of what is drawn at random for one trial."""

from __future__ import annotations

from tune.study.spec import StudySpec

_APART = 7919  # a prime: the trials of studies with neighbouring seeds do not draw the same


def trial_seed(spec: StudySpec, number: int) -> int:
    """Returns the seed of a trial's draws, 0 to 2**32 - 1; a resumed study draws on from a stream of its own."""
    return (spec.seed + _APART * number) % 2**32
