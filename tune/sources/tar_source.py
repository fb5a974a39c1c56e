"""Files in a tar, read where they lie, whichever thread asks. Links in it are not followed."""

from __future__ import annotations

import io
import os
import tarfile
from functools import partial
from typing import IO, Any, Final

from trainables.dataset.info import LeftOut
from tune.errors import SourceError
from tune.sources.decoding import UnreadableImage
from tune.sources.file_kinds import BEGINNING_BYTES, folder_label, hidden_parent
from tune.sources.file_store import Listing, folder_of, found_file
from tune.sources.zip_source import inside_name

MAGIC_AT: Final = 257
MAGIC: Final = b"ustar"


class TarStore:
    """The files of a tar that is not compressed, in a file of the disk."""

    def __init__(self, file: IO[bytes], name: str, where: str, packed_bytes: int) -> None:
        """Looks at every header.

        Args:
            file: a real file, which stays open.
            name: see `FileStore`.
            where: see `FileStore`.
            packed_bytes: size of what was decompressed; 0 if nothing was.

        Raises:
            SourceError: the file is damaged, or a name leads out of it.
        """
        self.name, self.where, self.packed_bytes = name, where, packed_bytes
        self.listing = Listing()
        self._file, self._places = file, dict[str, tuple[int, int]]()
        try:
            with tarfile.open(fileobj=file, mode="r:", errorlevel=1) as archive:
                self._list(archive)
                self._check_end(archive.offset)
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise SourceError(
                f"A source must be a readable zip, tar, folder, CSV or parquet file. Received: {where}: {error}."
            ) from error

    def read(self, path: str) -> bytes:
        """Reads one file."""
        with self.open(path) as file:
            data = file.read()
        if len(data) < self._places[path][1]:
            raise UnreadableImage("cut off: the tar ends inside it")
        return data

    def open(self, path: str) -> IO[bytes]:
        """Opens one file; it can be read and sought like a file of its own."""
        return io.BufferedReader(FilePart(self._file.fileno(), *self._places[path]))

    def _list(self, archive: tarfile.TarFile) -> None:
        found, hidden = self.listing, set[str]()
        for member in archive:
            name = inside_name(member.name, self.where)
            if member.isdir():
                continue
            if (folder := hidden_parent(name)) is not None:
                hidden.add(folder)
            elif member.islnk() and (target := inside_name(member.linkname, self.where)) in self._places:
                self._places[name] = self._places[target]  # a file that lies further up, under another name
                found.add(found_file(name, self._places[name][1], partial(self._beginning, name)))
            elif member.issym() or member.islnk():
                reason = f"a link to {member.linkname}; links in a tar are not followed"
                found.left_out.append(LeftOut(path=name, images=0, reason=reason))
            elif not member.isreg() or member.issparse():
                found.passed_over[folder_of(name), "pipes and devices"] += 1
            else:
                if name in found.images:
                    found.left_out.append(LeftOut(path=name, images=1, reason="a later entry of the same name is read"))
                self._places[name] = member.offset_data, member.size
                found.add(found_file(name, member.size, partial(self._beginning, name)))
        found.passed_over.update((folder_of(folder), folder_label(folder)) for folder in hidden)

    def _check_end(self, at: int) -> None:
        """Refuses a tar that goes on behind the last header: `tarfile` stops at a broken one in silence."""
        number, size = self._file.fileno(), os.fstat(self._file.fileno()).st_size
        if any(os.pread(number, tarfile.BLOCKSIZE, at)) or at >= size:
            raise SourceError(
                f"A tar must be whole. Received: {self.where}, which is damaged or cut off at byte {at:,} of {size:,}; "
                "fetch it again."
            )
        while block := os.pread(number, 1 << 20, at):
            if any(block):
                raise SourceError(
                    f"A tar must end at its end mark. Received: {self.where}, where more follows behind byte {at:,}, "
                    "as of several tars in one file; unpack it (tar --ignore-zeros) and import the folder."
                )
            at += len(block)

    def _beginning(self, name: str) -> bytes:
        offset, size = self._places[name]
        return os.pread(self._file.fileno(), min(BEGINNING_BYTES, size), offset)


class FilePart(io.RawIOBase):
    """A part of a file, read without moving the file's own position."""

    def __init__(self, number: int, offset: int, size: int) -> None:
        """Takes an open file by its number."""
        self._number, self._offset, self._size, self._at = number, offset, size, 0

    def copy(self) -> FilePart:
        """The same part, from its start."""
        return FilePart(self._number, self._offset, self._size)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a place within the part."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer; 0 at the part's end."""
        wanted = max(0, min(len(buffer), self._size - self._at))
        data = os.pread(self._number, wanted, self._offset + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
