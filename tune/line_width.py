"""How long a line may be where text goes, and what happens to longer ones. Prints nothing."""

from __future__ import annotations

import os
import re
import textwrap
from typing import IO

_COMMAND = re.compile(r"\b(?:emotune|tensorboard) (?:(?!\. )[^;,()])*")
_COLUMN_END = re.compile(r"\s{2,}")
_HELD = "\0"
_DEEPEST_COLUMN = 30
_UNKNOWN = 80
"""Of a terminal that does not say how wide it is."""


def line_width(stream: IO[str]) -> int | None:
    """Returns the characters of a line: COLUMNS where it is set, else the terminal's; None for a pipe or a file."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    if not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or _UNKNOWN
    except OSError:  # a stream that only says that it is one
        return _UNKNOWN


def fitted(text: str, width: int | None) -> str:
    """Returns text whose lines end at words, and go on under the column in which their text begins.

    A command that is to be copied stays on a line, and so does a path, be it too long: a terminal that breaks it still
    copies it whole.

    Args:
        text: lines; two spaces or more end a column, as in `best         trial 7`.
        width: characters of a line; None leaves all as they are.
    """
    return text if width is None else "\n".join(_fitted_line(line, max(20, width)) for line in text.split("\n"))


def fitted_to(stream: IO[str], text: str) -> str:
    """Returns text as it goes to a stream: fitted where that has a width."""
    return fitted(text, line_width(stream))


def _fitted_line(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    ends = [found.end() for found in _COLUMN_END.finditer(line) if found.end() <= min(_DEEPEST_COLUMN, width // 2)]
    column = max(ends, default=0)
    text = _COMMAND.sub(lambda command: command[0].rstrip().replace(" ", _HELD) + " " * command[0].endswith(" "), line)
    held = text[:column].replace(" ", _HELD) + text[column:]
    wrapped = textwrap.wrap(
        held,
        width,
        subsequent_indent=" " * (column or 2),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(wrapped).replace(_HELD, " ")
