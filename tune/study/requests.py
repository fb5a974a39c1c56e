"""What people ask of a study that another process may be running: a file for each, which its driver takes up.

The files lie in the study's place, so that they reach a driver on another machine too. One that comes while nobody runs
the study waits for its next session.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

from trainables.places import Place

REQUESTS_FOLDER = "requests"


class Request(NamedTuple):
    """A request: its file's path in the study's place, what is asked, and of what.

    Attributes:
        path: names the request too; no other has it.
        kind: `enqueue` a configuration (`values`), or `drop` a trial (`trial`).
        fields: what belongs to the kind.
    """

    path: str
    kind: Literal["enqueue", "drop"]
    fields: dict[str, Any]


def leave_request(study: Place, kind: Literal["enqueue", "drop"], **fields: Any) -> None:
    """Leaves a request for a study's driver.

    Raises:
        PlaceError: the bucket cannot be reached.
        OSError: the study's folder cannot be written.
    """
    name = f"{time.time_ns()}-{os.getpid()}.json"
    study.write(f"{REQUESTS_FOLDER}/{name}", json.dumps({"kind": kind, **fields}).encode())


def waiting_requests(study: Place) -> list[Request]:
    """Returns the requests that nobody has taken up, the oldest first; files that are none are passed over."""
    found = []
    for file in study.files(REQUESTS_FOLDER, recursive=False):
        name = PurePosixPath(file.path).name
        content = study.read(file.path) if name.endswith(".json") and not name.startswith(".") else None
        try:
            fields = json.loads(content or b"")
            kind = fields.pop("kind")
        except (ValueError, LookupError, AttributeError, TypeError):
            continue
        if kind == "enqueue" or kind == "drop":
            found.append(Request(file.path, kind, fields))
    return found
