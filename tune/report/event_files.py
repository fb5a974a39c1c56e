"""Writes and reads TensorBoard's event files, without TensorFlow. Knows nothing of trials.

TensorBoard's own writer imports TensorFlow and writes from a thread; here every `write` is on disk when it returns, so
that a killed process loses nothing.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

_MARK = "tfevents"


class EventFile:
    """A new event file in a folder; TensorBoard reads a folder's files in the order of their names."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.{_MARK}.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}"
        self._records = RecordWriter((directory / name).open("xb"))
        self._append(Event(file_version="brain.Event:2"))

    def write(self, values: Sequence[Any], step: int = 0) -> None:
        """Appends `Summary.Value`s at one step."""
        self._append(Event(step=step, summary=Summary(value=values)))

    def restart(self, step: int) -> None:
        """Tells TensorBoard to forget what earlier files of this folder say about `step` and later ones."""
        self._append(Event(step=step, session_log=SessionLog(status=SessionLog.START)))

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        if not self._records.closed:
            self._records.close()

    def _append(self, event: Any) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()


def remove_events(directory: Path) -> None:
    """Removes a folder's own event files; those of folders in it stay."""
    for path in directory.glob(f"*{_MARK}*"):
        path.unlink()


def has_events(directory: Path) -> bool:
    """Says whether a folder holds an event file."""
    return any(directory.glob(f"*{_MARK}*"))


def read_events(directory: Path) -> Iterator[Any]:
    """Yields the events of a folder, file after file; a record cut short by a killed process ends its file."""
    for path in sorted(directory.glob(f"*{_MARK}*")):
        data = path.read_bytes()
        position = 0
        while position + 12 <= len(data):
            (length,) = struct.unpack_from("<Q", data, position)
            end = position + 12 + length + 4  # length, its checksum, record, its checksum
            if end > len(data):
                break
            yield Event.FromString(data[position + 12 : end - 4])
            position = end


def scalar(tag: str, value: float) -> Any:
    """Returns a `Summary.Value` with one number."""
    return Summary.Value(tag=tag, simple_value=value)


def image(tag: str, png: bytes, height_px: int, width_px: int) -> Any:
    """Returns a `Summary.Value` with one encoded PNG."""
    encoded = Summary.Image(height=height_px, width=width_px, colorspace=4, encoded_image_string=png)
    return Summary.Value(tag=tag, image=encoded)
