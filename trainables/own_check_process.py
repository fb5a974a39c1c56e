"""What the process of a check and whoever started it say to each other, in a folder of theirs.

The file that is named on its command line holds the request (JSON), and in its place lies the answer afterwards:
`{"answer": ...}` with what the check returned, or `{"error": ...}`. It may run the user's code, so it may print, hang
or die: whoever started it looks at that (`tune/session/check_process.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from trainables.errors import EmotuneError, OwnCodeError

READY, BUILT = "ready", "built"
"""Files that a check makes beside the request: when libraries are imported, and when what it looks at is built."""


@contextmanager
def without_prints(name: str) -> Iterator[None]:
    """Refuses what the user's code prints in the block: it would stand in every trial's output.

    Args:
        name: of the function, for the message.

    Raises:
        OwnCodeError: when the block has ended, if something was printed.
    """
    printed = StringIO()
    with redirect_stdout(printed):
        yield
    if printed.getvalue():
        line = printed.getvalue().strip().splitlines() or [""]
        raise OwnCodeError(f"{name} must print nothing. Received: {line[0][:80]!r}. Remove the print")


def answer(request_file: Path, check: Callable[[Mapping[str, Any], Path], Mapping[str, Any]]) -> None:
    """Answers one request.

    Args:
        request_file: the request, and then the answer.
        check: called with the request and a folder for files; what it raises of `EmotuneError` is the answer.
    """
    request = json.loads(request_file.read_text(encoding="utf-8"))
    try:
        answered: dict[str, Any] = {"answer": check(request, request_file.parent)}
    except EmotuneError as error:
        answered = {"error": str(error)}
    request_file.write_text(json.dumps(answered), encoding="utf-8")
