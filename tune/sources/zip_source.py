"""Images in a zip, read where they lie. Names and declared sizes are checked before the first byte is decompressed."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from stat import S_ISLNK
from typing import Final

from trainables.dataset.reader import LeftOut, Pixels
from tune.errors import SourceError
from tune.sources.decoding import UnreadableImage, decode
from tune.sources.file_kinds import BEGINNING_BYTES, FileKind, file_kind, folder_label, hidden_parent
from tune.sources.folder_layout import Item, assign_classes_and_splits, no_images
from tune.sources.split_names import SplitDecisions

MAX_IMAGE_FILE_BYTES: Final = 256 << 20
MAX_CSV_BYTES: Final = 8 << 30
MAX_RATIO: Final = 200
_RATIO_FREE_BYTES: Final = 16 << 20
_UTF8_FLAG: Final = 0x800
_BROKEN: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError)


@dataclass
class ZipListing:
    """What a zip holds: entries that are or may be images, tables, what is passed over, links."""

    archive: zipfile.ZipFile
    images: dict[str, zipfile.ZipInfo] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    tables: dict[str, zipfile.ZipInfo] = field(default_factory=dict)
    passed_over: Counter[str] = field(default_factory=Counter)
    links: list[LeftOut] = field(default_factory=list)


class ZipSource:
    """Images in a zip, read where they lie."""

    def __init__(self, path: Path, content: ZipListing, decisions: SplitDecisions) -> None:
        """Arranges the images that were found."""
        self.passed_over = dict(content.passed_over + Counter(".csv" for _ in content.tables))
        if not content.images:
            raise no_images(str(path), self.passed_over)
        layout = assign_classes_and_splits(
            content.images, str(path), doubtful=frozenset(content.doubtful), decisions=decisions
        )
        self.name = path.name
        self.classes, self.skipped, self.notes = layout.classes, layout.skipped, layout.notes
        self.left_out = (*layout.left_out, *content.links)
        self.expected_images = len(layout.items)
        self._items = layout.items
        self._archive, self._entries = content.archive, content.images

    def __iter__(self) -> Iterator[Item]:
        """The images in the order of their paths."""
        return iter(self._items)

    def pixels(self, item: Item) -> Pixels:
        """Decompresses and decodes one entry; its checksum has to fit."""
        try:
            data = self._archive.read(self._entries[item.path])
        except _BROKEN as error:
            raise UnreadableImage(f"zip entry: {error}") from error
        return decode(data, item.path)


def list_zip(path: Path) -> ZipListing:
    """Looks at every entry of a zip; decompresses the first bytes of those whose names do not say what they are.

    Raises:
        SourceError: the file is no zip, or a name leads out of it.
    """
    try:
        content = ZipListing(zipfile.ZipFile(path))
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise SourceError(f"A source must be a readable zip, folder or CSV. Received: {path}: {error}.") from error
    hidden: set[str] = set()
    for entry in content.archive.infolist():
        name = _checked_name(entry, path)
        if name.endswith("/"):
            continue
        if (folder := hidden_parent(name)) is not None:
            hidden.add(folder)
            continue
        if S_ISLNK(entry.external_attr >> 16):
            content.links.append(LeftOut(path=name, images=0, reason="a link; links in a zip are not followed"))
            continue
        kind = file_kind(name, partial(_beginning, content.archive, entry))
        if isinstance(kind, FileKind):
            content.images[name] = entry
            content.doubtful |= {name} if kind is FileKind.DOUBTFUL else set()
        elif kind == ".csv":
            content.tables[name] = entry
        else:
            content.passed_over[kind] += 1
    content.passed_over.update(map(folder_label, hidden))
    return content


def check_sizes(entries: dict[str, zipfile.ZipInfo], largest: int, path: Path) -> None:
    """Refuses entries that unpack to more than they may, alone or together.

    Raises:
        SourceError: one is larger than `largest` bytes, or all together are more than `MAX_RATIO` times the zip.
    """
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


def _beginning(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(entry) as file:
            return file.read(BEGINNING_BYTES)
    except _BROKEN:
        return b""


def _checked_name(entry: zipfile.ZipInfo, path: Path) -> str:
    name = _decoded_name(entry).replace("\\", "/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in name.split("/"):
        raise SourceError(
            f"Zip entries must stay inside the archive. Received: {entry.filename!r} in {path}; do not trust this file."
        )
    if entry.flag_bits & 0x1:
        raise SourceError(f"A zip must not be encrypted. Received: {path} ({entry.filename!r}); unpack it first.")
    return name


def _decoded_name(entry: zipfile.ZipInfo) -> str:
    """The entry's name: macOS writes UTF-8 without saying so, and zipfile (Python 3.11) takes that for cp437."""
    if entry.flag_bits & _UTF8_FLAG or entry.filename.isascii():
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return entry.filename
