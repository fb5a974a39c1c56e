"""Root of the error tree and the errors a trial's own rooms raise; `tune/errors.py` draws the whole tree.

A message gives rule, value and remedy: `batch_size must be 1 to 4096. Received: 0. Set a larger one.`
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EmotuneError(Exception):
    """Anything the user can fix; the command line prints it in one line and exits with `exit_code`."""

    exit_code = 2


class DatasetError(EmotuneError):
    """A data set folder is missing, damaged or unfit for what is asked of it."""


class PlaceError(EmotuneError):
    """A bucket cannot be reached, says no, or is misnamed."""


class PreprocessingError(EmotuneError):
    """An unknown preprocessing method, or a strength outside its range."""


class OwnCodeError(EmotuneError):
    """A model, pipeline, optimizer or schedule of the user's own cannot be imported, or breaks its contract."""


class OwnImportError(OwnCodeError):
    """Code of the user's own cannot be imported on this machine, or is another one here."""


class ApplicationError(EmotuneError):
    """One of Keras' applications cannot be built, or its weights cannot be had."""


def first_line(error: BaseException) -> str:
    """Returns what an error of a library says first, at most 300 characters, without a full stop; else its kind."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__).rstrip(".")[:300]


def one_line(error: BaseException, limit: int = 300) -> str:
    """Returns all that an error says on one line, at most so many characters."""
    return " ".join(str(error).split())[:limit]


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ` Did you mean 'x'? Known: ...` for an unknown name, to end an error message."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Known: {', '.join(names)}."
