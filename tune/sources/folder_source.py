"""Images in a folder tree: finds them, links included, and reads them. Decides nothing about what folders mean."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

from trainables.dataset.reader import LeftOut, Pixels, SkippedImage
from tune.sources.decoding import UnreadableImage, decode
from tune.sources.file_kinds import BEGINNING_BYTES, FileKind, file_kind, folder_label, hidden_parent
from tune.sources.folder_layout import Item, assign_classes_and_splits, no_images
from tune.sources.split_names import SplitDecisions


@dataclass(frozen=True)
class FoundFile:
    """A file of the tree: where it really is, its size and date, and what it is; `is_link` if it is a link itself."""

    path: str
    real: str
    kind: FileKind
    is_link: bool
    stamp: str


@dataclass
class FolderListing:
    """What a folder tree holds: files that are or may be images, tables, what is passed over, links to inside."""

    files: list[FoundFile] = field(default_factory=list)
    tables: list[FoundFile] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    links: list[LeftOut] = field(default_factory=list)


class FolderSource:
    """Images in a folder tree; links are followed, each folder and each image once, where it really is."""

    def __init__(self, path: Path, listing: FolderListing, decisions: SplitDecisions) -> None:
        """Arranges the images that were found."""
        self.passed_over = dict(listing.passed_over + Counter(".csv" for _ in listing.tables))
        if not listing.files:
            raise no_images(str(path), self.passed_over)
        doubtful = frozenset(file.path for file in listing.files if file.kind is FileKind.DOUBTFUL)
        layout = assign_classes_and_splits(
            (file.path for file in listing.files), str(path), doubtful=doubtful, decisions=decisions
        )
        self.name = path.resolve().name
        self._items, linked = _without_linked_copies(layout.items, listing.files)
        self.classes = tuple(sorted({item.class_name for item in self._items}))
        self.skipped, self.notes = tuple(_with_targets(layout.skipped, path)), layout.notes
        self.left_out = (*layout.left_out, *listing.links, *linked)
        self.expected_images = len(self._items)
        self._path = path

    def __iter__(self) -> Iterator[Item]:
        """The images in the order of their paths."""
        return iter(self._items)

    def pixels(self, item: Item) -> Pixels:
        """Decodes one file."""
        file = self._path / item.path
        try:
            data = file.read_bytes()
        except OSError as error:
            raise UnreadableImage(_broken_link(file) or str(error.strerror or error)) from error
        return decode(data, item.path)


def list_folder(path: Path) -> FolderListing:
    """Looks at every file below a folder; what is linked comes last, so that real folders go by their own names.

    Raises:
        OSError: a folder cannot be read.
    """
    found = FolderListing()
    seen: dict[str, str] = {}
    folders, links = [""], list[str]()
    while folders or links:
        inside = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(path / inside)
        if real in seen:
            where = f"{seen[real]}/" if seen[real] else "the source itself"
            found.links.append(LeftOut(path=f"{inside}/", images=0, reason=f"a link to {where}, read there"))
            continue
        seen[real] = inside
        with os.scandir(path / inside) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            relative = f"{inside}/{entry.name}" if inside else entry.name
            if not _is_folder(entry):
                _add(found, path, relative, real, entry)
            elif hidden_parent(f"{relative}/.") is not None:
                found.passed_over[folder_label(relative)] += 1
            else:
                (links if entry.is_symlink() else folders).append(relative)
        links.sort()
    found.files.sort(key=lambda file: file.path)
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _add(found: FolderListing, path: Path, relative: str, real_folder: str, entry: os.DirEntry[str]) -> None:
    full, is_link = str(path / relative), entry.is_symlink()
    try:
        stat, broken = os.stat(full), False
    except OSError:
        stat, broken = os.lstat(full), True
    if not broken and not S_ISREG(stat.st_mode):
        found.passed_over["pipes and devices"] += 1
        return

    def beginning() -> bytes:
        try:
            with open(full, "rb") as file:
                return file.read(BEGINNING_BYTES)
        except OSError:
            return b""

    kind = file_kind(relative, beginning)
    real = os.path.realpath(full) if is_link and not broken else f"{real_folder}/{entry.name}"
    stamp = f"{stat.st_size} {stat.st_mtime_ns}"
    if isinstance(kind, FileKind):
        found.files.append(FoundFile(relative, real, kind, is_link, stamp))
    elif kind == ".csv":
        found.tables.append(FoundFile(relative, real, FileKind.DOUBTFUL, is_link, stamp))
    else:
        found.passed_over[kind] += 1


def _broken_link(file: Path) -> str | None:
    """Says where a link to nothing leads."""
    if not file.is_symlink() or os.path.exists(file):
        return None
    return f"a link to {os.readlink(file)}, which is not there"


def _with_targets(skipped: Iterable[SkippedImage], path: Path) -> Iterator[SkippedImage]:
    for image in skipped:
        dangling = _broken_link(path / image.path)
        yield image if dangling is None else SkippedImage(path=image.path, reason=dangling)


def _without_linked_copies(items: tuple[Item, ...], files: list[FoundFile]) -> tuple[tuple[Item, ...], list[LeftOut]]:
    """Drops links to images that are read where they really are, and counts them by their folders."""
    by_path = {file.path: file for file in files}
    real = {by_path[item.path].real for item in items if not by_path[item.path].is_link}
    kept, dropped = [], defaultdict[str, int](int)
    for item in items:
        file = by_path[item.path]
        if file.is_link and file.real in real:
            dropped[os.path.dirname(item.path)] += 1
        else:
            kept.append(item)
    reason = "links to images of the same source, read there"
    return tuple(kept), [LeftOut(path=f"{folder}/", images=n, reason=reason) for folder, n in sorted(dropped.items())]
