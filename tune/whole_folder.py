"""Puts a folder in place whole or not at all. Knows nothing of what is in it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from trainables.places import Place
from tune.errors import ExportError


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
    if found == set():
        return
    others = sorted(name for name in (found or set()) - set(parts) if not name.startswith("."))
    if found is None or others or not found.issuperset(holds):
        what = "a file" if found is None else f"a folder with {others[0]}" if others else "a folder with other files"
        raise ExportError(
            f"An export needs a new folder or an earlier export. Received: {destination.name}, {what}; it stays. "
            "Choose another place."
        )


@contextmanager
def whole_folder(destination: Path, needed_bytes: int) -> Iterator[Path]:
    """Gives an empty folder beside the destination, and renames it to the destination when the block ends well.

    What was at the destination is removed after that, and is still there if the block fails.

    Args:
        destination: An absolute path; its parents are made.
        needed_bytes: Free disk space to insist on.

    Raises:
        ExportError: The place cannot be written, is too small, or another process is writing there.
    """
    folder = destination.with_name(f".{destination.name}.exporting")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ExportError(f"{destination} must be writable. Received: {error}. Choose another place.") from error
    try:
        _take(folder, lock, destination)
    except ExportError:
        os.close(lock)
        raise
    try:
        _clear(folder)  # of what a killed process left
        free_bytes = shutil.disk_usage(folder).free
        if free_bytes < needed_bytes:
            raise ExportError(
                f"{destination} needs {needed_bytes / 1e6:,.0f} MB of free disk. "
                f"Received: {free_bytes / 1e6:,.0f} MB. Make room or choose another place."
            )
        yield folder
        _replace(destination, folder)
    except OSError as error:
        raise ExportError(f"{destination} cannot be written. Received: {error}. Choose another place.") from error
    finally:
        if _is_ours(folder, lock):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _take(folder: Path, lock: int, destination: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ExportError(f"{destination} is being written by another process. Wait for it.") from error
    if not _is_ours(folder, lock):  # the other process has just finished
        raise ExportError(f"{destination} was being written by another process. Try again.")


def _is_ours(folder: Path, lock: int) -> bool:
    return folder.exists() and folder.stat().st_ino == os.fstat(lock).st_ino


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _replace(destination: Path, folder: Path) -> None:
    old = destination.with_name(f".{destination.name}.replaced")
    shutil.rmtree(old, ignore_errors=True)
    if destination.exists():
        destination.rename(old)
    try:
        folder.rename(destination)
    except OSError:
        if old.exists():
            old.rename(destination)
        raise
    shutil.rmtree(old, ignore_errors=True)
