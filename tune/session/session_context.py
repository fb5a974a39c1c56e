"""What everything in a session works with, and the graceful end that a first Ctrl-C asks for. Starts nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from trainables.config import TrialContext
from trainables.dataset.reader import Dataset
from tune.nodes.signals import handle_signals
from tune.search.trial_queue import TrialQueue
from tune.session.live_display import LiveStudy
from tune.study.journal import Journal
from tune.study.studies import StudyFiles


@dataclass(frozen=True)
class SessionContext:
    """What a session works with.

    Attributes:
        study: the study.
        dataset: its data set.
        journal: what happens is written there first.
        live: shows what happens.
        trial_context: what every trial is told.
        at_once: trials that run at the same time.
        epoch_s: the time that calibration found for an epoch, None without one.
    """

    study: StudyFiles
    dataset: Dataset
    journal: Journal
    live: LiveStudy
    trial_context: TrialContext
    at_once: int
    epoch_s: float | None = None


@contextmanager
def interruptible(queue: TrialQueue) -> Iterator[None]:
    """Turns the first Ctrl-C or SIGTERM into a graceful stop; a second one ends at once."""

    def on_signal(number: int, frame: Any) -> None:
        if queue.stopping == "interrupted":
            raise KeyboardInterrupt
        queue.stopping = "interrupted"  # no printing here: the main thread may be in the middle of it

    with handle_signals(on_signal):
        yield
