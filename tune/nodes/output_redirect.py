"""Where what is printed goes: Ray's and TensorFlow's words into a log file, ours to a terminal that may close."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


class _PipeSafeFile(io.FileIO):
    """Standard output or error whose reader may leave, as `head` does: the rest goes nowhere, and nobody stumbles."""

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(content)


def pipe_safe_stream(descriptor: int, like: TextIO, *, closefd: bool = False) -> TextIO:
    """Returns a text stream for a file descriptor that survives the end of its reader.

    Args:
        descriptor: what to write to.
        like: the stream whose encoding and buffering it takes.
        closefd: whether closing the stream closes the descriptor.
    """
    buffer = io.BufferedWriter(_PipeSafeFile(descriptor, "w", closefd=closefd))
    return io.TextIOWrapper(buffer, like.encoding, like.errors, line_buffering=like.isatty(), write_through=False)


def survive_closed_pipes() -> None:
    """Lets this process print on when the reader of its output has left (`emotune run ... | head`)."""
    sys.stdout = pipe_safe_stream(1, sys.stdout)
    sys.stderr = pipe_safe_stream(2, sys.stderr)


@contextmanager
def redirect_output(log: Path) -> Iterator[TextIO]:
    """Sends standard output and error of this process to a file, C++ code's too; yields the real standard output.

    Args:
        log: file to append to.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    terminal_out, terminal_err = os.dup(1), os.dup(2)
    with log.open("ab") as file, pipe_safe_stream(os.dup(terminal_out), sys.stdout, closefd=True) as terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield terminal
        finally:
            terminal.flush()
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(terminal_out, 1)
            os.dup2(terminal_err, 2)
            os.close(terminal_out)
            os.close(terminal_err)
