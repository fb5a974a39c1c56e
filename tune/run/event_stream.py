"""One JSON line per event of a study into a file, pipe or standard output, for other programs; see docs/events.md."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tune.errors import EmotuneError, StudyError

STANDARD_OUTPUT = Path("-")


class EventStream:
    """Writes events as they happen; the last line of a session is `exit`. Without a path it writes nothing."""

    def __init__(self, path: Path | None) -> None:
        """Opens the file for appending.

        Raises:
            StudyError: it cannot be written.
        """
        self._file = None
        self._exit: dict[str, Any] = {}
        self._tells_past = path == STANDARD_OUTPUT
        if path == STANDARD_OUTPUT:
            sys.stdout.flush()
            self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        elif path is not None:
            try:
                self._file = path.open("a", encoding="utf-8")
            except OSError as error:
                raise StudyError(
                    f"--events must be a file that can be written. Received: {path}: {error.strerror}. Name another"
                ) from None

    def write(self, event: Mapping[str, Any]) -> None:
        """Writes one event; NaN and infinities become null. A reader that has gone does not stop the study."""
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(_without_nan(event), separators=(",", ":")) + "\n")
            self._file.flush()
        except OSError:
            self._file = None

    def write_history(self, journal: Path) -> None:
        """On standard output, tells a study's earlier events first: who reads it may know nothing of the study."""
        if self._tells_past:
            lines = journal.read_bytes().splitlines()
            self.write({"event": "history", "time": round(time.time(), 3), "events": len(lines)})
            for line in lines:
                self.write(json.loads(line))

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
        self.write({"event": "exit", "time": round(time.time(), 3), **self._exit})
        if self._file is not None:
            self._file.close()


def _without_nan(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
