"""Keeps what Ray and TensorFlow print out of the terminal: it goes to a log file, the study's own lines do not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def quiet_terminal(log: Path) -> Iterator[TextIO]:
    """Sends standard output and error of this process to a file, C++ code's too; yields the real standard output.

    Args:
        log: file to append to.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    terminal_out, terminal_err = os.dup(1), os.dup(2)
    with log.open("ab") as file, os.fdopen(os.dup(terminal_out), "w", encoding="utf-8", errors="replace") as terminal:
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
