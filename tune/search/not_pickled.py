"""Marks what lives with the driver's process. Knows nothing of Ray beyond that it pickles what it is given."""

from __future__ import annotations

from typing import Any, Self


class NotPickled:
    """Pickles as an empty shell and is never copied: Ray 2.60 pickles searchers, schedulers and callbacks into files
    that only `Tuner.restore` reads, and that is never used here; the journal holds the study."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self
