"""Runs commands as a person sees them, in a terminal of a certain width, and as a script does, through a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence

from tests import ROOT

_RUN_ALL = """
import json, sys
from tune.cli.main import app
for words in json.loads(sys.argv[1]):
    app(words, standalone_mode=False)
    print(chr(30), flush=True)
"""
_END_OF_OUTPUT = "\x1e"
_LIMIT_S = 300


def in_a_terminal(commands: Sequence[Sequence[object]], columns: int) -> list[str]:
    """Returns what each command prints, with its colours, in a terminal of so many columns."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        _command(commands),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=ROOT,
        env={**environment, "TERM": "xterm-256color"},
    )
    os.close(terminal)
    seen = bytearray()
    try:
        while chunk := os.read(controller, 65536):
            seen += chunk
    except OSError:  # Linux's way to say that nobody has the other end open any more
        pass
    os.close(controller)
    assert process.wait(_LIMIT_S) == 0, seen.decode()
    return _outputs(seen.decode().replace("\r\n", "\n"))


def through_a_pipe(commands: Sequence[Sequence[object]], columns: int | None) -> list[str]:
    """Returns what each command prints into a pipe, with COLUMNS set or, for None, not set."""
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment |= {} if columns is None else {"COLUMNS": str(columns)}
    ended = subprocess.run(
        _command(commands), capture_output=True, text=True, cwd=ROOT, env=environment, timeout=_LIMIT_S, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return _outputs(ended.stdout)


def without_colours(text: str) -> str:
    """Returns a terminal's text without the codes in it."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def _command(commands: Sequence[Sequence[object]]) -> list[str]:
    """One process for all of them: each on its own would import everything again."""
    return [sys.executable, "-c", _RUN_ALL, json.dumps([[str(word) for word in words] for words in commands])]


def _outputs(text: str) -> list[str]:
    return [part.strip("\n") for part in text.split(_END_OF_OUTPUT)[:-1]]
