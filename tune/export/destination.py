"""Puts an export's folder in place whole or not at all, and says in an export's words why not.

Knows nothing of what is in it. `trainables/atomic_folder.py` does the work.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from trainables.atomic_folder import HARMLESS, AtomicFolder
from trainables.places import Place
from tune.errors import ExportError

_SUFFIX = "exporting"


def check_destination(destination: Place, holds: Sequence[str], parts: Sequence[str]) -> None:
    """Refuses a destination that something else than an earlier export occupies, or something beside it.

    Args:
        destination: Folder or bucket's prefix to create or replace.
        holds: Files by which an earlier export is known.
        parts: All files and folders that an export may have; hidden ones do not count.

    Raises:
        ExportError: There is a file, a folder without one of `holds`, or with more than `parts`.
        PlaceError: The bucket cannot be reached.
    """
    found = destination.entries()
    if found is not None:
        found = found - HARMLESS
    if found == set():
        return
    others = sorted(name for name in (found or set()) - set(parts) if not name.startswith("."))
    cut_short = f".{_SUFFIX}" in (found or ())  # by a kill while old and new changed places: `AtomicFolder` mends it
    if found is None or others or not (found.issuperset(holds) or cut_short):
        what = "a file" if found is None else f"a folder with {others[0]}" if others else "a folder with other files"
        raise ExportError(
            f"An export needs a new folder or an earlier export. Received: {destination.name}, {what}; it stays. "
            "Choose another place."
        )


@contextmanager
def atomic_export(
    destination: Path, needed_bytes: int, *, known_by: str = "", parts: Sequence[str] = ()
) -> Iterator[Path]:
    """Gives an empty folder whose files become the destination's when the block ends well.

    What was at the destination is removed after that, and is still there if the block fails.

    Args:
        destination: An absolute path; its parents are made.
        needed_bytes: Free disk space to insist on.
        known_by: The file by which an export is known.
        parts: What of an earlier export gives way.

    Raises:
        ExportError: The place cannot be written, is too small, or another process is writing there.
    """
    written = False
    try:
        with AtomicFolder(destination, suffix=_SUFFIX, known_by=known_by, replaceable=parts.__contains__) as folder:
            written = True
            free_bytes = shutil.disk_usage(folder.path).free
            if free_bytes < needed_bytes:
                raise ExportError(
                    f"{destination} needs {needed_bytes / 1e6:,.0f} MB of free disk. "
                    f"Received: {free_bytes / 1e6:,.0f} MB. Make room or choose another place."
                )
            yield folder.path
            folder.put_in_place()
    except BlockingIOError as error:
        raise ExportError(f"{destination} is being written by another process. Wait for it.") from error
    except OSError as error:
        rule = "cannot be written" if written else "must be writable"
        raise ExportError(f"{destination} {rule}. Received: {error}. Choose another place.") from error
