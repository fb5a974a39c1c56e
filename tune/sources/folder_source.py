"""Files in a folder tree, links included, and a file alone. Decides nothing about what folders mean."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG
from typing import IO

from trainables.dataset.info import LeftOut
from tune.sources.decoding import UnreadableImage
from tune.sources.file_kinds import BEGINNING_BYTES, file_kind, folder_label, hidden_parent
from tune.sources.file_store import FoundFile, Listing, folder_of


class FolderStore:
    """The files of a folder tree; links are followed, each folder and each image once, where it really is."""

    packed_bytes = 0

    def __init__(self, path: Path) -> None:
        """Looks at every file below the folder.

        Raises:
            OSError: a folder cannot be read.
        """
        self.name, self.where = path.resolve().name, str(path)
        self.listing = list_folder(path)
        self._path = path

    def read(self, path: str) -> bytes:
        """Reads one file."""
        file = self._path / path
        try:
            return file.read_bytes()
        except OSError as error:
            raise UnreadableImage(_broken_link(file) or str(error.strerror or error)) from error

    def open(self, path: str) -> IO[bytes]:
        """Opens one file."""
        return (self._path / path).open("rb")


class FileAlone:
    """One file that is no archive, as a source of its own."""

    packed_bytes = 0

    def __init__(self, name: str, where: str, kind: str, size_bytes: int, opened: Callable[[], IO[bytes]]) -> None:
        """Takes a file by what it is, such as `.csv`."""
        self.name, self.where = name, where
        self.listing = Listing()
        self.listing.add(FoundFile(name, kind, size_bytes))
        self._opened = opened

    def read(self, path: str) -> bytes:
        """Reads the file."""
        with self.open(path) as file:
            return file.read()

    def open(self, path: str) -> IO[bytes]:
        """Opens the file."""
        return self._opened()


def list_folder(path: Path) -> Listing:
    """Looks at every file below a folder; what is linked comes last, so that real folders go by their own names.

    Raises:
        OSError: a folder cannot be read.
    """
    found = Listing()
    seen: dict[str, str] = {}
    folders, links = [""], list[str]()
    while folders or links:
        inside = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(path / inside)
        if real in seen:
            where = f"{seen[real]}/" if seen[real] else "the source itself"
            found.left_out.append(LeftOut(path=f"{inside}/", images=0, reason=f"a link to {where}, read there"))
            continue
        seen[real] = inside
        with os.scandir(path / inside) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            relative = f"{inside}/{entry.name}" if inside else entry.name
            if not _is_folder(entry):
                _add(found, path, relative, real, entry)
            elif hidden_parent(f"{relative}/.") is not None:
                found.passed_over[folder_of(relative), folder_label(relative)] += 1
            else:
                (links if entry.is_symlink() else folders).append(relative)
        links.sort()
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _add(found: Listing, path: Path, relative: str, real_folder: str, entry: os.DirEntry[str]) -> None:
    full, is_link = str(path / relative), entry.is_symlink()
    try:
        stat, broken = os.stat(full), False
    except OSError:
        stat, broken = os.lstat(full), True
    if not broken and not S_ISREG(stat.st_mode):
        found.passed_over[folder_of(relative), "pipes and devices"] += 1
        return

    def beginning() -> bytes:
        try:
            with open(full, "rb") as file:
                return file.read(BEGINNING_BYTES)
        except OSError:
            return b""

    found.add(
        FoundFile(
            path=relative,
            kind=file_kind(relative, beginning),
            size_bytes=stat.st_size,
            real=os.path.realpath(full) if is_link and not broken else f"{real_folder}/{entry.name}",
            is_link=is_link,
            stamp=f"{stat.st_size} {stat.st_mtime_ns}",
            problem=(_broken_link(path / relative) or "") if broken else "",
        )
    )


def _broken_link(file: Path) -> str | None:
    """Says where a link to nothing leads."""
    if not file.is_symlink() or os.path.exists(file):
        return None
    return f"a link to {os.readlink(file)}, which is not there"
