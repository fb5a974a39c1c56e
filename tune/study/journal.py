"""The study's one source of truth: a journal of events on disk, locked by one driver. Knows no event's meaning.

Every line of `journal.jsonl` is one event; replaying them gives the same `StudyState` that the driver held in memory.
Optuna's file, ASHA's rungs and TensorBoard's logs can all be made again from it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import psutil

from trainables.atomic_folder import NO_LOCKS
from trainables.places import Place
from tune.errors import StudyError
from tune.study.study_state import StudyState

JOURNAL_FILE = "journal.jsonl"


class Journal:
    """The journal, open for appending, and the state it adds up to.

    Attributes:
        path: the file.
        place: what the paths in the journal are relative to.
        listeners: called with every event that was written.
    """

    def __init__(self, path: Path, place: Place | None = None) -> None:
        """Opens or creates a journal, takes it for this process alone, and replays it.

        Args:
            path: the file.
            place: the study's place, if it is another than the file's folder.

        Raises:
            StudyError: another process has it, the storage knows no locks, or a line before the last is damaged.
        """
        self.path = path
        self.place = place or Place(os.path.abspath(path.parent))
        try:
            self._file, taken = _open_and_lock(path)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            raise StudyError(
                "a study's storage must know file locks (flock), by which a second driver is kept out. Received: "
                f"{path.parent}: {error.strerror}. Mount it with locks, or choose another folder or a bucket: "
                "--set storage=..."
            ) from None
        if not taken:
            self._file.close()
            pid = replay(path)[0].pid  # an earlier driver's, as long as the one that is starting has not said its own
            process = f"process {pid}" if pid and psutil.pid_exists(pid) else "another process"
            raise StudyError(
                f"study {path.parent} is being run by {process}. "
                f"Watch it: emotune watch {shlex.quote(str(path.parent))}; or stop that process first"
            )
        try:
            self.state, whole = replay(path)
        except StudyError:
            self._file.close()
            raise
        self._file.truncate(whole)  # a line torn by a crash is cut off; what it said is told again
        self._whole = whole
        self.listeners: list[Callable[[Mapping[str, Any]], None]] = []

    def append(self, kind: str, /, **fields: Any) -> None:
        """Writes one event through to the disk, then adds it to the state and passes it to the listeners.

        Raises:
            OSError: it cannot be written; the journal ends with the event before.
        """
        event = {"event": kind, "time": round(time.time(), 3), **fields}
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file.fileno(), line[written:])
            os.fsync(self._file.fileno())
        except OSError:
            os.ftruncate(self._file.fileno(), self._whole)
            raise
        self._whole += len(line)
        self.state.apply(event)
        for listener in self.listeners:
            listener(event)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


@contextmanager
def kept_from_drivers(path: Path) -> Iterator[bool]:
    """Keeps drivers from a journal for the length of a block, which may replace the file; makes one where none is.

    Yields:
        Whether it may: False where a process has the journal. Storage that knows no locks goes without.
    """
    try:
        file, taken = _open_and_lock(path)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        yield True
        return
    with file:
        yield taken


def _open_and_lock(path: Path) -> tuple[FileIO, bool]:
    """Opens a journal for appending, and says whether it is this process' own now.

    Raises:
        OSError: the file cannot be opened, or the storage knows no locks.
    """
    while True:
        file = path.open("ab", buffering=0)
        try:
            taken = _take_lock(file)
        except BaseException:
            file.close()
            raise
        if not taken or _is_still(file, path):
            return file, taken
        file.close()  # another one was put in its place meanwhile (`kept_from_drivers`)


def _is_still(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _take_lock(file: FileIO) -> bool:
    """Takes a journal for this process; `is_locked`, which others ask, holds the lock for some microseconds."""
    for pause_s in (0.02, 0.05, None):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if pause_s is not None:
                time.sleep(pause_s)
        else:
            return True
    return False


def replay(path: Path) -> tuple[StudyState, int]:
    """Returns the state that a journal adds up to, and the bytes that its complete lines take.

    A last line without its end, torn by a crash, is left out.

    Raises:
        StudyError: a complete line is no event.
    """
    state, whole = StudyState(), 0
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        apply_line(state, line, f"{path}, line {number}")
        whole += len(line)
    return state, whole


def apply_line(state: StudyState, line: bytes, where: str) -> dict[str, Any]:
    """Adds a complete line of a journal to a state, and returns its event.

    Raises:
        StudyError: it is no event; `where` names the line.
    """
    try:
        event: dict[str, Any] = json.loads(line)
        state.apply(event)
    except (ValueError, LookupError, TypeError, AttributeError):
        raise StudyError(
            f"{where} is damaged, or of another version of emotune. "
            "Restore the file from a copy, or use the version that wrote it"
        ) from None
    return event


def read_events(path: Path) -> list[dict[str, Any]]:
    """Returns a journal's events with their times, those that are whole; `replay` tells of damage."""
    lines = path.read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def is_locked(path: Path) -> bool:
    """Says whether a process has a journal open for writing."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
    return False
