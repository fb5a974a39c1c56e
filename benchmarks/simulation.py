"""A search on curves instead of on training: workers, wall time, and what would be exported when. Proposes nothing."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol


class World(Protocol):
    """What a configuration scores in each epoch."""

    def observed(self, values: Mapping[str, Any], epoch: int) -> float:
        """Returns what a search sees after an epoch (from 1): the same for whoever asks."""

    def score(self, values: Mapping[str, Any], epoch: int) -> float:
        """Returns what the model is worth then."""

    def epoch_s(self, values: Mapping[str, Any]) -> float:
        """Returns how long an epoch takes one worker."""


class Begun(NamedTuple):
    """A trial to train: its values, and the epochs that it has behind it."""

    values: dict[str, Any]
    epoch: int = 0


class Side(Protocol):
    """One of the peers."""

    def begin(self, name: str) -> Begun | None:
        """Returns the next trial; None if there is none, now or for good."""

    def report(self, name: str, epoch: int, value: float) -> bool:
        """Takes an epoch's score; returns whether the trial ends with it, for now or for good."""

    def close(self) -> None:
        """Lets its files go."""


class Found(NamedTuple):
    """What a side would export from a moment on: seconds, the model's worth, and the trials and epochs until then."""

    at_s: float
    score: float
    trials: int
    epochs: int


def simulate(side: Side, world: World, *, workers: int, budget_s: float, start_s: float = 0.0) -> list[Found]:
    """Lets a side search; returns its best model whenever that changes, chosen by the best score that it has seen.

    Args:
        side: Who searches.
        world: What it finds.
        workers: Trials at once.
        budget_s: Wall time; epochs that end later do not count.
        start_s: What each trial costs before its first epoch.
    """
    queue: list[tuple[float, int, str]] = []  # the end of each running trial's epoch
    trials: dict[str, Begun] = {}
    free, seen, found, epochs = [0.0] * workers, -math.inf, [], 0
    heapq.heapify(free)
    while True:
        while free:
            now = heapq.heappop(free)
            name = f"t{len(trials)}"
            begun = side.begin(name) if now < budget_s else None
            if begun is None:
                heapq.heappush(free, now)
                break
            trials[name] = begun
            heapq.heappush(queue, (now + start_s + world.epoch_s(begun.values), len(trials), name))
        if not queue or queue[0][0] > budget_s:
            return found
        now, place, name = heapq.heappop(queue)
        values, epoch = trials[name].values, trials[name].epoch + 1
        trials[name] = Begun(values, epoch)
        epochs += 1
        value = world.observed(values, epoch)
        if value > seen:
            seen = value
            found.append(Found(now, world.score(values, epoch), len(trials), epochs))
        if side.report(name, epoch, value):
            free = [max(moment, now) for moment in free]  # who waited for this may go on from here
            heapq.heapify(free)
            heapq.heappush(free, now)
        else:
            heapq.heappush(queue, (now + world.epoch_s(values), place, name))
