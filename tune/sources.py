"""Opens what is to be imported (a zip, a folder or a FER-2013 CSV) and hands out its images. Writes nothing.

Nothing is ever unpacked to disk; names and declared sizes are checked before the first byte is decompressed.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import Final, Protocol

from trainables.records import Pixels, SkippedImage
from tune.csv_source import CsvSource
from tune.decoding import Unreadable, decode
from tune.errors import SourceError
from tune.layout import Item, arrange, is_image

MAX_IMAGE_FILE_BYTES: Final = 256 << 20
MAX_CSV_BYTES: Final = 8 << 30
MAX_RATIO: Final = 200
_RATIO_FREE_BYTES: Final = 16 << 20
_ZIP_DIRECTORY_BYTES: Final = 64 << 20


class Source(Protocol):
    """Images with a class and perhaps a split, in a fixed order."""

    name: str
    classes: tuple[str, ...]
    expected_images: int
    left_out: tuple[SkippedImage, ...]

    def __iter__(self) -> Iterator[Item]:
        """The images, in an order that every import repeats."""

    def pixels(self, item: Item) -> Pixels:
        """Decodes one image (several threads may ask): uint8, (height, width, 1 or 3). Raises Unreadable."""


def open_source(path: Path) -> Source:
    """Looks at a source and checks all that can be checked without decoding.

    Args:
        path: a zip or a folder of images in class folders, a CSV like `fer2013.csv`, or a zip or folder with that.

    Raises:
        SourceError: the source is missing, unreadable, hostile, or holds no usable images.
    """
    path = Path(path)
    with _readable(path):
        if path.is_dir():
            return _open_folder(path)
        if path.suffix.lower() == ".csv":
            return CsvSource(path.name, path.stat().st_size, lambda: path.open("rb"))
        return _open_zip(path)


class FolderSource:
    """Images in a folder tree; links are followed, each folder once."""

    def __init__(self, path: Path, images: Iterable[str]) -> None:
        """Arranges the images that were found."""
        layout = arrange(images, str(path))
        self.name = path.resolve().name
        self.classes, self.left_out, self._items = layout.classes, layout.left_out, layout.items
        self.expected_images = len(layout.items)
        self._path = path

    def __iter__(self) -> Iterator[Item]:
        """The images in the order of their paths."""
        return iter(self._items)

    def pixels(self, item: Item) -> Pixels:
        """Decodes one file."""
        try:
            data = (self._path / item.path).read_bytes()
        except OSError as error:
            raise Unreadable(str(error.strerror or error)) from error
        return decode(data, item.path)


class ZipSource:
    """Images in a zip, read where they lie."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> None:
        """Arranges the images that were found."""
        layout = arrange(entries, str(path))
        self.name = path.name
        self.classes, self.left_out, self._items = layout.classes, layout.left_out, layout.items
        self.expected_images = len(layout.items)
        self._archive = archive
        self._entries = entries

    def __iter__(self) -> Iterator[Item]:
        """The images in the order of their paths."""
        return iter(self._items)

    def pixels(self, item: Item) -> Pixels:
        """Decompresses and decodes one entry; its checksum has to fit."""
        try:
            data = self._archive.read(self._entries[item.path])
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            raise Unreadable(f"zip entry: {error}") from error
        return decode(data, item.path)


def fingerprint_source(path: Path) -> str:
    """32 hexadecimal digits that change when a source does; nothing is decompressed.

    A folder counts with the names, sizes and dates of its images and tables, a CSV with its size and date, a zip with
    its size and its last 64 MiB, where its directory holds the checksum of every entry.

    Raises:
        SourceError: the source is missing or unreadable.
    """
    path = Path(path)
    digest = hashlib.blake2b(digest_size=16)
    with _readable(path):
        if path.is_dir():
            for name, stat in sorted(_walk(path)):
                digest.update(f"{name}\n{stat.st_size} {stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        elif path.suffix.lower() == ".csv":
            digest.update(f"{path.stat().st_size} {path.stat().st_mtime_ns}".encode())
        else:
            size = path.stat().st_size
            with path.open("rb") as file:
                file.seek(max(0, size - _ZIP_DIRECTORY_BYTES))
                while block := file.read(1 << 20):
                    digest.update(block)
            digest.update(str(size).encode())
    return digest.hexdigest()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    if not path.exists():
        raise SourceError(f"A source must exist. Received: {path}; check the path.")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise SourceError(f"A source must be a regular file or a folder. Received: {path}; name one of these.")
    try:
        yield
    except OSError as error:
        raise SourceError(f"A source must be readable. Received: {path}: {error.strerror or error}.") from error


def _walk(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Images and CSV files below a folder, relative to it; links are followed, but no folder is entered twice."""

    def fail(error: OSError) -> None:
        raise error

    seen: set[str] = set()
    for folder, folders, files in os.walk(path, onerror=fail, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        if real in seen:
            continue
        seen.add(real)
        inside = os.path.relpath(folder, path)
        for name in files:
            full = os.path.join(folder, name)
            relative = name if inside == "." else f"{inside}/{name}"
            if is_image(relative) or name.lower().endswith(".csv"):
                stat = os.stat(full)
                if S_ISREG(stat.st_mode):
                    yield relative, stat


def _open_folder(path: Path) -> Source:
    files = [name for name, _ in _walk(path)]
    images = [name for name in files if is_image(name)]
    if not images and len(files) == 1:
        return open_source(path / files[0])
    return FolderSource(path, images)


def _open_zip(path: Path) -> Source:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise SourceError(f"A source must be a readable zip, folder or CSV. Received: {path}: {error}.") from error
    files = {_checked_name(e, path): e for e in archive.infolist() if not e.is_dir()}
    images = {name: entry for name, entry in files.items() if is_image(name)}
    tables = {n: e for n, e in files.items() if n.lower().endswith(".csv") and "__MACOSX" not in n}
    if images or len(tables) != 1:
        _check_sizes(images, MAX_IMAGE_FILE_BYTES, path)
        return ZipSource(path, archive, images)
    ((name, entry),) = tables.items()
    _check_sizes(tables, MAX_CSV_BYTES, path)
    return CsvSource(f"{path.name}/{name}", entry.file_size, lambda: archive.open(entry))


def _checked_name(entry: zipfile.ZipInfo, path: Path) -> str:
    name = entry.filename.replace("\\", "/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in name.split("/"):
        raise SourceError(
            f"Zip entries must stay inside the archive. Received: {entry.filename!r} in {path}; do not trust this file."
        )
    if entry.flag_bits & 0x1:
        raise SourceError(f"A zip must not be encrypted. Received: {path} ({entry.filename!r}); unpack it first.")
    return name


def _check_sizes(entries: dict[str, zipfile.ZipInfo], largest: int, path: Path) -> None:
    for name, entry in entries.items():
        if entry.file_size > largest:
            raise SourceError(
                f"A zip entry must unpack to at most {largest >> 20:,} MiB. "
                f"Received: {entry.file_size >> 20:,} MiB in {path} ({name!r}); do not trust this file."
            )
    # Against the archive's own size, so that entries which share compressed data are counted as often as they unpack.
    unpacked, packed = sum(entry.file_size for entry in entries.values()), path.stat().st_size
    if unpacked > max(MAX_RATIO * packed, _RATIO_FREE_BYTES):
        raise SourceError(
            f"A zip must unpack to at most {MAX_RATIO} times its size. "
            f"Received: {unpacked / packed:,.0f} times in {path}; do not trust this file."
        )
