"""Opens a file by its first bytes, and archives in an archive or a folder. Decides nothing about what is in them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Final

from tune.errors import SourceError
from tune.sources.csv_table import TABLE_SUFFIXES
from tune.sources.file_kinds import RECORD_SUFFIXES, file_kind
from tune.sources.file_store import DAMAGED, MAX_TABLE_BYTES, FileStore, Listing, check_sizes, copied
from tune.sources.folder_source import FileAlone, FolderStore
from tune.sources.label_lists import is_label_file
from tune.sources.tar_source import MAGIC, MAGIC_AT, FilePart, TarStore
from tune.sources.zip_source import ZipStore

ARCHIVE_SUFFIXES: Final = (".zip", ".tar", ".tgz", ".gz", ".tbz", ".tbz2", ".bz2", ".txz", ".xz")
_MAX_DEPTH: Final = 3
_MAX_ARCHIVES: Final = 64
_HEAD_BYTES: Final = 512
_COMPRESSED: Final[dict[bytes, Callable[[Any], Any]]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


def open_store(path: Path) -> FileStore:
    """Opens a folder or a file; archives that hold nothing but archives are looked through.

    Raises:
        SourceError: it is none that can be read, or cannot be trusted.
        OSError: it cannot be read.
    """
    if path.is_dir():
        store: FileStore = FolderStore(path)
    else:
        store = _store_of(path.open("rb"), path.name, str(path), 0)
    for _ in range(_MAX_DEPTH):
        others = store.listing.others
        archives = sorted(name for name, file in others.items() if file.kind in ARCHIVE_SUFFIXES)
        readable = any(file.kind in (*TABLE_SUFFIXES, *RECORD_SUFFIXES, ".parquet") for file in others.values())
        listed = store.listing.sure_images and any(map(is_label_file, others))
        if store.listing.has_class_folders or listed or readable or not archives:
            break
        store = _NestedStore(store, archives)
    return store


def seekable(store: FileStore, path: str) -> IO[bytes]:
    """Opens a file of a store so that it can be read anywhere; what is compressed is copied to a temporary file.

    Raises:
        SourceError: it unpacks to more than it may, or is damaged.
        OSError: it cannot be read, or the folder for temporary files is full.
    """
    try:
        stream = store.open(path)
        if isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO | FilePart):
            return stream
        with stream:
            return copied(stream, store.packed_bytes or store.listing.others[path].size_bytes, store.where)
    except DAMAGED as error:
        raise SourceError(f"A file in an archive must be whole. Received: {path} in {store.where}: {error}.") from error


class _NestedStore:
    """The files of archives that lie in a store, below a folder for each of them if there are several."""

    def __init__(self, outer: FileStore, archives: Sequence[str]) -> None:
        if len(archives) > _MAX_ARCHIVES:
            raise SourceError(
                f"A source may hold at most {_MAX_ARCHIVES} archives. Received: {len(archives)} in {outer.where}; "
                "unpack them first."
            )
        self.name, self.where = outer.name, outer.where
        sizes = {path: outer.listing.others[path].size_bytes for path in archives}
        check_sizes(sizes, MAX_TABLE_BYTES, outer.packed_bytes, outer.where)
        self.packed_bytes = outer.packed_bytes or sum(sizes.values())
        self.listing = Listing(passed_over=outer.listing.besides(archives), left_out=[*outer.listing.left_out])
        self._inner: dict[str, tuple[FileStore, str]] = {}
        for path in archives:
            packed = min(sizes[path], outer.packed_bytes or sizes[path])
            where = f"{outer.where}/{path}"
            inner = _store_of(seekable(outer, path), path.rpartition("/")[2], where, packed)
            self._take(inner, f"{_folder_for(path, archives)}/" if len(archives) > 1 else "")

    def read(self, path: str) -> bytes:
        """Reads a file of the archive that it is in."""
        store, inside = self._inner[path]
        return store.read(inside)

    def open(self, path: str) -> IO[bytes]:
        """Opens a file of the archive that it is in."""
        store, inside = self._inner[path]
        return store.open(inside)

    def _take(self, inner: FileStore, prefix: str) -> None:
        for files, taken in ((inner.listing.images, self.listing.images), (inner.listing.others, self.listing.others)):
            for path, file in files.items():
                taken[prefix + path] = replace(file, path=prefix + path)
                self._inner[prefix + path] = inner, path
        for (folder, kind), count in inner.listing.passed_over.items():
            self.listing.passed_over[prefix + folder, kind] += count
        self.listing.notes += inner.listing.notes
        self.listing.left_out += [
            each.model_copy(update={"path": prefix + each.path}) for each in inner.listing.left_out
        ]


def _folder_for(path: str, archives: Sequence[str]) -> str:
    """The folder that stands for an archive: its path without suffixes, if no other archive has the same."""
    short = {each: _without_archive_suffix(_without_archive_suffix(each)) for each in archives}
    return short[path] if list(short.values()).count(short[path]) == 1 else path


def _without_archive_suffix(path: str) -> str:
    return next((path[: -len(suffix)] for suffix in ARCHIVE_SUFFIXES if path.lower().endswith(suffix)), path)


def _store_of(file: IO[bytes], name: str, where: str, packed_bytes: int) -> FileStore:
    """Says by a file's first bytes what it is, and opens it; the file is closed with the store.

    Args:
        file: open at its start.
        name: see `FileStore`, as the other arguments.
        where: see there.
        packed_bytes: of what it was unpacked from; 0 if it was not.
    """
    try:
        head = file.read(_HEAD_BYTES)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        for magic, opened in _COMPRESSED.items():
            if head.startswith(magic):
                plain = _decompressed(file, opened, packed_bytes or size, where)
                return _store_of(plain, _without_suffix(name), where, packed_bytes or size)
        if head[MAGIC_AT:].startswith(MAGIC) and isinstance(getattr(file, "raw", None), FilePart):
            return _store_of(_copied_and_closed(file, size, where), name, where, packed_bytes)
        store = _plain_store(file, head, size, name, where, packed_bytes)
    except BaseException:
        file.close()
        raise
    weakref.finalize(store, file.close)
    return store


def _plain_store(
    file: IO[bytes], head: bytes, size: int, name: str, where: str, packed_bytes: int
) -> TarStore | FileAlone | ZipStore:
    if head[MAGIC_AT:].startswith(MAGIC):
        return TarStore(file, name, where, packed_bytes)
    suffix = Path(name).suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        suffix = str(file_kind(name, lambda: b""))  # which knows the names of shards
    is_zip = head.startswith((b"PK\x03\x04", b"PK\x05\x06"))
    if head.startswith(b"PAR1") or (suffix in (*TABLE_SUFFIXES, *RECORD_SUFFIXES) and not is_zip):
        kind = ".parquet" if head.startswith(b"PAR1") else suffix
        return FileAlone(name, where, kind, size, lambda: _whole(file, size))
    return ZipStore(file, name, where, packed_bytes or size)


def _decompressed(file: IO[bytes], opened: Callable[[Any], Any], packed_bytes: int, where: str) -> IO[bytes]:
    try:
        with file, opened(file) as stream:
            return copied(stream, packed_bytes, where)
    except DAMAGED as error:
        raise SourceError(f"An archive must be whole. Received: {where}: {error}; fetch it again.") from error


def _copied_and_closed(file: IO[bytes], size: int, where: str) -> IO[bytes]:
    with file:
        return copied(file, size, where)


def _whole(file: IO[bytes], size: int) -> IO[bytes]:
    """Another reader of an open file, with a position of its own."""
    if isinstance(file, io.BufferedReader) and isinstance(file.raw, FilePart):
        file.seek(0)
        return io.BufferedReader(file.raw.copy())
    return io.BufferedReader(FilePart(file.fileno(), 0, size))


def _without_suffix(name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.tar" if suffix.lower() in ("tgz", "tbz", "tbz2", "txz") else stem or name
