"""Ctrl-C and SIGTERM, which are treated alike, in other hands for the length of a block."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def handled(on_signal: Callable[[int, Any], None]) -> Iterator[None]:
    """Calls a function for every SIGINT and SIGTERM, then gives both back to who had them; in the main thread only."""
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
