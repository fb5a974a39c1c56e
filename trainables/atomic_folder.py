"""Puts the files of a folder in place whole or not at all. Knows nothing of what they are.

A target that is not there is written hidden beside its place, and renamed. One that is there (empty, a mount point, the
current folder, something earlier that gives way) is never renamed or removed, because that is not always possible: its
files are written in a hidden folder inside it and moved up.

HIDDEN/lock     held for as long as somebody writes
HIDDEN/new/     what becomes the target
HIDDEN/old/     what gives way, for the moment in which the two change places
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

HARMLESS: Final = frozenset({"lost+found", ".DS_Store", ".gitkeep", ".snapshot"})
"""What volumes and file managers put into a folder; it stays and is in nobody's way."""
NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What storage says that knows no locks, such as some mounts of NFS and Lustre."""


def hidden_folder(target: Path, suffix: str) -> Path:
    """Returns where a target's files are written: inside it if it is there, beside it if not."""
    return target / f".{suffix}" if target.is_dir() else target.with_name(f".{target.name}.{suffix}")


class AtomicFolder:
    """Gives an empty folder to write in; what is in it becomes the target when `put_in_place` is called.

    Left without that, or by an error, it leaves the target as it was. What a killed process leaves, the next one clears
    away; if it was killed while old and new changed places, the old files are put back first.

    Example:
        ours = OWN_FILES.__contains__
        with AtomicFolder(target, suffix="importing", known_by="dataset.json", replaceable=ours) as folder:
            (folder.path / "dataset.json").write_text("{}")
            folder.put_in_place()
    """

    def __init__(self, target: Path, *, suffix: str, known_by: str, replaceable: Callable[[str], bool]) -> None:
        """Writes nothing yet.

        Args:
            target: an absolute path; parents that are missing are made.
            suffix: names the hidden folder.
            known_by: the file by which a whole target is known; it goes first and comes last.
            replaceable: says of a name in the target whether it gives way to the new files.
        """
        self.target = target
        self._suffix, self._known_by, self._replaceable = suffix, known_by, replaceable
        self._hidden = hidden_folder(target, suffix)
        self._parents: list[Path] = []
        self._lock: IO[bytes] | None = None
        self._in_place = False

    @property
    def path(self) -> Path:
        """Where to write."""
        return self._hidden / "new"

    def __enter__(self) -> Self:
        """Takes the hidden folder for this process.

        Raises:
            BlockingIOError: another process is writing the same target.
            OSError: the place cannot be written.
        """
        beside = self.target.with_name(f".{self.target.name}.{self._suffix}")
        if beside != self._hidden and beside.is_dir():  # left before the target was there
            with _locked(beside):
                shutil.rmtree(beside, ignore_errors=True)
        self._parents = [parent for parent in self._hidden.parents if not parent.exists()]
        made = not self._hidden.exists()
        try:
            self._hidden.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self._hidden)
            self._put_back()
            for entry in self._hidden.iterdir():
                if entry.name != "lock":
                    _remove(entry)
            self.path.mkdir()
        except BlockingIOError:
            raise
        except BaseException:
            if self._lock is None and made:
                shutil.rmtree(self._hidden, ignore_errors=True)
            self._clear()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the hidden folder and, unless the target is in place, the parents that were made for it."""
        self._clear()

    def put_in_place(self) -> None:
        """Makes the files the target's.

        Raises:
            OSError: they cannot be moved; the target is as it was.
        """
        if self._hidden.parent == self.target:
            self._change_places()
        else:
            self.path.rename(self.target)
        self._in_place = True

    def _change_places(self) -> None:
        old = self._hidden / "old"
        old.mkdir()
        going = [entry for entry in self.target.iterdir() if self._replaceable(entry.name)]
        coming = list(self.path.iterdir())
        try:
            for entry in sorted(going, key=lambda entry: entry.name != self._known_by):
                entry.rename(old / entry.name)
            for entry in sorted(coming, key=lambda entry: entry.name == self._known_by):
                entry.rename(self.target / entry.name)
        except BaseException:
            for entry in coming:
                if not entry.exists() and (self.target / entry.name).exists():
                    (self.target / entry.name).rename(entry)
            for entry in old.iterdir():
                entry.rename(self.target / entry.name)
            raise

    def _put_back(self) -> None:
        """Undoes a change of places in which a process was killed."""
        old = self._hidden / "old"
        if old.is_dir() and not (self.target / self._known_by).exists():
            for entry in sorted(old.iterdir(), key=lambda entry: entry.name == self._known_by):
                _remove(self.target / entry.name)
                entry.rename(self.target / entry.name)

    def _clear(self) -> None:
        if self._lock is not None:
            shutil.rmtree(self._hidden, ignore_errors=True)
            self._lock.close()
        with suppress(OSError):  # not empty any more
            for parent in self._parents if not self._in_place else ():
                parent.rmdir()


def _locked(folder: Path) -> IO[bytes]:
    """Opens and locks a hidden folder's lock file; storage that knows no locks goes without."""
    path = folder / "lock"
    try:
        lock = path.open("wb")
    except FileNotFoundError as error:  # the other process has just removed the folder
        raise BlockingIOError(f"{folder} has gone") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino != os.fstat(lock.fileno()).st_ino:
            raise BlockingIOError(f"{path} has gone")
    except FileNotFoundError as error:
        lock.close()
        raise BlockingIOError(f"{path} has gone") from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            lock.close()
            raise
    return lock


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)
