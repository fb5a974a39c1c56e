"""A study's events for other programs: a JSON line each into a file, pipe or standard output, or a function's call.

See docs/events.md.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from tune.errors import EmotuneError, StudyError
from tune.nodes.output_redirect import heard_outside
from tune.study.journal import read_events

STANDARD_OUTPUT = Path("-")

Events = Path | Callable[[dict[str, Any]], object]
"""Where events go: a file, `-` for standard output, or a function that is called with each."""


def check_events(path: Path) -> None:
    """Tries whether events can be written to a file, and leaves it as it was.

    Raises:
        StudyError: they cannot.
    """
    if path == STANDARD_OUTPUT or path.is_fifo():  # a pipe waits for its reader
        return
    is_new = not path.exists()
    _open(path).close()
    if is_new:
        path.unlink()


def _open(path: Path) -> TextIO:
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise StudyError(
            f"--events must be a file that can be written. Received: {path}: {error.strerror}. Name another"
        ) from None


class EventStream:
    """Writes events as they happen; the last line of a session is `exit`. Without a target it writes nothing."""

    def __init__(
        self, target: Events | None, on_exit: Callable[[Mapping[str, Any]], None] = lambda event: None
    ) -> None:
        """Opens the file for appending, or takes the function; `on_exit` gets the last line's event too.

        Raises:
            StudyError: it cannot be written.
        """
        self._file: TextIO | None = None
        self._call: Callable[[dict[str, Any]], object] | None = None
        self._exit: dict[str, Any] = {}
        self._on_exit = on_exit
        path: Path | None = None
        if isinstance(target, Path):
            path = target
        elif target is not None:
            self._call = target
        self._tells_past = path == STANDARD_OUTPUT
        if path == STANDARD_OUTPUT:
            sys.stdout.flush()
            self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        elif path is not None:
            self._file = _open(path)

    def write(self, event: Mapping[str, Any]) -> None:
        """Writes one event; NaN and infinities become null.

        Neither a reader that has gone nor a function that raises stops the study; the latter is not called again.
        """
        if self._call is not None:
            self._tell(self._call, _without_nan(event))
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(_without_nan(event), separators=(",", ":")) + "\n")
            self._file.flush()
        except OSError:
            self._file = None

    def _tell(self, call: Callable[[dict[str, Any]], object], event: dict[str, Any]) -> None:
        try:
            with heard_outside():
                call(event)
        except Exception:  # whatever a stranger's function raises
            self._call = None
            with heard_outside():
                print(
                    f"warning: the events function raised at {event['event']!r}. It is not called again, the study "
                    f"goes on:\n{traceback.format_exc()}",
                    flush=True,
                )

    def write_history(self, journal: Path) -> None:
        """On standard output, tells a study's earlier events first: who reads it may know nothing of the study."""
        if self._tells_past:
            events = read_events(journal)
            self.write({"event": "history", "time": round(time.time(), 3), "events": len(events)})
            for event in events:
                self.write(event)

    def set_exit(self, ended_by: str, exit_code: int, export: Path | None) -> None:
        """Notes what the `exit` line will say."""
        self._exit = {"ended_by": ended_by, "exit_code": exit_code, "export": None if export is None else str(export)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, EmotuneError):
            self._exit = {"ended_by": "error", "exit_code": error.exit_code, "export": None, "error": str(error)}
        elif isinstance(error, KeyboardInterrupt):
            self._exit = {"ended_by": "interrupted", "exit_code": 130, "export": None}
        elif error is not None:
            self._exit = {"ended_by": "error", "exit_code": 1, "export": None, "error": repr(error)}
        last = {"event": "exit", "time": round(time.time(), 3), **self._exit}
        self.write(last)
        self._on_exit(last)
        if self._file is not None:
            self._file.close()


def _without_nan(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
