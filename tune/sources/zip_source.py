"""Files in a zip, read where they lie. Names and declared sizes are checked before the first byte is decompressed."""

from __future__ import annotations

import re
import zipfile
from functools import partial
from pathlib import Path
from stat import S_ISLNK
from typing import IO, Final

from trainables.dataset.info import LeftOut
from tune.errors import SourceError
from tune.sources.decoding import UnreadableImage
from tune.sources.file_kinds import BEGINNING_BYTES, folder_label, hidden_parent
from tune.sources.file_store import DAMAGED, Listing, folder_of, found_file

_UTF8_FLAG: Final = 0x800
_BROKEN: Final = (*DAMAGED, OSError, UnicodeDecodeError)


class ZipStore:
    """The files of a zip."""

    def __init__(self, file: Path | IO[bytes], name: str, where: str, packed_bytes: int) -> None:
        """Looks at every entry; decompresses the first bytes of those whose names do not say what they are.

        Raises:
            SourceError: the file is no zip, or a name leads out of it.
        """
        self.name, self.where, self.packed_bytes = name, where, packed_bytes
        try:
            self._archive = zipfile.ZipFile(file)
        except UnicodeDecodeError as error:
            raise SourceError(
                f"Names in a zip that say they are UTF-8 must be. Received: {where}: {error}; unpack it first."
            ) from error
        except DAMAGED as error:
            raise SourceError(
                f"A source must be a readable zip, tar, folder, CSV or parquet file. Received: {where}: {error}."
            ) from error
        self.listing = Listing()
        self._entries: dict[str, zipfile.ZipInfo] = {}
        self._list()

    def read(self, path: str) -> bytes:
        """Decompresses one entry; its checksum has to fit."""
        try:
            return self._archive.read(self._entries[path])
        except _BROKEN as error:
            raise UnreadableImage(f"zip entry: {error}") from error

    def open(self, path: str) -> IO[bytes]:
        """Decompresses one entry piece by piece."""
        return self._archive.open(self._entries[path])

    def _list(self) -> None:
        found, hidden = self.listing, set[str]()
        for entry in self._archive.infolist():
            name = _checked_name(entry, self.where)
            if not found.notes and not name.isascii() and not entry.flag_bits & _UTF8_FLAG and name == entry.filename:
                found.notes.append(
                    f"{self.where} does not say how its names are encoded: they are read as code page 437, such as "
                    f"{name}; if that looks wrong, unpack it (unzip -O GBK, or what it was made with)"
                )
            if name.endswith("/"):
                continue
            if (folder := hidden_parent(name)) is not None:
                hidden.add(folder)
                continue
            if S_ISLNK(entry.external_attr >> 16):
                found.left_out.append(LeftOut(path=name, images=0, reason="a link; links in a zip are not followed"))
                continue
            file = found_file(name, entry.file_size, partial(self._beginning, entry))
            if name in found.images:
                found.left_out.append(LeftOut(path=name, images=1, reason="a later entry of the same name is read"))
            found.add(file)
            self._entries[name] = entry
        found.passed_over.update((folder_of(folder), folder_label(folder)) for folder in hidden)

    def _beginning(self, entry: zipfile.ZipInfo) -> bytes:
        try:
            with self._archive.open(entry) as file:
                return file.read(BEGINNING_BYTES)
        except _BROKEN:
            return b""


def _checked_name(entry: zipfile.ZipInfo, where: str) -> str:
    name = inside_name(_decoded_name(entry), where)
    if entry.flag_bits & 0x1:
        raise SourceError(f"A zip must not be encrypted. Received: {where} ({entry.filename!r}); unpack it first.")
    return name


def inside_name(name: str, where: str) -> str:
    """Returns an entry's path with forward slashes and without `./`.

    Raises:
        SourceError: it leads out of the archive.
    """
    clean = re.sub(r"(^|(?<=/))(\./)+", "", name.replace("\\", "/"))
    if clean.startswith("/") or re.match(r"[A-Za-z]:", clean) or ".." in clean.split("/"):
        raise SourceError(
            f"Entries must stay inside the archive. Received: {name!r} in {where}; do not trust this file."
        )
    return clean


def _decoded_name(entry: zipfile.ZipInfo) -> str:
    """The entry's name: macOS writes UTF-8 without saying so, and zipfile (Python 3.11) takes that for cp437."""
    if entry.flag_bits & _UTF8_FLAG or entry.filename.isascii():
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return entry.filename
