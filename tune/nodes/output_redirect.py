"""Where what is printed goes: Ray's and TensorFlow's words into a log file, ours to a terminal that may close."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO


class _PipeSafeFile(io.FileIO):
    """Standard output or error whose reader may leave, as `head` does: the rest goes nowhere, and nobody stumbles."""

    def write(self, content: Any, /) -> int:
        left = memoryview(content)
        while left:  # a signal may cut a write short
            try:
                left = left[super().write(left) :]
            except BrokenPipeError:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.fileno())
                os.close(nowhere)
        return len(content)


def pipe_safe_stream(descriptor: int, like: TextIO, *, closefd: bool = False) -> TextIO:
    """Returns a text stream for a file descriptor that survives the end of its reader.

    Args:
        descriptor: what to write to.
        like: the stream whose encoding and buffering it takes.
        closefd: whether closing the stream closes the descriptor.
    """
    # Without a BufferedWriter, which would keep what a log on a full disk did not take, and write it to the terminal.
    raw: Any = _PipeSafeFile(descriptor, "w", closefd=closefd)
    by_line = bool(getattr(like, "line_buffering", False))  # as Python's own standard error is, also into a file
    # What a terminal's encoding lacks is a question mark there, not the end of the command.
    errors = "replace" if like.errors == "strict" else like.errors
    return io.TextIOWrapper(raw, like.encoding, errors, line_buffering=by_line)


def survive_closed_pipes() -> None:
    """Lets this process print on when the reader of its output has left (`emotune run ... | head`), or never was there
    (`emotune run ... >&-`): the next file that is opened, a journal perhaps, must not get what is printed."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False, encoding="utf-8"))  # noqa: SIM115
    sys.stdout = pipe_safe_stream(1, sys.stdout)
    sys.stderr = pipe_safe_stream(2, sys.stderr)


_outside: list[tuple[TextIO, TextIO]] = []
"""While output is redirected: what `sys.stdout` is meanwhile, and the real standard output."""


@contextmanager
def redirect_output(log: Path) -> Iterator[TextIO]:
    """Sends standard output and error of this process to a file, C++ code's too; yields the real standard output.

    Where `sys.stdout` is no file descriptor 1 (a notebook's cell, a test's capture), that object is the real one, and
    what is printed goes to the file all the same.

    Args:
        log: file to append to.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    streams = sys.stdout, sys.stderr
    with log.open("ab") as file:
        terminal_out, terminal_err = os.dup(1), os.dup(2)
        if _writes_to(sys.stdout, 1):
            terminal = pipe_safe_stream(os.dup(terminal_out), sys.stdout, closefd=True)
        else:
            terminal = sys.stdout
            # Never closed: loggers that are made meanwhile, as Ray's, keep them.
            sys.stdout, sys.stderr = pipe_safe_stream(1, streams[0]), pipe_safe_stream(2, streams[1])
            _turn_rays_log(streams[1], sys.stderr)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        _outside.append((sys.stdout, terminal))
        try:
            yield terminal
        finally:
            _outside.pop()
            for stream in (terminal, sys.stdout, sys.stderr):
                with suppress(OSError):  # the log's disk may be full; the terminal has to come back all the same
                    stream.flush()
            _turn_rays_log(sys.stderr, streams[1])
            sys.stdout, sys.stderr = streams
            if terminal is not sys.stdout:
                terminal.close()
            os.dup2(terminal_out, 1)
            os.dup2(terminal_err, 2)
            os.close(terminal_out)
            os.close(terminal_err)


@contextmanager
def heard_outside() -> Iterator[None]:
    """Lets what the block prints by way of `sys.stdout` through to where it would go without `redirect_output`."""
    if _outside and sys.stdout is _outside[-1][0]:  # else a live table stands there, which prints above itself
        with redirect_stdout(_outside[-1][1]):
            yield
            sys.stdout.flush()
    else:
        yield


def _turn_rays_log(old: TextIO, new: TextIO) -> None:
    """Sends what Ray logs to another stream; its handler (2.60) keeps the one that was there when Ray was imported."""
    for handler in logging.getLogger("ray").handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is old:
            handler.setStream(new)


def _writes_to(stream: TextIO, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except (OSError, ValueError, AttributeError):  # no file at all, or a closed one
        return False
